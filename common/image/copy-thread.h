/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the threads of one copy share, and an item that is under way. Items, their order and
 * the threads are copy-items.c's; their bytes copy-window.c's; extents that are shared
 * copy-share.c's; beginning and end copy.c's.
 */
#ifndef SMD_COMMON_IMAGE_COPY_THREAD_H
#define SMD_COMMON_IMAGE_COPY_THREAD_H

#include "common/image/copy-impl.h"
#include "common/image/io-queue.h"

/* So many items a thread may have read before it waits for others to have written theirs:
 * their windows still lie in the core's second-level cache, together. */
#define COPY_BEHIND 2u
#define COPY_ITEMS_MAX 4u	/* the larger of the two */

struct copy {
	struct crew crew;
	struct smd_chain *src, *dst;
	const struct smd_copy_options *options;
	bool target_is_zero;
	bool delta;			/* between the items dst stays as it is */
	bool digest;			/* what is read is the whole disk's content, or of upper
					 * layers what they change of it */
	bool resumed;			/* what is past the mark may hold anything */
	uint64_t reread;		/* items before it are there: only their hash is wanted */
	uint64_t unit;			/* the destination's */
	uint64_t window;		/* bytes of a thread's buffer */
	uint64_t step;			/* and what of it is read at once */
	uint64_t granule;		/* zeroes, or what base has too, are left out in these */
	uint64_t share_block;		/* 0: extents can't be shared */
	bool direct;			/* past the page cache */
	bool queued;			/* and many writes of a thread are under way at a time */
	bool away;			/* through it, and out of it again right behind */
	bool takes;			/* space for what is written is taken just before */
	bool dense;			/* new space is taken beforehand: zeroes in it save none */

	pthread_mutex_t plan_lock;
	struct plan plan;

	pthread_mutex_t turn_lock;
	pthread_cond_t turns[COPY_THREADS_MAX];	/* by seq: only the next one is woken */
	uint64_t turn;			/* the item whose places are next */
	uint64_t written_back;		/* host offset */
	uint64_t written_away;		/* the same: what lies before it left the page cache */

	pthread_mutex_t pen;		/* held to write into the file, if behind > 1 and !queued */
	unsigned behind;		/* items that a thread may have; 1: each is written at once */
	uint8_t *windows;		/* the threads' buffers */
	_Atomic unsigned n_windows;	/* of them taken */

	struct copy_hashes hashes;
	struct copy_marks marks;
	_Atomic uint64_t written, shared, zero;
};

/* An item under way, one thread's own. */
struct copy_item {
	struct copy *copy;
	uint8_t *buf;
	uint8_t *base_buf;		/* the same range of base; NULL: none */
	struct plan_item item;
	bool had_turn;
	bool waits;			/* once read it is written when the pen is free, or by the
					 * queue while others are read */
	struct smd_queue *queue;	/* its thread's; NULL: none */
	struct smd_writes writes;
	struct chain_places *segments;	/* of the window at hand */
	size_t n_segments, room;
	struct smd_digest digest;	/* of the item's part that was read */
	/* Where units are encoded: a place for each of the window's, and its length
	 * (0: as it is). Else NULL. */
	uint8_t *encoded;
	size_t *encoded_len;
};

/* ---- copy-items.c ---- */

/* A thread: items, until there is none. opaque is the struct copy. */
int copy_work(struct crew *crew, void *opaque, struct smd_error *err);

/* Wait until the item's places are the next to be asked for; and let the item after it ask.
 * Nothing is waited for by an item that has had its turn. */
int copy_turn_take(struct copy_item *w, struct smd_error *err);
void copy_turn_pass(struct copy_item *w);
/* A place for a range of the disk, another of w->segments. In the item's turn. */
int copy_reserve(struct copy_item *w, uint64_t offset, uint64_t count, struct smd_error *err);
/* Commit them all; where r < 0, or on failure, give the rest back. */
int copy_segments_end(struct copy_item *w, int r, struct smd_error *err);

/* ---- copy-window.c ---- */

/* Whether it reads as zeroes before anything is written there. */
bool copy_place_is_zero(const struct copy *c, const struct smd_place *p);
/* The part [offset, end) of buf, which begins at guest offset start, to a place; into the queue,
 * where there is one. */
int copy_write_place(struct copy_item *w, const struct smd_place *p, const uint8_t *buf,
		     uint64_t start, uint64_t end, struct smd_error *err);
/* Zeroes of a whole disk, between items. */
int copy_zero(struct copy *c, uint64_t offset, uint64_t count, struct smd_error *err);
/* An item, in units that a window holds, or of one that is larger. */
int copy_small(struct copy_item *w, struct smd_error *err);
/* The same of an item in one window, in steps: read it, and have places for it; write it
 * there; and say that it is written, or with r < 0 give the places back (then r is returned).
 * What fails to be read has no places. */
int copy_small_read(struct copy_item *w, struct smd_error *err);
int copy_small_write(struct copy_item *w, struct smd_error *err);
int copy_small_end(struct copy_item *w, int r, struct smd_error *err);
int copy_large(struct copy_item *w, struct smd_error *err);
/* Read an item for its digest, and write nothing. */
int copy_item_hash(struct copy_item *w, struct smd_error *err);

/* ---- copy-share.c ---- */

int copy_sharing(struct copy_item *w, struct smd_error *err);

#endif
