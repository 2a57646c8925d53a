/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The worker's cage: what is left to a process that is about to read bytes it
 * does not trust. Descriptors it has stay usable; it can open nothing, start
 * nothing, reach no network and gain no privilege.
 */
#ifndef SMD_DAEMON_WORKER_SANDBOX_H
#define SMD_DAEMON_WORKER_SANDBOX_H

#include <stdint.h>

#include "common/error.h"

#define SANDBOX_MEMORY_MAX (1ull << 30)	/* of address space, at most */

/* Enter it, for good: no new privileges, another uid when root, limits of memory,
 * descriptors and (cpu_seconds > 0) processor time, Landlock with no path allowed
 * where the kernel has it, a seccomp allow-list, an empty environment. Dies with the
 * parent. memory: bytes of address space, up to SANDBOX_MEMORY_MAX. Fails where a wall that this kernel offers can't be raised. */
int sandbox_enter(uint64_t memory, uint64_t cpu_seconds, struct smd_error *err);

#endif
