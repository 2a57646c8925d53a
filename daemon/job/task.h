/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tasks: what a client sees of a long operation. Rows of class task, plus in
 * memory what cancels a running one.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_JOB_TASK_H
#define SMD_DAEMON_JOB_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/daemon.h"

struct tasks *tasks_new(struct daemon *daemon);	/* fails the pending ones of an earlier run */
void tasks_free(struct tasks *tasks);

/* A pending task; the caller frees *ret_ref. name as xapi's: "Async.VDI.copy".
 * owner: the session that made it; NULL: nobody's. */
int task_create(struct tasks *tasks, const char *name, const char *description,
		const char *owner, char **ret_ref, struct smd_error *err);

/* The owner of a task, also when it has ended; the caller frees. NULL: not known. */
char *task_owner(struct tasks *tasks, const char *ref);

/* Work for a pending task from now on: one that nothing else of ours works for, else
 * OPERATION_NOT_ALLOWED. */
int task_take(struct tasks *tasks, const char *ref, struct smd_error *err);

/* 0..1; never goes back; written when it has moved by 1% or a second has passed.
 * detail (bytes, rate, time left) joins other_config: keys "bytes_done",
 * "bytes_total", "bytes_per_second", "seconds_left". ref may be NULL: nothing. */
void task_progress(struct tasks *tasks, const char *ref, double progress);
void task_transfer(struct tasks *tasks, const char *ref, double from, double to,
		   uint64_t done, uint64_t total);

/* End it. result_xml: "<value>…</value>" or "". TASK_CANCELLED makes it cancelled. A
 * failure's message, which xapi's errors have no room for, is other_config's
 * "error_message". */
void task_succeed(struct tasks *tasks, const char *ref, const char *result_xml);
void task_fail(struct tasks *tasks, const char *ref, const struct smd_error *error);

/* Cancelling. While set, cancel(opaque) is called once when somebody asks (from
 * another thread, under no lock of the caller's), and the task shows
 * allowed_operations [cancel]; at once if it was asked already. NULL: takes the hook
 * away, and returns only when a running one has ended. */
void task_set_cancel(struct tasks *tasks, const char *ref, void (*cancel)(void *opaque),
		     void *opaque);
bool task_cancelled(struct tasks *tasks, const char *ref);
int task_cancel(struct tasks *tasks, const char *ref, struct smd_error *err);
/* Remove a task: at once when it has ended or is a client's own, else when it ends. */
int task_destroy(struct tasks *tasks, const char *ref, struct smd_error *err);
/* The client that made the task has ended it: nothing is pending any more. */
void task_forget(struct tasks *tasks, const char *ref);
/* Cancel all and wait for their ends (at shutdown). */
void tasks_cancel_all(struct tasks *tasks);

/* Remove finished tasks past their age or number; called now and then. */
void tasks_collect(struct tasks *tasks);

#endif
