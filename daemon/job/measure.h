/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VDI.measure and SR.measure: what a move, or an image that is to come, would take, and
 * what stands in its way. It is the plan of the real call, which is not made.
 *
 * Threads: any; the calls block.
 */
#ifndef SMD_DAEMON_JOB_MEASURE_H
#define SMD_DAEMON_JOB_MEASURE_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"

/* *ret: a map of strings, as schema/class-vdi.c says. Fails for options that make no
 * sense and objects that are none: whatever else the call would fail with is in the map. */
int measure_move(struct daemon *daemon, const char *task_ref, const char *vdi_ref,
		 const char *sr_ref, json *options, json **ret, struct smd_error *err);
int measure_arrival(struct daemon *daemon, const char *sr_ref, json *options, json **ret,
		    struct smd_error *err);

#endif
