/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Merging a parent and its child, and giving a leaf another parent: what makes a
 * chain shorter. Only extents of the one image are moved, and at every instant
 * the child shows the disk it showed before: what is written into the parent lies
 * under extents of the child's own, what is written into the child is what its
 * parent shows. So a merge that was cut off is simply begun again, and one that was
 * given up has done no harm but to the parent's own view.
 *
 * Order: the result is flushed before a call returns; only then may the caller
 * drop the other image (after a merge into the parent) or have the child name
 * another parent (smd_set_parent, one atomic step; after a merge into the child).
 *
 * Threads: as the copier's.
 */
#ifndef SMD_COMMON_IMAGE_MERGE_H
#define SMD_COMMON_IMAGE_MERGE_H

#include "common/image/copy.h"

/* Bytes of data that either way would write. */
struct smd_merge_sizes {
	uint64_t into_parent;	/* the child's own */
	uint64_t into_child;	/* what of its parent's own it shows */
	uint64_t parent_lacks;	/* of into_parent: what takes new space there */
};

/* child: the leaf and at least its parent. */
int smd_merge_measure(struct smd_chain *child, struct smd_merge_sizes *ret,
		      struct smd_error *err);

/* Make the parent show what the child shows. child has them all, open for reading;
 * parent is the same chain from its second layer on, opened once more for writing.
 * It grows to the child's size first. options: threads, rate and progress count.
 * Errors: IMAGE_UNSUPPORTED where the parent cannot grow so, or is larger. */
int smd_merge_into_parent(struct smd_chain *child, struct smd_chain *parent,
			  const struct smd_copy_options *options,
			  struct smd_copy_stats *ret_stats, struct smd_error *err);

/* Give the child what it shows of its parent, so that it shows the same over that
 * one's parent, or over none. child is open for writing. */
int smd_merge_into_child(struct smd_chain *child, const struct smd_copy_options *options,
			 struct smd_copy_stats *ret_stats, struct smd_error *err);

/* Give the leaf what it shows and another parent (NULL: none) would not. leaf is
 * open for writing, with the parents it has now. */
int smd_merge_difference(struct smd_chain *leaf, struct smd_chain *parent,
			 const struct smd_copy_options *options,
			 struct smd_copy_stats *ret_stats, struct smd_error *err);

#endif
