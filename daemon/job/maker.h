/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Empty images without a process for each: workers that stay and make nothing else
 * (daemon/worker/protocol.h, "make"). They are forked by the one that forks for jobs
 * (daemon/job/process.h), live as long as it, and are as caged as any worker.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_JOB_MAKER_H
#define SMD_DAEMON_JOB_MAKER_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"

/* Write an empty image into the file, which the caller syncs. target: the worker's T, without
 * its "fd". meanwhile is called while it does, or never. 0; -1: the image cannot be; 1: nobody
 * is there to do it, or did not answer: a worker of its own must do it, over whatever the file
 * holds. */
int maker_make(struct daemon *daemon, int fd, json *target, void (*meanwhile)(void *opaque),
	       void *opaque, struct smd_error *err);

/* Those that have nothing to do end, the others when they are done. */
void makers_end(void);

#endif
