/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the files of a move: its nodes. */
#ifndef SMD_DAEMON_JOB_CARRY_IMPL_H
#define SMD_DAEMON_JOB_CARRY_IMPL_H

#include "daemon/job/carry.h"

#define CARRY_BASE SIZE_MAX
#define CARRY_OPERATION "mirror"
#define CARRY_SR_OPERATION "vdi_mirror"

struct carry_node {
	struct disk disk;	/* with snapshots: its own image alone */
	bool moves;		/* a VDI that goes; else what some of those lie on */
	size_t parent;		/* CARRY_BASE: lies on nothing here */
	uint64_t data;		/* bytes to move */
	struct new_volume v;	/* its job is the move's */
	char *ref;		/* of its new row */
	bool gone;		/* at the commit: nobody needs the old volume */
	char *log;		/* of its changed blocks, which is not needed any more; NULL: none */
	char *digest;		/* of its content, as it was copied; NULL: not known */
	char *digest_sum;	/* what that of a node that lies on it is found from */
	char *digest_absent;	/* why there is none */
	char *left;		/* or a hidden node's ref, under which it stays */
};

/* carry.c */
size_t carry_node_find(const struct carry *c, const char *ref);
int carry_open_nodes(struct carry *c, struct smd_error *err);
bool carry_nodes_moved(const struct carry *c);
void carry_nodes_free(struct carry *c);
int carry_work(struct carry *c, char **ret_ref, struct smd_error *err);

/* carry-resume.c: let go of all but the operations on VDIs. */
json *carry_journal(const struct carry *c);
json *carry_digest_journal(const struct carry_node *node);
void carry_close(struct carry *c);

/* The one transaction: in it the new rows come and the old ones go. */
int carry_commit(struct carry *c, struct smd_error *err);

#endif
