/* SPDX-License-Identifier: BSD-2-Clause */
/* event: what changed since a token, waited for. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/api/watch.h"
#include "daemon/db/db.h"
#include "daemon/rpc/session.h"

#define EVENT_WAIT_MAX_S 120.0
#define EVENT_INTERESTS_MAX 1000
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
collect(const struct watch *w, json **ret_events, uint64_t *ret_generation, struct smd_error *err)
{
	struct db *db = w->daemon->db;
	CLEANUP_JSON json *events = json_object_new_array();
	bool lost = false;

	if (w->n_interests == 0)
		*ret_generation = db_generation(db);
	else if (db_changes(db, w->since, w->interests, w->n_interests, add_event, events,
			    ret_generation, &lost, err) != 0)
		return -1;
	if (lost || w->since > *ret_generation)
		return smd_fail_EVENTS_LOST(err, "events since %" PRIu64 " are not kept", w->since);
	*ret_events = TAKE_PTR(events);
	return 0;
}

/* ---- Batches: what many wait for is looked up and printed once -------------------- */

#define BATCHES_KEPT 16
#define BATCH_TEXT_MAX (256 * 1024)

static pthread_mutex_t batches_lock = PTHREAD_MUTEX_INITIALIZER;
static struct batch {
	char *spec;		/* of the interests; NULL: none is kept here */
	uint64_t since, generation;
	struct shared *shared;	/* NULL: nothing happened in between */
} batches[BATCHES_KEPT];	/* batches_lock */
static size_t next_batch;

/* As text, for comparison. */
static char *
interests_spec(const struct watch *w)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort();
	for (size_t i = 0; i < w->n_interests; i++) {
		const struct db_interest *in = &w->interests[i];

		fprintf(out, "%s/%zu:%s ", in->cls ? in->cls->name : "*",
			in->ref ? strlen(in->ref) : 0, in->ref ? in->ref : "");
	}
	fclose(out);
	return text;
}

/* One that somebody else was told, and that tells all there was when this call was made
 * or woken. NULL: there is none. Under batches_lock. */
static const struct batch *
batch_find(const struct watch *w)
{
	for (size_t i = 0; i < BATCHES_KEPT; i++) {
		const struct batch *b = &batches[i];

		if (b->spec && b->since == w->since && strcmp(b->spec, w->spec) == 0 &&
		    (b->generation >= w->needs || !db_concerned(w->daemon->db, b->generation,
								w->interests, w->n_interests)))
			return b;
	}
	return NULL;
}

/* Batches somebody is looking up now: the others who ask for the same follow. */
struct making {
	const char *spec;
	uint64_t since;
	struct watch *followers;
	struct making *next;
};
static struct making *makings;	/* batches_lock */

static struct making *
making_find(const struct watch *w)
{
	for (struct making *m = makings; m; m = m->next) {
		if (m->since == w->since && strcmp(m->spec, w->spec) == 0)
			return m;
	}
	return NULL;
}

static void
making_done(struct making *making)
{
	struct watch *followers;

	{
		struct making **m = &makings;
		LOCK_SCOPE(&batches_lock);

		while (*m != making)
			m = &(*m)->next;
		*m = making->next;
		followers = making->followers;
	}
	watch_unpark_all(followers);
}

static void
batch_keep(const struct watch *w, uint64_t generation, struct shared *shared)
{
	struct batch *b;
	size_t len = 0;

	if (shared)
		shared_text(shared, WIRE_JSON, &len);
	if (len > BATCH_TEXT_MAX)
		return;
	LOCK_SCOPE(&batches_lock);
	b = &batches[next_batch++ % BATCHES_KEPT];
	free(b->spec);
	shared_unref(b->shared);
	*b = (struct batch){ smd_strdup(w->spec), w->since, generation,
			     shared ? shared_ref(shared) : NULL };
}

static int
batch_make(const struct watch *w, json *events, uint64_t generation, struct shared **ret,
	   struct smd_error *err)
{
	CLEANUP_JSON json *batch = json_object_new_object();
	CLEANUP_FREE char *token = token_make(generation);
	json *counts = NULL;

	if (db_counts(w->daemon->db, &counts, err) != 0)
		return -1;
	smd_json_set(batch, "events", json_object_get(events));
	smd_json_set(batch, "valid_ref_counts", counts);
	smd_json_set_str(batch, "token", token);
	if (api_value_check(w->message->result, batch, w->message->name, err) != 0)
		return -1;
	*ret = shared_new(w->message->result, TAKE_PTR(batch));
	return 0;
}

/* ---- Waiting ---------------------------------------------------------------------- */

static uint64_t
timeout_ms(double seconds)
{
	if (!(seconds > 0))
		return 0;
	return (uint64_t)((seconds < EVENT_WAIT_MAX_S ? seconds : EVENT_WAIT_MAX_S) * 1000);
}

/* Whether the answer may be that there is nothing. */
static bool
must_answer(const struct call *call, const struct watch *w)
{
	return !call->peer->park || smd_now_ms() >= w->deadline_ms || call_abandoned(call);
}

/* For the next time the call is made. */
static void
keep_watch(struct call *call, struct watch *w)
{
	call->peer->park->state = w;
	call->peer->park->drop = watch_end;
}

static int
park(struct call *call, struct watch *w)
{
	keep_watch(call, w);
	watch_park(w);
	return CALL_PARKED;
}

static int
watch_new(struct call *call, json *classes, uint64_t since, uint64_t wait_ms, struct watch **ret,
	  struct smd_error *err)
{
	CLEANUP(interests_done) struct interests in = { 0 };
	struct watch *w;

	if (interests_parse(&in, classes, err) != 0 || watch_begin(call, ret, err) != 0)
		return -1;
	w = *ret;
	w->interests = TAKE_PTR(in.list);
	w->n_interests = in.n;
	in.n = 0;
	w->since = since;
	w->deadline_ms = smd_now_ms() + wait_ms;
	w->needs = db_generation(call->daemon->db);
	return 0;
}

/* The watch of a call made again, which is the call's once more. NULL: it is new. */
static struct watch *
watch_again(struct call *call)
{
	struct watch *w = call->peer->park ? call->peer->park->state : NULL;

	if (w)
		call->peer->park->state = NULL;
	return w;
}

static void
cleanup_watch(struct watch **w)
{
	watch_end(*w);
}

/* 0: *ret is the batch to answer with; -1; or: */
#define FROM_NOTHING 1	/* yet */
#define FROM_FOLLOWS 2	/* the call was parked for what another one looks up; w is its */
#define FROM_NOBODY 3	/* nobody else knows */
#define FOLLOW_MAX 3	/* times: they may have looked before something happened */

static int
look_up(struct call *call, struct watch *w, struct shared **ret, struct smd_error *err)
{
	CLEANUP_JSON json *events = NULL;
	uint64_t generation;
	bool nothing;

	if (collect(w, &events, &generation, err) != 0)
		return -1;
	nothing = json_object_array_length(events) == 0;
	if ((!nothing || must_answer(call, w)) &&
	    batch_make(w, events, generation, ret, err) != 0)
		return -1;
	batch_keep(w, generation, nothing ? NULL : *ret);
	if (*ret)
		return 0;
	w->since = generation;
	return FROM_NOTHING;
}

/* What others know or are just looking up. Under batches_lock. */
static int
from_others(struct call *call, struct watch *w, struct shared **ret)
{
	const struct batch *b = batch_find(w);
	struct making *m;

	if (b && b->shared) {
		*ret = shared_ref(b->shared);
		return 0;
	}
	if (b && !must_answer(call, w)) {
		w->since = b->generation;
		return FROM_NOTHING;
	}
	m = call->peer->park && w->n_followed < FOLLOW_MAX ? making_find(w) : NULL;
	if (!m)
		return FROM_NOBODY;
	w->n_followed++;
	keep_watch(call, w);
	w->next = m->followers;
	m->followers = w;
	return FROM_FOLLOWS;
}

static int
from_now(struct call *call, struct watch *w, struct shared **ret, struct smd_error *err)
{
	struct making making = { .spec = w->spec, .since = w->since };
	int rc;

	{
		LOCK_SCOPE(&batches_lock);
		rc = from_others(call, w, ret);
		if (rc != FROM_NOBODY)
			return rc;
		making.next = makings;
		makings = &making;
	}
	rc = look_up(call, w, ret, err);
	making_done(&making);
	return rc;
}

/* For all that wait for the same. NULL: there is nothing, or it cannot be told: they are
 * to ask themselves. */
static struct shared *
look_for_all(const struct watch *w)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *events = NULL;
	struct shared *shared = NULL;
	uint64_t generation;

	{
		LOCK_SCOPE(&batches_lock);
		const struct batch *b = batch_find(w);

		if (b)
			return b->shared ? shared_ref(b->shared) : NULL;
	}
	if (collect(w, &events, &generation, &err) != 0 || json_object_array_length(events) == 0 ||
	    batch_make(w, events, generation, &shared, &err) != 0)
		return NULL;
	batch_keep(w, generation, shared);
	return shared;
}

static int
from_watch_new(struct call *call, struct watch **ret, struct smd_error *err)
{
	uint64_t wait_ms = timeout_ms(json_object_get_double(call_arg(call, 2)));
	struct watch *w;

	if (watch_new(call, call_arg(call, 0), 0, wait_ms, ret, err) != 0)
		return -1;
	w = *ret;
	w->spec = interests_spec(w);
	w->look = look_for_all;
	w->message = call->message;
	return token_parse(call_str(call, 1), &w->since, err);
}

static int
event_from(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP(cleanup_watch) struct watch *w = watch_again(call);
	bool again = w != NULL;
	int rc = FROM_NOTHING;

	(void)ret;
	if (!again && from_watch_new(call, &w, err) != 0)
		return -1;
	if (again || must_answer(call, w) || !watch_must_pause(w->since))
		rc = from_now(call, w, &call->shared, err);
	if (rc == FROM_FOLLOWS) {
		(void)TAKE_PTR(w);
		return CALL_PARKED;
	}
	return rc == FROM_NOTHING ? park(call, TAKE_PTR(w)) : rc;
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

/* What was lost is told once. */
static int
next_lost(struct call *call, struct smd_error *err)
{
	struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;

	if (smd_error_is(err, SMD_E_EVENTS_LOST))
		session_set_events(call->daemon->sessions, call->session_ref, NULL,
				   db_generation(call->daemon->db), &none);
	return -1;
}

/* What is registered for, and from where on, may have changed meanwhile. */
static int
next_watch(struct call *call, struct watch **ret, struct smd_error *err)
{
	CLEANUP_JSON json *classes = NULL;
	uint64_t since;

	if (session_events(call->daemon->sessions, call->session_ref, &classes, &since, err) != 0)
		return -1;
	if (json_object_array_length(classes) == 0)
		return smd_fail_SESSION_NOT_REGISTERED(err, call->session_ref,
						       "event.register comes before event.next");
	return watch_new(call, classes, since, timeout_ms(EVENT_WAIT_MAX_S), ret, err);
}

static int
event_next(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP(cleanup_watch) struct watch *before = watch_again(call);
	CLEANUP(cleanup_watch) struct watch *w = NULL;
	CLEANUP_JSON json *events = NULL;
	uint64_t generation;

	if (next_watch(call, &w, err) != 0)
		return -1;
	if (collect(w, &events, &generation, err) != 0)
		return next_lost(call, err);
	if (session_set_events(call->daemon->sessions, call->session_ref, NULL, generation, err) != 0)
		return -1;
	if (json_object_array_length(events) == 0 && call->peer->park && !call_abandoned(call)) {
		w->since = generation;
		return park(call, TAKE_PTR(w));
	}
	*ret = TAKE_PTR(events);
	return 0;
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
