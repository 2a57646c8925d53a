/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/control.h"

#include <time.h>

#include "common/cleanup.h"

#define NS_PER_S UINT64_C(1000000000)

void
smd_copy_control_init(struct smd_copy_control *c)
{
	pthread_condattr_t attr;

	*c = (struct smd_copy_control){ .paused = false };
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);
}

void
smd_copy_control_done(struct smd_copy_control *c)
{
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->changed);
}

static void
changed(struct smd_copy_control *c)
{
	c->changes++;
	pthread_cond_broadcast(&c->changed);
}

void
smd_copy_control_rate(struct smd_copy_control *c, uint64_t bytes_per_second)
{
	LOCK_SCOPE(&c->lock);
	c->bytes_per_second = bytes_per_second;
	changed(c);
}

void
smd_copy_control_pause(struct smd_copy_control *c, bool pause)
{
	LOCK_SCOPE(&c->lock);
	c->paused = pause;
	changed(c);
}

void
smd_copy_control_stop(struct smd_copy_control *c)
{
	LOCK_SCOPE(&c->lock);
	c->stopped = true;
	changed(c);
}

struct timespec
smd_copy_control_until(uint64_t ns)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	ns += (uint64_t)until.tv_nsec;
	until.tv_sec += (time_t)(ns / NS_PER_S);
	until.tv_nsec = (long)(ns % NS_PER_S);
	return until;
}

int
smd_copy_control_pass(struct smd_copy_control *c, uint64_t bytes, struct smd_error *err)
{
	int timed_out = 0;

	if (!c)
		return 0;
	LOCK_SCOPE(&c->lock);
	while (!c->stopped && !timed_out && (c->paused || c->bytes_per_second > 0)) {
		struct timespec until;

		if (c->paused) {
			pthread_cond_wait(&c->changed, &c->lock);
			continue;
		}
		until = smd_copy_control_until((uint64_t)((double)bytes * 1e9 /
							  (double)c->bytes_per_second));
		timed_out = pthread_cond_timedwait(&c->changed, &c->lock, &until);
	}
	return c->stopped ? smd_fail_JOB_STOPPED(err, "stopped as asked") : 0;
}
