/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/audit.h"

#include "common/log.h"
#include "common/mem.h"
#include "daemon/rpc/session.h"

void
audit_log_as(const struct peer *peer, const char *who, const char *what, const char *object,
	     const char *task_ref, const struct smd_error *error)
{
	const char *outcome = error && error->code ? error->code : "done";

	object = object ? object : "";
	smd_log_fields(SMD_LOG_NOTICE,
		       SMD_FIELDS("AUDIT", what, "USER", who, "PEER", peer->address, "OBJECT", object,
				  "TASK", task_ref ? task_ref : "", "CODE", outcome),
		       "audit: %s%s%.80s by %s from %s: %s", what, *object ? " of " : "", object, who,
		       peer->address, outcome);
}

void
audit_log(struct daemon *daemon, const struct peer *peer, const char *session_ref, const char *what,
	  const char *object, const char *task_ref, const struct smd_error *error)
{
	CLEANUP_FREE char *who = session_who(daemon->sessions, session_ref);

	audit_log_as(peer, who, what, object, task_ref, error);
}
