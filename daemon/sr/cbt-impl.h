/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by cbt.c and cbt-change.c. */
#ifndef SMD_DAEMON_SR_CBT_IMPL_H
#define SMD_DAEMON_SR_CBT_IMPL_H

#include "daemon/sr/cbt.h"

/* A row of the forest. */
struct cbt_state {
	bool tracked;
	char *parent, *log;	/* "": none; NULL: not tracked */
};
int cbt_state_load(struct db *db, const char *ref, struct cbt_state *ret, struct smd_error *err);
void cbt_state_done(struct cbt_state *state);
#define CLEANUP_CBT_STATE CLEANUP(cbt_state_done)

int cbt_has_data(struct db *db, const char *ref, bool *ret, struct smd_error *err);

/* Where to look; the SR's lock is held. */
struct cbt_look {
	struct daemon *daemon;
	struct sr *sr;
};

/* What a VDI's own image says; open: the disk, where the caller has it open. */
int cbt_own(struct daemon *daemon, const char *ref, struct disk *open, struct cbt_set *ret,
	    struct smd_error *err);
/* The changes of one that has a parent since that one; below: without what its own image
 * says, if it has one; open: as above. */
int cbt_step(struct cbt_look *look, const char *ref, bool below, struct disk *open,
	     struct cbt_set *ret, struct smd_error *err);
/* Those between two; below: without what the second one's own image says. */
int cbt_way(struct cbt_look *look, const char *from, const char *to, bool below,
	    struct cbt_set *ret, struct smd_error *err);

#endif
