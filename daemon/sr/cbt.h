/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changed block tracking: which blocks of 64 KiB may differ between two states of a
 * disk. A set of blocks may say too much, never too little.
 *
 * The tracked VDIs of an SR are a forest of states (the table cbt): each counts from
 * another one, its parent here, which was the disk's last snapshot or what it was
 * reverted to; the first of a line counts from nothing. The changes between two states
 * are those along the way that leads from one to the other.
 *
 * Nobody writes bitmaps while disks are written. What changed between a VDI and its
 * parent is read from the images themselves:
 *
 *   both have their data: where their chains do not show the same place of the same
 *   file. Nothing is stored. What the collector merges, what a copy, an import or
 *   another program writes, a crash in its middle: all that shows.
 *
 *   the parent has none any more (VDI.data_destroy): its log, written when that data went,
 *   says what the images below the VDI's own one had changed by then, and the VDI's own
 *   image holds all that was written since, also by others than smd. So the collector leaves that
 *   image alone until the next snapshot (cbt_needs_image); merged all the same, or
 *   replaced, it would hold more, not less.
 *
 *   the VDI itself has none any more (type cbt_metadata): its log says all.
 *
 * Logs are volumes, "<uuid>.cbtlog", as SM's are laid out (cbt-log.h). One is never
 * changed: a new one takes its place, in the transaction of the change that made it
 * necessary, under a job of the journal's. The log of a VDI without data is its volume.
 *
 * Threads: any. What changes the forest or the images of a tracked VDI is done between
 * cbt_begin and cbt_done, which hold the SR's lock; never within a transaction. What
 * only writes to images, or merges them, needs nothing of this.
 */
#ifndef SMD_DAEMON_SR_CBT_H
#define SMD_DAEMON_SR_CBT_H

#include "daemon/sr/cbt-log.h"
#include "daemon/sr/volume.h"

#define CBT_METADATA "cbt_metadata"	/* type of a VDI without data */

/* Whether a VDI's own image must stay as it is for the sake of what it says. */
bool cbt_needs_image(struct db *db, const char *vdi_ref);
/* The logs of an SR's tracked VDIs: a new array of names. */
int cbt_logs(struct db *db, const char *sr_ref, json **ret, struct smd_error *err);
/* *ret: the log of a VDI, which the caller frees; NULL: none. */
int cbt_log(struct db *db, const char *vdi_ref, char **ret, struct smd_error *err);

/* The set of changes between two tracked VDIs of an SR, as the API has it.
 * SR_BACKEND_FAILURE_460 where the second one is not a later state, or one of another
 * line; SR_BACKEND_FAILURE_459 where a log is not what it was. The caller frees. */
int cbt_list(struct daemon *daemon, struct sr *sr, const char *from, const char *to, char **ret,
	     struct smd_error *err);

/* ---- Changes ---- */

struct cbt_entry;

/* begin -> plan_… (reads images) -> make (writes logs) -> the caller's transaction with
 * commit -> done. */
struct cbt_change {
	struct daemon *daemon;
	struct sr *sr;			/* borrowed */
	size_t n;
	struct cbt_entry *entries;
	char *job_id;
};
#define CBT_CHANGE_INIT { .n = 0 }

/* begin: take the lock. begin_for: if the disk, which has been found, is tracked; twice is
 * fine. A change that was not begun does nothing. */
void cbt_begin(struct cbt_change *c, struct daemon *daemon, struct sr *sr);
void cbt_begin_for(struct cbt_change *c, struct daemon *daemon, const struct disk *disk);
/* An open disk gets a new image of its own, on the one it had; kept: it keeps that.
 * snapshot: the ref of the row of its snapshot, which is to come; NULL: another one's. */
int cbt_plan_overlay(struct cbt_change *c, struct disk *disk, bool kept, const char *snapshot,
		     struct smd_error *err);
/* A disk is to show what a snapshot shows, which is open. */
int cbt_plan_revert(struct cbt_change *c, struct disk *disk, struct disk *snapshot, bool kept,
		    struct smd_error *err);
/* A VDI goes. */
int cbt_plan_destroy(struct cbt_change *c, const char *vdi_ref, struct smd_error *err);
/* Its data goes: commit comes when its row says so, and gives it its log for a volume. */
int cbt_plan_data_destroy(struct cbt_change *c, const char *vdi_ref, struct smd_error *err);
/* It is tracked from now on, or no more. */
int cbt_plan_enable(struct cbt_change *c, const char *vdi_ref, bool enabled, struct smd_error *err);

/* kind: of the job. */
int cbt_make(struct cbt_change *c, const char *kind, struct smd_error *err);
int cbt_commit(struct cbt_change *c, struct smd_error *err);
void cbt_done(struct cbt_change *c);
#define CLEANUP_CBT CLEANUP(cbt_done)

#endif
