/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Jobs that outlive their worker and the daemon: copies. The journal says what is needed to
 * go on with one, and the worker notes how far it is in a file of marks.
 *
 *   begun -> running <-> paused -> ended (done, or undone)
 *
 * A worker that dies is followed by another, which goes on from the last mark; after some
 * that made no new mark the job fails. Where the SR is full, or its files are gone, the
 * job waits, if nobody's connection does: until task.resume, until the SR is attached
 * again, or for config's `paused_job_seconds`, after which it fails as it would have at
 * once. At the daemon's end, or at its death, the job stays as it is, and its task
 * pending; the next start takes it up before anybody else can use its disks.
 *
 * What a task shows of it: task_note's keys, and allowed_operations pause or resume.
 *
 * Threads: one for each job; jobs_kick from any.
 */
#ifndef SMD_DAEMON_JOB_LASTING_H
#define SMD_DAEMON_JOB_LASTING_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/job/job.h"
#include "daemon/job/worker.h"
#include "daemon/sr/volume.h"

struct lasting;

/* What a kind of job does. Errors end it, and it is undone; but SR_NOT_ATTACHED of open,
 * after which it waits. */
struct lasting_kind {
	const char *name;	/* as the plan's kind */
	/* At the start: a new job of what job_plan.resume said, with nothing open. */
	void *(*load)(struct lasting *l, json *resume);
	/* Note the operations, open, lock, and see that the disks are those of the plan. */
	int (*open)(void *job, struct smd_error *err);
	/* Copy and commit. *ret_ref: the VDI that came of it, the caller's. */
	int (*work)(void *job, char **ret_ref, struct smd_error *err);
	/* Let go of everything but the operations on VDIs; called before another open. */
	void (*close)(void *job);
	/* After the end: lasting_done, and the same with what load made. */
	void (*free)(void *job);
};

struct lasting {
	struct daemon *daemon;
	const struct lasting_kind *kind;
	void *job;
	char *task_ref;
	char *id;		/* in the journal; NULL: not begun */
	bool waits;		/* nobody's connection waits for it */
	json *resume;		/* as the journal has it; guarded by lasting.c's lock */
	bool stopped;		/* the daemon ends: the job stays */
	bool lost;		/* its files do not answer: open them again */
	bool resumed, cancelled;	/* while it waits; guarded by the same */
};

/* resume: borrowed; "task" and "owner" (as task_owner says it) are added. waits: the call
 * is asynchronous. */
int lasting_begin(struct lasting *l, struct daemon *daemon, const struct lasting_kind *kind,
		  void *job, const char *task_ref, bool waits, struct job_plan *plan,
		  struct smd_error *err);
/* Until it is done or has failed; everything is open at first. */
int lasting_run(struct lasting *l, char **ret_ref, struct smd_error *err);
/* Undo it or finish it, as the journal says; or leave it for the next start, and its disks
 * in use: nobody gets at them, or asks for the same again, in between. */
void lasting_done(struct lasting *l, struct op_set *ops);

/* One copy of a job, its n-th, into v. fill: the rest of a request, and its descriptors;
 * called for every worker, job has its progress and SRs then. */
struct lasting_copy {
	size_t n;
	struct new_volume *v;
	const struct worker_job *job;
	int (*fill)(void *opaque, struct worker_job *job, struct smd_error *err);
	void *opaque;
};
int lasting_copy(struct lasting *l, const struct lasting_copy *copy, json **ret,
		 struct smd_error *err);

/* Within the transaction that commits it: a kill before the task's end changes nothing of
 * its result. */
int lasting_committed(struct lasting *l, const char *ref, struct smd_error *err);

/* Durably in the journal's resume of the job, for a later start. Takes value over. */
int lasting_keep(struct lasting *l, const char *key, json *value, struct smd_error *err);
/* Borrowed, until it is kept anew. */
json *lasting_kept(struct lasting *l, const char *key);

/* At the start, once SRs are attached: take up what the journal has, each on a thread of
 * its own. Nobody else can ask for anything yet. */
void jobs_resume(struct daemon *daemon);
/* An SR was attached. */
void jobs_kick(struct daemon *daemon);
/* Wait for those threads, after tasks_stop_all. */
void jobs_wait(struct daemon *daemon);

#endif
