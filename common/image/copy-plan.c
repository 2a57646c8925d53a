/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/copy-impl.h"

#include <string.h>

#include "common/mem.h"

#define RUNS_MAX 65536u		/* kept at once: a few MiB */

/* ---- Runs of data, the store's holes taken out ---- */

static int
plan_keep(struct plan *plan, const struct smd_run *run, struct smd_error *err)
{
	if (plan->counting) {
		plan->total += run->count;
		plan->n_total++;
	}
	if (plan->n_runs == RUNS_MAX || plan->full) {
		if (!plan->full)
			plan->next = run->offset;
		plan->full = true;
		/* The count goes on; a later batch ends here. */
		return plan->counting ? 0 : smd_fail_INTERNAL_ERROR(err, "full", "batch full");
	}
	plan->runs[plan->n_runs++] = *run;
	return 0;
}

static int
hole_look(struct plan *plan, struct smd_io *io, uint64_t offset, struct smd_error *err)
{
	if (plan->hole_io == io && offset >= plan->hole && offset < plan->hole_end)
		return 0;
	plan->hole_io = io;
	plan->hole = offset;
	if (offset >= io->size) {	/* reading will fail, and say so */
		plan->hole_data = offset;
		plan->hole_end = UINT64_MAX;
		return 0;
	}
	return smd_io_next_data(io, offset, io->size - offset, &plan->hole_data,
				&plan->hole_end, err);
}

static int
plan_add_data(struct plan *plan, struct smd_run run, struct smd_error *err)
{
	while (run.count > 0) {
		uint64_t skip, have;
		struct smd_run part = run;

		if (hole_look(plan, run.io, run.host_offset, err) < 0)
			return -1;
		skip = run.host_offset < plan->hole_data ? plan->hole_data - run.host_offset : 0;
		skip = smd_min_u64(skip, run.count);
		have = smd_min_u64(run.count - skip, plan->hole_end - run.host_offset - skip);
		if (skip == 0 && have == 0)
			have = run.count;	/* past the end: as data */
		part.offset += skip;
		part.host_offset += skip;
		part.count = have;
		if (have > 0 && plan_keep(plan, &part, err) < 0)
			return -1;
		run.offset += skip + have;
		run.host_offset += skip + have;
		run.count -= skip + have;
	}
	return 0;
}

static int
plan_add(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	switch (run->kind) {
	case SMD_EXTENT_DATA:
		return plan_add_data(opaque, *run, err);
	case SMD_EXTENT_ENCODED:
		return plan_keep(opaque, run, err);
	default:
		return 0;
	}
}

static int
plan_fill(struct plan *plan, struct smd_error *err)
{
	uint64_t from = plan->next;
	uint64_t size = smd_chain_size(plan->chain);

	plan->n_runs = 0;
	plan->at = 0;
	plan->full = false;
	plan->next = size;
	if (smd_chain_extents(plan->chain, from, size - from, plan_add, plan, err) == 0)
		return 0;
	if (!plan->full)
		return -1;
	smd_error_clear(err);
	return 0;
}

int
plan_init(struct plan *plan, struct smd_chain *chain, uint64_t unit, uint64_t chunk,
	  uint64_t limit, struct smd_error *err)
{
	memset(plan, 0, sizeof *plan);
	plan->chain = chain;
	plan->unit = unit;
	plan->chunk = chunk;
	plan->limit = limit;
	plan->runs = smd_reallocarray(NULL, RUNS_MAX, sizeof *plan->runs);
	plan->counting = true;
	if (plan_fill(plan, err) < 0)
		return -1;
	plan->counting = false;
	return 0;
}

void
plan_free(struct plan *plan)
{
	free(plan->runs);
}

/* ---- Items ---- */

static void
item_add(struct plan_item *item, const struct smd_run *piece)
{
	if (item->n_pieces == item->room) {
		item->room = item->room ? 2 * item->room : 16;
		item->pieces = smd_reallocarray(item->pieces, item->room, sizeof *item->pieces);
	}
	item->pieces[item->n_pieces++] = *piece;
	item->data += piece->count;
}

/* The next run not yet in an item; NULL: none. */
static int
plan_run(struct plan *plan, struct smd_run **ret, struct smd_error *err)
{
	*ret = NULL;
	while (plan->at == plan->n_runs) {
		if (plan->next == smd_chain_size(plan->chain))
			return 0;
		if (plan_fill(plan, err) < 0)
			return -1;
	}
	*ret = &plan->runs[plan->at];
	return 0;
}

/* Move what of the run lies before stop into the item. */
static void
plan_take(struct plan *plan, struct smd_run *run, uint64_t stop, struct plan_item *item)
{
	struct smd_run piece = *run;

	piece.count = smd_min_u64(run->count, stop - run->offset);
	item_add(item, &piece);
	run->offset += piece.count;
	run->host_offset += piece.count;
	run->count -= piece.count;
	if (run->count == 0)
		plan->at++;
}

int
plan_next(struct plan *plan, struct plan_item *item, struct smd_error *err)
{
	struct smd_run *run;
	uint64_t end, stop;

	item->n_pieces = 0;
	item->data = 0;
	item->gap_start = plan->last_end;
	if (plan_run(plan, &run, err) < 0)
		return -1;
	if (!run)
		return 0;
	item->offset = smd_round_down_u64(run->offset, plan->unit);
	stop = smd_round_down_u64(item->offset, plan->chunk) + plan->chunk;
	end = item->offset;
	while (run && run->offset < stop && smd_round_down_u64(run->offset, plan->unit) <= end) {
		end = smd_min_u64(run->offset + run->count, stop);
		end = (end + plan->unit - 1) & ~(plan->unit - 1);
		plan_take(plan, run, stop, item);
		if (plan_run(plan, &run, err) < 0)
			return -1;
	}
	end = smd_min_u64(end, plan->limit);
	item->count = end - item->offset;
	item->seq = plan->seq++;
	plan->last_end = end;
	return 1;
}

void
plan_item_free(struct plan_item *item)
{
	free(item->pieces);
}

int
smd_count_data(struct smd_chain *chain, uint64_t *ret_bytes, uint64_t *ret_runs,
	       struct smd_error *err)
{
	CLEANUP(plan_free) struct plan plan;
	uint64_t size = smd_chain_size(chain);

	if (plan_init(&plan, chain, COPY_PAGE, COPY_WINDOW, size, err) < 0)
		return -1;
	*ret_bytes = plan.total;
	*ret_runs = plan.n_total;
	return 0;
}
