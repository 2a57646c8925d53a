/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moving a disk's content into a new volume: the checks that can be made before
 * anything is, and the copy by a worker.
 *
 * Threads: any; the calls block.
 */
#ifndef SMD_DAEMON_JOB_MOVE_H
#define SMD_DAEMON_JOB_MOVE_H

#include "common/error.h"
#include "daemon/job/plan.h"
#include "daemon/sr/volume.h"

struct move {
	struct daemon *daemon;
	const char *task_ref;		/* NULL: none */
	struct disk *source;		/* open, locked */
	struct disk *base;		/* the same: only what differs from it goes; NULL: all */
	struct sr *sr;			/* where to */
	const char *format;		/* of the new volume */
	uint64_t virtual_size;		/* of the new volume: at least the source's */
	bool reads;			/* a difference: all of what it makes, for its digest */
};

/* A disk that is to be filled: VDI_READONLY, VDI_TOO_SMALL. And one whose content the other
 * side has, which would shine through behind the source's end if it were larger. */
int move_check_into(const struct disk *source, const struct disk *into, struct smd_error *err);
int move_check_base(const struct disk *source, const struct disk *base, struct smd_error *err);
/* What it takes; plan has its daemon, its SR and whether it is exact. */
int move_plan(const struct move *move, struct plan *plan, struct smd_error *err);
/* That, and whether the SR has room: SR_FULL [requested, maximum]. */
int move_check(const struct move *move, struct smd_error *err);
/* Copy what differs from base onto a disk that shows what base shows, in place: cut off
 * it is neither, and doing it again ends it. target: its S, to be written or read, for each
 * worker. *ret_digest: of what it shows then; NULL: it was not to be read. The caller's. */
typedef json *move_target_fn(void *opaque, bool write, struct worker_job *job,
			     struct smd_error *err);
int move_difference(const struct move *move, move_target_fn *target, void *opaque,
		    char **ret_digest, struct smd_error *err);

/* Put v, published, in the place of the volume a VDI has. The job was begun with
 * the old one to delete. The VDI keeps its ref and uuid; it lies on no other one. digest: of
 * the new content; NULL: not known. The task's result will be the VDI from then on. */
int move_replace(struct disk *disk, struct new_volume *v, const char *digest, const char *task_ref,
		 struct smd_error *err);

#endif
