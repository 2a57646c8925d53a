/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a merge has to move: runs of some layers of a chain, in batches.
 */
#ifndef SMD_COMMON_IMAGE_MERGE_IMPL_H
#define SMD_COMMON_IMAGE_MERGE_IMPL_H

#include "common/image/copy-impl.h"
#include "common/image/merge.h"

struct merge_runs {
	struct smd_chain *chain;
	size_t n_layers;	/* of the chain, from the leaf on, are asked */
	/* Which runs count: those of the last of these layers; or, for a difference,
	 * what these layers leave to others. */
	bool (*wanted)(const struct merge_runs *runs, const struct smd_run *run);
	uint64_t total;		/* bytes of data, or of everything where nothing is data */

	uint64_t next;		/* where the extents go on once the batch is used up */
	bool counting;		/* the first pass sees the whole disk */
	bool full;
	struct smd_run *list;
	size_t n, at;
	struct holes holes;
};

/* Read all extents once, for the total. */
int merge_runs_init(struct merge_runs *runs, struct smd_error *err);
/* 1: *run is the next, at most chunk bytes of data, not across a multiple of it;
 * 0: there is none; -1. Holes of a store come as ZERO. */
int merge_runs_next(struct merge_runs *runs, uint64_t chunk, struct smd_run *run,
		    struct smd_error *err);
void merge_runs_free(struct merge_runs *runs);

/* What merging into the parent moves, and into the child. */
bool merge_wants_last(const struct merge_runs *runs, const struct smd_run *run);
/* What a leaf shows of its parents; without parents, also its zeroes. */
bool merge_wants_below(const struct merge_runs *runs, const struct smd_run *run);

#endif
