/* SPDX-License-Identifier: BSD-2-Clause */
/* event: what changed since a token, waited for. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/rpc/session.h"

#define EVENT_WAIT_MAX_S 120.0
#define EVENT_LOOK_MS 2000	/* how often a waiting call looks whether its client is there */
#define EVENT_INTERESTS_MAX 1000
/* Changes come in bursts; who was woken by the first takes the rest with it, so
 * that many watchers of one busy object do not ask for each state of it. */
#define EVENT_GATHER_MS 20
#define TOKEN_DIGITS 20

/* ---- Tokens: 20 digits of the generation, a comma, a number ------------------- */

static char *
token_make(uint64_t generation)
{
	return smd_asprintf("%0*" PRIu64 ",0", TOKEN_DIGITS, generation);
}

static int
token_parse(const char *token, uint64_t *ret, struct smd_error *err)
{
	size_t digits = strspn(token, "0123456789");
	const char *rest = token + digits;

	if (*token == '\0') {
		*ret = 0;
		return 0;
	}
	if (digits == 0 || digits > TOKEN_DIGITS || *rest != ',' || rest[1] == '\0' ||
	    rest[1 + strspn(rest + 1, "0123456789")] != '\0')
		return smd_fail_EVENT_FROM_TOKEN_PARSE_FAILURE(err, token,
				"\"%s\" is no token of event.from", token);
	*ret = strtoull(token, NULL, 10);
	return 0;
}

/* ---- Subscriptions: "*", "class", "class/ref" ---------------------------------- */

struct interests {
	struct db_interest *list;
	size_t n;
	bool none_known;	/* only classes that don't exist here: nothing ever happens */
};

static void
interests_done(struct interests *in)
{
	for (size_t i = 0; i < in->n; i++)
		free((char *)in->list[i].ref);
	free(in->list);
}

/* A class that we have not is not refused: its objects just never change. */
static int
interests_add(struct interests *in, const char *spec, struct smd_error *err)
{
	const char *slash = strchr(spec, '/');
	CLEANUP_FREE char *name = smd_strndup(spec, slash ? (size_t)(slash - spec) : strlen(spec));
	const struct api_class *cls = NULL;

	if (*name == '\0' || (slash && (slash[1] == '\0' || strchr(slash + 1, '/'))))
		return smd_fail_EVENT_SUBSCRIPTION_PARSE_FAILURE(err, spec,
				"\"%s\" is none of *, class and class/ref", spec);
	if (strcmp(name, "*") != 0 || slash) {
		cls = api_class_find(name, true);
		if (!cls || (cls->flags & API_NO_EVENTS))
			return 0;
	}
	in->list[in->n++] = (struct db_interest){ cls, slash ? smd_strdup(slash + 1) : NULL };
	return 0;
}

static int
interests_parse(struct interests *in, json *classes, struct smd_error *err)
{
	size_t n = json_object_array_length(classes);

	if (n > EVENT_INTERESTS_MAX)
		return smd_fail_EVENT_SUBSCRIPTION_PARSE_FAILURE(err, "",
				"%zu subscriptions, more than %d", n, EVENT_INTERESTS_MAX);
	in->list = smd_calloc(n + 1, sizeof *in->list);
	for (size_t i = 0; i < n; i++) {
		if (interests_add(in, json_object_get_string(json_object_array_get_idx(classes, i)),
				  err) != 0)
			return -1;
	}
	in->none_known = in->n == 0;
	return 0;
}

/* ---- Events --------------------------------------------------------------------- */

static void
add_event(void *opaque, const struct db_change *change)
{
	static const char *const operations[] = {
		[DB_ADDED] = "add", [DB_MODIFIED] = "mod", [DB_DELETED] = "del",
	};
	json *event = json_object_new_object();
	CLEANUP_FREE char *cls = smd_strdup(change->cls->name);

	for (char *p = cls; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	smd_json_set_str(event, "id", SMD_U64(change->generation));
	smd_json_set_str(event, "timestamp", "0.0");
	smd_json_set_str(event, "class", cls);
	smd_json_set_str(event, "operation", operations[change->what]);
	smd_json_set_str(event, "ref", change->ref);
	if (change->record)
		smd_json_set(event, "snapshot", json_object_get(change->record));
	json_object_array_add(opaque, event);
}

/* What changed since; nothing when no subscription is of a class we have. */
static int
collect(struct call *call, const struct interests *in, uint64_t since, json **ret_events,
	uint64_t *ret_generation, struct smd_error *err)
{
	CLEANUP_JSON json *events = json_object_new_array();
	bool lost = false;

	if (in->none_known)
		*ret_generation = db_generation(call->daemon->db);
	else if (db_changes(call->daemon->db, since, in->list, in->n, add_event, events,
			    ret_generation, &lost, err) != 0)
		return -1;
	if (lost || since > *ret_generation)
		return smd_fail_EVENTS_LOST(err, "events since %" PRIu64 " are not kept", since);
	*ret_events = TAKE_PTR(events);
	return 0;
}

static uint64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Wait for a change until the deadline, the session's end or the client's. Returns
 * whether there may be one. */
static bool
wait_for_change(struct call *call, const struct interests *in, uint64_t since,
		uint64_t deadline, const bool *gone)
{
	for (uint64_t now = now_ms(); now < deadline; now = now_ms()) {
		uint64_t slice = deadline - now < EVENT_LOOK_MS ? deadline - now : EVENT_LOOK_MS;

		if (db_wait(call->daemon->db, since, in->list, in->n, slice, gone))
			return true;
		if (__atomic_load_n(gone, __ATOMIC_ACQUIRE) || call_abandoned(call))
			return false;
	}
	return false;
}

/* Collect until there is something, the time is over, or the session or the client is
 * gone. */
static int
wait_for_events(struct call *call, const struct interests *in, uint64_t since,
		uint64_t timeout_ms, const bool *gone, json **ret_events,
		uint64_t *ret_generation, struct smd_error *err)
{
	const struct timespec gather = { 0, EVENT_GATHER_MS * 1000000L };
	uint64_t deadline = now_ms() + timeout_ms;

	for (;;) {
		if (collect(call, in, since, ret_events, ret_generation, err) != 0)
			return -1;
		if (json_object_array_length(*ret_events) > 0 || now_ms() >= deadline ||
		    call_abandoned(call))
			return 0;
		json_object_put(*ret_events);
		*ret_events = NULL;
		if (wait_for_change(call, in, *ret_generation, deadline, gone))
			nanosleep(&gather, NULL);
		if (__atomic_load_n(gone, __ATOMIC_ACQUIRE))
			return smd_fail_SESSION_INVALID(err, call->session_ref,
							"the session ended during the wait");
		since = *ret_generation;
	}
}

static uint64_t
timeout_ms(double seconds)
{
	if (!(seconds > 0))
		return 0;
	return (uint64_t)((seconds < EVENT_WAIT_MAX_S ? seconds : EVENT_WAIT_MAX_S) * 1000);
}

static int
event_from(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP(interests_done) struct interests in = { 0 };
	CLEANUP_JSON json *events = NULL;
	CLEANUP_JSON json *counts = NULL;
	CLEANUP_FREE char *token = NULL;
	uint64_t since = 0, generation = 0;
	const bool *gone;
	int rc;

	if (interests_parse(&in, call_arg(call, 0), err) != 0 ||
	    token_parse(call_str(call, 1), &since, err) != 0 ||
	    session_hold(call->daemon->sessions, call->session_ref, &gone, err) != 0)
		return -1;
	rc = wait_for_events(call, &in, since, timeout_ms(json_object_get_double(call_arg(call, 2))),
			     gone, &events, &generation, err);
	session_release(call->daemon->sessions, call->session_ref);
	if (rc != 0 || db_counts(call->daemon->db, &counts, err) != 0)
		return -1;
	token = token_make(generation);
	*ret = json_object_new_object();
	smd_json_set(*ret, "events", TAKE_PTR(events));
	smd_json_set(*ret, "valid_ref_counts", TAKE_PTR(counts));
	smd_json_set_str(*ret, "token", token);
	return 0;
}

/* ---- The same for clients of old: the session keeps classes and place ------------- */

static bool
array_has(json *array, const char *text)
{
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		if (strcasecmp(json_object_get_string(json_object_array_get_idx(array, i)), text) == 0)
			return true;
	}
	return false;
}

/* to gets those of from that are not in but. */
static void
add_texts(json *to, json *from, json *but)
{
	for (size_t i = 0; i < json_object_array_length(from); i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(from, i));

		if (!array_has(but, text))
			json_object_array_add(to, json_object_new_string(text));
	}
}

static int
event_register(struct call *call, json **ret, struct smd_error *err)
{
	struct sessions *sessions = call->daemon->sessions;
	CLEANUP(interests_done) struct interests in = { 0 };
	CLEANUP_JSON json *classes = NULL;
	uint64_t since;

	(void)ret;
	if (session_events(sessions, call->session_ref, &classes, &since, err) != 0)
		return -1;
	if (json_object_array_length(classes) == 0)
		since = db_generation(call->daemon->db);
	add_texts(classes, call_arg(call, 0), classes);
	if (interests_parse(&in, classes, err) != 0)
		return -1;
	return session_set_events(sessions, call->session_ref, TAKE_PTR(classes), since, err);
}

static int
event_unregister(struct call *call, json **ret, struct smd_error *err)
{
	struct sessions *sessions = call->daemon->sessions;
	CLEANUP_JSON json *classes = NULL;
	json *left = json_object_new_array();
	uint64_t since;

	(void)ret;
	if (session_events(sessions, call->session_ref, &classes, &since, err) != 0) {
		json_object_put(left);
		return -1;
	}
	if (!array_has(call_arg(call, 0), "*"))
		add_texts(left, classes, call_arg(call, 0));
	return session_set_events(sessions, call->session_ref, left, since, err);
}

/* One wait of event.next; no event: the time was over. */
static int
wait_registered(struct call *call, const bool *gone, json **ret, struct smd_error *err)
{
	struct sessions *sessions = call->daemon->sessions;
	CLEANUP(interests_done) struct interests in = { 0 };
	CLEANUP_JSON json *classes = NULL;
	uint64_t since, generation;

	if (session_events(sessions, call->session_ref, &classes, &since, err) != 0)
		return -1;
	if (json_object_array_length(classes) == 0)
		return smd_fail_SESSION_NOT_REGISTERED(err, call->session_ref,
						       "event.register comes before event.next");
	if (interests_parse(&in, classes, err) != 0)
		return -1;
	if (wait_for_events(call, &in, since, timeout_ms(EVENT_WAIT_MAX_S), gone, ret, &generation,
			    err) != 0) {
		/* What was lost is told once. */
		if (smd_error_is(err, SMD_E_EVENTS_LOST)) {
			struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;

			session_set_events(sessions, call->session_ref, NULL,
					   db_generation(call->daemon->db), &none);
		}
		return -1;
	}
	return session_set_events(sessions, call->session_ref, NULL, generation, err);
}

static int
event_next(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *events = NULL;
	const bool *gone;
	int rc;

	if (session_hold(call->daemon->sessions, call->session_ref, &gone, err) != 0)
		return -1;
	do {
		json_object_put(events);
		events = NULL;
		rc = wait_registered(call, gone, &events, err);
	} while (rc == 0 && json_object_array_length(events) == 0 && !call_abandoned(call));
	session_release(call->daemon->sessions, call->session_ref);
	if (rc == 0)
		*ret = TAKE_PTR(events);
	return rc;
}

static int
event_inject(struct call *call, json **ret, struct smd_error *err)
{
	const char *name = call_str(call, 0), *ref = call_str(call, 1);
	const struct api_class *cls = api_class_find(name, true);
	struct db *db = call->daemon->db;
	CLEANUP_FREE char *token = NULL;

	if (!cls || (cls->flags & (API_NO_RECORDS | API_IN_MEMORY)) ||
	    !db_exists(db, cls->name, ref))
		return smd_fail_HANDLE_INVALID(err, cls ? cls->name : name, ref,
					       "there is no %s %s", name, ref);
	token = token_make(db_generation(db));
	if (db_touch(db, cls->name, ref, err) != 0)
		return -1;
	*ret = json_object_new_string(token);
	return 0;
}

static int
event_get_current_id(struct call *call, json **ret, struct smd_error *err)
{
	(void)err;
	*ret = json_object_new_int64((int64_t)db_generation(call->daemon->db));
	return 0;
}

const struct call_binding api_event_handlers[] = {
	{ "event.from", event_from },
	{ "event.get_current_id", event_get_current_id },
	{ "event.inject", event_inject },
	{ "event.next", event_next },
	{ "event.register", event_register },
	{ "event.unregister", event_unregister },
	{ NULL, NULL },
};
