/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The worker's cage: what is left to a process that is about to read bytes it
 * does not trust. Descriptors it has stay usable; it can open nothing, start
 * nothing, reach no network and gain no privilege.
 */
#ifndef SMD_DAEMON_WORKER_SANDBOX_H
#define SMD_DAEMON_WORKER_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define SANDBOX_MEMORY_MAX (1ull << 30)	/* of address space, at most */

/* Descriptors that come later, through its first one (WORKER_FD_FIRST). */
enum sandbox_receives { SANDBOX_RECEIVES_NOTHING, SANDBOX_RECEIVES_NEW_FILES,
			SANDBOX_RECEIVES_IMAGES };

struct sandbox_limits {
	uint64_t memory;	/* bytes of address space, up to SANDBOX_MEMORY_MAX */
	uint64_t cpu_seconds;	/* of processor time; 0: no limit */
	uint64_t file_size;	/* no file grows past it; UINT64_MAX: no limit */
	enum sandbox_receives receives;
};

/* Which this kernel has: the version of Landlock, 0: none; and whether calls are filtered.
 * Before it is entered. */
void sandbox_walls(int *ret_landlock, bool *ret_seccomp);

/* What entering it takes and is the same for all: for who forks before they do. */
int sandbox_prepare(struct smd_error *err);

/* Enter it, for good: no new privileges, another uid when root, the limits and one of
 * descriptors, Landlock with no path allowed where the kernel has it, a seccomp
 * allow-list (what it denies fails; what nobody honest asks for ends the worker,
 * daemon/worker/walls.h), an empty environment. Dies with the parent. Fails where a wall that
 * this kernel offers can't be raised. */
int sandbox_enter(const struct sandbox_limits *limits, struct smd_error *err);

#endif
