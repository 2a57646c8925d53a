/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Running smd-worker: one process, descriptors in, one request, its progress and
 * its answer out (daemon/worker/protocol.h). Those that are not urgent queue
 * (daemon/job/queue.h).
 *
 * Threads: any; a call blocks until the worker has ended, or answered where it may leave.
 * Cancelling the task kills the worker and the call fails with TASK_CANCELLED [task].
 */
#ifndef SMD_DAEMON_JOB_WORKER_H
#define SMD_DAEMON_JOB_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"
#include "daemon/job/process.h"

/* In a result: it was given a limit, or paused, at some time. */
#define WORKER_HELD_BACK "held_back"

/* What a question that no task can cancel may take, on the slowest of disks. */
#define WORKER_QUESTION_SECONDS 120

/* What somebody else than the task's owner stops a worker by. Whoever made it keeps it
 * until worker_run has returned. */
struct worker_stop {
	pthread_mutex_t lock;	/* guards the rest; held while hook runs */
	bool asked;
	void (*hook)(void *opaque);
	void *opaque;
};
void worker_stop_init(struct worker_stop *stop);
void worker_stop_done(struct worker_stop *stop);
/* From any thread: worker_run fails with TASK_CANCELLED, now and from now on. */
void worker_stop(struct worker_stop *stop);
bool worker_stopped(struct worker_stop *stop);

struct worker_job {
	json *request;		/* borrowed; "fd" members are filled in by worker_fd */
	int fds[PROCESS_FDS_MAX];		/* three chains, and some; owned by the job until worker_run, which closes them */
	size_t n_fds;
	const char *task_ref;	/* NULL: no progress, no cancel */
	double progress_from, progress_to;	/* this worker's share of the task */
	uint64_t bytes_before, bytes_after;	/* of the task's other workers */
	struct worker_stop *stop;		/* NULL: none; borrowed */
	/* Refs of the SRs it loads, two different ones, whose limits hold for it
	 * (daemon/job/control.h); NULL: none (more). Borrowed. */
	const char *srs[2];
	/* export: called when the size is known; NULL otherwise. */
	void (*begin)(void *opaque, uint64_t size);
	/* Called when the first byte is about to move, and when what was written is read
	 * back; NULL: not wanted. */
	void (*moves)(void *opaque, bool reads_back);
	/* create with "hide": called when the images are written, and commits them; returns
	 * whether the other one is to be hidden. A failure behind it is no failure of theirs. */
	bool (*made)(void *opaque);
	void *opaque;
	bool streams;		/* to or from a client: who moves its bytes says what they wait for */
	bool leaves;		/* its result is the end: nobody minds that it has its descriptors for a
				 * moment after that. It must not write then */
	bool urgent;		/* does not queue: a short question, or paced by a client */
	bool background;	/* nobody waits for it: it lets others go before */
	bool stoppable;		/* at the daemon's end it stops at a mark, or is killed after some
				 * seconds: worker_run fails with JOB_STOPPED */
	int signal;		/* out: which killed it; 0: none */
	uint64_t marked;	/* out: bytes that its last mark has; 0: it made none */
	unsigned seconds;	/* until it is killed; 0: it may take as long as it takes */
};

/* Add a descriptor (owned by the job from here on) and get the number the worker
 * will know it by, for the request. */
int worker_fd(struct worker_job *job, int fd);
/* Have what is written to a file of the job go past the page cache, where that can be: side is
 * the request's object that takes a "direct" (protocol.h). */
void worker_direct(struct worker_job *job, json *side, int fd);
/* The job loads an SR; twice the same counts once. sr_ref is borrowed until it has run. */
void worker_loads(struct worker_job *job, const char *sr_ref);
/* Close the descriptors of a job that will not run. */
void worker_job_done(struct worker_job *job);

/* *ret: the result object, new reference. Errors: the worker's, TASK_CANCELLED, JOB_STOPPED,
 * JOB_WORKER_FAILED with how it ended and the last lines of its stderr. */
int worker_run(struct daemon *daemon, struct worker_job *job, json **ret, struct smd_error *err);

#endif
