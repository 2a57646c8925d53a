/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/merge-impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

#define WINDOW (1u << 20)		/* what one thread reads, and writes, at a time */
#define WRITEBACK_STEP (8u << 20)	/* so much is written, and then sent to the disk */
#define WRITEBACK_BEHIND (64u << 20)	/* and no more than so much is written meanwhile */
#define SHARE_CHUNK (16u << 20)		/* where extents are shared: no buffer holds them */
#define GRANULE 65536u			/* zeroes are looked for in, and disks compared by */

/* A run under way. */
struct merge_item {
	uint8_t *buf;
	struct chain_write *writes;	/* those that nobody has waited for yet */
	size_t n, room;
	uint64_t data;			/* of the run */
};

/* One thread's own. */
struct merge_thread {
	struct merge *merge;
	struct smd_queue *queue;	/* NULL: each write is waited for */
	uint8_t *windows;
	struct merge_item items[COPY_UNDER_WAY];
	unsigned room, first, n;	/* items; those from the first on are read, and written soon */
};

struct merge {
	struct crew crew;
	struct smd_chain *from;		/* whose runs are moved */
	struct smd_chain *to;		/* its leaf takes them */
	struct smd_chain *other;	/* a difference: the new parent; NULL: none */
	bool own;			/* the leaf's parents show something else later */
	int (*move)(struct merge_thread *t, const struct smd_run *run, struct smd_error *err);
	const struct smd_copy_options *options;
	uint64_t window, share_block;
	unsigned n_threads;

	pthread_mutex_t runs_lock;
	struct merge_runs runs;
	_Atomic uint64_t written, shared, zero;
	_Atomic bool writes_back;	/* somebody has the disk write */
	_Atomic uint64_t sent;		/* of written, when somebody began to */
};

/* ---- Zeroes ---- */

/* What lies below the parent that goes away, where it is not zero. */
struct below {
	struct smd_run *list;
	size_t n, room;
};

static int
below_add(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct below *b = opaque;

	(void)err;
	if (run->kind == SMD_EXTENT_ZERO)
		return 0;
	if (b->n == b->room) {
		b->room = b->room ? 2 * b->room : 16;
		b->list = smd_reallocarray(b->list, b->room, sizeof *b->list);
	}
	b->list[b->n++] = *run;
	return 0;
}

static void
cleanup_below(struct below *b)
{
	free(b->list);
}

/* Into the parent they go as they are; the child needs them only where they would
 * not be seen without the parent. */
static int
move_zeroes(struct merge *m, uint64_t offset, uint64_t count, struct smd_error *err)
{
	CLEANUP(cleanup_below) struct below below = { 0 };

	atomic_fetch_add_explicit(&m->zero, count, memory_order_relaxed);
	if (!m->own)
		return smd_chain_zero(m->to, offset, count, true, err);
	if (chain_extents_of(m->to, 2, m->to->n - 2, offset, offset + count, below_add, &below,
			     err) < 0)
		return -1;
	for (size_t i = 0; i < below.n; i++) {
		if (chain_zero_own(m->to, below.list[i].offset, below.list[i].count, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- Data ---- */

/* The item at hand. */
static struct merge_item *
thread_item(struct merge_thread *t)
{
	return &t->items[(t->first + t->n) % t->room];
}

/* What is written through the page cache goes to the disk while other data is copied: the flush
 * at the end has little to wait for then. All that is dirty, for places lie about in the image; by
 * one thread at a time, for two would wait for each other's pages instead of copying, unless the
 * disk is slow. */
static void
wrote(struct merge *m, uint64_t count)
{
	uint64_t before = atomic_fetch_add_explicit(&m->written, count, memory_order_relaxed);

	if (before / WRITEBACK_STEP == (before + count) / WRITEBACK_STEP)
		return;
	if (!atomic_exchange(&m->writes_back, true))
		atomic_store(&m->sent, before);
	else if (before < atomic_load(&m->sent) + WRITEBACK_BEHIND)
		return;
	smd_io_start_writeback(chain_leaf(m->to)->io, 0, 0);
	atomic_store(&m->writes_back, false);
}

/* 1: it has to be waited for. */
static int
write_behind(struct merge_thread *t, const uint8_t *buf, uint64_t offset, uint64_t count,
	     struct smd_error *err)
{
	struct merge_item *item = thread_item(t);
	struct chain_write *write = &item->writes[item->n];
	int r;

	if (!t->queue || item->n == item->room)
		return 1;
	write->writes.under_way = 0;
	r = chain_write_begin(t->merge->to, write, t->queue, buf, count, offset, err);
	item->n += r == 0;
	return r;
}

static int
write_buffer(struct merge_thread *t, const uint8_t *buf, uint64_t offset, uint64_t count,
	     struct smd_error *err)
{
	struct merge *m = t->merge;
	int r;

	if (count == 0)
		return 0;
	r = write_behind(t, buf, offset, count, err);
	if (r == 0)
		atomic_fetch_add_explicit(&m->written, count, memory_order_relaxed);
	if (r <= 0)
		return r;
	if (smd_chain_pwrite(m->to, buf, count, offset, err) < 0)
		return -1;
	wrote(m, count);
	return 0;
}

/* Granules of zeroes as such, neighbours of the others together. */
static int
write_sparse(struct merge_thread *t, const uint8_t *buf, uint64_t offset, uint64_t count,
	     struct smd_error *err)
{
	uint64_t start = 0, at = 0;

	while (at < count) {
		uint64_t n = smd_min_u64(GRANULE - (offset + at) % GRANULE, count - at);

		if (copy_is_zero(buf + at, n)) {
			if (write_buffer(t, buf + start, offset + start, at - start, err) < 0 ||
			    move_zeroes(t->merge, offset + at, n, err) < 0)
				return -1;
			start = at + n;
		}
		at += n;
	}
	return write_buffer(t, buf + start, offset + start, count - start, err);
}

static struct smd_run
run_part(const struct smd_run *run, uint64_t offset, uint64_t count)
{
	struct smd_run part = *run;

	part.offset = offset;
	part.count = count;
	part.host_offset += offset - run->offset;
	return part;
}

/* [offset, end) of a run, through the buffer: more than a window only where nothing is written
 * behind. */
static int
move_by_copy(struct merge_thread *t, const struct smd_run *run, uint64_t offset, uint64_t end,
	     struct smd_error *err)
{
	uint8_t *buf = thread_item(t)->buf;
	struct merge *m = t->merge;

	while (offset < end) {
		uint64_t n = smd_min_u64(end - offset, m->window);
		struct smd_run part = run_part(run, offset, n);

		if (chain_read_run(m->from, &part, buf, err) < 0 ||
		    write_sparse(t, buf, offset, n, err) < 0)
			return -1;
		offset += n;
	}
	return 0;
}

/* ---- Sharing extents ---- */

/* A place's part of a run: shared where blocks allow it, else copied to the place. */
static int
share_place(struct merge_thread *t, const struct smd_run *run, const struct smd_place *p,
	    struct smd_error *err)
{
	uint8_t *buf = thread_item(t)->buf;
	struct merge *m = t->merge;
	struct smd_io *to = chain_leaf(m->to)->io;
	struct smd_run part = run_part(run, p->offset, p->count);
	uint64_t mask = m->share_block - 1;
	uint64_t done = 0;

	if (((part.host_offset | p->host_offset | p->count) & mask) == 0 &&
	    smd_io_share(to, p->host_offset, part.io, part.host_offset, p->count) == 0) {
		atomic_fetch_add_explicit(&m->shared, p->count, memory_order_relaxed);
		return 0;
	}
	while (done < p->count) {
		uint64_t n = smd_min_u64(p->count - done, m->window);

		part = run_part(run, p->offset + done, n);
		if (chain_read_run(m->from, &part, buf, err) < 0 ||
		    smd_io_pwrite(to, buf, n, p->host_offset + done, err) < 0)
			return -1;
		wrote(m, n);
		done += n;
	}
	return 0;
}

/* [start, end), whole units of the destination, to places of their own. */
static int
share_units(struct merge_thread *t, const struct smd_run *run, uint64_t start, uint64_t end,
	    struct smd_error *err)
{
	struct merge *m = t->merge;
	CLEANUP(chain_places_free) struct chain_places places = { 0 };

	if (chain_reserve(m->to, start, end - start, &places, err) < 0)
		return -1;
	for (size_t i = 0; i < places.n; i++) {
		if (share_place(t, run, &places.list[i], err) < 0) {
			chain_abandon(m->to, &places);
			return -1;
		}
	}
	return chain_commit(m->to, &places, err);
}

static int
move_data(struct merge_thread *t, const struct smd_run *run, struct smd_error *err)
{
	struct merge *m = t->merge;
	uint64_t unit = smd_max_u64(m->to->unit, m->share_block);
	uint64_t end = run->offset + run->count, start, stop;

	if (!m->share_block || run->kind != SMD_EXTENT_DATA ||
	    !smd_round_up_u64(run->offset, unit, &start) ||
	    (stop = smd_round_down_u64(end, unit)) <= start)
		return move_by_copy(t, run, run->offset, end, err);
	if (move_by_copy(t, run, run->offset, start, err) < 0 ||
	    share_units(t, run, start, stop, err) < 0)
		return -1;
	return move_by_copy(t, run, stop, end, err);
}

static int
move_run(struct merge_thread *t, const struct smd_run *run, struct smd_error *err)
{
	if (run->kind == SMD_EXTENT_ZERO)
		return move_zeroes(t->merge, run->offset, run->count, err);
	return move_data(t, run, err);
}

/* ---- A difference ---- */

/* buf has room for both disks' parts. Zeroes are written as data: the leaf must have
 * them itself. */
static int
move_difference(struct merge_thread *t, const struct smd_run *run, struct smd_error *err)
{
	struct merge *m = t->merge;
	uint8_t *now = thread_item(t)->buf, *later = now + m->window;
	uint64_t same = 0;

	if (smd_chain_pread(m->from, now, run->count, run->offset, err) < 0)
		return -1;
	memset(later, 0, run->count);
	if (m->other && copy_read_padded(m->other, later, run->offset, run->count, err) < 0)
		return -1;
	for (uint64_t at = 0; at < run->count;) {
		uint64_t n = smd_min_u64(GRANULE - (run->offset + at) % GRANULE, run->count - at);

		if (memcmp(now + at, later + at, n) == 0) {
			if (write_buffer(t, now + same, run->offset + same, at - same, err) < 0)
				return -1;
			same = at + n;
		}
		at += n;
	}
	return write_buffer(t, now + same, run->offset + same, run->count - same, err);
}

/* ---- Running ---- */

static int
next_run(struct merge *m, struct smd_run *run, struct smd_error *err)
{
	LOCK_SCOPE(&m->runs_lock);
	if (atomic_load(&m->crew.stop))
		return 0;
	return merge_runs_next(&m->runs, m->share_block ? SHARE_CHUNK : m->window, run, err);
}

/* The first n of what was read is written, or, with r < 0, given up. */
static int
thread_end(struct merge_thread *t, unsigned n, int r, struct smd_error *err)
{
	for (unsigned i = 0; i < n; i++) {
		struct merge_item *item = &t->items[t->first];

		for (size_t j = 0; j < item->n; j++)
			r = chain_write_end(t->merge->to, &item->writes[j], t->queue, r, err);
		item->n = 0;
		if (r == 0)
			r = crew_done(&t->merge->crew, item->data, err);
		t->first = (t->first + 1) % t->room;
		t->n--;
	}
	return r;
}

static int
thread_move(struct merge_thread *t, const struct smd_run *run, struct smd_error *err)
{
	struct merge *m = t->merge;
	uint64_t data = run->kind == SMD_EXTENT_ZERO && m->move == move_run ? 0 : run->count;
	int r;

	/* Nothing is under way for as long as a pause takes. */
	if (crew_is_slowed(&m->crew) && thread_end(t, t->n, 0, err) < 0)
		return -1;
	crew_throttle(&m->crew, data);
	thread_item(t)->data = data;
	r = m->move(t, run, err);
	t->n++;
	if (r < 0)
		return -1;
	if (t->queue)
		smd_queue_send(t->queue);
	return t->n == t->room ? thread_end(t, 1, 0, err) : 0;
}

static void
thread_done(struct merge_thread *t)
{
	smd_queue_free(t->queue);
	for (unsigned i = 0; i < COPY_UNDER_WAY; i++) {
		for (size_t j = 0; j < t->items[i].room; j++)
			chain_places_free(&t->items[i].writes[j].places);
		free(t->items[i].writes);
	}
	free(t->windows);
}

/* A difference looks at two windows. */
static int
thread_init(struct merge_thread *t, struct merge *m, struct smd_error *err)
{
	uint64_t each = m->window * (m->move == move_difference ? 2 : 1);

	t->merge = m;
	if (!m->share_block && m->runs.total >= SMD_QUEUE_WORTH)
		t->queue = smd_queue_new(chain_leaf(m->to)->io);
	t->room = t->queue ? crew_under_way(m->n_threads, each) : 1;
	t->windows = smd_try_malloc_pages(t->room * each);
	if (!t->windows)
		return smd_fail_INTERNAL_ERROR(err, "memory", "no memory for a window");
	for (unsigned i = 0; i < t->room; i++) {
		t->items[i].buf = t->windows + i * each;
		t->items[i].room = m->window / GRANULE + 2;	/* of granules, the ends cut */
		t->items[i].writes = smd_calloc(t->items[i].room, sizeof(struct chain_write));
	}
	return 0;
}

static int
merge_work(struct crew *crew, void *opaque, struct smd_error *err)
{
	CLEANUP(thread_done) struct merge_thread t = { .merge = opaque };
	struct smd_run run;
	int r;

	(void)crew;
	if (thread_init(&t, opaque, err) < 0)
		return -1;
	while ((r = next_run(t.merge, &run, err)) > 0) {
		r = thread_move(&t, &run, err);
		if (r < 0)
			break;
	}
	return thread_end(&t, t.n, r, err);
}

static int
merge_run(struct merge *m, size_t n_layers,
	  bool (*wanted)(const struct merge_runs *runs, const struct smd_run *run),
	  struct smd_error *err)
{
	const struct smd_copy_options *o = m->options;
	struct smd_io *io = chain_leaf(m->to)->io;
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	int r;

	m->runs = (struct merge_runs){ .chain = m->from, .n_layers = n_layers, .wanted = wanted };
	m->window = smd_max_u64(copy_window(m->from), WINDOW);
	if (merge_runs_init(&m->runs, err) < 0)
		return -1;
	m->crew.total = m->runs.total;
	m->crew.options = o;
	m->crew.work = merge_work;
	m->crew.opaque = m;
	if (o->progress && o->progress(o->opaque, 0, m->crew.total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled before the first byte");
	m->n_threads = crew_size(o, m->runs.total, CREW_WAITS_BEHIND);
	smd_io_grow_ahead(io, smd_min_u64(COPY_GROW_AHEAD, m->runs.total), false);
	r = crew_run(&m->crew, m->n_threads, err);
	if (smd_io_grow_end(io, r < 0 ? &ignored : err) < 0 || r < 0)
		return -1;
	return smd_chain_flush(m->to, err);
}

static void
cleanup_merge(struct merge *m)
{
	merge_runs_free(&m->runs);
	pthread_mutex_destroy(&m->runs_lock);
}

static void
merge_stats(const struct merge *m, struct smd_copy_stats *ret)
{
	if (ret)
		*ret = (struct smd_copy_stats){
			.bytes_data = m->runs.total, .bytes_written = m->written,
			.bytes_shared = m->shared, .bytes_zero = m->zero,
		};
}

/* ---- The ways ---- */

static int
no_parent(const struct smd_chain *chain, struct smd_error *err)
{
	return smd_image_fail(err, SMD_REASON_MISSING_PARENT, chain->layers[0].io->name,
			      "it has no parent to be merged with");
}

static int
count_lacking(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	(void)err;
	if (run->kind != SMD_EXTENT_DATA)
		*(uint64_t *)opaque += run->count;
	return 0;
}

/* What of the child's own data the parent has no data for. */
static int
measure_lacking(struct merge_runs *up, uint64_t *ret, struct smd_error *err)
{
	struct smd_run run;
	int r;

	*ret = 0;
	while ((r = merge_runs_next(up, SHARE_CHUNK, &run, err)) > 0) {
		if (run.kind != SMD_EXTENT_ZERO &&
		    chain_extents_of(up->chain, 1, 1, run.offset, run.offset + run.count,
				     count_lacking, ret, err) < 0)
			return -1;
	}
	return r;
}

int
smd_merge_measure(struct smd_chain *child, struct smd_merge_sizes *ret, struct smd_error *err)
{
	CLEANUP(merge_runs_free) struct merge_runs up = {
		.chain = child, .n_layers = 1, .wanted = merge_wants_last,
	};
	CLEANUP(merge_runs_free) struct merge_runs down = {
		.chain = child, .n_layers = 2, .wanted = merge_wants_last,
	};

	if (child->n < 2)
		return no_parent(child, err);
	if (merge_runs_init(&up, err) < 0 || merge_runs_init(&down, err) < 0)
		return -1;
	ret->into_parent = up.total;
	ret->into_child = down.total;
	return measure_lacking(&up, &ret->parent_lacks, err);
}

/* Larger disks have smaller parents, never the reverse: what the parent shows past
 * the child's end would be gained, or its disk cut. */
static int
fit_parent(struct smd_chain *child, struct smd_chain *parent, struct smd_error *err)
{
	uint64_t want = smd_chain_size(child), have = smd_chain_size(parent);

	if (have > want)
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, parent->layers[0].io->name,
				"its disk of %" PRIu64 " bytes is larger than its child's, %" PRIu64,
				have, want);
	return have < want ? smd_chain_resize(parent, want, false, err) : 0;
}

int
smd_merge_into_parent(struct smd_chain *child, struct smd_chain *parent,
		      const struct smd_copy_options *options, struct smd_copy_stats *ret_stats,
		      struct smd_error *err)
{
	CLEANUP(cleanup_merge) struct merge m = {
		.from = child, .to = parent, .move = move_run, .options = options,
	};

	pthread_mutex_init(&m.runs_lock, NULL);
	if (child->n < 2)
		return no_parent(child, err);
	if (fit_parent(child, parent, err) < 0)
		return -1;
	m.share_block = copy_share_block(chain_leaf(child)->io, chain_leaf(parent)->io);
	if (merge_run(&m, 1, merge_wants_last, err) < 0)
		return -1;
	merge_stats(&m, ret_stats);
	return 0;
}

int
smd_merge_into_child(struct smd_chain *child, const struct smd_copy_options *options,
		     struct smd_copy_stats *ret_stats, struct smd_error *err)
{
	CLEANUP(cleanup_merge) struct merge m = {
		.from = child, .to = child, .move = move_run, .own = true, .options = options,
	};

	pthread_mutex_init(&m.runs_lock, NULL);
	if (child->n < 2)
		return no_parent(child, err);
	m.share_block = copy_share_block(child->layers[1].io, chain_leaf(child)->io);
	if (merge_run(&m, 2, merge_wants_last, err) < 0)
		return -1;
	merge_stats(&m, ret_stats);
	return 0;
}

int
smd_merge_difference(struct smd_chain *leaf, struct smd_chain *parent,
		     const struct smd_copy_options *options, struct smd_copy_stats *ret_stats,
		     struct smd_error *err)
{
	CLEANUP(cleanup_merge) struct merge m = {
		.from = leaf, .to = leaf, .other = parent, .move = move_difference,
		.options = options,
	};

	pthread_mutex_init(&m.runs_lock, NULL);
	if (merge_run(&m, 1, merge_wants_below, err) < 0)
		return -1;
	merge_stats(&m, ret_stats);
	return 0;
}
