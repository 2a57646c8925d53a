/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compressed clusters that we write: where they are packed, who counts them, and
 * what becomes of a host cluster when those in it go. (Crashes: test-crash.c.)
 */
#include "plugins/format/qcow2/test-image.h"

#include <stdlib.h>
#include <string.h>

#include "common/error.h"
#include "plugins/format/qcow2/qcow2.h"

#define CLUSTER 4096u
#define DISK (64 * CLUSTER)

struct packed {
	struct smd_io *io;
	struct qcow2_image *img;
	struct smd_error err;
};

static struct packed
packed_new(const char *a, const char *b)
{
	const char *options[] = { "cluster_size=4096", a, b, NULL };
	struct packed p = { .io = test_create(DISK, options), .err = SMD_ERROR_INIT };

	p.img = test_open(p.io, SMD_OPEN_WRITE);
	return p;
}

/* Check, and close. */
static void
packed_end(struct packed *p, unsigned leaks)
{
	struct test_findings t;

	assert_int_equal(qcow2->flush(p->img, &p->err), 0);
	t = test_check(p->io, SMD_REPAIR_NONE);
	assert_int_equal(t.corruptions, 0);
	assert_int_equal(t.leaks, leaks);
	qcow2->close(p->img);
	smd_io_close(p->io);
}

/* Pretend that a guest cluster encodes to len bytes. Returns where they lie. */
static uint64_t
put(struct packed *p, uint64_t cluster, size_t len)
{
	struct qcow2_entry entry;
	uint8_t *data = calloc(1, len);

	if (qcow2->write_encoded(p->img, cluster * CLUSTER, data, len, &p->err) != 0)
		fail_msg("write_encoded: %s", p->err.message);
	free(data);
	assert_int_equal(qcow2_lookup(p->img, cluster, &entry, &p->err), 0);
	assert_true(entry.compressed_size >= len);
	assert_false(entry.copied);
	return entry.host;
}

static uint64_t
count(struct packed *p, uint64_t host)
{
	uint64_t n;

	assert_int_equal(qcow2_refcount_get(p->img, host / CLUSTER, &n, &p->err), 0);
	return n;
}

static void
test_packing(void **state)
{
	struct packed p = packed_new(NULL, NULL);
	uint64_t a, b, c, d;

	(void)state;
	/* The first takes the L2 table, too, which lies behind it. */
	put(&p, 2, CLUSTER - 1);
	a = put(&p, 3, 1000);
	assert_int_equal(a % CLUSTER, 0);
	assert_int_equal(count(&p, a), 1);
	b = put(&p, 4, 1500);
	assert_int_equal(b, a + 1000);
	assert_int_equal(count(&p, a), 2);
	/* Across the border into the next host cluster: both count it. */
	c = put(&p, 5, 3000);
	assert_int_equal(c, b + 1500);
	assert_int_equal(count(&p, a), 3);
	assert_int_equal(count(&p, c + 2999), 1);
	/* To the very end of a host cluster: the next one begins a new cluster. */
	d = put(&p, 6, 2 * CLUSTER - 5500);
	assert_int_equal((d + 2 * CLUSTER - 5500) % CLUSTER, 0);
	assert_int_equal(count(&p, d), 2);
	assert_int_equal(put(&p, 7, 10) % CLUSTER, 0);
	packed_end(&p, 0);
}

static void
test_full_counts(void **state)
{
	struct packed p = packed_new("refcount_bits=4", NULL);
	uint64_t first = put(&p, 0, 100);

	(void)state;
	for (unsigned i = 1; i < 7; i++)
		assert_int_equal(put(&p, i, 100), first + i * 100);
	assert_int_not_equal(put(&p, 7, 100) / CLUSTER, first / CLUSTER);
	assert_int_equal(count(&p, first), 7);
	/* Half of what 4 bits count: a snapshot still can have them all. */
	assert_int_equal(qcow2->snapshot_create(p.img, "one", 1, &p.err), 0);
	assert_int_equal(count(&p, first), 14);
	packed_end(&p, 0);
}

static void
narrow(const char *bits)
{
	struct packed p = packed_new(bits, NULL);
	uint8_t *buf = calloc(1, CLUSTER), out[CLUSTER];
	size_t len;

	assert_int_equal(qcow2->encode(p.img, buf, out, sizeof out - 1, &len, &p.err), 1);
	/* Who writes some all the same gets a host cluster for each. */
	assert_int_equal(put(&p, 0, 100) % CLUSTER, 0);
	assert_int_equal(put(&p, 1, 100) % CLUSTER, 0);
	free(buf);
	packed_end(&p, 0);
}

static void
test_narrow_counts(void **state)
{
	(void)state;
	narrow("refcount_bits=1");
	narrow("refcount_bits=2");
}

/* A host cluster is given back with its last user, and not packed into after. */
static void
test_rewriting(void **state)
{
	struct packed p = packed_new(NULL, NULL);
	uint64_t a = put(&p, 0, 100), b = put(&p, 1, 100), c;

	(void)state;
	assert_int_equal(a / CLUSTER, b / CLUSTER);
	assert_int_equal(test_write(p.img, p.io, 0, CLUSTER, 1, &p.err), 0);
	assert_int_equal(count(&p, a), 2);
	assert_int_equal(qcow2->flush(p.img, &p.err), 0);
	assert_int_equal(count(&p, a), 1);
	assert_int_equal(put(&p, 2, 100), b + 100);
	assert_int_equal(qcow2->zero(p.img, CLUSTER, 2 * CLUSTER, SMD_ZERO_UNMAP, &p.err), 0);
	assert_int_equal(qcow2->flush(p.img, &p.err), 0);
	assert_int_equal(count(&p, a), 0);
	/* The freed place is somebody else's now. */
	assert_int_equal(test_write(p.img, p.io, 8 * CLUSTER, CLUSTER, 1, &p.err), 0);
	assert_int_equal(count(&p, a), 1);
	c = put(&p, 3, 100);
	assert_int_not_equal(c / CLUSTER, a / CLUSTER);
	assert_int_equal(c % CLUSTER, 0);
	assert_int_equal(count(&p, c), 1);
	/* Its own old place is given back, too. */
	assert_int_equal(put(&p, 3, 200), c + 100);
	assert_int_equal(count(&p, c), 2);
	assert_int_equal(qcow2->flush(p.img, &p.err), 0);
	assert_int_equal(count(&p, c), 1);
	packed_end(&p, 0);
}

static void
test_failed_write(void **state)
{
	struct packed p = packed_new(NULL, NULL);
	struct smd_io *real = p.io, *io = smd_io_test(p.io);
	const struct smd_test_plan plan = { .fail_at = 1, .ops = SMD_TEST_OP(PWRITE) };
	uint64_t a = put(&p, 0, 100);
	uint8_t data[100] = { 0 };

	(void)state;
	assert_int_equal(qcow2->flush(p.img, &p.err), 0);
	p.img->io = io;
	smd_io_test_plan(io, &plan);
	assert_int_equal(qcow2->write_encoded(p.img, CLUSTER, data, sizeof data, &p.err), -1);
	smd_error_clear(&p.err);
	p.img->io = real;
	assert_int_equal(qcow2->flush(p.img, &p.err), 0);
	assert_int_equal(count(&p, a), 1);
	smd_io_close(io);
	packed_end(&p, 0);
}

static void
round_trip(const char *codec, bool random)
{
	struct packed p = packed_new(codec, NULL);
	uint8_t buf[CLUSTER], out[CLUSTER], back[CLUSTER];
	uint32_t seed = 1;
	size_t len = 0;
	int r;

	for (size_t i = 0; i < sizeof buf; i++) {
		seed = seed * 1664525u + 1013904223u;
		buf[i] = (uint8_t)(random ? seed >> 24 : seed >> 28);
	}
	r = qcow2->encode(p.img, buf, out, sizeof out - 1, &len, &p.err);
	assert_int_equal(r, random);
	if (!random) {
		assert_true(len > 0 && len < CLUSTER * 31 / 32);
		assert_int_equal(qcow2->encode(p.img, buf, out, len - 1, &len, &p.err), 1);
		assert_int_equal(qcow2->encode(p.img, buf, out, sizeof out - 1, &len, &p.err), 0);
		assert_int_equal(qcow2->write_encoded(p.img, CLUSTER, out, len, &p.err), 0);
		assert_int_equal(qcow2->read_encoded(p.img, CLUSTER, back, &p.err), 0);
		assert_memory_equal(buf, back, CLUSTER);
	}
	packed_end(&p, 0);
}

static void
test_codecs(void **state)
{
	(void)state;
	round_trip("compression_type=zlib", false);
	round_trip("compression_type=zlib", true);
	round_trip("compression_type=zstd", false);
	round_trip("compression_type=zstd", true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_packing),
		cmocka_unit_test(test_full_counts),
		cmocka_unit_test(test_narrow_counts),
		cmocka_unit_test(test_rewriting),
		cmocka_unit_test(test_failed_write),
		cmocka_unit_test(test_codecs),
	};

	return cmocka_run_group_tests(tests, test_load, NULL);
}
