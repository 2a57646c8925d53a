/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The marks of a copy: how far it was, durably, so that a copy that was cut off at
 * any instant (kill -9, power, no space) goes on from there. A store of the job's own, which
 * holds nothing else, takes them: records, each with a checksum and
 * its predecessor's. What is torn or foreign ends the row.
 *
 * A record says that the destination has, durably, all of the disk before a
 * position: its data and what leads to them. It is written after that is so. It also has the
 * digest of that part, the bytes done, and what the copy was of: the source's size
 * and its files' times, the destination's size, format and uuid, what was asked for. Where
 * any of these is another one, there is no mark.
 *
 * Layout, big-endian, 128 bytes each: checksum of the record before 16 | identity
 * 16 | "smdmark1" | number, position, done, written, digest high, low, flags (1: with a
 * digest, 2: which is a change) u64 each | zeroes | from 112: XXH3-128 of the 112 bytes before.
 *
 * Threads: one at a time.
 */
#ifndef SMD_COMMON_IMAGE_MARKS_H
#define SMD_COMMON_IMAGE_MARKS_H

#include "common/image/digest.h"

struct smd_mark {
	uint64_t position;		/* of the disk: all before it is there */
	uint64_t done;			/* bytes of the data to copy that lie before it */
	uint64_t written;		/* bytes written so far, in all runs */
	struct smd_digest digest;	/* of what lies before it */
	bool has_digest;
	bool is_change;			/* digest is of what the upper layers change: of a delta */
};

struct smd_marks;

/* Read what marks there are. io is writable, can grow, and is borrowed. Fails only
 * where it cannot be read. */
int smd_marks_open(struct smd_io *io, struct smd_marks **ret, struct smd_error *err);
void smd_marks_close(struct smd_marks *marks);	/* NULL is fine */
static inline void
cleanup_marks(struct smd_marks **marks)
{
	smd_marks_close(*marks);
}
#define CLEANUP_MARKS CLEANUP(cleanup_marks)

/* Whether there are any, of whatever copy. */
size_t smd_marks_count(const struct smd_marks *marks);

/* The marks, in order, of a copy that is this one; *ret NULL and 0: none. Borrowed until
 * the next call that changes them. */
size_t smd_marks_of(const struct smd_marks *marks, const uint8_t identity[16],
		    const struct smd_mark **ret);

/* Forget them all, durably. Before the destination is made anew. */
int smd_marks_reset(struct smd_marks *marks, struct smd_error *err);

/* One more, durable on return. What it says is durable before the call. */
int smd_marks_add(struct smd_marks *marks, const uint8_t identity[16],
		  const struct smd_mark *mark, struct smd_error *err);

#endif
