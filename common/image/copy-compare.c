/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compare two disks. Where both lie in files, processes share the work: threads have one
 * memory, and to let go of what one has looked at interrupts the processors of all. Each
 * process goes through the chunks by plans of its own, and looks at those that it drew.
 */
#include "common/image/copy-impl.h"

#include <sys/mman.h>

#include "common/mem.h"

/* What all compare at a time, a chunk each. Of a file that much is mapped at once: two files
 * and the rest of each process stay under 64 MiB. The larger a chunk the better, for to let go
 * of it costs all processors something. */
#define COMPARE_MAPPED (16u << 20)
#define COMPARE_THREADS_MAX 4u
#define MAP_MIN (256u << 10)	/* less in one place is read: to let it go costs as much */
#define MAP_GAP (256u << 10)	/* between what counts as one place, at most */

/* Chunks in which either disk has data, in order. */
struct side {
	struct smd_chain *chain;
	struct plan plan;
	struct plan_item item;
	bool has;
};

/* What the processes have in common. */
struct shared {
	_Atomic uint64_t differs;	/* UINT64_MAX: nowhere yet */
	_Atomic uint64_t drawn;		/* chunks, from the first on */
	_Atomic uint64_t done;		/* the helpers' bytes that are not told yet */
	_Atomic unsigned finished;	/* helpers that looked at all that they drew */
};

struct compare {
	struct crew crew;
	struct side sides[2];
	unsigned chunk;
	pthread_mutex_t lock;		/* guards sides, and that one at a time counts */
	uint64_t end;			/* bytes looked at from here on matter not */
	struct shared *shared;
	struct helpers helpers;
	bool draws;			/* there are other processes */
	bool helps;			/* this is one of them */
	uint64_t passed;		/* chunks that somebody drew */
};

/* A disk's part of the chunk at hand, one thread's own. */
struct view {
	struct smd_chain *chain;
	struct plan_item item;		/* its pieces; between them are zeroes */
	size_t at;			/* the piece at hand, or the next */
	size_t place, place_end;	/* pieces that lie in one place of a file, … */
	bool mapped;			/* … where they are looked at */
	uint64_t from, until;		/* what bytes are of */
	const uint8_t *bytes;		/* NULL: zeroes */
	uint8_t *buf;			/* COPY_WINDOW */
	struct smd_seen *seen;		/* the thread's */
};

static int
side_advance(struct side *s, struct smd_error *err)
{
	int r = plan_next(&s->plan, &s->item, err);

	s->has = r > 0;
	return r < 0 ? -1 : 0;
}

/* The side's item becomes the view's, whose room the side gets for the next one. */
static int
side_take(struct side *s, struct view *v, struct smd_error *err)
{
	struct plan_item item = v->item;

	v->item = s->item;
	s->item = item;
	return side_advance(s, err);
}

/* 1: the next chunk is at *ret_offset; 0: none. */
static int
compare_next(struct compare *c, struct view *views, uint64_t *ret_offset, uint64_t *ret_data,
	     struct smd_error *err)
{
	uint64_t at = UINT64_MAX;

	LOCK_SCOPE(&c->lock);
	*ret_data = 0;
	for (int i = 0; i < 2; i++) {
		if (c->sides[i].has)
			at = smd_min_u64(at, c->sides[i].item.offset);
	}
	if (at >= c->end || at > atomic_load(&c->shared->differs))
		return 0;
	for (int i = 0; i < 2; i++) {
		views[i].item.n_pieces = views[i].at = views[i].place_end = 0;
		views[i].until = at;
		if (!c->sides[i].has || c->sides[i].item.offset != at)
			continue;
		*ret_data += c->sides[i].item.data;
		if (side_take(&c->sides[i], &views[i], err) < 0)
			return -1;
	}
	*ret_offset = at;
	return 1;
}

/* The same, of the chunks that no other process looks at. */
static int
compare_draw(struct compare *c, struct view *views, uint64_t *ret_offset, uint64_t *ret_data,
	     struct smd_error *err)
{
	uint64_t mine;
	int r;

	if (!c->draws)
		return compare_next(c, views, ret_offset, ret_data, err);
	mine = atomic_fetch_add(&c->shared->drawn, 1);
	do
		r = compare_next(c, views, ret_offset, ret_data, err);
	while (r > 0 && c->passed++ < mine);
	return r;
}

/* ---- Looking ---- */

static uint64_t
host_end(const struct smd_run *run)
{
	return run->host_offset + run->count;
}

/* How far the pieces from the one at hand on lie in one place, and whether that is worth a
 * mapping. */
static void
view_place(struct view *v)
{
	const struct smd_run *first = &v->item.pieces[v->at];
	const struct smd_run *last = first;

	v->place = v->at;
	for (v->place_end = v->at + 1; v->place_end < v->item.n_pieces; v->place_end++) {
		const struct smd_run *next = &v->item.pieces[v->place_end];

		if (next->kind != SMD_EXTENT_DATA || next->io != first->io ||
		    next->host_offset < host_end(last) ||
		    next->host_offset - host_end(last) > MAP_GAP)
			break;
		last = next;
	}
	v->mapped = first->kind == SMD_EXTENT_DATA &&
		    host_end(last) - first->host_offset >= MAP_MIN;
}

static void
view_leave(struct view *v)
{
	const struct smd_run *first, *last;

	if (!v->mapped)
		return;
	first = &v->item.pieces[v->place];
	last = &v->item.pieces[v->place_end - 1];
	smd_io_mapped_seen(first->io, first->host_offset, host_end(last) - first->host_offset,
			   v->seen);
	v->mapped = false;
}

/* To the first piece that does not end before at. */
static void
view_seek(struct view *v, uint64_t at)
{
	while (v->at < v->item.n_pieces &&
	       v->item.pieces[v->at].offset + v->item.pieces[v->at].count <= at) {
		if (++v->at == v->place_end)
			view_leave(v);
	}
}

static int
view_read(struct view *v, struct smd_run *run, struct smd_error *err)
{
	run->count = smd_min_u64(run->count, COPY_WINDOW);
	v->until = run->offset + run->count;
	v->bytes = v->buf;
	return chain_read_run(v->chain, run, v->buf, err);
}

/* Have what it holds at an offset, as far as that is to be had at once. */
static int
view_look(struct view *v, uint64_t at, uint64_t end, struct smd_error *err)
{
	struct smd_run run;

	if (at < v->until)
		return 0;
	view_seek(v, at);
	v->from = at;
	v->until = end;
	v->bytes = NULL;
	if (v->at == v->item.n_pieces)
		return 0;
	run = v->item.pieces[v->at];
	if (run.offset > at) {
		v->until = smd_min_u64(end, run.offset);
		return 0;
	}
	if (v->at >= v->place_end)
		view_place(v);
	run.count = smd_min_u64(end, run.offset + run.count) - at;
	run.host_offset += at - run.offset;
	run.offset = at;
	v->until = at + run.count;
	if (v->mapped)
		v->bytes = smd_io_mapped(run.io, run.host_offset, run.count);
	return v->bytes ? 0 : view_read(v, &run, err);
}

static const uint8_t *
view_bytes(const struct view *v, uint64_t at)
{
	return v->bytes ? v->bytes + (at - v->from) : NULL;
}

/* ---- Comparing ---- */

static void
compare_differs(struct compare *c, uint64_t offset)
{
	uint64_t first = atomic_load(&c->shared->differs);

	while (offset < first &&
	       !atomic_compare_exchange_weak(&c->shared->differs, &first, offset))
		;
}

/* Where they differ: read, whatever way they were looked at. 1: there; 0: nowhere, by now. */
static int
compare_note(struct compare *c, struct view *v, uint64_t offset, uint64_t n, struct smd_error *err)
{
	const uint8_t *a = v[0].buf, *b = v[1].buf;
	uint64_t i = 0;

	n = smd_min_u64(n, COPY_WINDOW);
	if (copy_read_padded(v[0].chain, v[0].buf, offset, n, err) < 0 ||
	    copy_read_padded(v[1].chain, v[1].buf, offset, n, err) < 0)
		return -1;
	while (i < n && a[i] == b[i])
		i++;
	if (i == n)
		return 0;
	compare_differs(c, offset + i);
	return 1;
}

/* 1: they are equal, 0: not, -1: a mapped page is not to be had any more. */
static int
views_equal(const struct view *v, uint64_t at, uint64_t n)
{
	const uint8_t *a = view_bytes(&v[0], at), *b = view_bytes(&v[1], at);

	if (!a && !b)
		return 1;
	return a ? smd_mapped_equal(a, b, n) : smd_mapped_equal(b, a, n);
}

/* What was looked at is not there any more, or the buffers hold something else. */
static void
views_forget(struct view *v, uint64_t at)
{
	for (int i = 0; i < 2; i++) {
		view_leave(&v[i]);
		v[i].until = at;
	}
}

static int
compare_chunk(struct compare *c, struct view *v, uint64_t at, uint64_t end, struct smd_error *err)
{
	while (at < end) {
		uint64_t n;
		int equal, r;

		if (view_look(&v[0], at, end, err) < 0 || view_look(&v[1], at, end, err) < 0)
			return -1;
		/* In steps: a difference is looked for in as much. */
		n = smd_min_u64(smd_min_u64(v[0].until, v[1].until) - at, COPY_WINDOW);
		equal = views_equal(v, at, n);
		r = equal == 0 ? compare_note(c, v, at, n, err) : 0;
		if (r != 0)
			return r < 0 ? -1 : 0;
		if (equal <= 0)
			views_forget(v, at);
		at += equal < 0 ? 0 : n;
	}
	return 0;
}

struct views {
	struct view of[2];
	struct smd_seen seen;
};

static void
cleanup_views(struct views *v)
{
	for (int i = 0; i < 2; i++) {
		plan_item_free(&v->of[i].item);
		free(v->of[i].buf);
	}
}

/* Who has helpers counts their bytes too. What is looked at again counts once. */
static int
compare_count(struct compare *c, uint64_t data, struct smd_error *err)
{
	if (c->helps) {
		atomic_fetch_add(&c->shared->done, data);
		return 0;
	}
	data += atomic_exchange(&c->shared->done, 0);
	LOCK_SCOPE(&c->lock);
	return crew_done(&c->crew, smd_min_u64(data, crew_left(&c->crew)), err);
}

static int
compare_work(struct crew *crew, void *opaque, struct smd_error *err)
{
	CLEANUP(cleanup_views) struct views views = { 0 };
	struct compare *c = opaque;
	struct view *v = views.of;
	uint64_t at, data;
	int r = 0;

	views.seen.limit = 2 * c->chunk;
	for (int i = 0; i < 2; i++) {
		v[i].chain = c->sides[i].plan.chain;
		v[i].buf = smd_malloc_pages(COPY_WINDOW);
		v[i].seen = &views.seen;
	}
	while (!atomic_load(&crew->stop) && (r = compare_draw(c, v, &at, &data, err)) > 0) {
		crew_throttle(crew, data);
		r = compare_chunk(c, v, at, smd_min_u64(at + c->chunk, c->end), err);
		view_leave(&v[0]);
		view_leave(&v[1]);
		smd_seen_let_go(&views.seen);
		if (r < 0 || compare_count(c, data, err) < 0)
			return -1;
	}
	return r < 0 ? -1 : 0;
}

static unsigned
n_threads(const struct smd_copy_options *options, uint64_t total)
{
	return (unsigned)smd_min_u64(crew_size(options, total, CREW_BUSY), COMPARE_THREADS_MAX);
}

/* A power of two. */
static unsigned
chunk_size(unsigned n)
{
	unsigned chunk = COMPARE_MAPPED;

	while (chunk * n > COMPARE_MAPPED)
		chunk /= 2;
	return chunk;
}

/* ---- Processes ---- */

/* A store that is not a file may be a connection, which has but one user; who sets the pace
 * does so for threads; and what is small is compared before there is another process. */
static bool
compare_may_fork(const struct compare *c)
{
	const struct smd_copy_options *o = c->crew.options;

	if (o->control || o->bytes_per_second > 0 || c->crew.total < COMPARE_MAPPED)
		return false;
	for (int i = 0; i < 2; i++) {
		const struct smd_chain *chain = c->sides[i].chain;

		for (size_t j = 0; j < chain->n; j++) {
			if (smd_io_fd(chain->layers[j].io) < 0)
				return false;
		}
	}
	return true;
}

/* What a helper does. */
static void
compare_help(void *opaque)
{
	struct compare *c = opaque;
	struct smd_error err = SMD_ERROR_INIT;

	c->helps = true;
	if (compare_work(&c->crew, c, &err) == 0)
		atomic_fetch_add(&c->shared->finished, 1);
}

/* The work of the process that has helpers. */
static int
compare_lead(struct crew *crew, void *opaque, struct smd_error *err)
{
	struct compare *c = opaque;
	int r = compare_work(crew, c, err);

	helpers_end(&c->helpers, r < 0);
	if (r == 0 && atomic_load(&c->shared->done) > 0)
		r = compare_count(c, 0, err);
	return r;
}

/* 1: not done, for there are no helpers, or one failed. Why it did is not known, nor what it
 * looked at before. */
static int
compare_forked(struct compare *c, unsigned n, struct smd_error *err)
{
	struct shared *own = c->shared, *shared;
	int r = 1;

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	atomic_store(&shared->differs, UINT64_MAX);
	c->shared = shared;
	c->draws = true;
	if (helpers_start(&c->helpers, n - 1, compare_help, c) > 0) {
		c->crew.work = compare_lead;
		r = crew_run(&c->crew, 1, err);
		c->crew.work = compare_work;
		if (r == 0 && atomic_load(&shared->finished) < c->helpers.n)
			r = 1;
	}
	if (r == 0)
		atomic_store(&own->differs, atomic_load(&shared->differs));
	c->draws = false;
	c->shared = own;
	munmap(shared, sizeof *shared);
	return r;
}

/* ---- All of it ---- */

static void
sides_done(struct side *sides)
{
	for (int i = 0; i < 2; i++) {
		plan_free(&sides[i].plan);
		plan_item_free(&sides[i].item);
	}
}

static int
compare_begin(struct compare *c, struct smd_error *err)
{
	c->crew.total = 0;
	for (int i = 0; i < 2; i++) {
		struct side *s = &c->sides[i];

		*s = (struct side){ .chain = s->chain };
		if (plan_init(&s->plan, s->chain, c->chunk, c->chunk, UINT64_MAX, err) < 0)
			return -1;
		c->crew.total += s->plan.total;
		if (side_advance(s, err) < 0)
			return -1;
	}
	return 0;
}

static int
compare_run(struct compare *c, struct smd_error *err)
{
	const struct smd_copy_options *o = c->crew.options;
	unsigned n;

	c->chunk = chunk_size(n_threads(o, UINT64_MAX));
	for (int i = 0; i < 2; i++) {
		for (size_t j = 0; j < c->sides[i].chain->n; j++)
			smd_io_map(c->sides[i].chain->layers[j].io);
	}
	if (compare_begin(c, err) < 0)
		return -1;
	if (o->progress && o->progress(o->opaque, 0, c->crew.total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled before the first byte");
	n = n_threads(o, c->crew.total);
	if (n > 1 && compare_may_fork(c)) {
		int r = compare_forked(c, n, err);

		if (r <= 0)
			return r;
		sides_done(c->sides);
		if (compare_begin(c, err) < 0)
			return -1;
	}
	return crew_run(&c->crew, n, err);
}

static void
cleanup_compare(struct compare *c)
{
	sides_done(c->sides);
	pthread_mutex_destroy(&c->lock);
}

int
smd_compare(struct smd_chain *a, struct smd_chain *b, bool strict,
	    const struct smd_copy_options *options, uint64_t *ret_offset, struct smd_error *err)
{
	uint64_t smaller = smd_min_u64(smd_chain_size(a), smd_chain_size(b));
	uint64_t larger = smd_max_u64(smd_chain_size(a), smd_chain_size(b));
	struct shared own = { .differs = UINT64_MAX };
	CLEANUP(cleanup_compare) struct compare c = {
		.crew = { .options = options, .work = compare_work, .opaque = &c },
		.sides = { { .chain = a }, { .chain = b } }, .shared = &own,
		.end = strict ? smaller : larger,
	};

	pthread_mutex_init(&c.lock, NULL);
	if (compare_run(&c, err) < 0)
		return -1;
	*ret_offset = own.differs;
	if (strict && larger != smaller)
		*ret_offset = smd_min_u64(*ret_offset, smaller);
	return 0;
}
