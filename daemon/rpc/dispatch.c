/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From a name and positional parameters to a handler and back. The order of
 * the checks is xapi's: the name, the count, the Async. form, the session, the
 * role, the values.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/stall.h"
#include "daemon/job/task.h"
#include "daemon/rpc/audit.h"
#include "daemon/rpc/call.h"
#include "daemon/rpc/record.h"
#include "daemon/rpc/session.h"

/* ---- Handlers ---- */

struct bound {
	const struct api_message *message;
	call_handler *handler;
};
static struct bound *bindings;	/* by message; const after call_bind */
static size_t n_bindings;
static call_handler *generic;	/* bound to "*" */

static int
compare_bound(const void *a, const void *b)
{
	const struct bound *x = a, *y = b;

	return (x->message > y->message) - (x->message < y->message);
}

static call_handler *
find_handler(const struct api_message *message)
{
	struct bound key = { .message = message }, *found;

	if (message->kind != API_M_METHOD)
		return message->cls->flags & API_IN_MEMORY ? session_generic : generic;
	found = n_bindings ? bsearch(&key, bindings, n_bindings, sizeof key, compare_bound) : NULL;
	return found ? found->handler : NULL;
}

static int
bind_table(const struct call_binding *table, struct smd_error *err)
{
	for (const struct call_binding *b = table; b->method; b++) {
		const struct api_message *message = api_message_find(b->method);

		if (strcmp(b->method, "*") == 0) {
			generic = b->handler;
			continue;
		}
		if (!message || message->kind != API_M_METHOD)
			return smd_fail_INTERNAL_ERROR(err, b->method,
						       "the handler of %s has no method", b->method);
		bindings = smd_reallocarray(bindings, n_bindings + 1, sizeof *bindings);
		bindings[n_bindings++] = (struct bound){ message, b->handler };
	}
	return 0;
}

static int
check_class_bound(const struct api_class *cls, struct smd_error *err)
{
	for (const struct api_method *m = cls->methods; m->name; m++) {
		CLEANUP_FREE char *name = smd_asprintf("%s.%s", cls->name, m->name);

		if (!find_handler(api_message_find(name)))
			return smd_fail_INTERNAL_ERROR(err, name, "%s has no handler", name);
	}
	return 0;
}

int
call_bind(const struct call_binding *const *tables, struct smd_error *err)
{
	free(bindings);
	bindings = NULL;
	n_bindings = 0;
	generic = NULL;
	for (; *tables; tables++) {
		if (bind_table(*tables, err) < 0)
			return -1;
	}
	if (n_bindings > 0)
		qsort(bindings, n_bindings, sizeof *bindings, compare_bound);
	for (size_t i = 1; i < n_bindings; i++) {
		const char *name = bindings[i].message->name;

		if (bindings[i - 1].message == bindings[i].message)
			return smd_fail_INTERNAL_ERROR(err, name, "%s has two handlers", name);
	}
	if (!generic)
		return smd_fail_INTERNAL_ERROR(err, "*", "the messages of every class have no handler");
	for (size_t i = 0; api_classes[i]; i++) {
		if (check_class_bound(api_classes[i], err) < 0)
			return -1;
	}
	return 0;
}

/* ---- One call ---- */

/* What a call owns while it runs, on whichever thread. */
struct running {
	struct call call;
	struct peer peer;
	char *session_ref;
	char *who;		/* for the audit log; NULL: nothing is changed */
	char *task_ref;
	json *args;
};

static void
running_free(struct running *r)
{
	if (!r)
		return;
	free(r->session_ref);
	free(r->who);
	free(r->task_ref);
	json_object_put(r->args);
	free(r);
}

static void
cleanup_running(struct running **r)
{
	running_free(*r);
}

static bool
takes_session(const struct api_message *message)
{
	return !(message->flags & API_NO_SESSION);
}

static int
check_count(const struct api_message *message, const char *name, size_t given,
	    struct smd_error *err)
{
	size_t most = 0, least = 0;
	/* Without the session, also when it is missing: xapi counts so. */
	int64_t received = (int64_t)given - (takes_session(message) ? 1 : 0);
	CLEANUP_FREE char *received_text = smd_asprintf("%" PRId64, received);

	for (const struct api_param *p = message->params; p->name; p++) {
		most++;
		least += p->dflt == NULL;
	}
	/* Surplus is ignored where a parameter has a default, and where nothing is
	 * taken at all, not even a session: clients send one all the same. */
	if (received >= (int64_t)least &&
	    (received <= (int64_t)most || most > least || (most == 0 && !takes_session(message))))
		return 0;
	return smd_fail_MESSAGE_PARAMETER_COUNT_MISMATCH(err, name, SMD_U64(least), received_text,
							 "%s takes %zu parameters, not %s", name,
							 least, received_text);
}

static bool
changes_something(const struct api_message *message)
{
	return message->kind >= API_M_SET_FIELD ||
	       (message->kind == API_M_METHOD && !(message->flags & API_READ_ONLY));
}

static int
check_session(struct daemon *daemon, const struct peer *peer, const struct api_message *message,
	      json *params, struct smd_error *err)
{
	const char *ref = json_object_get_string(json_object_array_get_idx(params, 0));

	if (session_use(daemon->sessions, ref ? ref : "", err) < 0)
		return -1;
	if (!message || session_may(daemon->sessions, ref, message, err) == 0)
		return 0;
	audit_log(daemon, peer, ref, message->name, NULL, NULL, err);
	return -1;
}

static int
accept_args(const struct api_message *message, json *params, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *args = json_object_new_array();
	size_t first = takes_session(message) ? 1 : 0, given = json_object_array_length(params);

	for (size_t i = 0; message->params[i].name; i++) {
		const struct api_param *p = &message->params[i];
		json *value;

		if (first + i >= given)
			value = api_value_default(p->type, p->dflt);
		else if (api_value_accept(p->type, json_object_array_get_idx(params, first + i),
					  p->name, &value, err) < 0)
			return -1;
		json_object_array_add(args, value);
	}
	*ret = TAKE_PTR(args);
	return 0;
}

static void
log_failure(const struct running *r, const struct smd_error *err)
{
	enum smd_log_level level = smd_error_is(err, SMD_E_INTERNAL_ERROR) ? SMD_LOG_ERR :
				   SMD_LOG_INFO;

	smd_log_fields(level, SMD_FIELDS("CODE", err->code, "METHOD", r->call.message->name,
					 "TASK", r->task_ref, "PEER", r->peer.address),
		       "%s: %s: %s", r->call.message->name, err->code,
		       err->message ? err->message : "");
}

static void
audit(const struct running *r, const struct smd_error *error)
{
	const struct api_param *p = r->call.message->params;

	if (r->who)
		audit_log_as(&r->peer, r->who, r->call.message->name,
			     p->name && p->type->kind == API_REF ? call_str(&r->call, 0) : NULL,
			     r->task_ref, error);
}

/* The object a method is of, where that is its first parameter, comes before all
 * that the method says of the others. */
static int
check_self(const struct running *r, struct smd_error *err)
{
	const struct api_message *m = r->call.message;
	const struct api_type *type = m->params[0].name ? m->params[0].type : &api_void;
	const char *ref;

	if (m->kind != API_M_METHOD || type->kind != API_REF ||
	    strcmp(type->name, m->cls->name) != 0 || (m->cls->flags & API_IN_MEMORY))
		return 0;
	ref = call_str(&r->call, 0);
	if (db_exists(r->call.daemon->db, m->cls->name, ref))
		return 0;
	return smd_fail_HANDLE_INVALID(err, m->cls->name, ref, "there is no %s %s", m->cls->name,
				       ref);
}

void
call_result_done(struct call_result *result)
{
	json_object_put(result->value);
	shared_unref(result->shared);
	db_rows_close(result->rows);
}

int
call_result_next(struct call_result *result, const char **ret_key, json **ret,
		 struct smd_error *err)
{
	int rc = db_rows_next(result->rows, ret_key, ret, err);

	if (rc == 0 || (rc == 1 && api_value_check(result->type->elem, *ret, *ret_key, err) == 0))
		return rc;
	if (rc == 1)
		json_object_put(*ret);
	smd_log(SMD_LOG_ERR, "a reply of many records: %s: %s", err->code, err->message);
	return -1;
}

static int
run_handler(struct running *r, struct call_result *ret, struct smd_error *err)
{
	const struct api_message *message = r->call.message;
	CLEANUP_JSON json *result = NULL;
	call_handler *handler = find_handler(message);
	int rc = -1;

	stall_thread(r->task_ref);
	if (!handler)
		smd_fail_INTERNAL_ERROR(err, message->name, "%s has no handler", message->name);
	else if (check_self(r, err) == 0)
		rc = handler(&r->call, &result, err);
	stall_thread(NULL);
	if (rc == CALL_PARKED)
		return rc;
	ret->type = message->result;
	ret->shared = TAKE_PTR(r->call.shared);
	ret->rows = TAKE_PTR(r->call.rows);
	if (rc == 0 && !ret->shared && !ret->rows)
		rc = api_value_check(message->result, result, message->name, err);
	if (rc == 0) {
		if (!ret->shared && !ret->rows)
			ret->value = result ? TAKE_PTR(result) : json_object_new_string("");
		audit(r, NULL);
		return 0;
	}
	audit(r, err);
	if (!r->peer.on_loop)
		log_failure(r, err);
	return -1;
}

/* What was stopped at the daemon's end is still to be done: so says its task. */
static void
end_failed(struct tasks *tasks, const char *task_ref, const struct smd_error *err)
{
	if (smd_error_is(err, SMD_E_JOB_STOPPED))
		task_leave(tasks, task_ref);
	else
		task_fail(tasks, task_ref, err);
}

/* The end of an asynchronous call: all of it is in the task. */
static void
run_async(void *opaque)
{
	CLEANUP(cleanup_running) struct running *r = opaque;
	struct tasks *tasks = r->call.daemon->tasks;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(call_result_done) struct call_result result = { .type = NULL };

	if (run_handler(r, &result, &err) < 0) {
		record_call(r->call.daemon, "async", r->call.message->name, &err, "", 0);
		end_failed(tasks, r->task_ref, &err);
	} else {
		CLEANUP_FREE char *xml = call_result_xml(result.type, result.value);

		record_call(r->call.daemon, "async", r->call.message->name, NULL, xml, strlen(xml));
		task_succeed(tasks, r->task_ref, xml);
	}
}

static int
start_async(struct running *r, struct call_result *ret, struct smd_error *err)
{
	CLEANUP(cleanup_running) struct running *mine = r;
	CLEANUP_JSON json *args = r->args;
	CLEANUP_FREE char *task_ref = smd_strdup(r->task_ref);

	/* Counts of json-c are not atomic: the thread gets a tree of its own. */
	r->args = NULL;
	if (json_object_deep_copy(args, &r->args, NULL) < 0)
		return smd_fail_INTERNAL_ERROR(err, "out of memory", "copying the arguments");
	r->call.args = r->args;
	if (call_in_background(r->call.daemon, run_async, r, err) < 0) {
		task_fail(r->call.daemon->tasks, task_ref, err);
		return -1;
	}
	(void)TAKE_PTR(mine);
	*ret = (struct call_result){ .type = &api_ref_task,
				     .value = json_object_new_string(task_ref) };
	return 0;
}

/* While a caller waits, its task can be seen and cancelled, from when it says or does
 * something that can be seen; it goes with the reply. */
static int
run_sync(struct running *r, struct call_result *ret, struct smd_error *err)
{
	struct daemon *daemon = r->call.daemon;
	int result = run_handler(r, ret, err);

	if (r->task_ref && smd_error_is(err, SMD_E_JOB_STOPPED))
		task_leave(daemon->tasks, r->task_ref);
	else if (r->task_ref)
		task_end(daemon->tasks, r->task_ref);
	return result;
}

static bool
strip_async(const char **name)
{
	static const char *const prefixes[] = { "Async.", "InternalAsync." };

	for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
		size_t len = strlen(prefixes[i]);

		if (strncmp(*name, prefixes[i], len) == 0) {
			*name += len;
			return true;
		}
	}
	return false;
}

static int
check_call(struct daemon *daemon, const struct peer *peer, const struct api_message *message,
	   const char *name, bool async, json *params, struct smd_error *err)
{
	size_t given = json_object_array_length(params);

	if (!message) {
		if (given > 0 && check_session(daemon, peer, NULL, params, err) < 0)
			return -1;
		return smd_fail_MESSAGE_METHOD_UNKNOWN(err, name, "there is no %s", name);
	}
	if (check_count(message, name, given, err) < 0)
		return -1;
	if (async && !(message->flags & API_ASYNC)) {
		CLEANUP_FREE char *text = smd_asprintf(
			"No async mode for this operation (rpc: %s)", name);

		return smd_fail_Fault(err, SMD_PARAMS(text), "%s", text);
	}
	return takes_session(message) ? check_session(daemon, peer, message, params, err) : 0;
}

bool
call_abandoned(const struct call *call)
{
	struct pollfd p = { .fd = call->peer->fd, .events = POLLRDHUP };

	return call->peer->fd > 0 && poll(&p, 1, 0) > 0;
}

static struct running *
running_new(struct daemon *daemon, const struct peer *peer, const struct api_message *message,
	    json *params)
{
	struct running *r = smd_calloc(1, sizeof *r);
	const char *ref = takes_session(message) ?
			  json_object_get_string(json_object_array_get_idx(params, 0)) : "";

	r->peer = *peer;
	r->session_ref = smd_strdup(ref);
	if (takes_session(message) && changes_something(message))
		r->who = session_who(daemon->sessions, ref);
	r->call = (struct call){
		.daemon = daemon, .message = message, .peer = &r->peer,
		.session_ref = r->session_ref,
	};
	return r;
}

/* Of a call that somebody waits for. */
static void
begin_task(struct running *r)
{
	if (r->call.message->flags & API_ASYNC)
		r->task_ref = task_begin(r->call.daemon->tasks, r->call.message->name);
}

static int
create_task(struct running *r, struct smd_error *err)
{
	struct daemon *daemon = r->call.daemon;
	CLEANUP_FREE char *label = smd_asprintf("Async.%s", r->call.message->name);
	CLEANUP_FREE char *owner = session_user(daemon->sessions, r->session_ref);

	if (task_create(daemon->tasks, label, "", owner, &r->task_ref, err) < 0)
		return -1;
	return task_take(daemon->tasks, r->task_ref, err);
}

static int
dispatch(struct daemon *daemon, const struct peer *peer, const char *name, json *params,
	 struct call_result *ret, struct smd_error *err)
{
	const char *plain = name;
	bool async = strip_async(&plain);
	const struct api_message *message = api_message_find(plain);
	CLEANUP(cleanup_running) struct running *r = NULL;

	if (check_call(daemon, peer, message, name, async, params, err) < 0)
		return -1;
	r = running_new(daemon, peer, message, params);
	if (accept_args(message, params, &r->args, err) < 0)
		return -1;
	r->call.args = r->args;
	if (async && create_task(r, err) < 0)
		return -1;
	if (!async)
		begin_task(r);
	r->call.task_ref = r->task_ref;
	if (async) {
		r->peer.fd = 0;
		r->peer.park = NULL;
		r->call.async = true;
		return start_async(TAKE_PTR(r), ret, err);
	}
	return run_sync(r, ret, err);
}

/* The getters of what is in memory: no database, whose lock somebody may hold while the
 * disk works, no file, no task, no line in a log. */
static bool
cannot_wait(const char *name)
{
	const struct api_message *message = api_message_find(name);

	return message && message->cls->flags & API_IN_MEMORY && message->role <= API_READER &&
	       message->kind > API_M_METHOD && message->kind < API_M_SET_FIELD;
}

int
call_dispatch(struct daemon *daemon, const struct peer *peer, const char *name, json *params,
	      struct call_result *ret, struct smd_error *err)
{
	if (!peer->on_loop)
		return dispatch(daemon, peer, name, params, ret, err);
	if (cannot_wait(name) && dispatch(daemon, peer, name, params, ret, err) == 0)
		return 0;
	smd_error_clear(err);
	return CALL_ELSEWHERE;
}
