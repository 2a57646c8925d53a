/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/copy-impl.h"

#include <string.h>

#include "common/mem.h"

#define RUNS_MAX 65536u		/* kept at once: a few MiB */

/* ---- Runs of data, the store's holes taken out ---- */

int
plan_keep(struct plan *plan, const struct smd_run *run, struct smd_error *err)
{
	if (plan->counting) {
		if (run->kind == SMD_EXTENT_DATA && (run->host_offset - run->offset) % COPY_PAGE == 0)
			plan->in_place += run->count;
		*(run->kind == SMD_EXTENT_ZERO && !plan->base ? &plan->zeroes : &plan->total) +=
			run->count;
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

static struct holes_answer *
holes_of(struct holes *h, struct smd_io *io)
{
	struct holes_answer *answer;

	for (unsigned i = 0; i < HOLES_STORES && h->of[i].io; i++) {
		if (h->of[i].io == io)
			return &h->of[i];
	}
	answer = &h->of[h->next];
	h->next = (h->next + 1) % HOLES_STORES;
	*answer = (struct holes_answer){ .io = io };
	return answer;
}

static int
holes_look(struct holes_answer *h, uint64_t offset, struct smd_error *err)
{
	if (offset >= h->start && offset < h->end)
		return 0;
	h->start = offset;
	if (offset >= h->io->size) {	/* reading will fail, and say so */
		h->data = offset;
		h->end = UINT64_MAX;
		return 0;
	}
	return smd_io_next_data(h->io, offset, h->io->size - offset, &h->data, &h->end, err);
}

int
holes_split(struct holes *holes, const struct smd_run *run, uint64_t *ret_hole,
	    uint64_t *ret_data, struct smd_error *err)
{
	struct holes_answer *h = holes_of(holes, run->io);
	uint64_t hole;

	if (holes_look(h, run->host_offset, err) < 0)
		return -1;
	hole = run->host_offset < h->data ? h->data - run->host_offset : 0;
	*ret_hole = smd_min_u64(hole, run->count);
	*ret_data = smd_min_u64(run->count - *ret_hole, h->end - run->host_offset - *ret_hole);
	if (*ret_hole == 0 && *ret_data == 0)
		*ret_data = run->count;	/* past the end: as data */
	return 0;
}

static int
split_part(const struct smd_run *run, enum smd_extent_kind kind, uint64_t count, smd_run_fn *add,
	   void *opaque, struct smd_error *err)
{
	struct smd_run part = *run;

	part.kind = kind;
	part.count = count;
	return count ? add(opaque, &part, err) : 0;
}

int
plan_split_holes(struct holes *holes, const struct smd_run *from, smd_run_fn *add, void *opaque,
		 struct smd_error *err)
{
	struct smd_run run = *from;

	while (run.kind == SMD_EXTENT_DATA && run.count > 0) {
		uint64_t hole, data;

		if (holes_split(holes, &run, &hole, &data, err) < 0 ||
		    split_part(&run, SMD_EXTENT_ZERO, hole, add, opaque, err) < 0)
			return -1;
		run.offset += hole;
		run.host_offset += hole;
		if (split_part(&run, SMD_EXTENT_DATA, data, add, opaque, err) < 0)
			return -1;
		run.offset += data;
		run.host_offset += data;
		run.count -= hole + data;
	}
	return run.count ? add(opaque, &run, err) : 0;
}

/* Whether it lies in the store of the last run of data, and as far from it as on the disk:
 * else something of somebody's may lie between the two. */
static bool
follows_data(const struct plan *plan, const struct smd_run *run)
{
	const struct smd_run *data = &plan->last_data;

	return run->io == data->io &&
	       run->host_offset - data->host_offset == run->offset - data->offset;
}

/* All of a disk: what is zero is nothing to copy. Holes are zeroes that are somewhere. */
static int
plan_add_part(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct plan *plan = opaque;
	struct smd_run kept = *run;

	if (run->kind == SMD_EXTENT_ZERO) {
		plan->only_holes = plan->only_holes && follows_data(plan, run);
		return 0;
	}
	kept.past_hole = plan->only_holes;
	plan->only_holes = run->kind == SMD_EXTENT_DATA;
	plan->last_data = *run;
	return plan_keep(plan, &kept, err);
}

static int
plan_add(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct plan *plan = opaque;

	if (plan->whole && run->host_offset != run->offset)
		return plan_add_part(plan, run, err);
	return plan_split_holes(&plan->holes, run, plan_add_part, plan, err);
}

static int
plan_fill(struct plan *plan, struct smd_error *err)
{
	uint64_t from = plan->next;
	uint64_t size = smd_chain_size(plan->chain);
	int r;

	plan->n_runs = 0;
	plan->at = 0;
	plan->full = false;
	plan->only_holes = false;
	plan->next = size;
	r = plan_is_delta(plan) ? delta_fill(plan, from, err) :
	    smd_chain_extents(plan->chain, from, size - from, plan_add, plan, err);
	if (r == 0)
		return 0;
	if (!plan->full)
		return -1;
	smd_error_clear(err);
	return 0;
}

int
plan_init_delta(struct plan *plan, struct smd_chain *chain, uint64_t unit, uint64_t chunk,
		uint64_t limit, struct smd_error *err)
{
	plan->chain = chain;
	plan->unit = unit;
	plan->chunk = chunk;
	plan->limit = limit;
	plan->runs = smd_reallocarray(NULL, RUNS_MAX, sizeof *plan->runs);
	delta_init(plan);
	plan->counting = true;
	if (plan_fill(plan, err) < 0)
		return -1;
	plan->counting = false;
	return 0;
}

int
plan_init(struct plan *plan, struct smd_chain *chain, uint64_t unit, uint64_t chunk,
	  uint64_t limit, struct smd_error *err)
{
	memset(plan, 0, sizeof *plan);
	return plan_init_delta(plan, chain, unit, chunk, limit, err);
}

void
plan_free(struct plan *plan)
{
	free(plan->same_file);
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

void
plan_seek(struct plan *plan, uint64_t offset)
{
	plan->n_runs = plan->at = 0;
	plan->next = smd_min_u64(offset, smd_chain_size(plan->chain));
	plan->last_end = offset;
}

/* Move what of the run lies before stop into the item. */
static void
plan_take(struct plan *plan, struct smd_run *run, uint64_t stop, struct plan_item *item)
{
	struct smd_run piece = *run;

	piece.count = smd_min_u64(run->count, stop - run->offset);
	item_add(item, &piece);
	if (piece.kind != SMD_EXTENT_ZERO || plan->base)
		item->data += piece.count;	/* what plan->total counts */
	run->offset += piece.count;
	run->host_offset += piece.count;
	run->count -= piece.count;
	if (run->count == 0)
		plan->at++;
}

/* Whole units of zeroes, of a delta (delta_zero cuts them so): nothing to read. */
static bool
run_is_zeroes(const struct plan *plan, const struct smd_run *run)
{
	return run->kind == SMD_EXTENT_ZERO && !plan->base && run->offset % plan->unit == 0 &&
	       (run->count >= plan->unit || run->offset + run->count >= plan->limit);
}

static bool
item_joins(const struct plan *plan, const struct plan_item *item, const struct smd_run *run)
{
	return plan->whole && item->n_pieces > 0 &&
	       runs_join(&item->pieces[item->n_pieces - 1], run);
}

/* Gather runs that follow each other closely into an item that begins with run. */
static int
item_fill(struct plan *plan, struct smd_run *run, struct plan_item *item, uint64_t *ret_end,
	  struct smd_error *err)
{
	uint64_t stop = smd_round_down_u64(item->offset, plan->chunk) + plan->chunk;
	uint64_t end = item->offset;

	while (run && run->offset < stop && !run_is_zeroes(plan, run) &&
	       (smd_round_down_u64(run->offset, plan->unit) <= end || item_joins(plan, item, run))) {
		end = smd_min_u64(run->offset + run->count, stop);
		end = (end + plan->unit - 1) & ~(plan->unit - 1);
		plan_take(plan, run, stop, item);
		if (plan_run(plan, &run, err) < 0)
			return -1;
	}
	*ret_end = end;
	return 0;
}

int
plan_next(struct plan *plan, struct plan_item *item, struct smd_error *err)
{
	struct smd_run *run;
	uint64_t end;

	item->n_pieces = 0;
	item->data = 0;
	item->gap_start = plan->last_end;
	if (plan_run(plan, &run, err) < 0)
		return -1;
	if (!run)
		return 0;
	item->offset = smd_round_down_u64(run->offset, plan->unit);
	item->zero = run_is_zeroes(plan, run);
	if (item->zero) {
		end = run->offset + run->count;
		plan->at++;
	} else if (item_fill(plan, run, item, &end, err) < 0) {
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
smd_count_delta(struct smd_chain *chain, size_t upper, struct smd_chain *base,
		uint64_t *ret_bytes, uint64_t *ret_runs, struct smd_error *err)
{
	CLEANUP(plan_free) struct plan plan = { .upper = upper, .base = base };

	if (plan_init_delta(&plan, chain, COPY_PAGE, COPY_WINDOW, smd_chain_size(chain), err) < 0)
		return -1;
	*ret_bytes = plan.total + plan.zeroes;
	*ret_runs = plan.n_total;
	return 0;
}

int
smd_count_data(struct smd_chain *chain, uint64_t *ret_bytes, uint64_t *ret_runs,
	       struct smd_error *err)
{
	return smd_count_delta(chain, 0, NULL, ret_bytes, ret_runs, err);
}
