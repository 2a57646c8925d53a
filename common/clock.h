/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monotonic clock, for how long things take. Threads: any.
 */
#ifndef SMD_COMMON_CLOCK_H
#define SMD_COMMON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t
smd_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#endif
