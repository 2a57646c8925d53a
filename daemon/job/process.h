/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Starting smd-worker: a process for each job. While there is work, one more of them is
 * loaded and forks a child ahead of each job (daemon/worker/protocol.h, --fork), which spares
 * them what loading a program costs. It sees no job, and ends when there was none for
 * config's `warm_worker_seconds`. Where it is not there, not ready yet or was killed,
 * the job starts the program itself; nobody waits for it.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_JOB_PROCESS_H
#define SMD_DAEMON_JOB_PROCESS_H

#include <stddef.h>
#include <sys/types.h>

#include "daemon/daemon.h"

#define PROCESS_FDS_MAX 240

struct process {
	pid_t pid;
	int in, out, errs;	/* our ends of its standard descriptors; in is a socket */
};

/* One that has fds from WORKER_FD_FIRST up, and reads its request from now on. fds stay
 * the caller's. -1: errno. */
int process_start(struct daemon *daemon, const int *fds, size_t n_fds, struct process *ret);

/* The same by the one that forks alone: 1 where it is not there (yet). */
int process_fork(struct daemon *daemon, const int *fds, size_t n_fds, struct process *ret);

/* Kill one of ours, and wait for its end. */
void process_end(pid_t pid);
/* The same, but somebody else waits; until then it may have its descriptors open. */
void process_leave(pid_t pid);
/* Return when all are gone that were left. */
void process_left_are_gone(void);

/* Its work is being done by one that it forked before: it stays. */
void process_warm_used(void);
/* Without them every job starts the program. */
void process_warm_start(struct daemon *daemon);
void process_warm_stop(void);

#endif
