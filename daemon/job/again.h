/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Workers that die (killed, out of memory, a bug) while what they work on is still there
 * have a successor.
 *
 * Threads: any; the call blocks.
 */
#ifndef SMD_DAEMON_JOB_AGAIN_H
#define SMD_DAEMON_JOB_AGAIN_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/job/worker.h"

#define AGAIN_TRIES 3		/* workers for one piece of work */

/* Whether another worker may do what this one did not: one that the sandbox has stopped
 * would be stopped again. */
bool again_may(const struct worker_job *job, const struct smd_error *err);

/* Run a worker, and another where it dies. fill: all of the job but its request, which is
 * empty, and into which it puts the rest; called for each, it makes what is to be written
 * empty again. A job that it fails to fill is done with. */
int again_run(struct daemon *daemon,
	      int (*fill)(void *opaque, struct worker_job *job, struct smd_error *err), void *opaque,
	      json **ret, struct smd_error *err);

#endif
