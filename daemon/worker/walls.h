/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which of the sandbox's walls something ran into: a last line of output, {"wall":…},
 * for the reason of the job's failure. Code gone bad may write such a line itself;
 * it is no more than its own epitaph.
 */
#ifndef SMD_DAEMON_WORKER_WALLS_H
#define SMD_DAEMON_WORKER_WALLS_H

#include <stddef.h>

#include "daemon/worker/sandbox.h"

/* System calls whose attempt ends the worker (of a path: is told); others that are not
 * allowed fail. In sandbox.c, where the kernel's numbers come from. */
struct wall_call {
	int nr;
	const char *name;
};
extern const struct wall_call wall_calls[];
extern const size_t n_wall_calls;

/* From now on. sanitized: of the quota alone. */
void walls_tell(const struct sandbox_limits *limits, bool sanitized);

#endif
