/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads for whatever may block: calls, the steps of a transfer, work in the
 * background. The loops of the HTTP server never block, so all of it goes here.
 *
 * POOL_THREADS serve as long as each piece of work is short. Whoever sits in one for
 * longer than POOL_LONG_MS counts as blocked and is replaced while work waits, so that
 * a hundred calls that wait for their disks keep nobody from asking for a name. The
 * threads that are too many then go away.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_RPC_POOL_H
#define SMD_DAEMON_RPC_POOL_H

#define POOL_THREADS 4
#define POOL_LONG_MS 20

/* Run fn on a thread of the pool, in the order given; never fails, and may wait for a
 * thread when the machine has none left. */
void pool_run(void (*fn)(void *opaque), void *opaque);
/* Let all that was given be done and end the threads. What is given later starts new ones. */
void pool_stop(void);

#endif
