/* SPDX-License-Identifier: BSD-2-Clause */
/* Calls nobody waits for on a connection. */
#include <pthread.h>
#include <stdbool.h>

#include "common/mem.h"
#include "daemon/rpc/call.h"
#include "daemon/rpc/pool.h"

#define BACKGROUND_MAX 512

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static unsigned n_running;	/* lock */

struct job {
	void (*fn)(void *opaque);
	void *opaque;
};

static void
run(void *opaque)
{
	struct job job = *(struct job *)opaque;

	free(opaque);
	job.fn(job.opaque);
	LOCK_SCOPE(&lock);
	n_running--;
	pthread_cond_broadcast(&ended);
}

static bool
enter(void)
{
	LOCK_SCOPE(&lock);
	if (n_running == BACKGROUND_MAX)
		return false;
	n_running++;
	return true;
}

int
call_in_background(struct daemon *daemon, void (*fn)(void *opaque), void *opaque,
		   struct smd_error *err)
{
	struct job *job;

	(void)daemon;
	if (!enter())
		return smd_fail_TOO_MANY_PENDING_TASKS(err, "%d calls are under way already",
						       BACKGROUND_MAX);
	job = smd_malloc(sizeof *job);
	*job = (struct job){ fn, opaque };
	pool_run(run, job);
	return 0;
}

void
call_wait_background(struct daemon *daemon)
{
	(void)daemon;
	LOCK_SCOPE(&lock);
	while (n_running > 0)
		pthread_cond_wait(&ended, &lock);
}
