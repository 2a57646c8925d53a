/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/rpc/fake.h"
#include "daemon/rpc/session.h"

#define BODY_MAX (300 * 1024)

static int
handler(struct call *call, json **ret, struct smd_error *err)
{
	(void)err;
	if (call->message->result->kind != API_VOID)
		*ret = api_value_default(call->message->result, NULL);
	return 0;
}

int
fuzz_request(http_rpc_fn *fn, const uint8_t *data, size_t size)
{
	static bool bound;
	CLEANUP_FREE char *body = NULL, *reply = NULL, *session = NULL, *message = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct daemon *daemon;
	const char *type = NULL;
	size_t len = 0;
	unsigned status;

	if (size > BODY_MAX)
		return 0;
	if (!bound)
		fake_bind(handler);
	bound = true;
	/* Each input finds one session, OpaqueRef:1, which the seeds name. */
	daemon = fake_daemon();
	fake_next_ref = 1;
	if (session_login(daemon->sessions, &fake_peer, "root", "", "fuzz", &session, &err) < 0)
		abort();
	body = smd_malloc(size + 1);	/* the server's bodies end with a NUL too */
	memcpy(body, data, size);
	body[size] = '\0';
	status = fn(daemon, &fake_peer, body, size, &reply, &len, &type, &message);
	call_wait_background(daemon);
	fake_daemon_free(daemon);
	if ((status != 200 && status != 500) || strlen(reply) != len || !type)
		abort();
	return 0;
}
