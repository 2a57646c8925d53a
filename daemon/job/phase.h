/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The phases of a job that writes disks, as its task shows them: other_config's "phases"
 * has those of this job in their order, each with its weight, the percents of the task's
 * progress that are its: "plan=1 reserve=1 copy=48 verify=48 switch=1 clean-up=1".
 * "phase" is the one that it is in; within copy and verify progress goes by bytes. A move
 * of several images copies and verifies one after the other, and "image" counts them.
 *
 *   plan      everything is asked that can be known to fail
 *   reserve   the journal has the job, and the destination is made; the queue
 *   copy      data is moved (of an upload: comes)
 *   verify    the destination is read back, or read for its digest (of an upload that is an
 *             image: what came is checked, and becomes the disk)
 *   switch    one transaction makes the result what everybody sees
 *   clean-up  what is not needed any more goes
 *
 * Threads: any. task_ref may be NULL: nothing.
 */
#ifndef SMD_DAEMON_JOB_PHASE_H
#define SMD_DAEMON_JOB_PHASE_H

#include <stdbool.h>

#include "daemon/daemon.h"

enum phase {
	PHASE_PLAN, PHASE_RESERVE, PHASE_COPY, PHASE_VERIFY, PHASE_SWITCH, PHASE_CLEAN_UP,
};

/* A task's progress where copy begins, and where the last of copy and verify ends: what
 * moves bytes in a job's part of it (daemon/job/worker.h). */
#define PHASE_MOVES_FROM 0.02
#define PHASE_MOVES_TO 0.98
#define PHASE_VERIFIES_FROM 0.5		/* in those that verify */

/* The job begins, with its plan; copy and verify share their weight. */
void phase_begin(struct daemon *daemon, const char *task_ref, bool verifies);
/* A download begins, which makes nothing here: plan, copy and clean-up. */
void phase_begin_download(struct daemon *daemon, const char *task_ref);
/* Progress is where the phase begins, at least. */
void phase_enter(struct daemon *daemon, const char *task_ref, enum phase phase);

#endif
