/* SPDX-License-Identifier: BSD-2-Clause */
/* What many images say of themselves (daemon/worker/protocol.h, "look" and "looks"). */
#ifndef SMD_DAEMON_WORKER_LOOK_H
#define SMD_DAEMON_WORKER_LOOK_H

#include "common/error.h"
#include "common/json.h"

int run_look(json *request, json **ret, struct smd_error *err);
/* Until its socket ends. */
int run_looks(json *request, json **ret, struct smd_error *err);

#endif
