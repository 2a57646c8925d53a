/* SPDX-License-Identifier: BSD-2-Clause */
/* A worker that stays and makes empty images (daemon/worker/protocol.h, "make"). */
#ifndef SMD_DAEMON_WORKER_MAKE_H
#define SMD_DAEMON_WORKER_MAKE_H

#include "common/error.h"
#include "common/json.h"

/* Until its socket ends. */
int run_make(json *request, json **ret, struct smd_error *err);

#endif
