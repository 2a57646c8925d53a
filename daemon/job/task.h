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

struct tasks *tasks_new(struct daemon *daemon);	/* fails the pending ones of an earlier run
							 * that no job goes on with */
void tasks_free(struct tasks *tasks);

/* A pending task; the caller frees *ret_ref. name as xapi's: "Async.VDI.copy".
 * owner: the user who made it (daemon/rpc/session.h); NULL: nobody. */
int task_create(struct tasks *tasks, const char *name, const char *description,
		const char *owner, char **ret_ref, struct smd_error *err);

/* One of a caller who waits for its end: taken, and without a row until somebody may look
 * for it (task_show). task_end takes the row away. */
char *task_begin(struct tasks *tasks, const char *name);
void task_end(struct tasks *tasks, const char *ref);
/* In the transaction that does what it is for: its row goes, and task_hidden, once that is
 * committed, says so. Other tasks stay as they are. */
int task_hide(struct tasks *tasks, const char *ref, struct smd_error *err);
void task_hidden(struct tasks *tasks, const char *ref);
/* It is about to be named in another row, or to say something: it has a row from now on.
 * In the transaction of the caller, if there is one. */
int task_show(struct tasks *tasks, const char *ref, struct smd_error *err);
/* Those that began so long ago and can be cancelled have a row from now on. */
void tasks_show(struct tasks *tasks, unsigned after_ms);

/* The owner of a task, also when it has ended; the caller frees. NULL: not known. */
char *task_owner(struct tasks *tasks, const char *ref);

/* Work for a pending task from now on: one that nothing else of ours works for, else
 * OPERATION_NOT_ALLOWED. */
int task_take(struct tasks *tasks, const char *ref, struct smd_error *err);
/* Whether it is so, until that work ends it. */
bool task_is_taken(struct tasks *tasks, const char *ref);

/* 0..1; never goes back, nor after a start of smd that goes on with the job; written when
 * it has moved by 1%, or something has and a second has passed. detail (bytes, rate, time
 * left) joins other_config: keys "bytes_done", "bytes_total", "bytes_per_second" (of late),
 * "seconds_left". Bytes that are done once more count once more: "bytes_done" goes back then.
 * ref may be NULL: nothing. */
void task_progress(struct tasks *tasks, const char *ref, double progress);
void task_transfer(struct tasks *tasks, const char *ref, double from, double to,
		   uint64_t done, uint64_t total);

/* What other_config says of the work: key, value, … NULL; a value "" removes its key.
 * Keys: "state" (as QEMU's jobs have them: "created", "running", "paused", "concluded";
 * and "queued"), "phase" and "phases" (daemon/job/phase.h), "waits_for", and of what
 * made it wait, "error" and "error_message". ref may be NULL: nothing. */
void task_note(struct tasks *tasks, const char *ref, const char *const *pairs);

/* Tasks that stand still (daemon/job/stall.h): other_config's "waits_for" and, when each
 * moved last, "stalled_since". waits_for "": it moves again. */
struct task_stall {
	char *ref, *waits_for;
	int64_t seconds;
};
void task_stalled(struct tasks *tasks, const struct task_stall *list, size_t n);

/* End it. result_xml: "<value>…</value>" or "". TASK_CANCELLED makes it cancelled. A
 * failure's message, which xapi's errors have no room for, is other_config's
 * "error_message". */
void task_succeed(struct tasks *tasks, const char *ref, const char *result_xml);
void task_fail(struct tasks *tasks, const char *ref, const struct smd_error *error);
/* In a transaction: task_succeed will say this object. Where it does not come to that, the
 * next start says it. ref NULL: there is no task. */
int task_promise(struct tasks *tasks, const char *ref, const char *object, struct smd_error *err);
/* Nothing works for it until smd has been started again: it stays pending. */
void task_leave(struct tasks *tasks, const char *ref);
/* Work for a task of the run before, which is pending: it goes on from what it showed.
 * owner: as task_owner says it. */
void task_adopt(struct tasks *tasks, const char *ref, const char *owner);

/* Cancelling. While set, cancel(opaque) is called once when somebody asks (from
 * another thread, under no lock of the caller's), and the task shows
 * allowed_operations [cancel]; at once if it was asked already. NULL: takes the hook
 * away, and returns only when a running one has ended. */
void task_set_cancel(struct tasks *tasks, const char *ref, void (*cancel)(void *opaque),
		     void *opaque);
/* The same for work that can end at a mark, to go on later: at the daemon's end stop is
 * called in the place of cancel; cancel follows for what has not ended in time, without
 * task_cancelled. */
void task_set_stop(struct tasks *tasks, const char *ref, void (*cancel)(void *opaque),
		   void (*stop)(void *opaque), void *opaque);
bool task_cancelled(struct tasks *tasks, const char *ref);
/* Because the daemon ends, and not because somebody asked. */
bool task_stopped(struct tasks *tasks, const char *ref);

/* Pausing. While set, pause(opaque, whether) is called as cancel is, and the task shows
 * allowed_operations pause, or resume. At once if it is paused already. NULL: takes the
 * hook away, as task_set_cancel does. */
void task_set_pause(struct tasks *tasks, const char *ref, void (*pause)(void *opaque, bool on),
		    void *opaque);
/* Its work waits by itself, or goes on: what is allowed follows. */
void task_show_paused(struct tasks *tasks, const char *ref, bool paused);
/* OPERATION_NOT_ALLOWED: nothing of it can be paused (resumed) now. */
int task_pause(struct tasks *tasks, const char *ref, bool on, struct smd_error *err);

int task_cancel(struct tasks *tasks, const char *ref, struct smd_error *err);
/* Remove a task: at once when it has ended or is a client's own, else when it ends. */
int task_destroy(struct tasks *tasks, const char *ref, struct smd_error *err);
/* The client that made the task has ended it: nothing is pending any more. */
void task_forget(struct tasks *tasks, const char *ref);
/* Stop or cancel all and wait for their ends (at shutdown), five seconds at most. */
void tasks_stop_all(struct tasks *tasks);

/* The jobs that run, for a person: "2 jobs: VDI.copy 41%, …"; "": none. The caller frees. */
char *tasks_status(struct tasks *tasks);

/* Remove finished tasks past their age or number; called now and then. */
void tasks_collect(struct tasks *tasks);

#endif
