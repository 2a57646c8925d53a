/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VDI.create and VDI.destroy, for requests that are no calls of the API.
 *
 * Threads: any; both block.
 */
#ifndef SMD_DAEMON_API_VDI_H
#define SMD_DAEMON_API_VDI_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"

/* args: VDI.create's record. *ret_ref: the caller's. */
int vdi_make(struct daemon *daemon, const char *task_ref, json *args, char **ret_ref,
	     struct smd_error *err);
int vdi_unmake(struct daemon *daemon, const char *task_ref, const char *ref,
	       struct smd_error *err);

#endif
