/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/measure.h"

#include <string.h>

#include "common/image/copy-impl.h"
#include "common/mem.h"

#define MEASURE_CHUNK (4u << 20)	/* of an item: bounds its pieces */

struct tally {
	struct plan plan;
	const struct smd_measure_options *options;
	struct smd_usage usage;
	uint64_t next_page, next_unit, next_table;	/* the first not counted yet */
	uint64_t own, next_own;		/* pages that can share no extent */
	struct holes holes;
	uint64_t done;			/* bytes of data read */
	uint8_t *buf, *base_buf;	/* exact: a window, and base's; else NULL */
};

/* ---- Counting ---- */

/* Each part of `size` bytes that [offset, end) touches, once: ranges come in order. */
static void
count_parts(uint64_t size, uint64_t offset, uint64_t end, uint64_t *next, uint64_t *count)
{
	uint64_t first = smd_max_u64(offset / size, *next);
	uint64_t last = smd_div_round_up_u64(end, size);

	if (first >= last)
		return;
	*count += last - first;
	*next = last;
}

static void
count_pages(struct tally *t, uint64_t offset, uint64_t end)
{
	count_parts(SMD_PAGE, offset, end, &t->next_page, &t->usage.pages);
}

static void
count_tables(struct tally *t, uint64_t offset, uint64_t end)
{
	if (t->usage.end == 0)
		t->usage.start = offset;
	t->usage.end = smd_max_u64(t->usage.end, end);
	if (t->usage.table)
		count_parts(t->usage.table, offset, end, &t->next_table, &t->usage.tables);
}

static void
count_units(struct tally *t, uint64_t offset, uint64_t end)
{
	count_parts(t->usage.alloc_unit, offset, end, &t->next_unit, &t->usage.units);
	count_tables(t, offset, end);
}

/* Zeroes over what shows below. */
static void
count_zeroes(struct tally *t, uint64_t offset, uint64_t end)
{
	count_tables(t, offset, end);
	if (!t->usage.zero_takes_unit)
		return;
	count_units(t, offset, end);
	count_pages(t, offset, end);
}

/* ---- What can be shared: whole pages that lie in a store as they do on the disk ---- */

static void
count_own(struct tally *t, uint64_t offset, uint64_t end)
{
	count_parts(SMD_PAGE, offset, end, &t->next_own, &t->own);
}

static void
piece_own(struct tally *t, const struct smd_run *piece)
{
	uint64_t start = piece->offset, end = start + piece->count;

	if (piece->kind != SMD_EXTENT_DATA || (piece->host_offset - start) % SMD_PAGE) {
		count_own(t, start, end);
		return;
	}
	if (start % SMD_PAGE)
		count_own(t, start, start + 1);
	if (end % SMD_PAGE)
		count_own(t, end - 1, end);
}

/* Of a delta what lies between the pieces is copied. */
static void
item_own(struct tally *t, const struct plan_item *item)
{
	uint64_t at = item->offset;

	for (size_t i = 0; i < item->n_pieces; i++) {
		const struct smd_run *piece = &item->pieces[i];

		if (plan_is_delta(&t->plan))
			count_own(t, at, piece->offset);
		piece_own(t, piece);
		at = piece->offset + piece->count;
	}
	if (plan_is_delta(&t->plan))
		count_own(t, at, item->offset + item->count);
}

/* A base is compared with, and small units lie anywhere. */
static uint64_t
shareable(const struct tally *t)
{
	if (t->plan.base || t->usage.alloc_unit % SMD_PAGE || t->own > t->usage.pages)
		return 0;
	return (t->usage.pages - t->own) * SMD_PAGE;
}

/* ---- By the extents ---- */

static int
run_pages(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct tally *t = opaque;

	(void)err;
	if (run->kind != SMD_EXTENT_ZERO)
		count_pages(t, run->offset, run->offset + run->count);
	return 0;
}

static int
run_split(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct tally *t = opaque;

	return plan_split_holes(&t->holes, run, run_pages, t, err);
}

/* Of a delta whole units are written: what they do not hold comes from below. */
static int
item_by_extents(struct tally *t, const struct plan_item *item, struct smd_error *err)
{
	uint64_t end = smd_min_u64(item->offset + item->count, smd_chain_size(t->plan.chain));

	count_units(t, item->offset, item->offset + item->count);
	if (plan_is_delta(&t->plan) && t->plan.unit > SMD_PAGE && item->offset < end)
		return smd_chain_extents(t->plan.chain, item->offset, end - item->offset,
					 run_split, t, err);
	for (size_t i = 0; i < item->n_pieces; i++) {
		if (run_pages(t, &item->pieces[i], err) < 0)
			return -1;
	}
	return 0;
}

/* ---- By the bytes ---- */

/* What the copier leaves out in one go of a delta: a unit, or a page. */
static bool
granule_same(const struct tally *t, const uint8_t *p, const uint8_t *base, uint64_t n)
{
	return t->base_buf && memcmp(p, base, n) == 0;
}

static void
granule_by_bytes(struct tally *t, const uint8_t *p, uint64_t offset, uint64_t n)
{
	if (copy_is_zero(p, n)) {
		if (plan_is_delta(&t->plan))
			count_zeroes(t, offset, offset + n);
		return;
	}
	for (uint64_t at = 0; at < n;) {
		uint64_t stop = smd_min_u64(n, at + SMD_PAGE - (offset + at) % SMD_PAGE);

		if (!copy_is_zero(p + at, stop - at)) {
			count_units(t, offset + at, offset + stop);
			count_pages(t, offset + at, offset + stop);
		}
		at = stop;
	}
}

static int
window_by_bytes(struct tally *t, const struct plan_item *item, uint64_t start, uint64_t end,
		uint64_t granule, struct smd_error *err)
{
	if (copy_read_item(&t->plan, item, t->buf, start, end - start, err) < 0)
		return -1;
	if (t->base_buf && copy_read_padded(t->options->base, t->base_buf, start, end - start,
					    err) < 0)
		return -1;
	for (uint64_t at = start; at < end;) {
		uint64_t stop = smd_min_u64(end, smd_round_down_u64(at, granule) + granule);
		const uint8_t *p = t->buf + (at - start);

		if (!granule_same(t, p, t->base_buf + (at - start), stop - at))
			granule_by_bytes(t, p, at, stop - at);
		at = stop;
	}
	return 0;
}

static int
item_by_bytes(struct tally *t, const struct plan_item *item, struct smd_error *err)
{
	const struct smd_measure_options *o = t->options;
	uint64_t end = item->offset + item->count;
	uint64_t granule = plan_is_delta(&t->plan) ? smd_max_u64(t->plan.unit, COPY_PAGE)
						   : COPY_PAGE;
	uint64_t window = smd_max_u64(copy_window(t->plan.chain), granule);

	for (uint64_t at = item->offset; at < end;) {
		uint64_t stop = smd_min_u64(end, smd_round_down_u64(at, window) + window);

		if (window_by_bytes(t, item, at, stop, granule, err) < 0)
			return -1;
		at = stop;
	}
	t->done += item->data;
	if (o->progress && o->progress(o->opaque, t->done, t->plan.total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled after reading %llu of %llu bytes",
					       (unsigned long long)t->done,
					       (unsigned long long)t->plan.total);
	return 0;
}

static int
make_buffers(struct tally *t, struct smd_error *err)
{
	uint64_t window = smd_max_u64(copy_window(t->plan.chain), t->plan.unit);

	if (!t->options->exact)
		return 0;
	t->buf = smd_try_malloc_pages(window);
	if (t->buf && t->options->base)
		t->base_buf = smd_try_malloc_pages(window);
	if (t->buf && (t->base_buf || !t->options->base))
		return 0;
	return smd_fail_INTERNAL_ERROR(err, "memory", "no memory for a window");
}

/* ---- All of it ---- */

static void
cleanup_tally(struct tally *t)
{
	plan_free(&t->plan);
	free(t->buf);
	free(t->base_buf);
}

/* The units of the items are those that the copier would choose. */
static int
tally_plan(struct tally *t, struct smd_chain *src, uint64_t virtual_size, struct smd_error *err)
{
	uint64_t unit = smd_max_u64(t->usage.alloc_unit, t->usage.write_unit);

	t->plan.upper = t->options->upper;
	t->plan.base = t->options->base;
	if (plan_is_delta(&t->plan))
		unit = t->usage.write_unit;
	return plan_init_delta(&t->plan, src, unit, smd_max_u64(unit, MEASURE_CHUNK),
			       virtual_size, err);
}

static int
tally_run(struct tally *t, struct smd_error *err)
{
	CLEANUP(plan_item_free) struct plan_item item = { 0 };
	int r;

	if (make_buffers(t, err) < 0)
		return -1;
	while ((r = plan_next(&t->plan, &item, err)) > 0) {
		if (item.zero)
			count_zeroes(t, item.offset, item.offset + item.count);
		else if ((t->buf ? item_by_bytes : item_by_extents)(t, &item, err) < 0)
			return -1;
		if (!item.zero || t->usage.zero_takes_unit)
			item_own(t, &item);
	}
	return r;
}

static int
usage_check(const struct smd_format *format, const struct smd_usage *usage,
	    struct smd_error *err)
{
	if (smd_is_pow2_u64(usage->write_unit) && smd_is_pow2_u64(usage->alloc_unit) &&
	    usage->alloc_unit <= SMD_ALLOC_MAX && usage->write_unit <= usage->alloc_unit &&
	    usage->write_unit >= SMD_SECTOR)
		return 0;
	return smd_fail_INTERNAL_ERROR(err, format->name, "the module of %s names no units",
				       format->name);
}

/* The module's bound, which goes by bytes and runs. */
static int
measure_bound(struct tally *t, struct smd_chain *src, const struct smd_format *format,
	      const struct smd_create *params, struct smd_measured *ret, struct smd_error *err)
{
	struct smd_measure bound;
	uint64_t bytes = 0, runs = 0;

	if (src && smd_count_delta(src, t->options->upper, t->options->base, &bytes, &runs, err) < 0)
		return -1;
	if (format->measure(params, bytes, runs, &bound, err) != 0)
		return -1;
	*ret = (struct smd_measured){
		.data = bytes, .size = bound.required, .allocated = bound.required,
		.fully_allocated = bound.fully_allocated,
	};
	return 0;
}

int
smd_measure(struct smd_chain *src, const struct smd_format *format,
	    const struct smd_create *params, const struct smd_measure_options *options,
	    struct smd_measured *ret, struct smd_error *err)
{
	CLEANUP(cleanup_tally) struct tally t = { .options = options };
	struct smd_taken taken;

	if (measure_bound(&t, src, format, params, ret, err) < 0)
		return -1;
	if (!format->usage || !format->taken)
		return 0;
	if (format->usage(params, &t.usage, err) != 0 || usage_check(format, &t.usage, err) < 0)
		return -1;
	if (src && (tally_plan(&t, src, params->virtual_size, err) < 0 || tally_run(&t, err) < 0))
		return -1;
	if (format->taken(params, &t.usage, &taken, err) != 0)
		return -1;
	ret->size = taken.size;
	ret->allocated = taken.allocated;
	ret->shareable = shareable(&t);
	return 0;
}
