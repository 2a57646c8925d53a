/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between the files of the operations: sources and targets, and their descriptors.
 */
#ifndef SMD_COMMON_IMAGE_OPS_IMPL_H
#define SMD_COMMON_IMAGE_OPS_IMPL_H

#include "common/image/ops.h"

void ops_layers_close(struct smd_layer *layers, size_t n);

/* Close what is still open. */
void ops_source_close(struct smd_source *source);
/* The layers from first on, with descriptors of their own. */
int ops_source_copy(const struct smd_source *from, size_t first, struct smd_source *ret,
		    struct smd_error *err);

/* Mend what is safe to mend in the first layer, an image of ours, which stays open. Sound
 * (or NULL): no damage is left. */
int ops_source_repair(const struct smd_source *source, bool *ret_sound, struct smd_error *err);

/* Write an empty image over the target's file, which *ret_io then serves. */
int ops_target_create(struct smd_target *target, const struct smd_format **ret_format,
		      struct smd_io **ret_io, struct smd_error *err);
void ops_target_close(struct smd_target *target);
/* Give a direct descriptor (0: none) to the io that serves its file. */
void ops_give_direct(int *direct_fd, struct smd_io *io);
/* What an overlay lies over; fills in what the target says of it. */
int ops_parents_open(struct smd_target *target, struct smd_layer *ret_layers,
		     struct smd_error *err);

#endif
