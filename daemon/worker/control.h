/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Standard input: the request, and what the daemon wants while it is carried out
 * (daemon/worker/protocol.h).
 *
 * Threads: the first line is the main thread's; after control_start a thread of this
 * file's reads the others.
 */
#ifndef SMD_DAEMON_WORKER_CONTROL_H
#define SMD_DAEMON_WORKER_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include "common/image/control.h"

/* The next line, without its newline, freed by the caller; NULL: there is none, or it is
 * too long. */
char *control_line(size_t *ret_len);

/* The next line that says so, of one that is not listened to otherwise; -1: none comes. */
int control_wait_bool(const char *member, bool *ret);

/* Listen from now on, until the process ends. */
void control_start(uint64_t bytes_per_second);
/* NULL before control_start. */
struct smd_copy_control *control_get(void);

#endif
