/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing through the merged view. Whole units go straight to the places the
 * leaf names. A part of a unit is written in place where the leaf has the data
 * already; else the unit is completed from the merged view first.
 */
#include "common/image/chain-impl.h"

#include <inttypes.h>
#include <string.h>

#include "common/mem.h"

#define ZERO_CHUNK (1u << 20)

/* ---- Reservations ---- */

static int
places_add(void *opaque, const struct smd_place *place, struct smd_error *err)
{
	struct chain_places *p = opaque;

	(void)err;
	if (p->n == p->room) {
		p->room = p->room ? 2 * p->room : 8;
		p->list = smd_reallocarray(p->list, p->room, sizeof *p->list);
	}
	p->list[p->n++] = *place;
	return 0;
}

/* The places must cover what was asked for, in order. */
static int
places_check(const struct smd_chain *chain, const struct chain_places *p, uint64_t offset,
	     uint64_t count, struct smd_error *err)
{
	uint64_t next = offset;

	for (size_t i = 0; i < p->n && p->list[i].offset == next; i++)
		next += p->list[i].count;
	if (next != offset + count)
		return smd_fail_INTERNAL_ERROR(err, chain->layers[0].format->name,
				"%s: the module gave places up to %" PRIu64 " of %" PRIu64,
				chain->layers[0].io->name, next, offset + count);
	return 0;
}

int
chain_reserve(struct smd_chain *chain, uint64_t offset, uint64_t count,
	      struct chain_places *places, struct smd_error *err)
{
	struct chain_layer *leaf = chain_leaf(chain);

	places->n = 0;
	LOCK_SCOPE(&leaf->lock);
	if (leaf->format->reserve(leaf->img, offset, count, places_add, places, &places->res,
				  err) < 0)
		return -1;
	if (places_check(chain, places, offset, count, err) < 0) {
		leaf->format->abandon(leaf->img, places->res);
		return -1;
	}
	return 0;
}

int
chain_commit(struct smd_chain *chain, struct chain_places *places, struct smd_error *err)
{
	struct chain_layer *leaf = chain_leaf(chain);

	LOCK_SCOPE(&leaf->lock);
	return leaf->format->commit(leaf->img, places->res, err);
}

void
chain_abandon(struct smd_chain *chain, struct chain_places *places)
{
	struct chain_layer *leaf = chain_leaf(chain);

	LOCK_SCOPE(&leaf->lock);
	leaf->format->abandon(leaf->img, places->res);
}

int
chain_write_encoded(struct smd_chain *chain, uint64_t offset, const void *data, size_t len,
		    struct smd_error *err)
{
	struct chain_layer *leaf = chain_leaf(chain);

	LOCK_SCOPE(&leaf->lock);
	return leaf->format->write_encoded(leaf->img, offset, data, len, err);
}

void
chain_places_free(struct chain_places *places)
{
	free(places->list);
}
#define CLEANUP_PLACES CLEANUP(chain_places_free)

/* ---- One writer to a unit ---- */

static bool
writers_overlap(const struct smd_chain *chain, const struct chain_writer *w)
{
	for (const struct chain_writer *o = chain->writers; o; o = o->next) {
		if (w->start < o->end && o->start < w->end)
			return true;
	}
	return false;
}

static void
writer_enter(struct smd_chain *chain, struct chain_writer *w, uint64_t offset, uint64_t count)
{
	w->start = smd_round_down_u64(offset, chain->unit);
	w->end = (offset + count + chain->unit - 1) & ~(chain->unit - 1);
	LOCK_SCOPE(&chain->writers_lock);
	while (writers_overlap(chain, w))
		pthread_cond_wait(&chain->writers_changed, &chain->writers_lock);
	w->next = chain->writers;
	chain->writers = w;
}

static void
writer_leave(struct smd_chain *chain, struct chain_writer *w)
{
	LOCK_SCOPE(&chain->writers_lock);
	for (struct chain_writer **p = &chain->writers; *p; p = &(*p)->next) {
		if (*p == w) {
			*p = w->next;
			break;
		}
	}
	pthread_cond_broadcast(&chain->writers_changed);
}

/* ---- Writing ---- */

/* The end of what may be reserved: the disk's, in whole sectors. */
static uint64_t
sectors_end(const struct smd_chain *chain)
{
	return (smd_chain_size(chain) + SMD_SECTOR - 1) & ~(uint64_t)(SMD_SECTOR - 1);
}

/* New space may hold zeroes already: then it need not be taken by writing them. */
static bool
holds_already(const struct smd_place *place, const uint8_t *buf, uint64_t count)
{
	return place->kind == SMD_PLACE_FRESH_ZEROED && buf[0] == 0 &&
	       memcmp(buf, buf + 1, count - 1) == 0;
}

static int
place_write(struct smd_io *io, struct smd_queue *queue, struct smd_writes *writes,
	    const uint8_t *buf, uint64_t count, uint64_t host_offset, struct smd_error *err)
{
	return queue ? smd_queue_pwrite(queue, writes, buf, count, host_offset, err) :
	       smd_io_pwrite(io, buf, count, host_offset, err);
}

/* Into the queue, if there is one. */
static int
places_write(struct smd_chain *chain, const struct chain_places *p, const uint8_t *buf,
	     uint64_t offset, uint64_t end, struct smd_queue *queue, struct smd_writes *writes,
	     struct smd_error *err)
{
	struct smd_io *io = chain_leaf(chain)->io;

	for (size_t i = 0; i < p->n; i++) {
		const struct smd_place *place = &p->list[i];
		uint64_t stop = smd_min_u64(place->offset + place->count, end);

		if (place->offset < stop &&
		    !holds_already(place, buf + (place->offset - offset), stop - place->offset) &&
		    place_write(io, queue, writes, buf + (place->offset - offset),
				stop - place->offset, place->host_offset, err) < 0)
			return -1;
	}
	return 0;
}

/* [offset, end) and what its last sector has behind it. */
static int
reserve_sectors(struct smd_chain *chain, uint64_t offset, uint64_t end,
		struct chain_places *places, struct smd_error *err)
{
	uint64_t sectors = (end - offset + SMD_SECTOR - 1) & ~(uint64_t)(SMD_SECTOR - 1);

	return chain_reserve(chain, offset, sectors, places, err);
}

/* Write [offset, end), which begins on a sector and ends on one or with the
 * disk. in_place: only where every place holds valid data already, else
 * nothing happens and 1 is returned. */
static int
write_sectors(struct smd_chain *chain, const uint8_t *buf, uint64_t offset, uint64_t end,
	      bool in_place, struct smd_error *err)
{
	struct chain_places p CLEANUP_PLACES = { 0 };

	if (reserve_sectors(chain, offset, end, &p, err) < 0)
		return -1;
	for (size_t i = 0; in_place && i < p.n; i++) {
		if (p.list[i].kind != SMD_PLACE_IN_PLACE) {
			chain_abandon(chain, &p);
			return 1;
		}
	}
	if (places_write(chain, &p, buf, offset, end, NULL, NULL, err) < 0) {
		chain_abandon(chain, &p);
		return -1;
	}
	return chain_commit(chain, &p, err);
}

static int
all_data(void *opaque, const struct smd_extent *extent, struct smd_error *err)
{
	(void)err;
	if (extent->kind != SMD_EXTENT_DATA)
		*(bool *)opaque = false;
	return 0;
}

static int
leaf_has(struct smd_chain *chain, uint64_t offset, uint64_t count, bool *ret,
	 struct smd_error *err)
{
	struct chain_layer *leaf = chain_leaf(chain);

	*ret = true;
	LOCK_SCOPE(&leaf->lock);
	return leaf->format->extents(leaf->img, offset, count, all_data, ret, err);
}

/* Read [start, end) from the merged view, lay the new bytes over it, write. */
static int
write_completed(struct smd_chain *chain, const uint8_t *buf, uint64_t offset, uint64_t count,
		uint64_t start, uint64_t end, bool in_place, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *whole = smd_malloc_pages(end - start);

	if (smd_chain_pread(chain, whole, end - start, start, err) < 0)
		return -1;
	memcpy(whole + (offset - start), buf, count);
	return write_sectors(chain, whole, start, end, in_place, err);
}

/* A write within one unit that does not cover it. */
static int
write_part(struct smd_chain *chain, const uint8_t *buf, uint64_t offset, uint64_t count,
	   struct smd_error *err)
{
	uint64_t unit = smd_round_down_u64(offset, chain->unit);
	uint64_t start = smd_round_down_u64(offset, SMD_SECTOR);
	uint64_t stop = (offset + count + SMD_SECTOR - 1) & ~(uint64_t)(SMD_SECTOR - 1);
	uint64_t end = smd_min_u64(stop, smd_chain_size(chain));
	bool has;
	int r;

	if (leaf_has(chain, start, smd_min_u64(stop, sectors_end(chain)) - start, &has, err) < 0)
		return -1;
	if (has) {
		if (start == offset && end == offset + count)
			r = write_sectors(chain, buf, start, end, true, err);
		else
			r = write_completed(chain, buf, offset, count, start, end, true, err);
		if (r <= 0)
			return r;
	}
	return write_completed(chain, buf, offset, count, unit,
			       smd_min_u64(unit + chain->unit, smd_chain_size(chain)), false, err);
}

static int
write_locked(struct smd_chain *chain, const uint8_t *buf, uint64_t offset, uint64_t end,
	     struct smd_error *err)
{
	uint64_t unit = chain->unit;

	while (offset < end) {
		uint64_t start = smd_round_down_u64(offset, unit);
		uint64_t stop = end == smd_chain_size(chain) ? end : smd_round_down_u64(end, unit);
		int r;

		if (offset == start && stop > offset) {
			r = write_sectors(chain, buf, offset, stop, false, err);
		} else {
			stop = smd_min_u64(start + unit, end);
			r = write_part(chain, buf, offset, stop - offset, err);
		}
		if (r < 0)
			return -1;
		buf += stop - offset;
		offset = stop;
	}
	return 0;
}

static int
write_check(const struct smd_chain *chain, uint64_t offset, uint64_t count,
	    struct smd_error *err)
{
	if (!chain->writable)
		return smd_fail_VDI_READONLY(err, chain->layers[0].io->name,
				"%s is open for reading only", chain->layers[0].io->name);
	if (!smd_range_ok(offset, count, smd_chain_size(chain)))
		return smd_fail_INVALID_VALUE(err, "offset", SMD_U64(offset),
				"%" PRIu64 " bytes at %" PRIu64 " pass the end of the disk, %" PRIu64,
				count, offset, smd_chain_size(chain));
	return 0;
}

int
smd_chain_pwrite(struct smd_chain *chain, const void *buf, size_t count, uint64_t offset,
		 struct smd_error *err)
{
	struct chain_writer w;
	int r;

	if (write_check(chain, offset, count, err) < 0)
		return -1;
	writer_enter(chain, &w, offset, count);
	r = write_locked(chain, buf, offset, offset + count, err);
	writer_leave(chain, &w);
	return r;
}

/* ---- Writes that are under way ---- */

static int
begin_locked(struct smd_chain *chain, struct chain_write *write, struct smd_queue *queue,
	     const uint8_t *buf, uint64_t offset, uint64_t end, struct smd_error *err)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

	if (reserve_sectors(chain, offset, end, &write->places, err) < 0)
		return -1;
	if (places_write(chain, &write->places, buf, offset, end, queue, &write->writes, err) == 0)
		return 0;
	/* What was asked for is still to end, with buf as it is. */
	smd_queue_wait(queue, &write->writes, &ignored);
	chain_abandon(chain, &write->places);
	return -1;
}

int
chain_write_begin(struct smd_chain *chain, struct chain_write *write, struct smd_queue *queue,
		  const void *buf, uint64_t count, uint64_t offset, struct smd_error *err)
{
	uint64_t end = offset + count;

	if (write_check(chain, offset, count, err) < 0)
		return -1;
	if (offset % chain->unit != 0 || (end % chain->unit != 0 && end != smd_chain_size(chain)))
		return 1;
	writer_enter(chain, &write->writer, offset, count);
	if (begin_locked(chain, write, queue, buf, offset, end, err) == 0)
		return 0;
	writer_leave(chain, &write->writer);
	return -1;
}

int
chain_write_end(struct smd_chain *chain, struct chain_write *write, struct smd_queue *queue, int r,
		struct smd_error *err)
{
	struct smd_error second CLEANUP_ERROR = SMD_ERROR_INIT;

	if (smd_queue_wait(queue, &write->writes, r < 0 ? &second : err) < 0)
		r = -1;
	if (r < 0)
		chain_abandon(chain, &write->places);
	else
		r = chain_commit(chain, &write->places, err);
	writer_leave(chain, &write->writer);
	return r;
}

/* ---- Zeroing ---- */

static int
run_not_zero(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	(void)err;
	if (run->kind != SMD_EXTENT_ZERO)
		*(bool *)opaque = true;
	return 0;
}

/* Zeroes as data; nothing where the view is zero without any, unless the leaf is to
 * have them itself (own). */
static int
zero_by_writing(struct smd_chain *chain, uint64_t offset, uint64_t end, bool own,
		struct smd_error *err)
{
	CLEANUP_FREE uint8_t *zeroes = NULL;
	bool needed = own;

	if (offset >= end)
		return 0;
	if (!own && smd_chain_extents(chain, offset, end - offset, run_not_zero, &needed, err) < 0)
		return -1;
	if (!needed)
		return 0;
	zeroes = smd_calloc(1, ZERO_CHUNK);
	while (offset < end) {
		uint64_t stop = smd_min_u64(end, smd_round_down_u64(offset, ZERO_CHUNK) + ZERO_CHUNK);

		if (write_locked(chain, zeroes, offset, stop, err) < 0)
			return -1;
		offset = stop;
	}
	return 0;
}

static int
zero_units(struct smd_chain *chain, uint64_t start, uint64_t end, bool unmap, bool own,
	   struct smd_error *err)
{
	struct chain_layer *leaf = chain_leaf(chain);
	uint64_t stop = (end + SMD_SECTOR - 1) & ~(uint64_t)(SMD_SECTOR - 1);
	int r;

	pthread_mutex_lock(&leaf->lock);
	r = leaf->format->zero(leaf->img, start, stop - start, unmap ? SMD_ZERO_UNMAP : 0, err);
	pthread_mutex_unlock(&leaf->lock);
	return r == 1 ? zero_by_writing(chain, start, end, own, err) : r;
}

static int
zero_locked(struct smd_chain *chain, uint64_t offset, uint64_t end, bool unmap, bool own,
	    struct smd_error *err)
{
	uint64_t unit = chain->unit;
	uint64_t first = (offset + unit - 1) & ~(unit - 1);
	uint64_t last = end == smd_chain_size(chain) ? end : smd_round_down_u64(end, unit);

	if (first >= last)
		return zero_by_writing(chain, offset, end, own, err);
	if (zero_by_writing(chain, offset, first, own, err) < 0 ||
	    zero_units(chain, first, last, unmap, own, err) < 0)
		return -1;
	return zero_by_writing(chain, last, end, own, err);
}

static int
zero(struct smd_chain *chain, uint64_t offset, uint64_t count, bool unmap, bool own,
     struct smd_error *err)
{
	struct chain_writer w;
	int r;

	if (write_check(chain, offset, count, err) < 0)
		return -1;
	if (count == 0)
		return 0;
	writer_enter(chain, &w, offset, count);
	r = zero_locked(chain, offset, offset + count, unmap, own, err);
	writer_leave(chain, &w);
	return r;
}

int
smd_chain_zero(struct smd_chain *chain, uint64_t offset, uint64_t count, bool unmap,
	       struct smd_error *err)
{
	return zero(chain, offset, count, unmap, false, err);
}

int
chain_zero_own(struct smd_chain *chain, uint64_t offset, uint64_t count, struct smd_error *err)
{
	return zero(chain, offset, count, true, true, err);
}
