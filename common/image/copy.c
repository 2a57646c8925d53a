/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A copy's beginning and end: what is to be copied, and in which way. The work is
 * copy-items.c's.
 */
#include "common/image/copy-thread.h"

#include <inttypes.h>

#include "common/mem.h"

#define SHARE_CHUNK (16u << 20)		/* items where extents are shared: no buffer holds them */
#define GATHER (64u << 10)		/* where extents are not shared */
#define HASHES_MAX (1u << 20)

/* Of an item, which is the work of one thread at a time. */
static uint64_t
copy_chunk(const struct copy *c, uint64_t unit)
{
	uint64_t chunk = smd_max_u64(unit, c->window);

	if (c->share_block)
		chunk = smd_max_u64(chunk, SHARE_CHUNK);
	while (c->options->verify && chunk < smd_chain_size(c->src) / HASHES_MAX)
		chunk *= 2;
	return chunk;
}

static int
run_has_place(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	(void)err;
	if (run->kind != SMD_EXTENT_DATA)
		*(bool *)opaque = false;
	return 0;
}

/* A disk that lies in its file as it is has holes there to be filled. */
static int
fills_holes(struct copy *c, bool *ret, struct smd_error *err)
{
	*ret = !c->delta;
	return *ret ? smd_chain_extents(c->dst, 0, smd_chain_size(c->dst), run_has_place, ret,
					err) : 0;
}

/* A durable copy does not fill the page cache: it goes past it, or through it and out again
 * (spare_cache, which leaves holes where zeroes are). Past it into space that is taken beforehand,
 * zeroes' pages too; into holes only where a queue's writes get their blocks as they are sent; and
 * to devices. Not in blocks that are larger than a window. */
static int
copy_way(struct copy *c, struct smd_error *err)
{
	const struct chain_layer *leaf = chain_leaf(c->dst);
	bool grows = leaf->io->flags & SMD_IO_CAN_GROW, can = smd_io_is_direct(leaf->io);
	bool queued = c->plan.total >= SMD_QUEUE_WORTH;
	bool fills = queued && smd_queue_fills_holes(leaf->io), holes = false;

	if (c->options->compress || c->share_block)
		return 0;
	if (can && fills_holes(c, &holes, err) < 0)
		return -1;
	c->direct = can && (!grows || (leaf->info.alloc_unit <= COPY_WINDOW_DIRECT &&
				       (fills || !(holes || c->options->spare_cache))));
	c->queued = c->direct && queued;
	c->dense = c->direct && !c->options->spare_cache && c->unit <= COPY_WINDOW_DIRECT;
	c->away = !c->direct && grows && (c->options->spare_cache || can);
	if (c->direct)
		c->window = smd_max_u64(c->window, COPY_WINDOW_DIRECT);
	return 0;
}

static int
copy_plan(struct copy *c, struct smd_error *err)
{
	uint64_t unit = smd_max_u64(chain_leaf(c->dst)->info.alloc_unit, c->dst->unit);

	/* What a delta does not hold stays the parent's, as far as a write may leave
	 * it there; units are compared whole. */
	if (c->delta && !c->options->compress)
		unit = c->dst->unit;
	if (c->delta)
		c->window = smd_max_u64(c->window, unit);
	c->unit = unit;
	c->granule = c->delta && !c->options->compress ? smd_max_u64(unit, COPY_PAGE) : unit;
	/* Pages are digested whole, and what lies close together is copied together. */
	if (!c->delta)
		unit = smd_max_u64(unit, c->share_block ? SMD_DIGEST_PAGE : GATHER);
	c->plan.upper = c->options->upper;
	c->plan.base = c->options->base;
	c->plan.whole = c->share_block && !c->delta;
	if ((c->plan.whole && smd_chain_extents(c->dst, 0, smd_chain_size(c->dst), run_has_place,
						&c->plan.whole, err) < 0) ||
	    plan_init_delta(&c->plan, c->src, unit, copy_chunk(c, unit), smd_chain_size(c->dst),
			    err) < 0)
		return -1;
	/* An image whose data lies across pages, as others' VHDs do, is copied. */
	if (c->plan.in_place < c->plan.total / 2)
		c->share_block = 0;
	if (copy_way(c, err) < 0)
		return -1;
	c->plan.chunk = copy_chunk(c, unit);
	c->takes = !c->direct && !c->options->compress && !c->share_block &&
		   smd_io_gains_by_taking(chain_leaf(c->dst)->io);
	c->digest = !c->options->base &&
		    (!c->share_block || c->options->verify || c->options->digest);
	return 0;
}

/* Go on from the last mark of an earlier run. */
static void
copy_resume(struct copy *c)
{
	const struct smd_mark *mark = &c->marks.resumed;

	if (mark->position == 0)
		return;
	c->resumed = true;
	c->target_is_zero = false;
	if ((c->options->verify && (!mark->has_digest || mark->is_change)) ||
	    (c->options->digest && c->digest && !mark->has_digest)) {
		c->reread = mark->position;
		c->marks.at = (struct smd_mark){ .has_digest = c->digest, .is_change = c->delta };
		return;
	}
	c->digest = c->digest && mark->has_digest;
	c->marks.at.has_digest = c->digest;
	plan_seek(&c->plan, mark->position);
	c->crew.done = smd_min_u64(mark->done, c->plan.total);
	if (c->options->verify)
		copy_marks_hashes(&c->marks, &c->hashes);
}

/* A file has one writer at a time, but for direct ones into space that was taken. */
static bool
copy_writes_alone(const struct copy *c)
{
	return !c->direct && !c->share_block && !c->options->compress && c->plan.unit <= c->window &&
	       smd_io_writes_alone(chain_leaf(c->dst)->io);
}

/* Items of a thread at a time. */
static unsigned
copy_behind(const struct copy *c, unsigned n_threads)
{
	if (c->queued)
		return crew_under_way(n_threads, c->window);
	return copy_writes_alone(c) ? COPY_BEHIND : 1;
}

static int
copy_crew(struct copy *c, struct smd_error *err)
{
	struct smd_io *io = chain_leaf(c->dst)->io;
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	unsigned each = c->queued || c->away ? CREW_WAITS_BEHIND :
			c->direct ? CREW_WAITS : CREW_BUSY;
	unsigned n = crew_size(c->options, c->plan.total, each);
	int r;

	/* The file system shares one extent at a time: more threads would wait for it. */
	if (c->share_block && !c->options->verify && !c->digest && c->options->n_threads == 0)
		n = 1;
	c->behind = copy_behind(c, n);
	/* In one piece, which may be of large pages: each is one for direct I/O to look up. */
	c->windows = smd_try_malloc_pages(n * c->behind * c->window);
	if (!c->windows)
		return smd_fail_INTERNAL_ERROR(err, "memory", "no memory for the threads' windows");
	smd_io_grow_ahead(io, smd_min_u64(COPY_GROW_AHEAD, c->plan.total), c->dense);
	r = crew_run(&c->crew, n, err);
	free(c->windows);
	return smd_io_grow_end(io, r < 0 ? &ignored : err) < 0 ? -1 : r;
}

/* All items, and the zeroes behind the last; durable on return. */
static int
copy_items(struct copy *c, struct smd_error *err)
{
	uint64_t end = smd_chain_size(c->dst), last;

	if (copy_crew(c, err) < 0)
		return -1;
	last = c->plan.last_end;
	if (!c->delta && last < end && copy_zero(c, last, end - last, err) < 0)
		return -1;
	if (!c->delta && c->options->verify && last < end)
		copy_hashes_add(&c->hashes, &(struct copy_hash){ .offset = last, .end = end });
	if (copy_marks_end(&c->marks, end, err) < 0)
		return -1;
	if (c->away)
		smd_io_drop_cache(chain_leaf(c->dst)->io);
	return 0;
}

/* What is there stays marked while it is read, unless it is wrong. */
static int
copy_read_back(struct copy *c, struct smd_error *err)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

	if ((c->marks.last > 0 ? copy_mark(&c->marks, err) : copy_mark_if_due(&c->marks, 0, err)) < 0)
		return -1;
	if (c->options->verifies)
		c->options->verifies(c->options->opaque);
	if (copy_verify(c->src, c->dst, &c->hashes, c->options, c->plan.total, c->crew.total,
			err) == 0)
		return 0;
	if (c->options->marks && smd_error_is(err, SMD_E_VDI_COPY_FAILED))
		smd_marks_reset(c->options->marks, &ignored);
	else if (smd_error_is(err, SMD_E_JOB_STOPPED))
		copy_mark(&c->marks, &ignored);
	return -1;
}

static int
copy_run(struct copy *c, struct smd_error *err)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

	c->crew.total = c->plan.total * (c->options->verify ? 2 : 1);
	c->crew.options = c->options;
	c->crew.work = copy_work;
	c->crew.opaque = c;
	c->marks.at.has_digest = c->digest;
	c->marks.at.is_change = c->delta;
	c->marks.crew = &c->crew;
	copy_resume(c);
	copy_marks_begin(&c->marks, c->plan.total);
	if (c->options->progress &&
	    c->options->progress(c->options->opaque, c->crew.done, c->crew.total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled before the first byte");
	if (copy_items(c, err) < 0) {
		/* What was done need not be done again. */
		if (!smd_error_is(err, SMD_E_TASK_CANCELLED))
			copy_mark(&c->marks, &ignored);
		return -1;
	}
	return c->options->verify ? copy_read_back(c, err) : 0;
}

static void
cleanup_copy(struct copy *c)
{
	plan_free(&c->plan);
	free(c->hashes.list);
	copy_marks_done(&c->marks);
	pthread_mutex_destroy(&c->plan_lock);
	pthread_mutex_destroy(&c->turn_lock);
	pthread_mutex_destroy(&c->pen);
	pthread_mutex_destroy(&c->hashes.lock);
	for (unsigned i = 0; i < COPY_THREADS_MAX; i++)
		pthread_cond_destroy(&c->turns[i]);
}

static int
copy_check(const struct copy *c, struct smd_error *err)
{
	const struct chain_layer *leaf = chain_leaf(c->dst);

	if (c->options->compress && !(leaf->format->caps & SMD_CAP_ENCODE))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, leaf->io->name,
				      "%s images cannot be compressed", leaf->format->name);
	if (smd_chain_size(c->dst) < smd_chain_size(c->src))
		return smd_fail_VDI_TOO_SMALL(err, leaf->io->name, SMD_U64(smd_chain_size(c->src)),
				"%s: its disk has %" PRIu64 " bytes, and %" PRIu64 " are to be copied",
				leaf->io->name, smd_chain_size(c->dst), smd_chain_size(c->src));
	return 0;
}

static void
copy_stats(const struct copy *c, struct smd_copy_stats *ret)
{
	*ret = (struct smd_copy_stats){
		.bytes_data = c->plan.total, .bytes_written = c->written,
		.bytes_shared = c->shared, .bytes_zero = c->zero,
		.resumed_at = c->marks.resumed.position,
		.digest = c->marks.at.digest, .has_digest = c->digest, .is_change = c->delta,
	};
}

int
smd_copy(struct smd_chain *src, struct smd_chain *dst, const struct smd_copy_options *options,
	 struct smd_copy_stats *ret_stats, struct smd_error *err)
{
	CLEANUP(cleanup_copy) struct copy c = {
		.src = src, .dst = dst, .options = options,
		.delta = options->upper > 0 || options->base,
		.step = copy_window(src),
	};

	c.target_is_zero = options->target_is_zero && !c.delta;
	pthread_mutex_init(&c.plan_lock, NULL);
	pthread_mutex_init(&c.turn_lock, NULL);
	pthread_mutex_init(&c.pen, NULL);
	pthread_mutex_init(&c.hashes.lock, NULL);
	for (unsigned i = 0; i < COPY_THREADS_MAX; i++)
		pthread_cond_init(&c.turns[i], NULL);
	if (copy_marks_init(&c.marks, src, dst, options, &c.written, err) < 0 ||
	    copy_check(&c, err) < 0)
		return -1;
	c.window = c.step;
	if (options->compress)
		c.window = smd_max_u64(c.window, chain_leaf(dst)->info.alloc_unit);
	if (!options->compress && !options->base)
		c.share_block = copy_share_block(chain_leaf(src)->io, chain_leaf(dst)->io);
	if (copy_plan(&c, err) < 0 || copy_run(&c, err) < 0)
		return -1;
	if (ret_stats)
		copy_stats(&c, ret_stats);
	return 0;
}
