/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Jobs: the journal of what is under way, so that a kill at any instant leaves
 * either nothing new or the whole of it. A job's plan is written, durably,
 * before its first effect; its last step deletes it. On start every plan that is
 * left is undone (before its commit) or finished (after it), as soon as its SRs
 * are attached and before anyone else may use them. A plan that says how to go on
 * ("resume") is not undone but taken up again (daemon/job/lasting.h).
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_JOB_H
#define SMD_DAEMON_JOB_H

#include <stdbool.h>

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"

struct jobs *jobs_new(struct daemon *daemon);	/* reads what is to be taken up again */
void jobs_free(struct jobs *jobs);

/* What is left to do when the job is undone ("undo"), and once it is committed ("redo"):
 * lists of volumes that must vanish, {"sr": uuid, "volume": name}, and of images that
 * must name a parent (again), which have "format", and "parent" and "parent-format"
 * unless they shall name none, or that must be "hidden", or that must be there, which have
 * "make". They are done in order. */
struct job_plan {
	const char *kind;	/* "VDI.create", "VDI.pool_migrate", … */
	json *undo;		/* borrowed */
	json *redo;		/* borrowed */
	json *resume;		/* borrowed; NULL: a kill before the commit undoes it. Else what
				 * the kind needs to go on; "task" is its task's ref */
};
int job_begin(struct daemon *daemon, const struct job_plan *plan, char **ret_id,
	      struct smd_error *err);
/* Within the transaction that makes the result visible: from now on it is redone. */
int job_committed(struct daemon *daemon, const char *id, struct smd_error *err);
/* The same where less than the plan's redo is to vanish: what redo has of it. */
int job_committed_to(struct daemon *daemon, const char *id, json *redo, struct smd_error *err);
/* A job that begins with its commit, in the transaction that makes its result visible: all
 * that is left of it is this redo. Where the transaction is undone, job_forget. */
int job_promise(struct daemon *daemon, const char *kind, json *redo, char **ret_id,
		struct smd_error *err);
void job_forget(struct daemon *daemon, const char *id);
/* What the redo of n jobs would make in the SR is durable now, and what it would hide was to
 * be hidden: do the rest of it, and forget them with one commit, durably: behind it, others
 * may write to what was made. */
struct sr;
int job_kept(struct daemon *daemon, struct sr *sr, char *const *ids, size_t n,
	     struct smd_error *err);
/* In the transaction that takes a volume from its VDI: nobody is to make it again. */
int job_unpromise(struct daemon *daemon, const char *sr_uuid, const char *volume,
		  struct smd_error *err);
/* It is not: the next start, or the next time that the SR is attached, makes it. */
void job_leave(struct daemon *daemon, const char *id);
/* Do what the journal says is left (undo or redo) and forget the job. Where the
 * database's disk failed nobody knows which: nothing is done, the next start does it. */
void job_end(struct daemon *daemon, const char *id);
/* Change what its plan says of going on. */
int job_note(struct daemon *daemon, const char *id, json *resume, struct smd_error *err);
/* The same for what jobs of an earlier run left to do in this SR, which is being
 * attached and which nobody else can use yet. */
void job_recover(struct daemon *daemon, struct sr *sr);

/* {id: plan} of the jobs of an earlier run that are to be taken up again: a new
 * reference. Until they end they are jobs of this run. */
json *jobs_left(struct jobs *jobs);
/* Whether one of them is a task's. */
bool jobs_left_task(struct jobs *jobs, const char *task_ref);

/* The file in which the worker of a job's n-th copy notes how far it is: state_dir's
 * jobs/<id>.<n>, which is made where there is none and goes when the job ends. Nobody
 * else reads it. *ret_fd: the caller's. */
int job_marks_open(struct daemon *daemon, const char *id, size_t n, int *ret_fd,
		   struct smd_error *err);

/* Whether a job that runs has the volume in its plan, or one that has ended could not
 * delete it yet: SR.scan leaves it alone. */
bool job_has_volume(struct jobs *jobs, const char *sr_uuid, const char *volume);
/* Whether the journal says of the volume that it is to be made again: whatever was written
 * to it would be lost. */
bool job_makes_volume(struct jobs *jobs, const char *sr_uuid, const char *volume);
/* Add a volume to a plan's list, which is made when *list is NULL. */
void job_plan_add(json **list, const char *sr_uuid, const char *volume);
/* An image and the parent it must name; parent NULL: none. */
void job_plan_add_link(json **list, const char *sr_uuid, const char *volume, const char *format,
		       const char *parent, const char *parent_format);
/* An image that must be there: target is a worker's T of it, empty, without "fd", parent as
 * above. It is made again unless somebody has written to it. */
void job_plan_add_made(json **list, const char *sr_uuid, const char *volume, json *target,
		       const char *parent, const char *parent_format);
/* A base that must be marked hidden, if it can be. */
void job_plan_add_hidden(json **list, const char *sr_uuid, const char *volume, const char *format);

#endif
