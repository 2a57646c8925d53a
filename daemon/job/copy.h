/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying all of a disk into a new volume: that of a new VDI, or one that takes the place
 * of the volume an existing VDI has. A lasting job (daemon/job/lasting.h).
 *
 * Threads: any; the call blocks.
 */
#ifndef SMD_DAEMON_JOB_COPY_H
#define SMD_DAEMON_JOB_COPY_H

#include "common/error.h"
#include "daemon/job/lasting.h"
#include "daemon/sr/volume.h"

extern const struct lasting_kind copy_kind;

struct copy {
	struct daemon *daemon;
	const char *task_ref;
	bool waits;			/* where it cannot go on: nobody's connection does */
	struct op_set *ops;
	struct disk source;		/* open; copy_done closes it, and the next */
	struct disk into;		/* the same, to be replaced; DISK_INIT: a new VDI */
	struct sr *sr;			/* where to; released by copy_done */
	struct new_volume v;
	json *journal;			/* what a later start goes on with; NULL: not begun */
	struct lasting job;
	struct lasting *lasting;	/* &job, or that of who took the job up */
};
#define COPY_INIT { .source = DISK_INIT, .into = DISK_INIT, .v = NEW_VOLUME_INIT }

/* After the checks (daemon/job/move.h). *ret_ref: the VDI that has the copy. */
int copy_run(struct copy *c, const char *format, uint64_t virtual_size, char **ret_ref,
	     struct smd_error *err);
void copy_done(struct copy *c);
#define CLEANUP_COPY CLEANUP(copy_done)

#endif
