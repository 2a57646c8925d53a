/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the files of a move: its nodes. */
#ifndef SMD_DAEMON_JOB_CARRY_IMPL_H
#define SMD_DAEMON_JOB_CARRY_IMPL_H

#include "daemon/job/carry.h"

#define CARRY_BASE SIZE_MAX

struct carry_node {
	struct disk disk;	/* with snapshots: its own image alone */
	bool moves;		/* a VDI that goes; else what some of those lie on */
	size_t parent;		/* CARRY_BASE: lies on nothing here */
	uint64_t data;		/* bytes to move */
	struct new_volume v;	/* its job is the move's */
	char *ref;		/* of its new row */
	bool gone;		/* at the commit: nobody needs the old volume */
	char *log;		/* of its changed blocks, which is not needed any more; NULL: none */
	char *left;		/* or a hidden node's ref, under which it stays */
};

/* The one transaction: in it the new rows come and the old ones go. */
int carry_commit(struct carry *c, struct smd_error *err);

#endif
