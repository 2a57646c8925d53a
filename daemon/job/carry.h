/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moving a disk to another SR, in another format perhaps: its content alone, or with
 * its snapshots. Then every image goes that these or the disk lie on, each by itself
 * and over the copy of its parent, so that what they share they share there too.
 *
 *   plan (all that can be known to fail) -> a lasting job: make, copy, publish each image,
 *   base first -> one transaction: new rows, old ones gone -> old volumes deleted
 *
 * The VDIs get new refs and uuids, and so do the hidden nodes. A hidden node that
 * other disks of the source lie on stays there as well; a VDI that others lie on
 * leaves a hidden node behind.
 *
 * Threads: any; the calls block.
 */
#ifndef SMD_DAEMON_JOB_CARRY_H
#define SMD_DAEMON_JOB_CARRY_H

#include "common/error.h"
#include "daemon/job/lasting.h"
#include "daemon/sr/volume.h"

struct carry_node;
extern const struct lasting_kind carry_kind;

struct carry {
	struct daemon *daemon;
	const char *task_ref;
	bool waits;			/* where it cannot go on: nobody's connection does */
	const char *vdi_ref;
	struct sr *from, *to;		/* released by carry_done */
	const char *asked;		/* format; "": the SR's choice */
	bool snapshots;
	bool verify;
	uint64_t bytes_per_second;	/* 0: no limit */
	struct op_set *ops;		/* of the VDIs that move, and of the SRs */
	/* Found by carry_plan: parents before children. */
	size_t n;
	struct carry_node *nodes;
	uint64_t data;			/* bytes to move */
	json *journal;			/* what a later start goes on with; NULL: not begun */
	struct lasting job;
	struct lasting *lasting;	/* &job, or that of who took the job up */
};

/* Open and lock all of it; sizes, formats, room: VDI_TOO_LARGE, VDI_INCOMPATIBLE_TYPE,
 * SR_OPERATION_NOT_SUPPORTED [sr], SR_FULL, and what disk_open says. */
int carry_plan(struct carry *c, struct smd_error *err);
/* *ret_ref: the VDI at its new place, the caller's. JOB_STOPPED: the next start goes on. */
int carry_run(struct carry *c, char **ret_ref, struct smd_error *err);
void carry_done(struct carry *c);
#define CLEANUP_CARRY CLEANUP(carry_done)

#endif
