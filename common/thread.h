/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Threads that help with milliseconds of work.
 *
 * Threads: any.
 */
#ifndef SMD_COMMON_THREAD_H
#define SMD_COMMON_THREAD_H

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

/* Those that the caller may run on, without the one that it is on. False: there is none, or more
 * than the set has room for. */
static inline bool
smd_other_processors(cpu_set_t *ret)
{
	int here = sched_getcpu();

	if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof *ret, ret) < 0)
		return false;
	CPU_CLR(here, ret);
	return CPU_COUNT(ret) > 0;
}

/* As pthread_create, which returns 0 or an errno value; but the thread stays on the caller's other
 * processors, where it has any. Otherwise it may begin on the caller's, and wait there for its
 * turn until most of the work is done: schedulers of some virtual machines bring an idle processor
 * in after 2 to 4 ms of work only, and so again whenever the thread has waited. What it starts
 * inherits that, and must not outlive what it is for. */
static inline int
smd_thread_create_apart(pthread_t *ret, void *(*main)(void *opaque), void *opaque)
{
	pthread_attr_t attr;
	cpu_set_t others;
	int r;

	pthread_attr_init(&attr);
	if (smd_other_processors(&others))
		pthread_attr_setaffinity_np(&attr, sizeof others, &others);
	r = pthread_create(ret, &attr, main, opaque);
	pthread_attr_destroy(&attr);
	/* They may have been taken away meanwhile. */
	return r == 0 ? 0 : pthread_create(ret, NULL, main, opaque);
}

#endif
