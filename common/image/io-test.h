/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An io for tests: it passes calls on to another one, counts and records them,
 * and fails, shortens or tears the one it was told to. A recording replays
 * onto a fresh store up to any point, which is what a power cut leaves.
 *
 * Threads: one lock around everything, so calls are in one order.
 */
#ifndef SMD_COMMON_IMAGE_IO_TEST_H
#define SMD_COMMON_IMAGE_IO_TEST_H

#include "common/image/io.h"

enum smd_test_op {
	SMD_TEST_PREAD,
	SMD_TEST_PWRITE,
	SMD_TEST_ZERO,
	SMD_TEST_TRUNCATE,
	SMD_TEST_FLUSH,
};
#define SMD_TEST_OP(op) (1u << SMD_TEST_##op)
#define SMD_TEST_CHANGES (SMD_TEST_OP(PWRITE) | SMD_TEST_OP(ZERO) | SMD_TEST_OP(TRUNCATE) | \
			  SMD_TEST_OP(FLUSH))
#define SMD_TEST_ALL (SMD_TEST_CHANGES | SMD_TEST_OP(PREAD))

enum smd_test_how {
	SMD_TEST_FAIL,	/* nothing of the call happens */
	SMD_TEST_SHORT,	/* a write puts its first half down (whole sectors), then fails */
	SMD_TEST_TORN,	/* as SHORT, cut inside a sector */
	SMD_TEST_LATE,	/* all of the call happens, then it fails */
	SMD_TEST_FLIP,	/* a write puts down another bit amid its bytes, and says nothing */
};

struct smd_test_plan {
	uint64_t fail_at;	/* the n-th call of ops fails, from 1; 0: none does */
	unsigned ops;		/* SMD_TEST_OP(...) that are counted for it */
	enum smd_test_how how;
	bool sticky;		/* every counted call after it fails too */
	int errnum;		/* 0: EIO */
};

struct smd_test_record {
	enum smd_test_op op;
	uint64_t offset;	/* TRUNCATE: the size */
	uint64_t count;
	uint8_t *data;		/* PWRITE only */
};

/* below is borrowed and outlives the result, which smd_io_close frees. */
struct smd_io *smd_io_test(struct smd_io *below);

/* What to fail from here on; the count starts at 0. */
void smd_io_test_plan(struct smd_io *io, const struct smd_test_plan *plan);

/* Calls counted since the plan was set (fail_at 0 counts too). */
uint64_t smd_io_test_count(struct smd_io *io);

/* Keep every change from now on. */
void smd_io_test_record(struct smd_io *io);
const struct smd_test_record *smd_io_test_records(struct smd_io *io, size_t *ret_n);

/* Do one record again on another store. */
int smd_test_replay(const struct smd_test_record *record, struct smd_io *onto,
		    struct smd_error *err);

#endif
