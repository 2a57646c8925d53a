/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the workers of a task are told while they run: to pause, to stop at their
 * next mark, how fast they may be (lines on their standard input, see
 * daemon/worker/protocol.h). What is said of a task holds for its workers that run
 * and for those that begin later, until the task has ended.
 *
 * The speed of a worker is the least of: what its task was told, what its job's own
 * limit is, and its share of what each of its SRs may bear: the SR's other_config
 * "bytes-per-second", else config's `sr_bytes_per_second`. The SR's is divided anew
 * when a worker begins, pauses or ends, and within a second of another value.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_JOB_CONTROL_H
#define SMD_DAEMON_JOB_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/daemon.h"

#define CONTROL_SRS 2

void control_pause(struct daemon *daemon, const char *task_ref, bool paused);
/* The worker ends at its next mark, and worker_run returns what it then answers; one that
 * has not begun does not, and worker_run fails with TASK_CANCELLED. */
void control_stop(struct daemon *daemon, const char *task_ref);
/* 0: no limit but the others. */
void control_set_speed(struct daemon *daemon, const char *task_ref, uint64_t bytes_per_second);
bool control_paused(const char *task_ref);
bool control_stopped(const char *task_ref);

/* Once a second: limits that were changed, tasks that have ended. */
void control_tick(struct daemon *daemon);

/* ---- For daemon/job/worker.c ---- */

/* A worker that can be told something. Borrowed while it is entered; the members below
 * are control.c's. */
struct control {
	const char *task_ref;		/* NULL: none */
	const char *srs[CONTROL_SRS];	/* refs of the SRs it loads; NULL: none (more) */
	uint64_t bytes_per_second;	/* of its job alone; 0: no limit */
	LIST_ENTRY(control) link;
	int fd;				/* the socket that is its standard input; -1: not yet */
	uint64_t told;			/* the speed it has; 0: any */
	bool held_back;			/* at some time there was one, or a pause */
	uint64_t share;
	bool settled;			/* while shares are worked out */
};
/* It has its share from now on: told is to be in its request. */
void control_enter(struct daemon *daemon, struct control *control);
/* Its request has been sent, and more can be. */
void control_open(struct control *control, int fd);
/* Nothing is written to its descriptor any more. */
void control_leave(struct control *control);

#endif
