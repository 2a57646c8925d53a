/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Jobs: the journal of what is under way, so that a kill at any instant leaves
 * either nothing new or the whole of it. A job's plan is written, durably,
 * before its first effect; its last step deletes it. On start every plan that is
 * left is undone (before its commit) or finished (after it), as soon as its SRs
 * are attached and before anyone else may use them.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_JOB_H
#define SMD_DAEMON_JOB_H

#include <stdbool.h>

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"

struct jobs *jobs_new(struct daemon *daemon);
void jobs_free(struct jobs *jobs);

/* What is left to do when the job is undone ("undo"), and once it is committed ("redo"):
 * lists of volumes that must vanish, {"sr": uuid, "volume": name}, and of images that
 * must name a parent (again), which have "format", and "parent" and "parent-format"
 * unless they shall name none. They are done in order. */
struct job_plan {
	const char *kind;	/* "VDI.create", "VDI.pool_migrate", … */
	json *undo;		/* borrowed */
	json *redo;		/* borrowed */
};
int job_begin(struct daemon *daemon, const struct job_plan *plan, char **ret_id,
	      struct smd_error *err);
/* Within the transaction that makes the result visible: from now on it is redone. */
int job_committed(struct daemon *daemon, const char *id, struct smd_error *err);
/* The same where less than the plan's redo is to vanish: what redo has of it. */
int job_committed_to(struct daemon *daemon, const char *id, json *redo, struct smd_error *err);
/* Do what the journal says is left (undo or redo) and forget the job. Where the
 * database's disk failed nobody knows which: nothing is done, the next start does it. */
void job_end(struct daemon *daemon, const char *id);
/* The same for what jobs of an earlier run left to do in this SR, which is being
 * attached and which nobody else can use yet. */
struct sr;
void job_recover(struct daemon *daemon, struct sr *sr);

/* Whether a job that runs has the volume in its plan, or one that has ended could not
 * delete it yet: SR.scan leaves it alone. */
bool job_has_volume(struct jobs *jobs, const char *sr_uuid, const char *volume);
/* Add a volume to a plan's list, which is made when *list is NULL. */
void job_plan_add(json **list, const char *sr_uuid, const char *volume);
/* An image and the parent it must name; parent NULL: none. */
void job_plan_add_link(json **list, const char *sr_uuid, const char *volume, const char *format,
		       const char *parent, const char *parent_format);

#endif
