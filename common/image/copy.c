/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying. Threads take items in the order of the disk, read them window by
 * window, leave out what is zero, and have the destination say where the rest
 * goes; those questions too are asked in the order of the disk (turns), so that
 * the destination's file lies in that order. Where the result is compressed they
 * encode before their turn, and write what is encoded during it.
 */
#include "common/image/copy-impl.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "common/mem.h"

#define SHARE_CHUNK (16u << 20)		/* items where extents are shared: no buffer holds them */
#define WRITEBACK_STEP (32u << 20)
#define GROW_AHEAD (64u << 20)
#define TAKE_MIN (64u << 10)		/* to take the space of less costs more than it saves */
#define HASHES_MAX (1u << 20)
#define MAGIC_XFS 0x58465342
#define MAGIC_BTRFS 0x9123683E

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
	bool takes;			/* space for what is written is taken just before */
	bool dense;			/* new space is taken beforehand: zeroes in it save none */

	pthread_mutex_t plan_lock;
	struct plan plan;

	pthread_mutex_t turn_lock;
	pthread_cond_t turns[COPY_THREADS_MAX];	/* by seq: only the next one is woken */
	uint64_t turn;			/* the item whose places are next */
	uint64_t written_back;		/* host offset */

	struct copy_hashes hashes;
	struct copy_marks marks;
	_Atomic uint64_t written, shared, zero;
};

/* One thread's own. */
struct worker {
	struct copy *copy;
	uint8_t *buf;
	uint8_t *base_buf;		/* the same range of base; NULL: none */
	struct plan_item item;
	bool had_turn;
	struct chain_places *segments;	/* of the window at hand */
	size_t n_segments, room;
	struct smd_digest digest;	/* of the item's part that was read */
	/* Where units are encoded: a place for each of the window's, and its length
	 * (0: as it is). Else NULL. */
	uint8_t *encoded;
	size_t *encoded_len;
};

/* ---- Turns ---- */

static pthread_cond_t *
turn_cond(struct copy *c, uint64_t seq)
{
	return &c->turns[seq % COPY_THREADS_MAX];
}

static int
turn_take(struct worker *w, struct smd_error *err)
{
	struct copy *c = w->copy;

	if (w->had_turn)
		return 0;
	LOCK_SCOPE(&c->turn_lock);
	while (c->turn != w->item.seq && !atomic_load(&c->crew.stop))
		pthread_cond_wait(turn_cond(c, w->item.seq), &c->turn_lock);
	if (atomic_load(&c->crew.stop))
		return smd_fail_TASK_CANCELLED(err, "", "another thread stopped the copy");
	return 0;
}

static void
turn_pass(struct worker *w)
{
	struct copy *c = w->copy;

	if (w->had_turn)
		return;
	w->had_turn = true;
	pthread_mutex_lock(&c->turn_lock);
	while (c->turn < w->item.seq && !atomic_load(&c->crew.stop))
		pthread_cond_wait(turn_cond(c, w->item.seq), &c->turn_lock);
	c->turn = w->item.seq + 1;
	pthread_cond_broadcast(turn_cond(c, c->turn));
	pthread_mutex_unlock(&c->turn_lock);
}

/* A thread that fails wakes those who wait for its turn. */
static void
turns_end(struct copy *c, struct smd_error *err)
{
	crew_fail(&c->crew, err);
	pthread_mutex_lock(&c->turn_lock);
	for (unsigned i = 0; i < COPY_THREADS_MAX; i++)
		pthread_cond_broadcast(&c->turns[i]);
	pthread_mutex_unlock(&c->turn_lock);
}

/* ---- Segments: parts of a window with places of their own ---- */

static int
segment_reserve(struct worker *w, uint64_t offset, uint64_t count, struct smd_error *err)
{
	if (w->n_segments == w->room) {
		size_t room = w->room ? 2 * w->room : 4;

		w->segments = smd_reallocarray(w->segments, room, sizeof *w->segments);
		memset(w->segments + w->room, 0, (room - w->room) * sizeof *w->segments);
		w->room = room;
	}
	count = (count + SMD_SECTOR - 1) & ~(uint64_t)(SMD_SECTOR - 1);
	if (chain_reserve(w->copy->dst, offset, count, &w->segments[w->n_segments], err) < 0)
		return -1;
	w->n_segments++;
	return 0;
}

/* Commit them all, or on failure give the rest back. */
static int
segments_end(struct worker *w, int r, struct smd_error *err)
{
	for (size_t i = 0; i < w->n_segments; i++) {
		if (r < 0)
			chain_abandon(w->copy->dst, &w->segments[i]);
		else
			r = chain_commit(w->copy->dst, &w->segments[i], err);
	}
	w->n_segments = 0;
	return r;
}

/* ---- Writing ---- */

static bool
place_is_zero(const struct copy *c, const struct smd_place *p)
{
	return p->kind == SMD_PLACE_FRESH_ZEROED ||
	       (p->kind == SMD_PLACE_IN_PLACE && c->target_is_zero);
}

static int
write_out(struct copy *c, const uint8_t *buf, uint64_t count, uint64_t host_offset,
	  struct smd_error *err)
{
	struct smd_io *io = chain_leaf(c->dst)->io;

	if ((c->direct ? smd_io_pwrite_data : smd_io_pwrite)(io, buf, count, host_offset, err) < 0)
		return -1;
	atomic_fetch_add_explicit(&c->written, count, memory_order_relaxed);
	return 0;
}

static int
write_hole(struct copy *c, const uint8_t *buf, uint64_t count, uint64_t host_offset,
	   struct smd_error *err)
{
	if (c->takes && count >= TAKE_MIN)
		smd_io_take(chain_leaf(c->dst)->io, host_offset, count);
	return write_out(c, buf, count, host_offset, err);
}

/* Write the pages that are not zero, neighbours together. */
static int
write_sparse(struct copy *c, const uint8_t *buf, uint64_t count, uint64_t host_offset,
	     struct smd_error *err)
{
	uint64_t start = 0, at = 0;

	while (at < count) {
		uint64_t page = COPY_PAGE - (host_offset + at) % COPY_PAGE;
		uint64_t n = smd_min_u64(page, count - at);

		if (copy_is_zero(buf + at, n)) {
			if (at > start && write_hole(c, buf + start, at - start,
						     host_offset + start, err) < 0)
				return -1;
			start = at + n;
			atomic_fetch_add_explicit(&c->zero, n, memory_order_relaxed);
		}
		at += n;
	}
	return at > start ? write_hole(c, buf + start, at - start, host_offset + start, err) : 0;
}

/* The part [offset, end) of buf, which begins at guest offset start, to a place. */
static int
write_place(struct copy *c, const struct smd_place *p, const uint8_t *buf, uint64_t start,
	    uint64_t end, struct smd_error *err)
{
	uint64_t from = smd_max_u64(p->offset, start);
	uint64_t to = smd_min_u64(p->offset + p->count, end);
	uint64_t host = p->host_offset + (from - p->offset);

	if (from >= to)
		return 0;
	if (place_is_zero(c, p) && !(c->dense && p->kind == SMD_PLACE_FRESH_ZEROED))
		return write_sparse(c, buf + (from - start), to - from, host, err);
	return write_out(c, buf + (from - start), to - from, host, err);
}

static int
write_places(struct copy *c, const struct chain_places *places, const uint8_t *buf,
	     uint64_t start, uint64_t end, struct smd_error *err)
{
	for (size_t i = 0; i < places->n; i++) {
		if (write_place(c, &places->list[i], buf, start, end, err) < 0)
			return -1;
	}
	return 0;
}

static void
writeback(struct copy *c, const struct chain_places *places)
{
	const struct smd_place *last = &places->list[places->n - 1];
	uint64_t end = last->host_offset + last->count;
	uint64_t start;

	if (c->direct)
		return;
	pthread_mutex_lock(&c->turn_lock);
	start = c->written_back;
	if (end < start + WRITEBACK_STEP) {
		pthread_mutex_unlock(&c->turn_lock);
		return;
	}
	c->written_back = end;
	pthread_mutex_unlock(&c->turn_lock);
	smd_io_start_writeback(chain_leaf(c->dst)->io, start, end - start);
}

/* ---- Zeroes ---- */

struct zeroing {
	struct copy *copy;
	struct holes holes;
};

static int
zero_data(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct zeroing *z = opaque;

	return run->kind == SMD_EXTENT_ZERO ? 0 :
	       smd_chain_zero(z->copy->dst, run->offset, run->count, true, err);
}

static int
zero_run(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct zeroing *z = opaque;

	return plan_split_holes(&z->holes, run, zero_data, z, err);
}

/* After an earlier run only what it wrote is made zeroes: space that was taken
 * beforehand stays taken. */
static int
copy_zero(struct copy *c, uint64_t offset, uint64_t count, struct smd_error *err)
{
	struct zeroing z = { .copy = c };

	if (c->target_is_zero)
		return 0;
	if (!c->resumed || c->delta)
		return smd_chain_zero(c->dst, offset, count, true, err);
	return smd_chain_extents(c->dst, offset, count, zero_run, &z, err);
}

/* ---- A window of small units: those that are all zeroes get no place, nor do
 * those that are encoded ---- */

/* This takes the time: no lock is held and no turn waited for. */
static int
small_encode(struct worker *w, uint64_t start, uint64_t end, struct smd_error *err)
{
	const struct chain_layer *leaf = chain_leaf(w->copy->dst);
	uint64_t unit = w->copy->unit;

	memset(w->buf + (end - start), 0, -(end - start) & (unit - 1));
	for (uint64_t at = 0; at < end - start; at += unit) {
		size_t *len = &w->encoded_len[at / unit];

		*len = 0;
		if (!copy_is_zero(w->buf + at, unit) &&
		    leaf->format->encode(leaf->img, w->buf + at, w->encoded + at, unit - 1, len,
					 err) < 0)
			return -1;
	}
	return 0;
}

/* What is to happen to a granule of the window. */
enum small { SMALL_KEEP, SMALL_ZERO, SMALL_ENCODED, SMALL_DATA };

static enum small
small_what(const struct worker *w, uint64_t start, uint64_t at, uint64_t n)
{
	const uint8_t *p = w->buf + (at - start);

	if (w->base_buf && memcmp(p, w->base_buf + (at - start), n) == 0)
		return SMALL_KEEP;
	if (copy_is_zero(p, n))
		return SMALL_ZERO;
	return w->encoded && w->encoded_len[(at - start) / w->copy->unit] ? SMALL_ENCODED
									       : SMALL_DATA;
}

static int
small_zero(struct copy *c, uint64_t at, uint64_t n, struct smd_error *err)
{
	atomic_fetch_add_explicit(&c->zero, n, memory_order_relaxed);
	return copy_zero(c, at, n, err);
}

static int
small_encoded(struct worker *w, uint64_t start, uint64_t at, uint64_t n, struct smd_error *err)
{
	struct copy *c = w->copy;
	int r;

	r = chain_write_encoded(c->dst, at, w->encoded + (at - start),
				w->encoded_len[(at - start) / c->unit], err);
	if (r == 1)
		return segment_reserve(w, at, n, err);
	if (r == 0)
		atomic_fetch_add_explicit(&c->written, w->encoded_len[(at - start) / c->unit],
					  memory_order_relaxed);
	return r;
}

static uint64_t
granule_end(const struct copy *c, uint64_t at, uint64_t end)
{
	return smd_min_u64(end, smd_round_down_u64(at, c->granule) + c->granule);
}

static int
small_reserve(struct worker *w, uint64_t start, uint64_t end, struct smd_error *err)
{
	enum small what;

	/* Neighbours together, but for those that are encoded. */
	for (uint64_t at = start; at < end;) {
		uint64_t stop = granule_end(w->copy, at, end);
		int r = 0;

		what = small_what(w, start, at, stop - at);
		while (what != SMALL_ENCODED && stop < end) {
			uint64_t next = granule_end(w->copy, stop, end);

			if (small_what(w, start, stop, next - stop) != what)
				break;
			stop = next;
		}
		if (what == SMALL_ZERO)
			r = small_zero(w->copy, at, stop - at, err);
		else if (what == SMALL_ENCODED)
			r = small_encoded(w, start, at, stop - at, err);
		else if (what == SMALL_DATA)
			r = segment_reserve(w, at, stop - at, err);
		if (r < 0)
			return -1;
		at = stop;
	}
	return 0;
}

/* Into w->buf, and into the digest while it is in the core's cache. */
static int
read_window(struct worker *w, uint64_t start, uint64_t end, struct smd_error *err)
{
	for (uint64_t at = start; at < end;) {
		uint64_t step = w->copy->step;
		uint64_t n = smd_min_u64(end, smd_round_down_u64(at, step) + step) - at;
		uint8_t *p = w->buf + (at - start);

		if (copy_read_item(&w->copy->plan, &w->item, p, at, n, err) < 0)
			return -1;
		if (w->copy->digest || w->copy->options->verify)
			smd_digest_add(&w->digest, p, n, at);
		at += n;
	}
	return 0;
}

static int
copy_small_window(struct worker *w, uint64_t start, uint64_t end, struct smd_error *err)
{
	int r;

	if (read_window(w, start, end, err) < 0)
		return -1;
	if (w->base_buf && copy_read_padded(w->copy->options->base, w->base_buf, start,
					    end - start, err) < 0)
		return -1;
	if (w->encoded && small_encode(w, start, end, err) < 0)
		return -1;
	r = turn_take(w, err);
	if (r == 0)
		r = small_reserve(w, start, end, err);
	if (r == 0)
		turn_pass(w);
	for (size_t i = 0; i < w->n_segments && r == 0; i++) {
		r = write_places(w->copy, &w->segments[i], w->buf, start, end, err);
		if (r == 0)
			writeback(w->copy, &w->segments[i]);
	}
	return segments_end(w, r, err);
}

static int
copy_small(struct worker *w, struct smd_error *err)
{
	uint64_t end = w->item.offset + w->item.count;

	for (uint64_t at = w->item.offset; at < end;) {
		uint64_t stop = smd_min_u64(end, smd_round_down_u64(at, w->copy->window) +
						 w->copy->window);

		if (copy_small_window(w, at, stop, err) < 0)
			return -1;
		at = stop;
	}
	return 0;
}

/* ---- A unit larger than the window: a place for all of it at the first byte
 * that is not zero ---- */

/* Zeroes for what was passed over before the place was known. */
static int
large_catch_up(struct worker *w, uint64_t end, struct smd_error *err)
{
	static const uint8_t zeroes[COPY_WINDOW];
	struct copy *c = w->copy;

	for (uint64_t at = w->item.offset; at < end;) {
		uint64_t stop = smd_min_u64(end, at + sizeof zeroes);

		for (size_t i = 0; i < w->segments[0].n; i++) {
			const struct smd_place *p = &w->segments[0].list[i];

			if (!place_is_zero(c, p) && write_place(c, p, zeroes, at, stop, err) < 0)
				return -1;
		}
		at = stop;
	}
	return 0;
}

static int
large_window(struct worker *w, uint64_t at, uint64_t stop, struct smd_error *err)
{
	if (read_window(w, at, stop, err) < 0)
		return -1;
	if (w->n_segments == 0) {
		if (copy_is_zero(w->buf, stop - at)) {
			atomic_fetch_add_explicit(&w->copy->zero, stop - at, memory_order_relaxed);
			return 0;
		}
		if (turn_take(w, err) < 0 ||
		    segment_reserve(w, w->item.offset, w->item.count, err) < 0)
			return -1;
		turn_pass(w);
		if (large_catch_up(w, at, err) < 0)
			return -1;
	}
	return write_places(w->copy, &w->segments[0], w->buf, at, stop, err);
}

static int
copy_large(struct worker *w, struct smd_error *err)
{
	struct copy *c = w->copy;
	uint64_t end = w->item.offset + w->item.count;
	int r = 0;

	for (uint64_t at = w->item.offset; at < end && r == 0;) {
		uint64_t stop = smd_min_u64(end, at + c->window);

		r = large_window(w, at, stop, err);
		at = stop;
	}
	if (r == 0 && w->n_segments > 0)
		writeback(c, &w->segments[0]);
	else if (r == 0)
		r = copy_zero(c, w->item.offset, w->item.count, err);
	return segments_end(w, r, err);
}

/* ---- Sharing extents ---- */

/* [from, to) of a piece, through the buffer. */
static int
share_by_copy(struct worker *w, const struct smd_place *p, uint64_t from, uint64_t to,
	      struct smd_error *err)
{
	while (from < to) {
		uint64_t stop = smd_min_u64(to, from + w->copy->window);

		if (copy_read_item(&w->copy->plan, &w->item, w->buf, from, stop - from, err) < 0 ||
		    write_place(w->copy, p, w->buf, from, stop, err) < 0)
			return -1;
		from = stop;
	}
	return 0;
}

/* An item's pieces from first to last: what is shared in one call, which costs as much as
 * copying many pages does, with the holes between them. */
struct share {
	size_t first, last;
	struct smd_run run;		/* all of it */
};

static struct share
share_take(const struct worker *w, size_t first)
{
	const struct plan_item *item = &w->item;
	struct share s = { first, first, item->pieces[first] };

	while (!w->copy->delta && s.last + 1 < item->n_pieces &&
	       runs_join(&s.run, &item->pieces[s.last + 1])) {
		const struct smd_run *next = &item->pieces[++s.last];

		s.run.count = next->offset + next->count - s.run.offset;
	}
	return s;
}

/* What of [from, to) was shared is data, but for the holes. */
static void
share_count(struct worker *w, const struct share *s, uint64_t from, uint64_t to)
{
	uint64_t data = 0;

	for (size_t i = s->first; i <= s->last; i++) {
		const struct smd_run *piece = &w->item.pieces[i];
		uint64_t start = smd_max_u64(piece->offset, from);
		uint64_t end = smd_min_u64(piece->offset + piece->count, to);

		data += start < end ? end - start : 0;
	}
	atomic_fetch_add_explicit(&w->copy->shared, data, memory_order_relaxed);
}

/* The part of it that lies in a place. What the block size does not allow to be shared is
 * copied. */
static int
share_part(struct worker *w, const struct smd_place *p, const struct share *s,
	   struct smd_error *err)
{
	struct copy *c = w->copy;
	const struct smd_run *run = &s->run;
	uint64_t from = smd_max_u64(p->offset, run->offset);
	uint64_t to = smd_min_u64(p->offset + p->count, run->offset + run->count);
	uint64_t src = run->host_offset + (from - run->offset);
	uint64_t dst = p->host_offset + (from - p->offset);
	uint64_t head = -src & (c->share_block - 1);
	uint64_t middle;

	if (from >= to)
		return 0;
	if (run->kind != SMD_EXTENT_DATA || ((src ^ dst) & (c->share_block - 1)) ||
	    to - from < head + c->share_block)
		return share_by_copy(w, p, from, to, err);
	middle = smd_round_down_u64(to - from - head, c->share_block);
	if (smd_io_share(chain_leaf(c->dst)->io, dst + head, run->io, src + head, middle) != 0)
		return share_by_copy(w, p, from, to, err);
	share_count(w, s, from + head, from + head + middle);
	if (share_by_copy(w, p, from, from + head, err) < 0)
		return -1;
	return share_by_copy(w, p, from + head + middle, to, err);
}

/* What of a place no piece covers: zeroes, unless it is zero already; of a delta
 * what lies below. */
static int
share_place(struct worker *w, const struct smd_place *p, struct smd_error *err)
{
	uint64_t end = smd_min_u64(p->offset + p->count, w->item.offset + w->item.count);
	uint64_t at = p->offset;

	for (size_t i = 0; i <= w->item.n_pieces; i++) {
		bool last = i == w->item.n_pieces;
		uint64_t to = last ? end : smd_min_u64(end, w->item.pieces[i].offset);
		struct share s;

		if (at < to && (w->copy->delta || !place_is_zero(w->copy, p)) &&
		    share_by_copy(w, p, at, to, err) < 0)
			return -1;
		if (last)
			break;
		s = share_take(w, i);
		if (share_part(w, p, &s, err) < 0)
			return -1;
		at = smd_max_u64(at, s.run.offset + s.run.count);
		i = s.last;
	}
	return 0;
}

/* For its hash alone. */
static int
item_hash(struct worker *w, struct smd_error *err)
{
	uint64_t end = w->item.offset + w->item.count;

	for (uint64_t at = w->item.offset; at < end && !w->item.zero;) {
		uint64_t stop = smd_min_u64(end, smd_round_down_u64(at, w->copy->window) +
						 w->copy->window);

		if (read_window(w, at, stop, err) < 0)
			return -1;
		at = stop;
	}
	return 0;
}

/* The data do not pass by: only for their digest are they read. */
static int
copy_sharing(struct worker *w, struct smd_error *err)
{
	int r = w->copy->options->verify || w->copy->digest ? item_hash(w, err) : 0;

	if (r == 0)
		r = turn_take(w, err);
	if (r == 0)
		r = segment_reserve(w, w->item.offset, w->item.count, err);
	if (r == 0)
		turn_pass(w);
	for (size_t i = 0; r == 0 && i < w->segments[0].n; i++)
		r = share_place(w, &w->segments[0].list[i], err);
	return segments_end(w, r, err);
}

/* ---- Items ---- */

/* Before a pause all that is done is marked, by whoever comes to it last. */
static int
item_next(struct worker *w, struct smd_error *err)
{
	struct copy *c = w->copy;

	if (crew_is_paused(&c->crew) && copy_mark(&c->marks, err) < 0)
		return -1;
	LOCK_SCOPE(&c->plan_lock);
	if (atomic_load(&c->crew.stop))
		return 0;
	w->had_turn = false;
	w->digest = (struct smd_digest){ 0, 0 };
	return plan_next(&c->plan, &w->item, err);
}

/* A delta's units of zeroes, whole ones. */
static int
item_zero(struct worker *w, struct smd_error *err)
{
	struct copy *c = w->copy;

	if (turn_take(w, err) < 0 ||
	    smd_chain_zero(c->dst, w->item.offset, w->item.count, true, err) < 0)
		return -1;
	atomic_fetch_add_explicit(&c->zero, w->item.count, memory_order_relaxed);
	return 0;
}

static int
item_move(struct worker *w, struct smd_error *err)
{
	struct copy *c = w->copy;
	uint64_t gap = w->item.offset - w->item.gap_start;

	/* An earlier run has copied it, and its hash is not known. */
	if (w->item.offset + w->item.count <= c->reread)
		return item_hash(w, err);
	if (w->item.zero)
		return item_zero(w, err);
	if (gap > 0 && !c->delta && copy_zero(c, w->item.gap_start, gap, err) < 0)
		return -1;
	if (c->share_block)
		return copy_sharing(w, err);
	return c->plan.unit <= c->window ? copy_small(w, err) : copy_large(w, err);
}

static int
item_copy(struct worker *w, struct smd_error *err)
{
	struct copy *c = w->copy;

	crew_throttle(&c->crew, w->item.data);
	if (item_move(w, err) < 0)
		return -1;
	turn_pass(w);
	/* Between the items of a whole disk there are zeroes, which count nothing. */
	if (c->options->verify)
		copy_hashes_add(&c->hashes, &(struct copy_hash){
				.offset = c->delta ? w->item.offset : w->item.gap_start,
				.end = w->item.offset + w->item.count, .sum = w->digest });
	if (c->delta && c->digest &&
	    delta_digest(&c->plan, &w->item, w->buf, c->window, &w->digest, err) < 0)
		return -1;
	copy_marks_item(&c->marks, &w->item, &w->digest);
	if (w->item.data > 0 && crew_done(&c->crew, w->item.data, err) < 0)
		return -1;
	return copy_mark_if_due(&c->marks, w->item.seq + 1, err);
}

static int
worker_init(struct worker *w, struct copy *c, struct smd_error *err)
{
	w->copy = c;
	w->buf = aligned_alloc(COPY_PAGE, c->window);
	if (w->buf && c->options->base)
		w->base_buf = aligned_alloc(COPY_PAGE, c->window);
	if (!w->buf || (c->options->base && !w->base_buf))
		return smd_fail_INTERNAL_ERROR(err, "memory", "no memory for a window");
	if (c->options->compress) {
		w->encoded = smd_malloc(c->window);
		w->encoded_len = smd_calloc(c->window / c->unit, sizeof *w->encoded_len);
	}
	return 0;
}

static void
worker_done(struct worker *w)
{
	for (size_t i = 0; i < w->room; i++)
		chain_places_free(&w->segments[i]);
	free(w->segments);
	plan_item_free(&w->item);
	free(w->encoded);
	free(w->encoded_len);
	free(w->base_buf);
	free(w->buf);
}

static int
copy_work(struct crew *crew, void *opaque, struct smd_error *err)
{
	CLEANUP(worker_done) struct worker w = { .copy = NULL };
	struct copy *c = opaque;
	int r;

	(void)crew;
	if (worker_init(&w, c, err) < 0)
		return -1;
	while ((r = item_next(&w, err)) > 0) {
		r = item_copy(&w, err);
		if (r < 0)
			break;
	}
	if (r < 0)
		turns_end(c, err);
	return 0;
}

/* ---- Beginning and end ---- */

uint64_t
copy_share_block(struct smd_io *from, struct smd_io *to)
{
	int to_fd = smd_io_fd(to), from_fd = smd_io_fd(from);
	struct stat a, b;
	struct statfs fs;

	if (to_fd < 0 || from_fd < 0 || fstat(to_fd, &a) < 0 || fstat(from_fd, &b) < 0 ||
	    a.st_dev != b.st_dev || !S_ISREG(a.st_mode) || fstatfs(to_fd, &fs) < 0)
		return 0;
	if ((fs.f_type != MAGIC_XFS && fs.f_type != MAGIC_BTRFS) || !smd_io_can_share(to))
		return 0;
	return smd_is_pow2_u64((uint64_t)fs.f_bsize) ? (uint64_t)fs.f_bsize : 0;
}

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
	c->dense = c->direct && unit <= c->window;
	c->granule = c->delta && !c->options->compress ? smd_max_u64(unit, COPY_PAGE) : unit;
	/* Pages are digested whole. */
	if (!c->delta)
		unit = smd_max_u64(unit, SMD_DIGEST_PAGE);
	c->plan.upper = c->options->upper;
	c->plan.base = c->options->base;
	c->plan.whole = c->share_block && !c->delta;
	if ((c->plan.whole && smd_chain_extents(c->dst, 0, smd_chain_size(c->dst), run_has_place,
						&c->plan.whole, err) < 0) ||
	    plan_init_delta(&c->plan, c->src, unit, copy_chunk(c, unit), smd_chain_size(c->dst),
			    err) < 0)
		return -1;
	/* An image whose data lies across pages, as others' VHDs do, is copied. */
	if (c->plan.in_place < c->plan.total / 2) {
		c->share_block = 0;
		c->plan.chunk = copy_chunk(c, unit);
	}
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

static int
copy_crew(struct copy *c, struct smd_error *err)
{
	struct smd_io *io = chain_leaf(c->dst)->io;
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	unsigned each = c->direct || c->options->compress ? CREW_WAITS : CREW_BUSY;
	unsigned n = crew_size(c->options, c->plan.total, each);
	int r;

	/* The file system shares one extent at a time: more threads would wait for it. */
	if (c->share_block && !c->options->verify && !c->digest && c->options->n_threads == 0)
		n = 1;
	smd_io_grow_ahead(io, smd_min_u64(GROW_AHEAD, c->plan.total), c->dense);
	r = crew_run(&c->crew, n, err);
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
	return copy_marks_end(&c->marks, end, err);
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
	c.direct = smd_io_is_direct(chain_leaf(dst)->io) && !options->compress && !c.share_block;
	if (c.direct)
		c.window = smd_max_u64(c.window, COPY_WINDOW_DIRECT);
	if (copy_plan(&c, err) < 0 || copy_run(&c, err) < 0)
		return -1;
	if (ret_stats)
		copy_stats(&c, ret_stats);
	return 0;
}
