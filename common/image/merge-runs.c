/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/merge-impl.h"

#include "common/mem.h"

#define RUNS_MAX 65536u			/* kept at once: a few MiB */
#define ZERO_CHUNK (64u << 20)		/* so that work that writes zeroes is shared out, too */

bool
merge_wants_last(const struct merge_runs *runs, const struct smd_run *run)
{
	return run->kind != SMD_EXTENT_PARENT && run->layer == runs->n_layers - 1;
}

/* A format that can have a parent says zero of what is not there while it has none. */
bool
merge_wants_below(const struct merge_runs *runs, const struct smd_run *run)
{
	return run->kind == SMD_EXTENT_PARENT ||
	       (run->kind == SMD_EXTENT_ZERO && runs->n_layers == runs->chain->n);
}

static int
runs_keep(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct merge_runs *runs = opaque;

	if (runs->counting && (run->kind == SMD_EXTENT_DATA || run->kind == SMD_EXTENT_ENCODED ||
			       runs->wanted == merge_wants_below))
		runs->total += run->count;
	if (runs->n == RUNS_MAX || runs->full) {
		if (!runs->full)
			runs->next = run->offset;
		runs->full = true;
		/* The count goes on; a later batch ends here. */
		return runs->counting ? 0 : smd_fail_INTERNAL_ERROR(err, "full", "batch full");
	}
	runs->list[runs->n++] = *run;
	return 0;
}

static int
runs_add(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct merge_runs *runs = opaque;

	return runs->wanted(runs, run) ? plan_split_holes(&runs->holes, run, runs_keep, runs, err) : 0;
}

static int
runs_fill(struct merge_runs *runs, struct smd_error *err)
{
	uint64_t from = runs->next;
	uint64_t size = smd_chain_size(runs->chain);

	runs->n = 0;
	runs->at = 0;
	runs->full = false;
	runs->next = size;
	if (chain_extents_of(runs->chain, 0, runs->n_layers, from, size, runs_add, runs, err) == 0)
		return 0;
	if (!runs->full)
		return -1;
	smd_error_clear(err);
	return 0;
}

int
merge_runs_init(struct merge_runs *runs, struct smd_error *err)
{
	int r;

	runs->list = smd_reallocarray(NULL, RUNS_MAX, sizeof *runs->list);
	runs->counting = true;
	r = runs_fill(runs, err);
	runs->counting = false;
	return r;
}

int
merge_runs_next(struct merge_runs *runs, uint64_t chunk, struct smd_run *run,
		struct smd_error *err)
{
	struct smd_run *first;
	uint64_t stop;

	while (runs->at == runs->n) {
		if (runs->next == smd_chain_size(runs->chain))
			return 0;
		if (runs_fill(runs, err) < 0)
			return -1;
	}
	first = &runs->list[runs->at];
	*run = *first;
	if (run->kind == SMD_EXTENT_ZERO && runs->wanted == merge_wants_last)
		chunk = smd_max_u64(chunk, ZERO_CHUNK);
	stop = smd_round_down_u64(run->offset, chunk) + chunk;
	run->count = smd_min_u64(run->count, stop - run->offset);
	first->offset += run->count;
	first->host_offset += run->count;
	first->count -= run->count;
	if (first->count == 0)
		runs->at++;
	return 1;
}

void
merge_runs_free(struct merge_runs *runs)
{
	free(runs->list);
}
