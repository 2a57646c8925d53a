/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The audit log: a line for every call that changes something, and for every one
 * refused to a role, with who, from where, on what and how it ended. No argument
 * is in it but the object's reference, so that no secret can be.
 */
#ifndef SMD_DAEMON_RPC_AUDIT_H
#define SMD_DAEMON_RPC_AUDIT_H

#include "daemon/rpc/call.h"

/* session_ref: of the caller, still alive. object, task_ref: NULL or "" for none.
 * error: how it failed; NULL: it did not. */
void audit_log(struct daemon *daemon, const struct peer *peer, const char *session_ref,
	       const char *what, const char *object, const char *task_ref,
	       const struct smd_error *error);
/* The same with who as session_who() gave it before the call. */
void audit_log_as(const struct peer *peer, const char *who, const char *what,
		  const char *object, const char *task_ref, const struct smd_error *error);

#endif
