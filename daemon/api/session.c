/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/api/handlers.h"
#include "daemon/rpc/session.h"

static int
session_login_with_password(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *ref = NULL;

	/* The version, argument 2, is the client's to say and nothing to us. */
	if (session_login(call->daemon->sessions, call->peer, call_str(call, 0), call_str(call, 1),
			  call_str(call, 3), &ref, err) < 0)
		return -1;
	*ret = json_object_new_string(ref);
	return 0;
}

static int
session_end(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return session_logout(call->daemon->sessions, call->session_ref, err);
}

/* Users of a directory service; there is none. */
static int
session_get_all_subject_identifiers(struct call *call, json **ret, struct smd_error *err)
{
	(void)call;
	(void)err;
	*ret = json_object_new_array();
	return 0;
}

const struct call_binding api_session_handlers[] = {
	{ "session.login_with_password", session_login_with_password },
	{ "session.logout", session_end },
	{ "session.get_all_subject_identifiers", session_get_all_subject_identifiers },
	{ 0 },
};
