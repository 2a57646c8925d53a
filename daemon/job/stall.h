/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A task that stands still says what it waits for: where neither its progress nor its
 * bytes have moved for a second, its other_config has "waits_for", by what its work
 * said of itself, and "stalled_since", until they move again. Who knows that it will
 * wait (the queue, a pause) notes "waits_for" itself (task_note), and is left alone.
 *
 * Every task is to say so within STALL_LIMIT_MS, whatever it does: a task whose work said
 * nothing, or that was seen later, is logged as a warning "… stands still …"; the tests
 * fail for that.
 *
 * Threads: any. refs may be NULL: nothing.
 */
#ifndef SMD_DAEMON_JOB_STALL_H
#define SMD_DAEMON_JOB_STALL_H

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/daemon.h"

#define STALL_LIMIT_MS 2000

/* The thread that looks. */
void stall_start(struct daemon *daemon);
void stall_stop(void);

/* ---- For task.c ---- */
void stall_watch(const char *task_ref);
void stall_forget(const char *task_ref);
/* Its row says that it has moved. */
void stall_moved(const char *task_ref);
/* Its row's waits_for is somebody else's; NULL or "": not any more. */
void stall_explained(const char *task_ref, const char *waits_for);

/* ---- For who works ---- */

/* What a task's work waits for from now on, if it stands still: as in "waits for …".
 * pid: of the process that does it; 0: none. Returns what it said before, for
 * stall_back, which frees it. */
struct stall_said;
struct stall_said *stall_says(const char *task_ref, pid_t pid, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* From now on, whatever was said before. */
void stall_says_anew(const char *task_ref, const char *what);
void stall_back(const char *task_ref, struct stall_said *before);

/* The task that this thread works for, until told otherwise. Borrowed. */
void stall_thread(const char *task_ref);
const char *stall_thread_task(void);

#endif
