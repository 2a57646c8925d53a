/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What somebody else may want of a copy while it runs: another rate, a pause, an
 * end that can be resumed. One control may serve several copies, one after the other.
 *
 * Threads: any may change it; the copier's threads look at it before every piece.
 */
#ifndef SMD_COMMON_IMAGE_CONTROL_H
#define SMD_COMMON_IMAGE_CONTROL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "common/error.h"

struct smd_copy_control {
	pthread_mutex_t lock;		/* guards the rest */
	pthread_cond_t changed;
	uint64_t bytes_per_second;	/* 0: no limit */
	bool paused;
	bool stopped;
	unsigned changes;		/* counts them */
};

void smd_copy_control_init(struct smd_copy_control *c);
void smd_copy_control_done(struct smd_copy_control *c);

void smd_copy_control_rate(struct smd_copy_control *c, uint64_t bytes_per_second);
void smd_copy_control_pause(struct smd_copy_control *c, bool pause);
/* For good: what runs makes a mark, if it makes marks, and fails with JOB_STOPPED. */
void smd_copy_control_stop(struct smd_copy_control *c);

/* For whoever moves bytes without the copier, and is about to move so many more: wait
 * while there is a pause, and as long as the rate wants; JOB_STOPPED. c NULL: nothing. */
int smd_copy_control_pass(struct smd_copy_control *c, uint64_t bytes, struct smd_error *err);

/* So long from now, for a timed wait on changed. */
struct timespec smd_copy_control_until(uint64_t ns);

#endif
