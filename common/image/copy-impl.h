/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The copier's insides. A plan turns a chain's extents into items of work; a
 * crew is the threads that take items and the state they share.
 */
#ifndef SMD_COMMON_IMAGE_COPY_IMPL_H
#define SMD_COMMON_IMAGE_COPY_IMPL_H

#include <stdatomic.h>
#include <time.h>

#include "common/image/chain-impl.h"
#include "common/image/copy.h"

/* What one thread reads at a time: it stays in the core's second-level cache, so
 * that writing it out again costs no trip to memory. */
#define COPY_WINDOW (256u << 10)
#define COPY_PAGE 4096u			/* what is left out of sparse writes */
#define COPY_THREADS_MAX 8u

/* ---- plan ---- */

/* A range of the disk to move, in whole units of the destination (the end of
 * the disk excepted), and the data that lies in it. */
struct plan_item {
	uint64_t offset, count;
	uint64_t data;			/* bytes of the pieces */
	uint64_t gap_start;		/* the end of the item before */
	uint64_t seq;			/* 0, 1, 2 … in the order of the disk */
	struct smd_run *pieces;
	size_t n_pieces, room;
};

struct plan {
	struct smd_chain *chain;
	uint64_t unit;			/* items begin and end on it */
	uint64_t chunk;			/* and never cross a multiple of this one */
	uint64_t limit;			/* items end here at the latest */
	uint64_t total, n_total;	/* bytes and runs of data on the whole disk */

	uint64_t next;			/* where the extents go on once runs are used up */
	bool counting;			/* the first pass sees the whole disk */
	bool full;
	struct smd_run *runs;
	size_t n_runs, at;
	uint64_t last_end;
	uint64_t seq;

	/* The store's last answer about holes: none of [hole, data) is there,
	 * all of [data, end) is. */
	struct smd_io *hole_io;
	uint64_t hole, hole_data, hole_end;
};

/* Read all extents once, for the totals. unit and chunk are powers of two. */
int plan_init(struct plan *plan, struct smd_chain *chain, uint64_t unit, uint64_t chunk,
	      uint64_t limit, struct smd_error *err);
/* 1: *item is the next; 0: there is none; -1. */
int plan_next(struct plan *plan, struct plan_item *item, struct smd_error *err);
void plan_free(struct plan *plan);
void plan_item_free(struct plan_item *item);

/* ---- crew ---- */

struct crew {
	const struct smd_copy_options *options;
	int (*work)(struct crew *crew, void *opaque, struct smd_error *err);
	void *opaque;
	atomic_bool stop;
	pthread_mutex_t lock;		/* guards the rest */
	struct smd_error err;		/* the first */
	uint64_t done, total, told;	/* told: done at the last progress */
	struct timespec last_progress;
	struct timespec free_at;	/* the rate limit lets the next byte go then */
};

unsigned crew_size(const struct smd_copy_options *options, uint64_t total);
/* Run work on n threads, the caller's being one; returns when all have. */
int crew_run(struct crew *crew, unsigned n, struct smd_error *err);
/* Keep the error, unless there is an earlier one, and have everybody stop. */
void crew_fail(struct crew *crew, struct smd_error *err);
/* Count bytes done: tells progress, fails with TASK_CANCELLED. */
int crew_done(struct crew *crew, uint64_t bytes, struct smd_error *err);
/* Sleep as long as the rate limit wants for these bytes. */
void crew_throttle(struct crew *crew, uint64_t bytes);

/* A window for reading a chain: it holds a whole encoded unit, decoded once. */
uint64_t copy_window(const struct smd_chain *chain);

bool copy_is_zero(const uint8_t *p, size_t n);

/* Read [offset, + count) of a disk, zeroes past its end. */
int copy_read_padded(struct smd_chain *chain, uint8_t *buf, uint64_t offset, uint64_t count,
		     struct smd_error *err);
/* Fill buf with an item's part, from its pieces. */
int copy_read_item(struct smd_chain *chain, const struct plan_item *item, uint8_t *buf,
		   uint64_t offset, uint64_t count, struct smd_error *err);

/* ---- verify ---- */

struct copy_hash {
	uint64_t offset, count;
	uint64_t hash[2];
};

struct copy_hashes {
	pthread_mutex_t lock;
	struct copy_hash *list;
	size_t n, room;
};

/* Hash windows of one range as they pass by. */
struct copy_hasher;
struct copy_hasher *copy_hasher_new(void);
void copy_hasher_free(struct copy_hasher *h);
void copy_hasher_begin(struct copy_hasher *h);
void copy_hasher_add(struct copy_hasher *h, const void *buf, size_t count);
void copy_hasher_end(struct copy_hasher *h, struct copy_hashes *into, uint64_t offset,
		     uint64_t count);

/* Read all of dst: what was hashed must hash the same, the rest be zeroes. */
int copy_verify(struct smd_chain *dst, struct copy_hashes *hashes,
		const struct smd_copy_options *options, uint64_t done, uint64_t total,
		struct smd_error *err);

#endif
