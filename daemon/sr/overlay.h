/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * New images that show what a disk shows, and take next to no room: what snapshot,
 * clone and revert are made of. The disk's image turns into a hidden base on which
 * two new ones lie, the disk's and the other; where the disk's image holds nothing
 * of its own, the other lies on its parent, and the disk keeps its image.
 *
 *   plan (all that can be known to fail) -> make, in which the caller commits, with
 *   overlay_split and overlay_promise in its transaction -> done
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_SR_OVERLAY_H
#define SMD_DAEMON_SR_OVERLAY_H

#include "daemon/sr/volume.h"

struct overlay {
	struct daemon *daemon;
	const char *kind;		/* of the job: "VDI.snapshot" */
	const char *task_ref;		/* NULL: none */
	struct disk *disk;		/* open for reading, for the whole time */
	json *options;			/* driver_params; NULL: none */
	/* Found by overlay_plan. */
	char *format;			/* of the new images */
	uint64_t virtual_size;
	bool empty;			/* the disk keeps its image */
	/* [0] the other one's, for the caller; [1] the disk's own. */
	size_t n;
	struct new_volume v[2];
	struct settling *settling;	/* from overlay_promise on */
};
#define OVERLAY_INIT { .v = { NEW_VOLUME_INIT, NEW_VOLUME_INIT } }

/* SR_BACKEND_FAILURE_109, SR_FULL, SR_OPERATION_NOT_SUPPORTED [sr] where no format of
 * the SR can lie on the disk's, VDI_TOO_LARGE, VALUE_NOT_SUPPORTED of options. */
int overlay_plan(struct overlay *o, struct smd_error *err);
/* stat: what the SR has left, with the new images. */
typedef int overlay_commit_fn(void *opaque, const struct smd_sr_stat *stat,
			      struct smd_error *err);
/* Behind the commit, which unlocks the disk, the base tells XenServer's tools that it is one,
 * unless somebody reads it just then: that it failed is logged, and no more. A kill puts it off
 * to the next start. */
int overlay_make(struct overlay *o, overlay_commit_fn *commit, void *opaque,
		 struct smd_error *err);
/* In the caller's transaction. *ret_parent, which the caller frees: the VDI that the other's
 * image lies on. */
int overlay_split(struct overlay *o, char **ret_parent, struct smd_error *err);
/* In the same: the journal's promise that the new images are there (daemon/sr/settle.h), and
 * that behind them old, a volume of the same SR, goes (NULL: none). Where the transaction is
 * undone, overlay_done forgets it. */
int overlay_promise(struct overlay *o, const char *old, struct smd_error *err);
void overlay_done(struct overlay *o);
#define CLEANUP_OVERLAY CLEANUP(overlay_done)

#endif
