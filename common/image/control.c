/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/control.h"

#include "common/cleanup.h"

void
smd_copy_control_init(struct smd_copy_control *c)
{
	*c = (struct smd_copy_control){ .paused = false };
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
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

int
smd_copy_control_wait(struct smd_copy_control *c, struct smd_error *err)
{
	if (!c)
		return 0;
	LOCK_SCOPE(&c->lock);
	while (c->paused && !c->stopped)
		pthread_cond_wait(&c->changed, &c->lock);
	return c->stopped ? smd_fail_JOB_STOPPED(err, "stopped as asked") : 0;
}
