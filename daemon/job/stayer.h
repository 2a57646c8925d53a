/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A worker that stays: one process and one request, whose "fd" is a socket of packets, each
 * answered with a line (daemon/worker/protocol.h, "make" and "looks"). It is as caged as any.
 *
 * Threads: any, one at a time for each of them.
 */
#ifndef SMD_DAEMON_JOB_STAYER_H
#define SMD_DAEMON_JOB_STAYER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/json.h"
#include "daemon/daemon.h"

struct stayer;

/* forked: by the one that forks for jobs, or not at all. fd: one that it gets behind its
 * socket, and stays the caller's; -1: none. NULL: it cannot be now. */
struct stayer *stayer_start(struct daemon *daemon, const char *op, bool forked, int fd);

/* Its answer (a new reference) to a packet with these descriptors, which stay the caller's.
 * NULL: it gave none in time, or said something else, and shall be ended; a worker of its own
 * (daemon/job/worker.h) is asked then, that tells why. meanwhile (NULL: nothing) is called once,
 * while the worker is at it. */
json *stayer_ask(struct stayer *stayer, const int *fds, size_t n, json *packet,
		 unsigned timeout_ms, void (*meanwhile)(void *opaque), void *opaque);

/* Kill it, and wait for its end. NULL: nothing. */
void stayer_end(struct stayer *stayer);

#endif
