/* SPDX-License-Identifier: BSD-2-Clause */
/* From a request of the daemon's to an operation of the engine's. */
#ifndef SMD_DAEMON_WORKER_REQUEST_H
#define SMD_DAEMON_WORKER_REQUEST_H

#include <stdint.h>

#include "common/json.h"

/* Carry out a request (daemon/worker/protocol.h), printing its progress. *ret: a
 * new reference, or NULL for an empty result. */
int request_run(json *request, json **ret, struct smd_error *err);

/* How much address space it may have. */
uint64_t request_memory(json *request);
/* How long it may compute: questions are short; moving a disk is not limited. */
uint64_t request_cpu_seconds(json *request);

#endif
