/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/copy-impl.h"

#include "common/mem.h"

/* What all threads compare at a time, a chunk each. Of a file that much is mapped at once:
 * two files and the rest of the process stay under 64 MiB. The larger a chunk the better, for
 * to let go of it costs all processors something. */
#define COMPARE_MAPPED (16u << 20)
#define COMPARE_THREADS_MAX 4u
#define MAP_MIN (256u << 10)	/* less in one place is read: to let it go costs as much */
#define MAP_GAP (256u << 10)	/* between what counts as one place, at most */

/* Chunks in which either disk has data, in order. */
struct side {
	struct plan plan;
	struct plan_item item;
	bool has;
};

struct compare {
	struct crew crew;
	struct side sides[2];
	unsigned chunk;
	pthread_mutex_t lock;		/* guards sides and differs */
	uint64_t end;			/* bytes looked at from here on matter not */
	uint64_t differs;		/* UINT64_MAX: nowhere yet */
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
	if (at >= c->end || at > c->differs)
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
	LOCK_SCOPE(&c->lock);
	c->differs = smd_min_u64(c->differs, offset + i);
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
	while (!atomic_load(&crew->stop) && (r = compare_next(c, v, &at, &data, err)) > 0) {
		crew_throttle(crew, data);
		r = compare_chunk(c, v, at, smd_min_u64(at + c->chunk, c->end), err);
		view_leave(&v[0]);
		view_leave(&v[1]);
		smd_seen_let_go(&views.seen);
		if (r < 0 || crew_done(crew, data, err) < 0)
			return -1;
	}
	return r < 0 ? -1 : 0;
}

static void
cleanup_compare(struct compare *c)
{
	for (int i = 0; i < 2; i++) {
		plan_free(&c->sides[i].plan);
		plan_item_free(&c->sides[i].item);
	}
	pthread_mutex_destroy(&c->lock);
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

static int
compare_run(struct compare *c, struct smd_chain *a, struct smd_chain *b, struct smd_error *err)
{
	const struct smd_copy_options *o = c->crew.options;
	struct smd_chain *chains[2] = { a, b };

	c->chunk = chunk_size(n_threads(o, UINT64_MAX));
	for (int i = 0; i < 2; i++) {
		if (plan_init(&c->sides[i].plan, chains[i], c->chunk, c->chunk,
			      UINT64_MAX, err) < 0)
			return -1;
		for (size_t j = 0; j < chains[i]->n; j++)
			smd_io_map(chains[i]->layers[j].io);
		c->crew.total += c->sides[i].plan.total;
		if (side_advance(&c->sides[i], err) < 0)
			return -1;
	}
	if (o->progress && o->progress(o->opaque, 0, c->crew.total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled before the first byte");
	return crew_run(&c->crew, n_threads(o, c->crew.total), err);
}

int
smd_compare(struct smd_chain *a, struct smd_chain *b, bool strict,
	    const struct smd_copy_options *options, uint64_t *ret_offset, struct smd_error *err)
{
	uint64_t smaller = smd_min_u64(smd_chain_size(a), smd_chain_size(b));
	uint64_t larger = smd_max_u64(smd_chain_size(a), smd_chain_size(b));
	CLEANUP(cleanup_compare) struct compare c = {
		.crew = { .options = options, .work = compare_work, .opaque = &c },
		.differs = UINT64_MAX, .end = strict ? smaller : larger,
	};

	pthread_mutex_init(&c.lock, NULL);
	if (compare_run(&c, a, b, err) < 0)
		return -1;
	if (strict && larger != smaller)
		c.differs = smd_min_u64(c.differs, smaller);
	*ret_offset = c.differs;
	return 0;
}
