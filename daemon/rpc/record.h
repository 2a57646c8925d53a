/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The record of calls that the configuration's record_calls asks for: a line of JSON
 * for a call and its reply, {"wire", "method", "code", "reply"}. wire is xml, json, or
 * async for what a task ended with; code is "" for a success. The reply is as it went
 * out, with whatever it tells; of arguments nothing is kept. Of replies that are alike
 * (the same wire, method and code) the first RECORD_ALIKE_MAX are kept.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_RPC_RECORD_H
#define SMD_DAEMON_RPC_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "daemon/daemon.h"

#define RECORD_ALIKE_MAX 50
#define RECORD_REPLY_MAX (4u << 20)	/* a longer one is left out */

/* *ret NULL: no record is asked for. */
int recorder_new(struct daemon *daemon, struct recorder **ret, struct smd_error *err);
void recorder_free(struct recorder *recorder);

/* error: NULL or one without a code for a success. Nothing happens where
 * daemon->recorder is NULL. */
void record_call(struct daemon *daemon, const char *wire, const char *method,
		 const struct smd_error *error, const char *reply, size_t len);

#endif
