/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An item's bytes: read, and written to the places they get.
 */
#include "common/image/copy-thread.h"

#include <string.h>

#define WRITEBACK_STEP (32u << 20)
/* Where what is written leaves the page cache again: each thread may wait for a step, and what
 * lies between them and those is on its way to the disk. So it holds 64 MiB of it at most. */
#define AWAY_STEP (4u << 20)
#define AWAY_LAG (24u << 20)
#define HOLE_MIN (16u << 10)		/* smaller ones are read over, as zeroes */
#define TAKE_MIN (64u << 10)		/* to take the space of less costs more than it saves */

/* ---- Writing ---- */

bool
copy_place_is_zero(const struct copy *c, const struct smd_place *p)
{
	return p->kind == SMD_PLACE_FRESH_ZEROED ||
	       (p->kind == SMD_PLACE_IN_PLACE && c->target_is_zero);
}

static int
write_bytes(struct copy_item *w, const uint8_t *buf, uint64_t count, uint64_t host_offset,
	    struct smd_error *err)
{
	struct smd_io *io = chain_leaf(w->copy->dst)->io;

	if (w->queue)
		return smd_queue_pwrite(w->queue, &w->writes, buf, count, host_offset, err);
	if (w->copy->direct)
		return smd_io_pwrite_data(io, buf, count, host_offset, err);
	return smd_io_pwrite(io, buf, count, host_offset, err);
}

static int
write_out(struct copy_item *w, const uint8_t *buf, uint64_t count, uint64_t host_offset,
	  struct smd_error *err)
{
	if (write_bytes(w, buf, count, host_offset, err) < 0)
		return -1;
	atomic_fetch_add_explicit(&w->copy->written, count, memory_order_relaxed);
	return 0;
}

static int
write_hole(struct copy_item *w, const uint8_t *buf, uint64_t count, uint64_t host_offset,
	   struct smd_error *err)
{
	struct copy *c = w->copy;

	if (c->takes && count >= TAKE_MIN)
		smd_io_take(chain_leaf(c->dst)->io, host_offset, count);
	return write_out(w, buf, count, host_offset, err);
}

/* Write the pages that are not zero, neighbours together. */
static int
write_sparse(struct copy_item *w, const uint8_t *buf, uint64_t count, uint64_t host_offset,
	     struct smd_error *err)
{
	uint64_t start = 0, at = 0;

	while (at < count) {
		uint64_t page = COPY_PAGE - (host_offset + at) % COPY_PAGE;
		uint64_t n = smd_min_u64(page, count - at);

		if (copy_is_zero(buf + at, n)) {
			if (at > start && write_hole(w, buf + start, at - start,
						     host_offset + start, err) < 0)
				return -1;
			start = at + n;
			atomic_fetch_add_explicit(&w->copy->zero, n, memory_order_relaxed);
		}
		at += n;
	}
	return at > start ? write_hole(w, buf + start, at - start, host_offset + start, err) : 0;
}

int
copy_write_place(struct copy_item *w, const struct smd_place *p, const uint8_t *buf,
		 uint64_t start, uint64_t end, struct smd_error *err)
{
	const struct copy *c = w->copy;
	uint64_t from = smd_max_u64(p->offset, start);
	uint64_t to = smd_min_u64(p->offset + p->count, end);
	uint64_t host = p->host_offset + (from - p->offset);

	if (from >= to)
		return 0;
	if (copy_place_is_zero(c, p) && !(c->dense && p->kind == SMD_PLACE_FRESH_ZEROED))
		return write_sparse(w, buf + (from - start), to - from, host, err);
	return write_out(w, buf + (from - start), to - from, host, err);
}

static int
write_places(struct copy_item *w, const struct chain_places *places, const uint8_t *buf,
	     uint64_t start, uint64_t end, struct smd_error *err)
{
	for (size_t i = 0; i < places->n; i++) {
		if (copy_write_place(w, &places->list[i], buf, start, end, err) < 0)
			return -1;
	}
	return 0;
}

static int
writeback(struct copy *c, const struct chain_places *places, struct smd_error *err)
{
	const struct smd_place *last = &places->list[places->n - 1];
	uint64_t end = last->host_offset + last->count;
	struct smd_io *io = chain_leaf(c->dst)->io;
	uint64_t start, away, away_end;

	if (c->direct)
		return 0;
	pthread_mutex_lock(&c->turn_lock);
	start = c->written_back;
	if (end < start + (c->away ? AWAY_STEP : WRITEBACK_STEP)) {
		pthread_mutex_unlock(&c->turn_lock);
		return 0;
	}
	c->written_back = end;
	away = c->written_away;
	away_end = start < AWAY_LAG ? 0 : smd_round_down_u64(start - AWAY_LAG, COPY_PAGE);
	c->written_away = away_end;
	pthread_mutex_unlock(&c->turn_lock);
	smd_io_start_writeback(io, start, end - start);
	return c->away ? smd_io_write_away(io, away, away_end - away, err) : 0;
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
int
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
small_encode(struct copy_item *w, uint64_t start, uint64_t end, struct smd_error *err)
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
small_what(const struct copy_item *w, uint64_t start, uint64_t at, uint64_t n)
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
small_encoded(struct copy_item *w, uint64_t start, uint64_t at, uint64_t n, struct smd_error *err)
{
	struct copy *c = w->copy;
	int r;

	r = chain_write_encoded(c->dst, at, w->encoded + (at - start),
				w->encoded_len[(at - start) / c->unit], err);
	if (r == 1)
		return copy_reserve(w, at, n, err);
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
small_reserve(struct copy_item *w, uint64_t start, uint64_t end, struct smd_error *err)
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
			r = copy_reserve(w, at, stop - at, err);
		if (r < 0)
			return -1;
		at = stop;
	}
	return 0;
}

/* Into w->buf, and into the digest while it is in the core's cache. */
static int
read_window(struct copy_item *w, uint64_t start, uint64_t end, struct smd_error *err)
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
small_read(struct copy_item *w, uint64_t start, uint64_t end, struct smd_error *err)
{
	int r;

	if (read_window(w, start, end, err) < 0)
		return -1;
	if (w->base_buf && copy_read_padded(w->copy->options->base, w->base_buf, start,
					    end - start, err) < 0)
		return -1;
	if (w->encoded && small_encode(w, start, end, err) < 0)
		return -1;
	r = copy_turn_take(w, err);
	if (r == 0)
		r = small_reserve(w, start, end, err);
	if (r == 0)
		copy_turn_pass(w);
	return r < 0 ? copy_segments_end(w, r, err) : 0;
}

static int
small_write(struct copy_item *w, uint64_t start, uint64_t end, struct smd_error *err)
{
	for (size_t i = 0; i < w->n_segments; i++) {
		if (write_places(w, &w->segments[i], w->buf, start, end, err) < 0)
			return -1;
	}
	return 0;
}

static uint64_t
item_end(const struct copy_item *w)
{
	return w->item.offset + w->item.count;
}

int
copy_small_read(struct copy_item *w, struct smd_error *err)
{
	return small_read(w, w->item.offset, item_end(w), err);
}

int
copy_small_write(struct copy_item *w, struct smd_error *err)
{
	int r = small_write(w, w->item.offset, item_end(w), err);

	if (w->queue)
		smd_queue_send(w->queue);
	return r;
}

/* Until its buffer is free again. */
static int
written(struct copy_item *w, int r, struct smd_error *err)
{
	struct smd_error second CLEANUP_ERROR = SMD_ERROR_INIT;

	if (w->queue && smd_queue_wait(w->queue, &w->writes, r < 0 ? &second : err) < 0)
		return -1;
	return r;
}

int
copy_small_end(struct copy_item *w, int r, struct smd_error *err)
{
	r = written(w, r, err);
	for (size_t i = 0; i < w->n_segments && r == 0; i++)
		r = writeback(w->copy, &w->segments[i], err);
	return copy_segments_end(w, r, err);
}

static uint64_t
window_end(const struct copy *c, uint64_t at, uint64_t end)
{
	return smd_min_u64(end, smd_round_down_u64(at, c->window) + c->window);
}

int
copy_small(struct copy_item *w, struct smd_error *err)
{
	uint64_t end = item_end(w);

	for (uint64_t at = w->item.offset; at < end;) {
		uint64_t stop = window_end(w->copy, at, end);

		if (small_read(w, at, stop, err) < 0 ||
		    copy_small_end(w, small_write(w, at, stop, err), err) < 0)
			return -1;
		at = stop;
	}
	return 0;
}

/* ---- A unit larger than the window: a place for all of it at the first byte
 * that is not zero ---- */

/* Zeroes, where its places hold anything else; none of it was written. */
static int
large_zero(struct copy_item *w, uint64_t start, uint64_t end, struct smd_error *err)
{
	static const _Alignas(COPY_PAGE) uint8_t zeroes[COPY_WINDOW];
	struct copy *c = w->copy;

	for (uint64_t at = start; at < end;) {
		uint64_t stop = smd_min_u64(end, at + sizeof zeroes);

		for (size_t i = 0; i < w->segments[0].n; i++) {
			const struct smd_place *p = &w->segments[0].list[i];

			if (!copy_place_is_zero(c, p) &&
			    copy_write_place(w, p, zeroes, at, stop, err) < 0)
				return -1;
		}
		at = stop;
	}
	return 0;
}

static int
large_window(struct copy_item *w, uint64_t at, uint64_t stop, struct smd_error *err)
{
	if (read_window(w, at, stop, err) < 0)
		return -1;
	if (w->n_segments == 0) {
		if (copy_is_zero(w->buf, stop - at)) {
			atomic_fetch_add_explicit(&w->copy->zero, stop - at, memory_order_relaxed);
			return 0;
		}
		if (copy_turn_take(w, err) < 0 ||
		    copy_reserve(w, w->item.offset, w->item.count, err) < 0)
			return -1;
		copy_turn_pass(w);
		if (large_zero(w, w->item.offset, at, err) < 0)
			return written(w, -1, err);
	}
	return written(w, write_places(w, &w->segments[0], w->buf, at, stop, err), err);
}

/* Between pieces: neither read nor looked through. It counts nothing in the digest. */
static int
large_hole(struct copy_item *w, uint64_t at, uint64_t stop, struct smd_error *err)
{
	uint64_t left = stop - at;	/* as zeroes that nobody writes */

	for (size_t i = 0; w->n_segments > 0 && i < w->segments[0].n; i++) {
		const struct smd_place *p = &w->segments[0].list[i];
		uint64_t from = smd_max_u64(p->offset, at);
		uint64_t to = smd_min_u64(p->offset + p->count, stop);

		if (from < to && !copy_place_is_zero(w->copy, p))
			left -= to - from;
	}
	atomic_fetch_add_explicit(&w->copy->zero, left, memory_order_relaxed);
	return left < stop - at ? large_zero(w, at, stop, err) : 0;
}

/* The page where the first piece begins that is not all before at. *first: where to look from. */
static uint64_t
next_piece(const struct copy_item *w, size_t *first, uint64_t at)
{
	const struct plan_item *item = &w->item;
	const struct smd_run *p;

	for (; *first < item->n_pieces; (*first)++) {
		p = &item->pieces[*first];
		if (p->offset + p->count > at)
			return smd_max_u64(at, smd_round_down_u64(p->offset, COPY_PAGE));
	}
	return item_end(w);
}

/* What lies from at, in a piece's page, to stop at most, without a hole that is worth it. */
static uint64_t
pieces_end(const struct copy_item *w, size_t first, uint64_t at, uint64_t stop)
{
	const struct plan_item *item = &w->item;
	uint64_t end = at;

	for (size_t i = first; i < item->n_pieces && end < stop; i++) {
		const struct smd_run *p = &item->pieces[i];

		if (p->offset >= end + HOLE_MIN)
			break;
		end = smd_round_down_u64(p->offset + p->count + COPY_PAGE - 1, COPY_PAGE);
	}
	return smd_min_u64(end, stop);
}

/* A queue's writes are waited for once a window: there it is not cut at holes. */
int
copy_large(struct copy_item *w, struct smd_error *err)
{
	struct copy *c = w->copy;
	bool has_holes = !c->delta && !w->queue;
	uint64_t end = item_end(w);
	size_t first = 0;
	int r = 0;

	for (uint64_t at = w->item.offset; at < end && r == 0;) {
		uint64_t data = has_holes ? next_piece(w, &first, at) : at;
		uint64_t stop = window_end(c, at, end);

		if (data >= at + HOLE_MIN || data == end) {
			r = large_hole(w, at, data, err);
			at = data;
			continue;
		}
		if (has_holes)
			stop = pieces_end(w, first, at, stop);
		r = large_window(w, at, stop, err);
		at = stop;
	}
	if (r == 0 && w->n_segments > 0)
		r = writeback(c, &w->segments[0], err);
	else if (r == 0)
		r = copy_zero(c, w->item.offset, w->item.count, err);
	return copy_segments_end(w, r, err);
}

/* ---- Reading alone ---- */

int
copy_item_hash(struct copy_item *w, struct smd_error *err)
{
	uint64_t end = item_end(w);

	for (uint64_t at = w->item.offset; at < end && !w->item.zero;) {
		uint64_t stop = window_end(w->copy, at, end);

		if (read_window(w, at, stop, err) < 0)
			return -1;
		at = stop;
	}
	return 0;
}

