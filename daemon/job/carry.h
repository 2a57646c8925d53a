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
#include "daemon/job/plan.h"
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
	bool reads;			/* all of what it copies, for digests */
	uint64_t bytes_per_second;	/* 0: no limit */
	bool exact;			/* of the plan */
	struct op_set *ops;		/* of the VDIs that move, and of the SRs; NULL: it is only
					 * seen whether the VDIs could */
	/* Found by carry_open: parents before children. */
	size_t n;
	struct carry_node *nodes;
	uint64_t data;			/* bytes to move */
	json *journal;			/* what a later start goes on with; NULL: not begun */
	struct lasting job;
	struct lasting *lasting;	/* &job, or that of who took the job up */
};

/* The options of VDI.pool_migrate, which have to outlive it: INVALID_VALUE. */
int carry_options(struct carry *c, json *options, struct smd_error *err);
/* VDI_CBT_ENABLED. xapi's place for this is after what runs, and what the disk is. */
int carry_check_untracked(const struct carry *c, struct smd_error *err);
/* Open and lock all of it: what disk_open says. */
int carry_open(struct carry *c, struct smd_error *err);
/* The format of what lies on nothing, of those asked for. The caller frees *ret. */
int carry_choose(struct carry *c, const char *asked, char **ret, struct smd_error *err);
/* What it takes in the format asked for: VDI_TOO_LARGE, VDI_INCOMPATIBLE_TYPE,
 * SR_OPERATION_NOT_SUPPORTED [sr]. May be asked again, for another one. */
int carry_needs(struct carry *c, const char *asked, struct plan *ret, struct smd_error *err);
/* Both, and whether there is room for it: SR_FULL. */
int carry_plan(struct carry *c, struct smd_error *err);
/* *ret_ref: the VDI at its new place, the caller's. JOB_STOPPED: the next start goes on. */
int carry_run(struct carry *c, char **ret_ref, struct smd_error *err);
void carry_done(struct carry *c);
#define CLEANUP_CARRY CLEANUP(carry_done)

#endif
