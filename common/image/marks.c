/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/marks.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/image/io.h"
#include "common/mem.h"

#define MARK_MAGIC "smdmark1"
#define MARKS_MAX (1u << 22)	/* a mark a second for six weeks */

enum {
	MARK_BEFORE = 0,
	MARK_IDENTITY = 16,
	MARK_MAGIC_AT = 32,
	MARK_NUMBER = 40,
	MARK_POSITION = 48,
	MARK_DONE = 56,
	MARK_WRITTEN = 64,
	MARK_DIGEST_HIGH = 72,
	MARK_DIGEST_LOW = 80,
	MARK_FLAGS = 88,
	MARK_CHECKSUM = 112,
	MARK_SIZE = 128,
};
#define FLAG_DIGEST 1u
#define FLAG_CHANGE 2u

struct smd_marks {
	struct smd_io *io;
	struct smd_mark *list;
	size_t n, room;
	uint8_t identity[16];	/* of all of them */
	uint8_t checksum[16];	/* of the last */
};

static void
keep(struct smd_marks *m, const uint8_t record[MARK_SIZE], const struct smd_mark *mark)
{
	if (m->n == m->room) {
		m->room = m->room ? 2 * m->room : 64;
		m->list = smd_reallocarray(m->list, m->room, sizeof *m->list);
	}
	m->list[m->n++] = *mark;
	memcpy(m->identity, record + MARK_IDENTITY, sizeof m->identity);
	memcpy(m->checksum, record + MARK_CHECKSUM, sizeof m->checksum);
}

/* Whether the record is the row's next. */
static bool
decode(const struct smd_marks *m, const uint8_t r[MARK_SIZE], struct smd_mark *ret)
{
	uint8_t checksum[16];

	smd_digest_bytes(r, MARK_CHECKSUM, checksum);
	if (memcmp(checksum, r + MARK_CHECKSUM, sizeof checksum) != 0 ||
	    memcmp(r + MARK_MAGIC_AT, MARK_MAGIC, 8) != 0 ||
	    memcmp(r + MARK_BEFORE, m->checksum, sizeof m->checksum) != 0 ||
	    smd_load_be64(r + MARK_NUMBER) != m->n ||
	    (m->n > 0 && memcmp(r + MARK_IDENTITY, m->identity, sizeof m->identity) != 0))
		return false;
	*ret = (struct smd_mark){
		.position = smd_load_be64(r + MARK_POSITION),
		.done = smd_load_be64(r + MARK_DONE),
		.written = smd_load_be64(r + MARK_WRITTEN),
		.digest.high = smd_load_be64(r + MARK_DIGEST_HIGH),
		.digest.low = smd_load_be64(r + MARK_DIGEST_LOW),
		.has_digest = smd_load_be64(r + MARK_FLAGS) & FLAG_DIGEST,
		.is_change = smd_load_be64(r + MARK_FLAGS) & FLAG_CHANGE,
	};
	return m->n == 0 || ret->position >= m->list[m->n - 1].position;
}

static void
encode(const struct smd_marks *m, const uint8_t identity[16], const struct smd_mark *mark,
       uint8_t r[MARK_SIZE])
{
	memset(r, 0, MARK_SIZE);
	memcpy(r + MARK_BEFORE, m->checksum, sizeof m->checksum);
	memcpy(r + MARK_IDENTITY, identity, 16);
	memcpy(r + MARK_MAGIC_AT, MARK_MAGIC, 8);
	smd_store_be64(r + MARK_NUMBER, m->n);
	smd_store_be64(r + MARK_POSITION, mark->position);
	smd_store_be64(r + MARK_DONE, mark->done);
	smd_store_be64(r + MARK_WRITTEN, mark->written);
	smd_store_be64(r + MARK_DIGEST_HIGH, mark->digest.high);
	smd_store_be64(r + MARK_DIGEST_LOW, mark->digest.low);
	smd_store_be64(r + MARK_FLAGS, (mark->has_digest ? FLAG_DIGEST : 0) |
					(mark->is_change ? FLAG_CHANGE : 0));
	smd_digest_bytes(r, MARK_CHECKSUM, r + MARK_CHECKSUM);
}

int
smd_marks_open(struct smd_io *io, struct smd_marks **ret, struct smd_error *err)
{
	CLEANUP_MARKS struct smd_marks *m = smd_calloc(1, sizeof *m);

	m->io = io;
	while (m->n < MARKS_MAX && smd_range_ok(m->n * MARK_SIZE, MARK_SIZE, io->size)) {
		uint8_t record[MARK_SIZE];
		struct smd_mark mark;

		if (smd_io_pread(io, record, sizeof record, m->n * MARK_SIZE, err) != 0)
			return -1;
		if (!decode(m, record, &mark))
			break;
		keep(m, record, &mark);
	}
	*ret = TAKE_PTR(m);
	return 0;
}

void
smd_marks_close(struct smd_marks *m)
{
	if (!m)
		return;
	free(m->list);
	free(m);
}

size_t
smd_marks_count(const struct smd_marks *m)
{
	return m->n;
}

size_t
smd_marks_of(const struct smd_marks *m, const uint8_t identity[16], const struct smd_mark **ret)
{
	*ret = NULL;
	if (m->n == 0 || memcmp(m->identity, identity, sizeof m->identity) != 0)
		return 0;
	*ret = m->list;
	return m->n;
}

int
smd_marks_reset(struct smd_marks *m, struct smd_error *err)
{
	m->n = 0;
	memset(m->checksum, 0, sizeof m->checksum);
	if (m->io->ops->truncate(m->io, 0, err) != 0)
		return -1;
	return smd_io_flush(m->io, err);
}

int
smd_marks_add(struct smd_marks *m, const uint8_t identity[16], const struct smd_mark *mark,
	      struct smd_error *err)
{
	uint8_t record[MARK_SIZE];

	if (m->n == MARKS_MAX)
		return 0;
	encode(m, identity, mark, record);
	if (smd_io_pwrite(m->io, record, sizeof record, m->n * MARK_SIZE, err) != 0 ||
	    smd_io_flush(m->io, err) != 0)
		return -1;
	keep(m, record, mark);
	return 0;
}
