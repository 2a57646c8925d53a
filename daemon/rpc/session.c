/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/session.h"

#include <ctype.h>
#include <search.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/rpc/auth.h"
#include "daemon/rpc/throttle.h"

#define SECOND_NS INT64_C(1000000000)

struct session {
	char *ref, *uuid, *user, *originator, *last_active, *validation_time;
	enum api_role role;
	bool trusted;			/* over the unix socket */
	json *other_config;
	json *event_classes;		/* of event.register; NULL: none */
	uint64_t event_since;		/* event.next has told everything up to this generation */
	int64_t used_ns;		/* CLOCK_BOOTTIME */
	unsigned n_holds;
	bool gone;			/* read by waiters without the lock */
	struct session *next_gone;
};

struct sessions {
	struct daemon *daemon;
	pthread_mutex_t lock;		/* all below */
	void *by_ref;			/* tsearch(3) */
	struct session *gone;		/* ended, and still held */
	struct throttle throttle;	/* has a lock of its own */
};

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * SECOND_NS + ts.tv_nsec;
}

/* Sessions used before this have expired. */
static int64_t
expiry_ns(const struct sessions *sessions)
{
	return now_ns() - config_int(sessions->daemon->config, "session_idle_timeout") * SECOND_NS;
}

static int
compare_refs(const void *a, const void *b)
{
	const struct session *x = a, *y = b;

	return strcmp(x->ref, y->ref);
}

static void
session_free(void *opaque)
{
	struct session *s = opaque;

	free(s->ref);
	free(s->uuid);
	free(s->user);
	free(s->originator);
	free(s->last_active);
	free(s->validation_time);
	json_object_put(s->other_config);
	json_object_put(s->event_classes);
	free(s);
}

struct sessions *
sessions_new(struct daemon *daemon)
{
	struct sessions *sessions = smd_calloc(1, sizeof *sessions);

	sessions->daemon = daemon;
	pthread_mutex_init(&sessions->lock, NULL);
	throttle_init(&sessions->throttle);
	return sessions;
}

void
sessions_free(struct sessions *sessions)
{
	if (!sessions)
		return;
	tdestroy(sessions->by_ref, session_free);
	while (sessions->gone) {
		struct session *s = sessions->gone;

		sessions->gone = s->next_gone;
		session_free(s);
	}
	pthread_mutex_destroy(&sessions->lock);
	throttle_done(&sessions->throttle);
	free(sessions);
}

static struct session *
find(struct sessions *sessions, const char *ref)
{
	struct session key = { .ref = (char *)ref };
	struct session **found = tfind(&key, &sessions->by_ref, compare_refs);

	return found ? *found : NULL;
}

/* End a session; who waits in it learns of it. */
static void
drop(struct sessions *sessions, struct session *s)
{
	tdelete(s, &sessions->by_ref, compare_refs);
	__atomic_store_n(&s->gone, true, __ATOMIC_RELEASE);
	if (s->n_holds == 0) {
		session_free(s);
		return;
	}
	s->next_gone = sessions->gone;
	sessions->gone = s;
	if (sessions->daemon->db)
		db_wake(sessions->daemon->db);
}

/* NULL with the error set: none, or unused for too long. */
static struct session *
find_live(struct sessions *sessions, const char *ref, struct smd_error *err)
{
	struct session *s = find(sessions, ref);

	if (s && s->n_holds == 0 && s->used_ns < expiry_ns(sessions)) {
		drop(sessions, s);
		s = NULL;
	}
	if (!s)
		smd_fail_SESSION_INVALID(err, ref, "there is no session %s", ref);
	return s;
}

/* ---- Making and ending ---- */

/* What a walk over all sessions looks for. */
struct survey {
	const struct session *like;	/* whose user is counted */
	int64_t expiry_ns;
	size_t n_like;
	struct session *oldest;		/* of those like it */
	struct session *expired;	/* any one */
};

static bool
same_owner(const struct session *a, const struct session *b)
{
	return a->trusted == b->trusted && strcmp(a->user, b->user) == 0 &&
	       (!a->trusted || strcmp(a->originator, b->originator) == 0);
}

static void
survey_one(const void *node, VISIT visit, void *opaque)
{
	struct session *s = *(struct session *const *)node;
	struct survey *survey = opaque;

	if (visit != postorder && visit != leaf)
		return;
	if (s->n_holds == 0 && s->used_ns < survey->expiry_ns)
		survey->expired = s;
	if (!same_owner(s, survey->like))
		return;
	survey->n_like++;
	if (!survey->oldest || s->used_ns < survey->oldest->used_ns)
		survey->oldest = s;
}

/* max_sessions_per_user are those of one user, or, since all of root's programs are
 * one user, of one originator of a trusted peer. The one unused for longest goes. */
static void
make_room(struct sessions *sessions, const struct session *like)
{
	int64_t most = config_int(sessions->daemon->config, "max_sessions_per_user");
	struct survey survey;

	do {
		survey = (struct survey){ .like = like, .expiry_ns = expiry_ns(sessions) };
		twalk_r(sessions->by_ref, survey_one, &survey);
		if (survey.expired)
			drop(sessions, survey.expired);
		else if (survey.n_like >= (size_t)most)
			drop(sessions, survey.oldest);
	} while (survey.expired);
}

static char *
auth_path(const struct config *config)
{
	CLEANUP_FREE char *path = config_str(config, "auth_file");
	CLEANUP_FREE char *state_dir = NULL;

	if (*path)
		return TAKE_PTR(path);
	state_dir = config_str(config, "state_dir");
	return smd_asprintf("%s/users", state_dir);
}

/* -1: too many have failed. */
static int
check_password(struct sessions *sessions, const struct peer *peer, const char *user,
	       const char *password, enum api_role *ret_role, bool *ret_fits,
	       struct smd_error *err)
{
	int64_t most = config_int(sessions->daemon->config, "max_login_failures");
	CLEANUP_FREE char *path = auth_path(sessions->daemon->config);

	if (!throttle_allows(&sessions->throttle, peer->address, user, most))
		return smd_fail_SESSION_AUTHENTICATION_FAILED(err, user, "Too many failed logins",
				"%s failed too often from %s: wait a minute", user, peer->address);
	*ret_fits = auth_check(path, user, password, ret_role);
	if (!*ret_fits)
		throttle_failed(&sessions->throttle, peer->address, user);
	return 0;
}

static int
authenticate(struct sessions *sessions, const struct peer *peer, const char *user,
	     const char *password, enum api_role *ret_role, struct smd_error *err)
{
	bool fits = false;
	int rc;

	*ret_role = API_POOL_ADMIN;
	if (peer->local)
		return 0;
	throttle_enter(&sessions->throttle, peer->address);
	rc = check_password(sessions, peer, user, password, ret_role, &fits, err);
	throttle_leave(&sessions->throttle);
	if (rc < 0 || fits)
		return rc;
	smd_log_fields(SMD_LOG_WARNING, SMD_FIELDS("USER", user, "PEER", peer->address),
		       "login of %.64s from %s refused", user, peer->address);
	return smd_fail_SESSION_AUTHENTICATION_FAILED(err, user, "Authentication failure",
						      "the user name or the password is wrong");
}

int
session_login(struct sessions *sessions, const struct peer *peer, const char *user,
	      const char *password, const char *originator, char **ret_ref, struct smd_error *err)
{
	struct session *s;
	enum api_role role;

	if (authenticate(sessions, peer, user, password, &role, err) < 0)
		return -1;
	s = smd_calloc(1, sizeof *s);
	s->ref = db_new_ref();
	s->uuid = smd_strdup(smd_uuid_new().text);
	s->user = smd_strdup(user);
	s->originator = smd_strdup(originator);
	s->last_active = db_now();
	s->validation_time = smd_strdup(s->last_active);
	s->role = role;
	s->trusted = peer->local;
	s->other_config = json_object_new_object();
	s->used_ns = now_ns();
	*ret_ref = smd_strdup(s->ref);
	smd_log_fields(SMD_LOG_DEBUG, SMD_FIELDS("USER", user, "PEER", peer->address),
		       "login of %.64s from %s", user, peer->address);

	LOCK_SCOPE(&sessions->lock);
	make_room(sessions, s);
	if (!tsearch(s, &sessions->by_ref, compare_refs))
		abort();
	return 0;
}

int
session_logout(struct sessions *sessions, const char *ref, struct smd_error *err)
{
	struct session *s;

	LOCK_SCOPE(&sessions->lock);
	s = find_live(sessions, ref, err);
	if (!s)
		return -1;
	drop(sessions, s);
	return 0;
}

void
sessions_end_all(struct sessions *sessions)
{
	LOCK_SCOPE(&sessions->lock);
	while (sessions->by_ref)
		drop(sessions, *(struct session **)sessions->by_ref);
}

/* ---- Using ---- */

int
session_use(struct sessions *sessions, const char *ref, struct smd_error *err)
{
	struct session *s;

	LOCK_SCOPE(&sessions->lock);
	s = find_live(sessions, ref, err);
	if (!s)
		return -1;
	if (now_ns() - s->used_ns >= SECOND_NS) {
		free(s->last_active);
		s->last_active = db_now();
	}
	s->used_ns = now_ns();
	return 0;
}

/* "No permission …", with the roles that have it, as xapi says it. */
static int
denied(const struct session *s, enum api_role least, const char *permission,
       struct smd_error *err)
{
	CLEANUP_FREE char *text = smd_strdup("");
	CLEANUP_FREE char *msg = NULL;

	for (enum api_role r = API_POOL_ADMIN; r >= least; r--) {
		CLEANUP_FREE char *shorter = text;

		text = smd_asprintf("%s%s%s", shorter, *shorter ? ", " : "", api_role_names[r]);
	}
	msg = smd_asprintf("No permission in user session. (Roles with this permission: %s)", text);
	return smd_fail_RBAC_PERMISSION_DENIED(err, permission, msg,
					       "the role %s of %s does not allow %s",
					       api_role_names[s->role], s->user, permission);
}

int
session_may_as(struct sessions *sessions, const char *ref, enum api_role least,
	       const char *permission, struct smd_error *err)
{
	struct session *s;

	LOCK_SCOPE(&sessions->lock);
	s = find_live(sessions, ref, err);
	if (!s)
		return -1;
	return s->role >= least ? 0 : denied(s, least, permission, err);
}

/* Permissions are the messages' names in lower case. */
static char *
permission_of(const char *name)
{
	char *permission = smd_strdup(name);

	for (char *p = permission; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return permission;
}

int
session_may(struct sessions *sessions, const char *ref, const struct api_message *message,
	    struct smd_error *err)
{
	CLEANUP_FREE char *permission = NULL;

	if (message->role <= API_READER)
		return 0;
	permission = permission_of(message->name);
	return session_may_as(sessions, ref, message->role, permission, err);
}

char *
session_user(struct sessions *sessions, const char *ref)
{
	const struct session *s;

	LOCK_SCOPE(&sessions->lock);
	s = find(sessions, ref);
	return s ? smd_asprintf("%s %s", s->trusted ? "local" : "remote", s->user) : NULL;
}

char *
session_who(struct sessions *sessions, const char *ref)
{
	const struct session *s;

	LOCK_SCOPE(&sessions->lock);
	s = find(sessions, ref);
	return s ? smd_asprintf("%.64s (%s)", s->user, api_role_names[s->role])
		 : smd_strdup("a session that ended");
}

/* The array is the caller's own: trees belong to one thread at a time. */
int
session_events(struct sessions *sessions, const char *ref, json **ret_classes,
	       uint64_t *ret_since, struct smd_error *err)
{
	struct session *s;

	LOCK_SCOPE(&sessions->lock);
	s = find_live(sessions, ref, err);
	if (!s)
		return -1;
	*ret_since = s->event_since;
	*ret_classes = json_object_new_array();
	for (size_t i = 0; s->event_classes && i < json_object_array_length(s->event_classes); i++)
		json_object_array_add(*ret_classes, json_object_new_string(json_object_get_string(
					      json_object_array_get_idx(s->event_classes, i))));
	return 0;
}

int
session_set_events(struct sessions *sessions, const char *ref, json *classes, uint64_t since,
		   struct smd_error *err)
{
	struct session *s;

	LOCK_SCOPE(&sessions->lock);
	s = find_live(sessions, ref, err);
	if (!s) {
		json_object_put(classes);
		return -1;
	}
	s->event_since = since;
	if (classes) {
		json_object_put(s->event_classes);
		s->event_classes = classes;
	}
	return 0;
}

int
session_hold(struct sessions *sessions, const char *ref, const bool **ret_gone,
	     struct smd_error *err)
{
	struct session *s;

	LOCK_SCOPE(&sessions->lock);
	s = find_live(sessions, ref, err);
	if (!s)
		return -1;
	s->n_holds++;
	*ret_gone = &s->gone;
	return 0;
}

void
session_release(struct sessions *sessions, const char *ref)
{
	struct session *s;

	LOCK_SCOPE(&sessions->lock);
	s = find(sessions, ref);
	if (s) {
		s->n_holds--;
		s->used_ns = now_ns();
		return;
	}
	for (struct session **p = &sessions->gone; *p; p = &(*p)->next_gone) {
		if (strcmp((*p)->ref, ref) == 0) {
			s = *p;
			if (--s->n_holds == 0) {
				*p = s->next_gone;
				session_free(s);
			}
			return;
		}
	}
}

/* ---- The record ---- */

struct permissions {
	enum api_role role;
	json *list;
};

static void
add_permission(void *opaque, const struct api_message *message)
{
	const struct permissions *p = opaque;
	CLEANUP_FREE char *permission = permission_of(message->name);

	if (message->role <= p->role)
		json_object_array_add(p->list, json_object_new_string(permission));
}

/* Who may everything has no list, as in xapi. */
static json *
permissions_of(const struct session *s)
{
	json *list = json_object_new_array();

	if (s->role != API_POOL_ADMIN)
		api_messages(add_permission, &(struct permissions){ s->role, list });
	return list;
}

static json *
value_of(const struct sessions *sessions, const struct session *s, const struct api_field *field)
{
	const struct {
		const char *name, *text;
	} texts[] = {
		{ "uuid", s->uuid }, { "this_host", sessions->daemon->host_ref },
		{ "last_active", s->last_active }, { "validation_time", s->validation_time },
		{ "auth_user_name", s->user }, { "originator", s->originator },
	};
	json *copy = NULL;

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		if (strcmp(texts[i].name, field->name) == 0)
			return json_object_new_string(texts[i].text ? texts[i].text : "");
	}
	if (strcmp(field->name, "is_local_superuser") == 0)
		return json_object_new_boolean(s->role == API_POOL_ADMIN);
	if (strcmp(field->name, "rbac_permissions") == 0)
		return permissions_of(s);
	if (strcmp(field->name, "other_config") != 0)
		return api_value_default(field->type, field->dflt);
	json_object_deep_copy(s->other_config, &copy, NULL);
	return copy;
}

static json *
record_of(const struct sessions *sessions, const struct session *s)
{
	json *record = json_object_new_object();

	for (const struct api_field *f = api_class_find("session", false)->fields; f->name; f++)
		smd_json_set(record, f->name, value_of(sessions, s, f));
	return record;
}

static int
find_for(struct sessions *sessions, const char *ref, struct session **ret, struct smd_error *err)
{
	*ret = find(sessions, ref);
	if (*ret)
		return 0;
	return smd_fail_HANDLE_INVALID(err, "session", ref, "there is no session %s", ref);
}

int
session_record(struct sessions *sessions, const char *ref, json **ret, struct smd_error *err)
{
	struct session *s;

	LOCK_SCOPE(&sessions->lock);
	if (find_for(sessions, ref, &s, err) < 0)
		return -1;
	*ret = record_of(sessions, s);
	return 0;
}

static int
get_field(struct sessions *sessions, const char *ref, const struct api_field *field, json **ret,
	  struct smd_error *err)
{
	struct session *s;

	LOCK_SCOPE(&sessions->lock);
	if (find_for(sessions, ref, &s, err) < 0)
		return -1;
	*ret = value_of(sessions, s, field);
	return 0;
}

struct uuid_search {
	const char *uuid;
	struct session *found;
};

static void
compare_uuid(const void *node, VISIT visit, void *opaque)
{
	struct session *s = *(struct session *const *)node;
	struct uuid_search *search = opaque;

	if ((visit == postorder || visit == leaf) && strcmp(s->uuid, search->uuid) == 0)
		search->found = s;
}

static int
by_uuid(struct sessions *sessions, const char *uuid, json **ret, struct smd_error *err)
{
	struct uuid_search search = { .uuid = uuid };

	LOCK_SCOPE(&sessions->lock);
	twalk_r(sessions->by_ref, compare_uuid, &search);
	if (!search.found)
		return smd_fail_UUID_INVALID(err, "session", uuid, "no session has uuid %s", uuid);
	*ret = json_object_new_string(search.found->ref);
	return 0;
}

/* other_config is the only field a client writes. */
static int
change_map(struct sessions *sessions, struct call *call, struct smd_error *err)
{
	enum api_message_kind kind = call->message->kind;
	const char *ref = call_str(call, 0), *field = call->message->field->name;
	struct session *s;
	json *old;

	LOCK_SCOPE(&sessions->lock);
	if (find_for(sessions, ref, &s, err) < 0)
		return -1;
	if (kind == API_M_SET_FIELD) {
		old = s->other_config;
		s->other_config = NULL;
		json_object_deep_copy(call_arg(call, 1), &s->other_config, NULL);
		json_object_put(old);
	} else if (kind == API_M_REMOVE_FROM) {
		json_object_object_del(s->other_config, call_str(call, 1));
	} else if (smd_json_member(s->other_config, call_str(call, 1))) {
		return smd_fail_MAP_DUPLICATE_KEY(err, "session", field, s->uuid, call_str(call, 1),
						  "%s has the key %s already", field,
						  call_str(call, 1));
	} else {
		smd_json_set_str(s->other_config, call_str(call, 1), call_str(call, 2));
	}
	return 0;
}

int
session_generic(struct call *call, json **ret, struct smd_error *err)
{
	struct sessions *sessions = call->daemon->sessions;

	switch (call->message->kind) {
	case API_M_GET_BY_UUID:
		return by_uuid(sessions, call_str(call, 0), ret, err);
	case API_M_SET_FIELD:
	case API_M_ADD_TO:
	case API_M_REMOVE_FROM:
		return change_map(sessions, call, err);
	case API_M_GET_RECORD:
		return session_record(sessions, call_str(call, 0), ret, err);
	case API_M_GET_FIELD:
		return get_field(sessions, call_str(call, 0), call->message->field, ret, err);
	default:
		return smd_fail_INTERNAL_ERROR(err, call->message->name, "%s is not answered here",
					       call->message->name);
	}
}
