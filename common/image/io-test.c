/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/io-test.h"

#include <errno.h>
#include <string.h>

#include "common/checked.h"
#include "common/image/io-impl.h"
#include "common/mem.h"

struct test_io {
	struct smd_io_other other;
	struct smd_io *below;
	pthread_mutex_t lock;		/* guards all below */
	struct smd_test_plan plan;
	uint64_t count;
	bool recording;
	struct smd_test_record *records;
	size_t n_records;
};

static struct test_io *
test_of(struct smd_io *io)
{
	return (struct test_io *)io;
}

/* Whether this call is to fail. */
static bool
test_hit(struct test_io *t, enum smd_test_op op)
{
	if (!(t->plan.ops & 1u << op))
		return false;
	t->count++;
	return t->count == t->plan.fail_at ||
	       (t->plan.sticky && t->plan.fail_at && t->count > t->plan.fail_at);
}

static int
test_fail(struct test_io *t, struct smd_error *err)
{
	smd_fail_IMAGE_IO(err, t->other.io.name, "%s: failed on purpose", t->other.io.name);
	if (!err->errnum)
		err->errnum = t->plan.errnum ? t->plan.errnum : EIO;
	return -1;
}

static void
test_keep(struct test_io *t, enum smd_test_op op, const void *data, uint64_t offset,
	  uint64_t count)
{
	struct smd_test_record *r;

	if (!t->recording)
		return;
	t->records = smd_reallocarray(t->records, t->n_records + 1, sizeof *t->records);
	r = &t->records[t->n_records++];
	*r = (struct smd_test_record){ .op = op, .offset = offset, .count = count };
	if (data) {
		r->data = smd_malloc((size_t)count);
		memcpy(r->data, data, (size_t)count);
	}
}

static int
test_pread(struct smd_io *io, void *buf, size_t count, uint64_t offset, struct smd_error *err)
{
	struct test_io *t = test_of(io);

	LOCK_SCOPE(&t->lock);
	if (test_hit(t, SMD_TEST_PREAD))
		return test_fail(t, err);
	return smd_io_pread(t->below, buf, count, offset, err);
}

static size_t
test_part(const struct test_io *t, size_t count)
{
	if (t->plan.how == SMD_TEST_LATE || t->plan.how == SMD_TEST_FLIP)
		return count;
	if (t->plan.how == SMD_TEST_SHORT)
		return (size_t)smd_round_down_u64(count / 2, SMD_SECTOR);
	if (t->plan.how == SMD_TEST_TORN)
		return count / 2 + (count > 16 ? 7 : 0);
	return 0;
}

static uint8_t *
flip(const void *buf, size_t count)
{
	uint8_t *other = smd_malloc(count);

	memcpy(other, buf, count);
	other[count / 2] ^= 0x10;
	return other;
}

static int
test_pwrite(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
	    struct smd_error *err)
{
	struct test_io *t = test_of(io);
	CLEANUP_FREE uint8_t *flipped = NULL;
	bool hit;
	int r = 0;

	LOCK_SCOPE(&t->lock);
	hit = test_hit(t, SMD_TEST_PWRITE);
	if (hit)
		count = test_part(t, count);
	if (hit && t->plan.how == SMD_TEST_FLIP) {
		buf = flipped = flip(buf, count);
		hit = false;
	}
	if (count > 0) {
		r = smd_io_pwrite(t->below, buf, count, offset, err);
		test_keep(t, SMD_TEST_PWRITE, buf, offset, count);
	}
	io->size = t->below->size;
	return hit && r == 0 ? test_fail(t, err) : r;
}

static int
test_zero(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_error *err)
{
	struct test_io *t = test_of(io);

	bool hit;
	int r;

	LOCK_SCOPE(&t->lock);
	hit = test_hit(t, SMD_TEST_ZERO);
	if (hit && t->plan.how != SMD_TEST_LATE)
		return test_fail(t, err);
	test_keep(t, SMD_TEST_ZERO, NULL, offset, count);
	r = t->below->ops->zero(t->below, offset, count, err);
	return hit && r == 0 ? test_fail(t, err) : r;
}

static int
test_truncate(struct smd_io *io, uint64_t size, struct smd_error *err)
{
	struct test_io *t = test_of(io);
	bool hit;
	int r;

	LOCK_SCOPE(&t->lock);
	hit = test_hit(t, SMD_TEST_TRUNCATE);
	if (hit && t->plan.how != SMD_TEST_LATE)
		return test_fail(t, err);
	test_keep(t, SMD_TEST_TRUNCATE, NULL, size, 0);
	r = t->below->ops->truncate(t->below, size, err);
	io->size = t->below->size;
	return hit && r == 0 ? test_fail(t, err) : r;
}

static int
test_flush(struct smd_io *io, struct smd_error *err)
{
	struct test_io *t = test_of(io);

	LOCK_SCOPE(&t->lock);
	if (test_hit(t, SMD_TEST_FLUSH))
		return test_fail(t, err);
	test_keep(t, SMD_TEST_FLUSH, NULL, 0, 0);
	return smd_io_flush(t->below, err);
}

static const struct smd_io_ops test_ops = {
	.pread = test_pread,
	.pwrite = test_pwrite,
	.zero = test_zero,
	.truncate = test_truncate,
	.flush = test_flush,
};

static void
test_close(struct smd_io *io)
{
	struct test_io *t = test_of(io);

	for (size_t i = 0; i < t->n_records; i++)
		free(t->records[i].data);
	free(t->records);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

struct smd_io *
smd_io_test(struct smd_io *below)
{
	struct test_io *t = smd_calloc(1, sizeof *t);

	pthread_mutex_init(&t->lock, NULL);
	t->below = below;
	t->other.close = test_close;
	t->other.io.ops = &test_ops;
	t->other.io.name = below->name;
	t->other.io.flags = below->flags;
	t->other.io.size = below->size;
	return &t->other.io;
}

void
smd_io_test_plan(struct smd_io *io, const struct smd_test_plan *plan)
{
	LOCK_SCOPE(&test_of(io)->lock);
	test_of(io)->plan = *plan;
	test_of(io)->count = 0;
}

uint64_t
smd_io_test_count(struct smd_io *io)
{
	LOCK_SCOPE(&test_of(io)->lock);
	return test_of(io)->count;
}

void
smd_io_test_record(struct smd_io *io)
{
	LOCK_SCOPE(&test_of(io)->lock);
	test_of(io)->recording = true;
}

const struct smd_test_record *
smd_io_test_records(struct smd_io *io, size_t *ret_n)
{
	LOCK_SCOPE(&test_of(io)->lock);
	*ret_n = test_of(io)->n_records;
	return test_of(io)->records;
}

int
smd_test_replay(const struct smd_test_record *record, struct smd_io *onto, struct smd_error *err)
{
	switch (record->op) {
	case SMD_TEST_PWRITE:
		return smd_io_pwrite(onto, record->data, (size_t)record->count, record->offset,
				     err);
	case SMD_TEST_ZERO:
		return onto->ops->zero(onto, record->offset, record->count, err);
	case SMD_TEST_TRUNCATE:
		return onto->ops->truncate(onto, record->offset, err);
	case SMD_TEST_FLUSH:
	case SMD_TEST_PREAD:
		break;
	}
	return 0;
}
