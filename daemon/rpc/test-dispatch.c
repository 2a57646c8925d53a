/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/rpc/fake.h"
#include "daemon/rpc/session.h"

static struct daemon *d;
static char *session;
static char seen_args[512], seen_task[64];

/* What every method of the test's API does. */
static int
handler(struct call *call, json **ret, struct smd_error *err)
{
	const char *name = call->message->name;

	snprintf(seen_args, sizeof seen_args, "%s",
		 json_object_to_json_string_ext(call->args, JSON_C_TO_STRING_PLAIN));
	snprintf(seen_task, sizeof seen_task, "%s", call->task_ref ? call->task_ref : "");
	if (strcmp(name, "SR.destroy") == 0)
		return smd_fail_SR_NOT_EMPTY(err, "it holds 2 VDIs");
	if (strcmp(name, "SR.probe") == 0)
		*ret = json_object_new_int64(7);	/* not the string it says */
	else if (call->message->result->kind == API_REF)
		*ret = json_object_new_string("OpaqueRef:new");
	return 0;
}

/* Dispatch with text for params, in which $ is the session; the result as text, or
 * "CODE p1 p2". */
static const char *
call_as(const struct peer *peer, const char *name, const char *text)
{
	static char out[4096];
	char params_text[2048] = "";
	CLEANUP_JSON json *params = NULL;
	CLEANUP(call_result_done) struct call_result result = { .type = NULL };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	for (const char *c = text; *c; c++)
		snprintf(params_text + strlen(params_text), sizeof params_text - strlen(params_text),
			 "%.*s", *c == '$' ? 64 : 1, *c == '$' ? session : c);
	params = json_tokener_parse(params_text);
	assert_non_null(params);
	if (call_dispatch(d, peer, name, params, &result, &err) == 0) {
		assert_non_null(result.type);
		snprintf(out, sizeof out, "%.4000s",
			 json_object_to_json_string_ext(result.value, JSON_C_TO_STRING_PLAIN));
		return out;
	}
	snprintf(out, sizeof out, "%s", err.code);
	for (char **p = err.params; p && *p; p++)
		snprintf(out + strlen(out), sizeof out - strlen(out), " %s", *p);
	return out;
}

static const char *
call(const char *name, const char *text)
{
	return call_as(&fake_peer, name, text);
}

static void
test_login(void **state)
{
	(void)state;
	assert_string_equal(call("session.login_with_password", "[\"a\"]"),
			    "MESSAGE_PARAMETER_COUNT_MISMATCH session.login_with_password 2 1");
	assert_memory_equal(call("session.login_with_password", "[\"a\",\"b\"]"), "\"OpaqueRef:", 11);
	assert_memory_equal(call("session.login_with_password",
				 "[\"a\",\"b\",\"1\",\"me\",\"surplus\"]"), "\"OpaqueRef:", 11);
	assert_string_equal(call_as(&fake_stranger, "session.login_with_password",
				    "[\"a\",\"b\"]"),
			    "SESSION_AUTHENTICATION_FAILED a Authentication failure");
}

static void
test_session(void **state)
{
	(void)state;
	assert_string_equal(call("SR.scan", "[\"OpaqueRef:no\",\"OpaqueRef:sr\"]"),
			    "SESSION_INVALID OpaqueRef:no");
	assert_string_equal(call("SR.scan", "[5,\"OpaqueRef:sr\"]"), "SESSION_INVALID 5");
	assert_string_equal(call("SR.scan", "[null,\"OpaqueRef:sr\"]"), "SESSION_INVALID ");
	assert_string_equal(call("session.get_auth_user_name", "[\"$\",\"$\"]"), "\"root\"");
	assert_string_equal(call("session.get_this_host", "[\"$\",\"$\"]"), "\"OpaqueRef:host\"");
	assert_string_equal(call("session.get_record", "[\"$\",\"OpaqueRef:no\"]"),
			    "HANDLE_INVALID session OpaqueRef:no");
	assert_string_equal(call("session.add_to_other_config", "[\"$\",\"$\",\"k\",\"v\"]"), "\"\"");
	assert_memory_equal(call("session.add_to_other_config", "[\"$\",\"$\",\"k\",\"v\"]"),
			    "MAP_DUPLICATE_KEY session other_config ", 39);
	assert_string_equal(call("session.get_other_config", "[\"$\",\"$\"]"), "{\"k\":\"v\"}");
	assert_string_equal(call("session.remove_from_other_config", "[\"$\",\"$\",\"x\"]"), "\"\"");
}

static void
test_unknown(void **state)
{
	(void)state;
	assert_string_equal(call("VDI.nonsense", "[]"), "MESSAGE_METHOD_UNKNOWN VDI.nonsense");
	assert_string_equal(call("VDI.nonsense", "[\"OpaqueRef:no\"]"),
			    "SESSION_INVALID OpaqueRef:no");
	assert_string_equal(call("VDI.nonsense", "[\"$\"]"), "MESSAGE_METHOD_UNKNOWN VDI.nonsense");
	assert_string_equal(call("Async.VDI.nonsense", "[\"$\"]"),
			    "MESSAGE_METHOD_UNKNOWN Async.VDI.nonsense");
	assert_string_equal(call("", "[]"), "MESSAGE_METHOD_UNKNOWN ");
	/* Methods of xapi that a later version will have are unknown, not accepted. */
	assert_string_equal(call("VDI.open_database", "[\"$\",\"OpaqueRef:v\"]"),
			    "MESSAGE_METHOD_UNKNOWN VDI.open_database");
}

static void
test_counts(void **state)
{
	(void)state;
	assert_string_equal(call("VDI.pool_migrate", "[\"$\",\"OpaqueRef:v\",\"OpaqueRef:s\"]"),
			    "MESSAGE_PARAMETER_COUNT_MISMATCH VDI.pool_migrate 3 2");
	assert_string_equal(call("VDI.pool_migrate",
				 "[\"$\",\"OpaqueRef:v\",\"OpaqueRef:s\",{},{}]"),
			    "MESSAGE_PARAMETER_COUNT_MISMATCH VDI.pool_migrate 3 4");
	assert_string_equal(call("SR.get_all", "[]"),
			    "MESSAGE_PARAMETER_COUNT_MISMATCH SR.get_all 0 -1");
	/* The count is seen before the session. */
	assert_string_equal(call("SR.get_all", "[\"OpaqueRef:no\",1]"),
			    "MESSAGE_PARAMETER_COUNT_MISMATCH SR.get_all 0 1");
	/* Defaults bind from the right; what is too much for them is ignored. */
	assert_string_equal(call("VDI.copy", "[\"$\",\"OpaqueRef:v\"]"), "\"OpaqueRef:new\"");
	assert_string_equal(seen_args, "[\"OpaqueRef:v\",\"OpaqueRef:NULL\",\"OpaqueRef:NULL\","
			    "\"OpaqueRef:NULL\"]");
	assert_string_equal(call("VDI.copy", "[\"$\",\"OpaqueRef:v\",\"OpaqueRef:s\",\"OpaqueRef:b\","
				 "\"OpaqueRef:i\",\"more\",7]"), "\"OpaqueRef:new\"");
	assert_string_equal(seen_args, "[\"OpaqueRef:v\",\"OpaqueRef:s\",\"OpaqueRef:b\","
			    "\"OpaqueRef:i\"]");
	/* A client that gives listMethods its session is heard. */
	assert_memory_equal(call("system.listMethods", "[\"$\"]"), "[\"PBD.", 6);
	assert_string_equal(call("system.isAlive:x", "[\"hello\"]"), "\"hello\"");
}

static void
test_values(void **state)
{
	(void)state;
	assert_string_equal(call("VDI.resize", "[\"$\",\"OpaqueRef:v\",\"1048576\"]"), "\"\"");
	assert_string_equal(seen_args, "[\"OpaqueRef:v\",1048576]");
	assert_string_equal(call("VDI.resize", "[\"$\",\"OpaqueRef:v\",\"big\"]"),
			    "INVALID_VALUE size big");
	assert_string_equal(call("VDI.resize", "[\"$\",\"OpaqueRef:v\",{}]"),
			    "INTERNAL_ERROR size takes int, not object");
	assert_string_equal(call("task.set_status", "[\"$\",\"OpaqueRef:t\",\"done\"]"),
			    "INVALID_VALUE value done");
	assert_string_equal(call("VDI_get_all", "[\"$\"]"), "[]");
	assert_string_equal(fake_generic_name, "VDI.get_all");
}

static void
test_result_checked(void **state)
{
	(void)state;
	assert_memory_equal(call("SR.probe", "[\"$\",\"OpaqueRef:h\",{},\"file\"]"),
			    "INTERNAL_ERROR SR.probe", 23);
}

static void
test_tasks(void **state)
{
	unsigned made = fake_tasks_made, gone = fake_tasks_gone;

	(void)state;
	/* A waiting caller's task lives as long as the call. */
	call("SR.scan", "[\"$\",\"OpaqueRef:sr\"]");
	assert_string_equal(fake_task_label, "SR.scan");
	assert_int_equal(fake_tasks_made, made + 1);
	assert_int_equal(fake_tasks_gone, gone + 1);
	assert_string_not_equal(seen_task, "");
	/* A getter has none. */
	call("SR.get_all", "[\"$\"]");
	assert_int_equal(fake_tasks_made, made + 1);

	assert_memory_equal(call("Async.VDI.copy", "[\"$\",\"OpaqueRef:v\"]"), "\"OpaqueRef:task",
			    15);
	call_wait_background(d);
	assert_string_equal(fake_task_label, "Async.VDI.copy");
	assert_string_equal(fake_task_result, "<value>OpaqueRef:new</value>");
	assert_int_equal(fake_tasks_gone, gone + 1);

	call("Async.SR.destroy", "[\"$\",\"OpaqueRef:sr\"]");
	call_wait_background(d);
	assert_string_equal(fake_task_error, "SR_NOT_EMPTY");
	call("InternalAsync.SR.scan", "[\"$\",\"OpaqueRef:sr\"]");
	call_wait_background(d);
	assert_string_equal(fake_task_result, "<value></value>");
}

static void
test_no_async(void **state)
{
	static const char *const names[] = {
		"Async.SR.get_all", "Async.VDI.get_record", "Async.task.create", "Async.event.from",
		"Async.session.logout", "Async.SR.get_supported_types", "Async.VDI.set_read_only",
	};
	static const char *const params[] = {
		"[\"$\"]", "[\"$\",\"r\"]", "[\"$\",\"a\",\"b\"]", "[\"$\",[],\"\",1]", "[\"$\"]", "[\"$\"]",
		"[\"$\",\"r\",true]",
	};
	char want[128];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(want, sizeof want, "Fault No async mode for this operation (rpc: %s)",
			 names[i]);
		assert_string_equal(call(names[i], params[i]), want);
	}
}

static void
test_bindings(void **state)
{
	static const struct call_binding wrong[] = { { "VDI.fly", handler }, { 0 } };
	static const struct call_binding twice[] = {
		{ "SR.scan", handler }, { "SR.scan", handler }, { 0 },
	};
	static const struct call_binding few[] = { { "SR.scan", handler }, { "*", handler }, { 0 } };
	const struct call_binding *const tables[][2] = { { wrong }, { twice }, { few } };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		assert_int_equal(call_bind(tables[i], &err), -1);
	}
	fake_bind(handler);
}

static void
test_logout(void **state)
{
	const bool *gone = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	assert_int_equal(session_hold(d->sessions, session, &gone, &err), 0);
	assert_false(*gone);
	assert_string_equal(call("session.logout", "[\"$\"]"), "\"\"");
	assert_true(*gone);
	session_release(d->sessions, session);
	assert_memory_equal(call("session.logout", "[\"$\"]"), "SESSION_INVALID OpaqueRef:", 26);
}

/* The 501st session of a user costs the one that was unused for longest. */
static void
test_session_cap(void **state)
{
	CLEANUP_FREE char *first = NULL, *last = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	assert_int_equal(session_login(d->sessions, &fake_peer, "u", "", "prog", &first, &err), 0);
	for (int i = 0; i < 500; i++) {
		free(last);
		assert_int_equal(session_login(d->sessions, &fake_peer, "u", "", "prog", &last,
					       &err), 0);
	}
	assert_int_equal(session_use(d->sessions, last, &err), 0);
	/* Another program's session is its own. */
	assert_int_equal(session_use(d->sessions, session, &err), 0);
	assert_int_equal(session_use(d->sessions, first, &err), -1);
}

/* Idle for too long is over; one that somebody waits in is not idle. */
static void
test_expiry(void **state)
{
	CLEANUP_FREE char *idle = NULL, *held = NULL, *later = NULL;
	const bool *gone = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	assert_int_equal(session_login(d->sessions, &fake_peer, "i", "", "p", &idle, &err), 0);
	assert_int_equal(session_login(d->sessions, &fake_peer, "h", "", "p", &held, &err), 0);
	assert_int_equal(session_hold(d->sessions, held, &gone, &err), 0);
	fake_idle_timeout_s = -1;	/* everything was used before now + 1 s */
	assert_int_equal(session_login(d->sessions, &fake_peer, "l", "", "p", &later, &err), 0);
	assert_false(*gone);
	session_release(d->sessions, held);
	fake_idle_timeout_s = 86400;
	assert_int_equal(session_use(d->sessions, held, &err), 0);
	/* The login swept the other one away, and so the tests' own. */
	assert_int_equal(session_use(d->sessions, idle, &err), -1);
}

static int
setup(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	d = fake_daemon();
	fake_bind(handler);
	return session_login(d->sessions, &fake_peer, "root", "", "test", &session, &err);
}

static int
teardown(void **state)
{
	(void)state;
	free(session);
	fake_daemon_free(d);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_login), cmocka_unit_test(test_session),
		cmocka_unit_test(test_unknown), cmocka_unit_test(test_counts),
		cmocka_unit_test(test_values), cmocka_unit_test(test_result_checked),
		cmocka_unit_test(test_tasks), cmocka_unit_test(test_no_async),
		cmocka_unit_test(test_bindings), cmocka_unit_test(test_session_cap),
		cmocka_unit_test(test_logout),
		cmocka_unit_test(test_expiry),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
