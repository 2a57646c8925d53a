/* SPDX-License-Identifier: BSD-2-Clause */
/* From a request of the daemon's to an operation of the engine's. */
#ifndef SMD_DAEMON_WORKER_REQUEST_H
#define SMD_DAEMON_WORKER_REQUEST_H

#include <stdint.h>

#include "common/json.h"
#include "daemon/worker/sandbox.h"

#define FILE_SLACK (64ull << 20)	/* over what a format says that an image needs at most */

/* Carry out a request (daemon/worker/protocol.h), printing its progress. *ret: a
 * new reference, or NULL for an empty result. */
int request_run(json *request, json **ret, struct smd_error *err);

/* How much address space it may have, how long it may compute (questions are short;
 * moving a disk is not limited), and how large the file it makes may become. Looks at
 * no byte of an image. */
void request_limits(json *request, struct sandbox_limits *ret);

#endif
