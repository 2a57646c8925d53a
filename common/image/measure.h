/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a copy would take, before it is made: the plan is the copier's own, and
 * what its runs touch is counted by the units that the destination's format names.
 *
 * By the extents alone this is fast, and what is stored as data in spite of being
 * zeroes counts as data: then the result is a bound. Exact, all data is read.
 *
 * Threads: as the copier.
 */
#ifndef SMD_COMMON_IMAGE_MEASURE_H
#define SMD_COMMON_IMAGE_MEASURE_H

#include "common/image/copy.h"

struct smd_measure_options {
	size_t upper;			/* as smd_copy_options' */
	struct smd_chain *base;
	bool exact;
	smd_progress_fn *progress;	/* exact only; NULL: none */
	void *opaque;
};

struct smd_measured {
	uint64_t data;			/* bytes that a copy moves, by the extents */
	uint64_t size;			/* of the file, in bytes; a bound where the format says no more */
	uint64_t allocated;		/* what its pages take */
	uint64_t shareable;		/* of that, what needs no room where the file can share
					 * extents with those of src */
	uint64_t fully_allocated;	/* the file with every byte written */
};

/* params->virtual_size is at least src's size. src NULL: an empty disk. */
int smd_measure(struct smd_chain *src, const struct smd_format *format,
		const struct smd_create *params, const struct smd_measure_options *options,
		struct smd_measured *ret, struct smd_error *err);

#endif
