/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker that does no job itself: it has everything loaded, and forks ahead of each job. */
#ifndef SMD_DAEMON_WORKER_FORK_H
#define SMD_DAEMON_WORKER_FORK_H

/* Serve standard input (daemon/worker/protocol.h, --fork) until it ends: in a child for
 * each job, the daemon's as if it had started it, run(opaque) with the job's descriptors;
 * what it returns is the child's status. */
void fork_for_jobs(int (*run)(void *opaque), void *opaque);

#endif
