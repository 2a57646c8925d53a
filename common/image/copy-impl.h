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
/* And where what it writes goes past the page cache: fewer, longer requests. */
#define COPY_WINDOW_DIRECT (1u << 20)
#define COPY_PAGE 4096u			/* what is left out of sparse writes */
#define COPY_THREADS_MAX 8u
#define COPY_GROW_AHEAD (64u << 20)	/* of a file, smd_io_grow_ahead */

/* ---- plan ---- */

/* A store's last answer about holes: none of [start, data) is there, all of
 * [data, end) is. */
struct holes_answer {
	struct smd_io *io;
	uint64_t start, data, end;
};

/* The answers of several stores: a chain's runs go from one to another and back, and to ask
 * where the next hole is costs a walk through all the data before it. Of a store that somebody
 * writes meanwhile they are worth nothing. XenServer's chains have 30 images at most. */
#define HOLES_STORES 32u
struct holes {
	struct holes_answer of[HOLES_STORES];
	unsigned next;			/* the one to give up for another store's */
};

/* How a DATA run begins: so much of a hole, then so much that is there. */
int holes_split(struct holes *holes, const struct smd_run *run, uint64_t *ret_hole,
		uint64_t *ret_data, struct smd_error *err);

/* A range of the disk to move, in whole units of the destination (the end of
 * the disk excepted), and the data that lies in it. Between the pieces are
 * zeroes, or in a delta what lies below it. */
struct plan_item {
	uint64_t offset, count;
	uint64_t data;			/* bytes of the pieces */
	bool zero;			/* a delta's whole units of zeroes: no pieces */
	uint64_t gap_start;		/* the end of the item before */
	uint64_t seq;			/* 0, 1, 2 … in the order of the disk */
	struct smd_run *pieces;
	size_t n_pieces, room;
};

struct plan {
	struct smd_chain *chain;
	/* A delta: what the upper layers hold over the others, or what differs from
	 * base by the extents. Zeroes are runs too, where something else shows
	 * below. 0 and NULL: the whole disk, its zeroes left out. */
	size_t upper;
	struct smd_chain *base;
	bool *same_file;		/* of each layer of chain and each of base */
	uint64_t unit;			/* items begin and end on it */
	uint64_t chunk;			/* and never cross a multiple of this one */
	uint64_t limit;			/* items end here at the latest */
	/* Extents are shared with an image that has a place for all of the disk: what lies
	 * together is an item, holes or not. They are looked for only where nothing else
	 * says what is empty, in a store that is the disk: to look costs as much as to
	 * share them. */
	bool whole;
	uint64_t total, n_total;	/* bytes and runs of data on the whole disk */
	uint64_t zeroes;		/* bytes of a delta's runs of zeroes, not in total */
	uint64_t in_place;		/* of total: those that lie in whole pages of their store */

	uint64_t next;			/* where the extents go on once runs are used up */
	bool counting;			/* the first pass sees the whole disk */
	bool full;
	struct smd_run *runs;
	size_t n_runs, at;
	/* Since the last run of data, where there was one: whether there were only holes of its
	 * store, as far from where they are on the disk as it is. */
	bool only_holes;
	struct smd_run last_data;
	uint64_t last_end;
	uint64_t seq;

	struct holes holes, below_holes;
};

static inline bool
plan_is_delta(const struct plan *plan)
{
	return plan->upper > 0 || plan->base;
}

/* Whether both lie in one store as far apart as on the disk, with holes between them. */
static inline bool
runs_join(const struct smd_run *a, const struct smd_run *b)
{
	return b->past_hole && a->kind == SMD_EXTENT_DATA && b->kind == SMD_EXTENT_DATA &&
	       a->io == b->io && b->host_offset - a->host_offset == b->offset - a->offset;
}

/* Read all extents once, for the totals. unit and chunk are powers of two. */
int plan_init(struct plan *plan, struct smd_chain *chain, uint64_t unit, uint64_t chunk,
	      uint64_t limit, struct smd_error *err);
/* The same, with plan->upper or plan->base set and the rest zero. */
int plan_init_delta(struct plan *plan, struct smd_chain *chain, uint64_t unit, uint64_t chunk,
		    uint64_t limit, struct smd_error *err);
/* 1: *item is the next; 0: there is none; -1. */
int plan_next(struct plan *plan, struct plan_item *item, struct smd_error *err);
/* Go on from an offset, the end of an item. Before the first is taken. */
void plan_seek(struct plan *plan, uint64_t offset);
void plan_free(struct plan *plan);
void plan_item_free(struct plan_item *item);

/* For copy-delta.c: keep one run; cut one at its store's holes, which are passed
 * on as ZERO; and collect a delta's runs from an offset on. */
int plan_keep(struct plan *plan, const struct smd_run *run, struct smd_error *err);
int plan_split_holes(struct holes *holes, const struct smd_run *run, smd_run_fn *add,
		     void *opaque, struct smd_error *err);
int delta_fill(struct plan *plan, uint64_t from, struct smd_error *err);
void delta_init(struct plan *plan);

/* The view of a chain's layers from first on, zeroes past its end. */
int copy_read_below(struct smd_chain *chain, size_t first, uint8_t *buf, uint64_t offset,
		    uint64_t count, struct smd_error *err);
/* What an item of the upper layers changes of the disk's digest: its pages, less what the
 * layers below show there. A page that two items have a part of is the first one's. *digest:
 * of the item's bytes. buf is scratch of so many bytes, whole pages. */
int delta_digest(const struct plan *plan, const struct plan_item *item, uint8_t *buf,
		 uint64_t window, struct smd_digest *digest, struct smd_error *err);

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
	unsigned changes;		/* of the control's, as of free_at */
};

/* How many threads, where options leave it open: so many for each processor. */
#define CREW_BUSY 1u	/* they copy in memory; a file has one writer at a time, and others in its
			 * way cost more than they do */
#define CREW_WAITS 4u	/* for devices */
#define CREW_WAITS_BEHIND 2u	/* in memory, while others wait for devices */
unsigned crew_size(const struct smd_copy_options *options, uint64_t total, unsigned each);
/* How many items of so many bytes each of n threads may have under way past the page cache, at
 * most COPY_UNDER_WAY: together they take no more than a peak of memory allows. */
#define COPY_UNDER_WAY 4u
unsigned crew_under_way(unsigned n_threads, uint64_t bytes);
/* Run work on n threads, the caller's being one; returns when all have. */
int crew_run(struct crew *crew, unsigned n, struct smd_error *err);
/* Keep the error, unless there is an earlier one, and have everybody stop. */
void crew_fail(struct crew *crew, struct smd_error *err);
/* Count bytes done: tells progress, fails with TASK_CANCELLED or JOB_STOPPED. */
int crew_done(struct crew *crew, uint64_t bytes, struct smd_error *err);
/* Bytes that are not done yet. */
uint64_t crew_left(struct crew *crew);
bool crew_is_paused(struct crew *crew);
/* Paused, or at a rate. */
bool crew_is_slowed(struct crew *crew);
/* Sleep as long as a pause lasts, and as the rate limit wants for these bytes. */
void crew_throttle(struct crew *crew, uint64_t bytes);

/* A window for reading a chain: it holds a whole encoded unit, decoded once. */
uint64_t copy_window(const struct smd_chain *chain);

/* The block size for sharing extents between two stores; 0: never. */
uint64_t copy_share_block(struct smd_io *from, struct smd_io *to);

bool copy_is_zero(const uint8_t *p, size_t n);

/* ---- helpers ---- */

/* Processes that begin as copies of this one, do work, and end: of what they change nobody sees
 * but what lies in memory that is shared. They end with this process at the latest. Whether
 * they did their work is theirs to say there, for one may end at any time. */
struct helpers {
	pid_t pids[COPY_THREADS_MAX];
	unsigned n;
};
/* While there is one thread. Returns how many there are: n, or fewer. */
unsigned helpers_start(struct helpers *helpers, unsigned n, void (*work)(void *opaque),
		       void *opaque);
/* Wait for them, or end them. */
void helpers_end(struct helpers *helpers, bool at_once);

/* Read [offset, + count) of a disk, zeroes past its end. */
int copy_read_padded(struct smd_chain *chain, uint8_t *buf, uint64_t offset, uint64_t count,
		     struct smd_error *err);
/* Fill buf with an item's part, from its pieces; between them, of a delta, from
 * the merged view. */
int copy_read_item(const struct plan *plan, const struct plan_item *item, uint8_t *buf,
		   uint64_t offset, uint64_t count, struct smd_error *err);

/* ---- verify ---- */

/* A range of the disk, and what it must hold. */
struct copy_hash {
	uint64_t offset, end;
	struct smd_digest sum;
};

struct copy_hashes {
	pthread_mutex_t lock;
	struct copy_hash *list;
	size_t n, room;
};

void copy_hashes_add(struct copy_hashes *hashes, const struct copy_hash *entry);

/* Read dst: what was hashed must hash the same; of a delta (upper, whose dst is an
 * overlay made for it) the rest be the parent's. src is only looked at to tell where it
 * differs. */
int copy_verify(struct smd_chain *src, struct smd_chain *dst, struct copy_hashes *hashes,
		const struct smd_copy_options *options, uint64_t done, uint64_t total,
		struct smd_error *err);

/* ---- marks ---- */

struct track_item;

struct copy_marks {
	struct smd_chain *dst;
	const struct smd_copy_options *options;
	_Atomic uint64_t *written;
	uint8_t identity[16];
	struct smd_mark resumed;	/* where this run began; position 0: at the start */
	uint64_t written_before;
	uint64_t step;			/* bytes done between marks, at most */
	struct crew *crew;		/* whose threads make marks */
	_Atomic int64_t due_ns, limit_ns;	/* limit: nobody goes on without one */
	_Atomic uint64_t due_done;

	pthread_mutex_t lock;		/* guards these */
	pthread_cond_t advanced;
	struct smd_mark at;		/* all before it is done */
	struct track_item *ring;	/* items from the first not done on, by seq */
	size_t room;
	uint64_t first;

	pthread_mutex_t marking;	/* held while a mark is made; guards these */
	uint64_t last;			/* the last mark's position */
	bool broken;			/* a flush failed */
};

/* m is zeroed. Finds the mark to begin at, m->resumed, and drops marks of other copies. */
int copy_marks_init(struct copy_marks *m, struct smd_chain *src, struct smd_chain *dst,
		    const struct smd_copy_options *options, _Atomic uint64_t *written,
		    struct smd_error *err);
void copy_marks_done(struct copy_marks *m);
/* The first item is about to be taken. */
void copy_marks_begin(struct copy_marks *m, uint64_t total);
/* An item is copied: committed, not flushed. */
void copy_marks_item(struct copy_marks *m, const struct plan_item *item,
		     const struct smd_digest *digest);
/* All are, and what follows the last; durable on return. */
int copy_marks_end(struct copy_marks *m, uint64_t size, struct smd_error *err);
/* Make a mark, now; or when it is time for one. Where another thread is at it, or of the
 * first n items one is under way, that is waited for only when what a mark would save took a
 * second. */
int copy_mark(struct copy_marks *m, struct smd_error *err);
int copy_mark_if_due(struct copy_marks *m, uint64_t n, struct smd_error *err);
/* What earlier runs copied. */
void copy_marks_hashes(const struct copy_marks *m, struct copy_hashes *into);

#endif
