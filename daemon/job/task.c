/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/task.h"

#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/job.h"
#include "daemon/job/stall.h"
#include "schema/api.h"

#define PROGRESS_STEP 0.01
#define PROGRESS_INTERVAL_MS 1000
#define RATE_WINDOW_MS 5000		/* a rate is of the last one or two of these */
#define PENDING_MAX_S 86400		/* a client's task that nobody moves */
#define STOP_WAIT_S 5			/* for a mark, at the daemon's end */
#define KILL_WAIT_S 5
/* What a call does that no worker does for it. */
#define OWN_PART "smd's own part of it: the database, and the driver of the SR"
#define CUT_OFF "smd was ended while this was under way; what it had made is gone: ask for it again"
#define PROMISE_KEY "phase"		/* with this value, a pending task's result is sure */
#define PROMISE_VALUE "clean-up"
#define STATUS_MAX 5u			/* jobs that are named */
#define OWNERS_MAX 2000			/* kept before those of gone tasks are looked for */

/* So much was done then. */
struct sample {
	uint64_t ms, done;		/* ms 0: none */
};

/* What a pending task has beside its row. The row is never touched under the
 * lock: whoever holds the database may call us. */
struct running {
	struct running *next;
	char *ref;
	char *name;			/* of one whose caller waits for its end, else NULL */
	bool seen;			/* it has a row */
	uint64_t since_ms;
	bool taken;			/* smd works for it, and ends it */
	bool cancelled, asked;		/* asked: by somebody */
	bool destroy;			/* remove the row at the end */
	void (*cancel)(void *opaque);	/* NULL: not ours to stop now */
	void (*stop)(void *opaque);	/* at a mark; NULL: it cannot */
	void *opaque;
	bool had_hook;
	bool stopped;			/* stop was called; cancel may follow */
	bool paused;			/* somebody asked for it, or its work waits */
	void (*pause)(void *opaque, bool on);	/* NULL: not now */
	void *pause_opaque;
	bool in_hook;
	pthread_t hook_thread;		/* while in_hook */
	double progress, shown;
	uint64_t shown_ms, shown_done;
	struct sample since, later;	/* of the transfer in progress: what its rate counts from */
	uint64_t transfer_last;
};

struct tasks {
	struct daemon *daemon;
	pthread_mutex_t lock;		/* guards all below */
	pthread_cond_t changed;
	struct running *running;
	bool stopping;
	json *owners;			/* {task: user}, also of ended ones; see task_owner */
};

/* With the lock. */
static struct running *
running_find(struct tasks *tasks, const char *ref)
{
	struct running *r = tasks->running;

	while (r && strcmp(r->ref, ref) != 0)
		r = r->next;
	return r;
}

static void
running_free(struct running *r)
{
	free(r->ref);
	free(r->name);
	free(r);
}

/* Take a task out when it has ended; *ret_destroy: its row is to go too. Whether it has
 * one. */
static bool
running_remove(struct tasks *tasks, const char *ref, bool *ret_destroy)
{
	struct running **p, *r;
	bool seen;

	*ret_destroy = false;
	LOCK_SCOPE(&tasks->lock);
	stall_forget(ref);
	while ((r = running_find(tasks, ref)) && r->in_hook)
		pthread_cond_wait(&tasks->changed, &tasks->lock);
	if (!r)
		return true;
	for (p = &tasks->running; *p != r; p = &(*p)->next)
		;
	*p = r->next;
	*ret_destroy = r->destroy;
	seen = r->seen;
	running_free(r);
	pthread_cond_broadcast(&tasks->changed);
	return seen;
}

/* A row that can't be written is a trouble of the database's, not of the job's. */
static void
log_trouble(const char *ref, struct smd_error *err)
{
	if (!smd_error_is(err, SMD_E_HANDLE_INVALID))
		smd_log_fields(SMD_LOG_WARNING, SMD_FIELDS("TASK", ref), "task: %s", err->message);
	smd_error_clear(err);
}

/* ---- Rows ----------------------------------------------------------------------- */

static json *
string_array(const char *const *items)
{
	json *array = json_object_new_array();

	for (; items && *items; items++)
		json_object_array_add(array, json_object_new_string(*items));
	return array;
}

/* Seconds ago, as the API writes times: such texts compare as times do. */
static char *
time_ago(int64_t seconds)
{
	char text[32];
	time_t t = time(NULL) - (time_t)seconds;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof text, "%Y%m%dT%H:%M:%SZ", &tm);
	return smd_strdup(text);
}

static int
map_remove(struct db *db, const char *ref, const char *const *keys, struct smd_error *err)
{
	int r = 0;

	for (; r == 0 && *keys; keys++)
		r = db_map_remove(db, "task", ref, "other_config", *keys, err);
	return r;
}

/* message: for a person, beside the error's code and parameters; NULL: none. */
static int
row_finish(struct db *db, const char *ref, const char *status, const char *result,
	   const char *const *error_info, const char *message, struct smd_error *err)
{
	CLEANUP_JSON json *info = string_array(error_info);
	CLEANUP_JSON json *none = json_object_new_array();
	CLEANUP_JSON json *no_operations = json_object_new_object();
	CLEANUP_JSON json *one = json_object_new_double(1.0);
	CLEANUP_FREE char *now = db_now();

	if (db_begin(db, DB_RELAXED, err) != 0)
		return -1;
	if (db_set_str(db, "task", ref, "status", status, err) != 0 ||
	    db_set(db, "task", ref, "progress", one, err) != 0 ||
	    db_set_str(db, "task", ref, "finished", now, err) != 0 ||
	    db_set(db, "task", ref, "allowed_operations", none, err) != 0 ||
	    db_set(db, "task", ref, "current_operations", no_operations, err) != 0 ||
	    (result && db_set_str(db, "task", ref, "result", result, err) != 0) ||
	    (error_info && db_set(db, "task", ref, "error_info", info, err) != 0) ||
	    (message && db_map_set(db, "task", ref, "other_config", "error_message", message,
				   err) != 0) ||
	    map_remove(db, ref, SMD_PARAMS("waits_for", "stalled_since", "queue_position"),
		       err) != 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

static void
finish(struct tasks *tasks, const char *ref, const char *status, const char *result,
       const char *const *error_info, const char *message)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct db *db = tasks->daemon->db;
	bool destroy;

	running_remove(tasks, ref, &destroy);
	if ((destroy ? db_delete(db, "task", ref, &err)
		     : row_finish(db, ref, status, result, error_info, message, &err)) != 0)
		log_trouble(ref, &err);
}

void
task_succeed(struct tasks *tasks, const char *ref, const char *result_xml)
{
	finish(tasks, ref, "success", result_xml, NULL, NULL);
}

void
task_fail(struct tasks *tasks, const char *ref, const struct smd_error *error)
{
	bool cancelled = smd_error_is(error, SMD_E_TASK_CANCELLED);
	CLEANUP_FREE const char **info = NULL;
	size_t n = 0;

	if (cancelled) {	/* whatever the one who noticed called it */
		finish(tasks, ref, "cancelled", NULL, SMD_PARAMS(error->code, ref),
		       task_stopped(tasks, ref) ? CUT_OFF : NULL);
		return;
	}
	while (error->params && error->params[n])
		n++;
	info = smd_calloc(n + 2, sizeof *info);
	info[0] = error->code;
	for (size_t i = 0; i < n; i++)
		info[i + 1] = error->params[i];
	finish(tasks, ref, "failure", NULL, info, error->message);
}

void
task_leave(struct tasks *tasks, const char *ref)
{
	bool destroy;

	running_remove(tasks, ref, &destroy);
}

/* ---- Making -------------------------------------------------------------------- */

int
task_promise(struct tasks *tasks, const char *ref, const char *object, struct smd_error *err)
{
	CLEANUP_FREE char *xml = smd_asprintf("<value>%s</value>", object);
	struct db *db = tasks->daemon->db;

	if (!ref)
		return 0;
	if (task_show(tasks, ref, err) != 0)
		return -1;
	if (!db_exists(db, "task", ref))
		return 0;
	if (db_map_set(db, "task", ref, "other_config", PROMISE_KEY, PROMISE_VALUE, err) != 0)
		return -1;
	return db_set_str(db, "task", ref, "result", xml, err);
}

/* One of the run before, which nothing goes on with. */
static int
end_pending(struct db *db, const char *ref, struct smd_error *err)
{
	CLEANUP_FREE char *result = NULL, *phase = NULL;

	if (db_get_str(db, "task", ref, "result", &result, err) != 0 ||
	    db_map_get(db, "task", ref, "other_config", PROMISE_KEY, &phase, err) != 0)
		return -1;
	if (*result && phase && strcmp(phase, PROMISE_VALUE) == 0)
		return row_finish(db, ref, "success", result, NULL, NULL, err);
	return row_finish(db, ref, "cancelled", NULL, SMD_PARAMS("TASK_CANCELLED", ref), CUT_OFF, err);
}

static int
fail_pending(struct tasks *tasks, struct smd_error *err)
{
	CLEANUP_JSON json *refs = NULL;
	struct db *db = tasks->daemon->db;

	if (db_find(db, "task", "status", "pending", &refs, err) != 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(refs); i++) {
		const char *ref = json_object_get_string(json_object_array_get_idx(refs, i));

		if (jobs_left_task(tasks->daemon->jobs, ref))
			continue;
		if (end_pending(db, ref, err) != 0)
			return -1;
	}
	return 0;
}

struct tasks *
tasks_new(struct daemon *daemon)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct tasks *tasks = smd_calloc(1, sizeof *tasks);

	tasks->daemon = daemon;
	tasks->owners = json_object_new_object();
	pthread_mutex_init(&tasks->lock, NULL);
	pthread_cond_init(&tasks->changed, NULL);
	if (fail_pending(tasks, &err) != 0)
		smd_log(SMD_LOG_WARNING, "tasks of the run before: %s", err.message);
	return tasks;
}

void
tasks_free(struct tasks *tasks)
{
	if (!tasks)
		return;
	for (struct running *r = tasks->running, *next; r; r = next) {
		next = r->next;
		running_free(r);
	}
	pthread_cond_destroy(&tasks->changed);
	pthread_mutex_destroy(&tasks->lock);
	json_object_put(tasks->owners);
	free(tasks);
}

/* Forget the owners of tasks that are gone, now and then. The database is not asked
 * with the lock held. */
static void
owners_prune(struct tasks *tasks)
{
	CLEANUP_JSON json *known = NULL;

	{
		LOCK_SCOPE(&tasks->lock);
		if (json_object_object_length(tasks->owners) < OWNERS_MAX)
			return;
		if (json_object_deep_copy(tasks->owners, &known, NULL) < 0)
			return;
	}
	json_object_object_foreach(known, ref, owner) {
		(void)owner;
		if (db_exists(tasks->daemon->db, "task", ref))
			continue;
		LOCK_SCOPE(&tasks->lock);
		json_object_object_del(tasks->owners, ref);
	}
}

/* name: where it has no row yet. */
static struct running *
running_add(struct tasks *tasks, const char *ref, const char *name, const char *owner)
{
	struct running *r = smd_calloc(1, sizeof *r);

	r->ref = smd_strdup(ref);
	r->name = smd_strdup(name);
	r->seen = !name;
	r->since_ms = smd_now_ms();
	if (owner)
		owners_prune(tasks);
	LOCK_SCOPE(&tasks->lock);
	if (owner)
		smd_json_set_str(tasks->owners, ref, owner);
	r->next = tasks->running;
	tasks->running = r;
	stall_watch(ref);
	return r;
}

static int
row_insert(struct tasks *tasks, const char *ref, const char *name, const char *description,
	   struct smd_error *err)
{
	CLEANUP_JSON json *record = json_object_new_object();
	CLEANUP_FREE char *now = db_now();

	smd_json_set_str(record, "uuid", smd_uuid_new().text);
	smd_json_set_str(record, "name_label", name);
	smd_json_set_str(record, "name_description", description);
	smd_json_set_str(record, "created", now);
	smd_json_set_str(record, "status", "pending");
	smd_json_set_str(record, "type", "<none/>");
	smd_json_set_str(record, "resident_on", tasks->daemon->host_ref);
	return db_insert(tasks->daemon->db, "task", ref, record, err);
}

int
task_create(struct tasks *tasks, const char *name, const char *description,
	    const char *owner, char **ret_ref, struct smd_error *err)
{
	CLEANUP_FREE char *ref = db_new_ref();

	if (db_begin(tasks->daemon->db, DB_RELAXED, err) != 0 ||
	    db_end(tasks->daemon->db, row_insert(tasks, ref, name, description, err), err) != 0)
		return -1;
	running_add(tasks, ref, NULL, owner);
	stall_says_anew(ref, "the client that made it, which has begun nothing with it");
	*ret_ref = TAKE_PTR(ref);
	return 0;
}

char *
task_begin(struct tasks *tasks, const char *name)
{
	char *ref = db_new_ref();

	running_add(tasks, ref, name, NULL)->taken = true;
	stall_says_anew(ref, OWN_PART);
	return ref;
}

/* Its name, if its caller waits for its end and whether it has a row is as asked; the
 * caller frees. */
static char *
name_of(struct tasks *tasks, const char *ref, bool seen)
{
	const struct running *r;

	LOCK_SCOPE(&tasks->lock);
	r = running_find(tasks, ref);
	return r && r->seen == seen ? smd_strdup(r->name) : NULL;
}

/* False: it has ended. */
static bool
note_seen(struct tasks *tasks, const char *ref, bool seen)
{
	struct running *r;

	LOCK_SCOPE(&tasks->lock);
	r = running_find(tasks, ref);
	if (r)
		r->seen = seen;
	return r != NULL;
}

/* What may be asked of a task that has a row and works, and was not told to stop; NULL:
 * it is none. */
static const char *const *
operations_of(struct tasks *tasks, const char *ref)
{
	static const char *const none[] = { NULL };
	static const char *const cancel[] = { "cancel", NULL };
	static const char *const running[] = { "cancel", "pause", NULL };
	static const char *const paused[] = { "cancel", "resume", NULL };
	const struct running *r;

	LOCK_SCOPE(&tasks->lock);
	r = running_find(tasks, ref);
	if (!r || !r->seen || r->cancelled)
		return NULL;
	if (!r->had_hook)
		return none;
	return !r->pause ? cancel : r->paused ? paused : running;
}

/* Within a transaction, so that it is done once. */
static int
row_show(struct tasks *tasks, const char *ref, struct smd_error *err)
{
	CLEANUP_FREE char *name = name_of(tasks, ref, false);
	CLEANUP_JSON json *allowed = NULL;

	if (!name)
		return 0;
	if (row_insert(tasks, ref, name, "", err) != 0)
		return -1;
	if (!note_seen(tasks, ref, true))
		return db_delete(tasks->daemon->db, "task", ref, err);
	allowed = string_array(operations_of(tasks, ref));
	return db_set(tasks->daemon->db, "task", ref, "allowed_operations", allowed, err);
}

int
task_hide(struct tasks *tasks, const char *ref, struct smd_error *err)
{
	CLEANUP_FREE char *name = name_of(tasks, ref, true);

	return name ? db_delete(tasks->daemon->db, "task", ref, err) : 0;
}

void
task_hidden(struct tasks *tasks, const char *ref)
{
	CLEANUP_FREE char *name = name_of(tasks, ref, true);

	if (name)
		note_seen(tasks, ref, false);
}

int
task_show(struct tasks *tasks, const char *ref, struct smd_error *err)
{
	if (db_begin(tasks->daemon->db, DB_RELAXED, err) != 0)
		return -1;
	return db_end(tasks->daemon->db, row_show(tasks, ref, err), err);
}

/* Those without a row that can be cancelled for so long; a new reference. */
static json *
unseen_refs(struct tasks *tasks, unsigned after_ms)
{
	uint64_t now_ms = smd_now_ms();
	json *refs = json_object_new_array();

	LOCK_SCOPE(&tasks->lock);
	for (struct running *r = tasks->running; r; r = r->next) {
		if (!r->seen && r->had_hook && now_ms - r->since_ms >= after_ms)
			json_object_array_add(refs, json_object_new_string(r->ref));
	}
	return refs;
}

void
tasks_show(struct tasks *tasks, unsigned after_ms)
{
	CLEANUP_JSON json *refs = unseen_refs(tasks, after_ms);

	for (size_t i = 0; i < json_object_array_length(refs); i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		const char *ref = json_object_get_string(json_object_array_get_idx(refs, i));

		if (task_show(tasks, ref, &err) != 0)
			log_trouble(ref, &err);
	}
}

/* Nobody waits for the disk for it: one that comes back after a power cut is ended as any
 * that nobody can end. */
void
task_end(struct tasks *tasks, const char *ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct db *db = tasks->daemon->db;
	bool destroy;

	if (!running_remove(tasks, ref, &destroy))
		return;
	if (db_begin(db, DB_RELAXED, &err) != 0 ||
	    db_end(db, db_delete(db, "task", ref, &err), &err) != 0)
		log_trouble(ref, &err);
}

char *
task_owner(struct tasks *tasks, const char *ref)
{
	const char *owner;

	LOCK_SCOPE(&tasks->lock);
	owner = smd_json_str(tasks->owners, ref, NULL);
	return owner ? smd_strdup(owner) : NULL;
}

int
task_take(struct tasks *tasks, const char *ref, struct smd_error *err)
{
	struct running *r;

	LOCK_SCOPE(&tasks->lock);
	r = running_find(tasks, ref);
	if (!r || r->taken)
		return smd_fail_OPERATION_NOT_ALLOWED(err, ref, "task %s %s", ref,
						      r ? "is of another operation" : "has ended");
	r->taken = true;
	stall_says_anew(ref, OWN_PART);
	return 0;
}

bool
task_is_taken(struct tasks *tasks, const char *ref)
{
	const struct running *r;

	LOCK_SCOPE(&tasks->lock);
	r = running_find(tasks, ref);
	return r && r->taken;
}

/* ---- Progress ------------------------------------------------------------------ */

static int
row_progress(struct tasks *tasks, const char *ref, double progress, const char *const *details,
	     struct smd_error *err)
{
	CLEANUP_JSON json *value = json_object_new_double(progress);
	struct db *db = tasks->daemon->db;

	if (db_begin(db, DB_RELAXED, err) != 0)
		return -1;
	if (row_show(tasks, ref, err) != 0 || db_set(db, "task", ref, "progress", value, err) != 0) {
		db_rollback(db);
		return -1;
	}
	for (; details && details[0]; details += 2) {
		if (db_map_set(db, "task", ref, "other_config", details[0], details[1], err) != 0) {
			db_rollback(db);
			return -1;
		}
	}
	return db_commit(db, err);
}

/* Note the progress; whether it is to be shown now. What is done once more moves bytes and
 * no progress. With the lock. */
static bool
progress_due(struct running *r, double progress, uint64_t done)
{
	uint64_t now = smd_now_ms();
	bool moved;

	if (progress > r->progress)
		r->progress = progress < 1 ? progress : 1;
	moved = r->progress > r->shown || done != r->shown_done;
	if (r->progress - r->shown < PROGRESS_STEP && !(r->progress == 1 && r->shown < 1) &&
	    (!moved || now - r->shown_ms < PROGRESS_INTERVAL_MS))
		return false;
	r->shown = r->progress;
	r->shown_ms = now;
	r->shown_done = done;
	return true;
}

void
task_progress(struct tasks *tasks, const char *ref, double progress)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct running *r;

	if (!ref)
		return;
	{
		LOCK_SCOPE(&tasks->lock);
		r = running_find(tasks, ref);
		if (!r || !progress_due(r, progress, r->shown_done))
			return;
		progress = r->progress;
	}
	if (row_progress(tasks, ref, progress, NULL, &err) != 0)
		log_trouble(ref, &err);
	stall_moved(ref);
}

/* Bytes a second, of late. A transfer whose count falls is another; one that goes on where
 * another ended has not moved what lies before that. */
static uint64_t
transfer_rate(struct running *r, uint64_t done)
{
	uint64_t now = smd_now_ms();

	if (r->since.ms == 0 || done < r->transfer_last) {
		r->since = r->later = (struct sample){ now, done };
	} else if (now - r->later.ms >= RATE_WINDOW_MS) {
		r->since = r->later;
		r->later = (struct sample){ now, done };
	}
	r->transfer_last = done;
	return now > r->since.ms ? (done - r->since.done) * 1000 / (now - r->since.ms) : 0;
}

void
task_transfer(struct tasks *tasks, const char *ref, double from, double to,
	      uint64_t done, uint64_t total)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	double progress = total ? from + (to - from) * ((double)done / (double)total) : to;
	struct running *r;
	uint64_t rate;

	if (!ref)
		return;
	{
		LOCK_SCOPE(&tasks->lock);
		r = running_find(tasks, ref);
		if (!r)
			return;
		rate = transfer_rate(r, done);
		if (!progress_due(r, progress, done))
			return;
		progress = r->progress;
	}
	if (row_progress(tasks, ref, progress, SMD_PARAMS(
			 "bytes_done", SMD_U64(done),
			 "bytes_total", SMD_U64(total),
			 "bytes_per_second", SMD_U64(rate),
			 "seconds_left", SMD_U64(rate && total > done ? (total - done) / rate : 0)),
			 &err) != 0)
		log_trouble(ref, &err);
	stall_moved(ref);
}

/* Within a transaction. */
static int
row_pairs(struct tasks *tasks, const char *ref, const char *const *pairs, struct smd_error *err)
{
	struct db *db = tasks->daemon->db;
	int r = row_show(tasks, ref, err);

	for (; r == 0 && pairs[0]; pairs += 2)
		r = *pairs[1] ? db_map_set(db, "task", ref, "other_config", pairs[0], pairs[1], err)
			      : db_map_remove(db, "task", ref, "other_config", pairs[0], err);
	return r;
}

static int
row_note(struct tasks *tasks, const char *ref, const char *const *pairs, struct smd_error *err)
{
	if (db_begin(tasks->daemon->db, DB_RELAXED, err) != 0)
		return -1;
	return db_end(tasks->daemon->db, row_pairs(tasks, ref, pairs, err), err);
}

void
task_note(struct tasks *tasks, const char *ref, const char *const *pairs)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (!ref)
		return;
	if (row_note(tasks, ref, pairs, &err) != 0)
		log_trouble(ref, &err);
	stall_moved(ref);
	for (; pairs[0]; pairs += 2) {
		if (strcmp(pairs[0], "waits_for") == 0)
			stall_explained(ref, pairs[1]);
	}
}

void
task_stalled(struct tasks *tasks, const struct task_stall *list, size_t n)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct db *db = tasks->daemon->db;

	if (n == 0)
		return;
	if (db_begin(db, DB_RELAXED, &err) != 0) {
		log_trouble(list[0].ref, &err);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		bool stands = *list[i].waits_for;
		CLEANUP_FREE char *since = stands ? time_ago(list[i].seconds) : smd_strdup("");

		/* A row that is gone does not hurt the others'. */
		if (row_pairs(tasks, list[i].ref, SMD_PARAMS("waits_for", list[i].waits_for,
			      "stalled_since", since), &err) != 0)
			log_trouble(list[i].ref, &err);
	}
	if (db_commit(db, &err) != 0)
		log_trouble(list[0].ref, &err);
}

/* ---- Cancelling ------------------------------------------------------------------ */

static void
row_operations(struct tasks *tasks, const char *ref, const char *const *allowed,
	       const char *current)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *set = string_array(allowed);
	CLEANUP_JSON json *map = json_object_new_object();
	struct db *db = tasks->daemon->db;

	if (current)
		smd_json_set_str(map, ref, current);
	if (db_begin(db, DB_RELAXED, &err) != 0) {
		log_trouble(ref, &err);
		return;
	}
	if (row_show(tasks, ref, &err) != 0 ||
	    db_set(db, "task", ref, "allowed_operations", set, &err) != 0 ||
	    db_set(db, "task", ref, "current_operations", map, &err) != 0) {
		db_rollback(db);
		log_trouble(ref, &err);
	} else if (db_commit(db, &err) != 0) {
		log_trouble(ref, &err);
	}
}

/* A task without a row comes with them when it is shown. */
static void
show_operations(struct tasks *tasks, const char *ref)
{
	const char *const *allowed = operations_of(tasks, ref);

	if (allowed)
		row_operations(tasks, ref, allowed, NULL);
}

/* Without the lock, while nobody takes the hooks away. */
static void
call_hook(struct tasks *tasks, struct running *r, void (*hook)(void *opaque))
{
	void *opaque = r->opaque;

	r->in_hook = true;
	r->hook_thread = pthread_self();
	pthread_mutex_unlock(&tasks->lock);
	hook(opaque);
	pthread_mutex_lock(&tasks->lock);
	r->in_hook = false;
	pthread_cond_broadcast(&tasks->changed);
}

/* Call the hook, once. */
static void
run_hook(struct tasks *tasks, struct running *r)
{
	void (*cancel)(void *opaque) = r->cancel;

	if (!cancel || r->in_hook)
		return;
	r->cancel = NULL;
	call_hook(tasks, r, cancel);
}

/* The daemon ends: at a mark, where the work can. */
static void
run_stop(struct tasks *tasks, struct running *r)
{
	r->stopped = true;
	if (r->stop && !r->cancelled) {
		call_hook(tasks, r, r->stop);
		return;
	}
	r->cancelled = true;
	run_hook(tasks, r);
}

/* With the lock: once nobody is in a hook of it, who may end it meanwhile. */
static struct running *
find_at_rest(struct tasks *tasks, const char *ref)
{
	struct running *r;

	while ((r = running_find(tasks, ref)) && r->in_hook &&
	       !pthread_equal(r->hook_thread, pthread_self()))
		pthread_cond_wait(&tasks->changed, &tasks->lock);
	return r;
}

void
task_set_stop(struct tasks *tasks, const char *ref, void (*cancel)(void *opaque),
	      void (*stop)(void *opaque), void *opaque)
{
	struct running *r;
	bool first;

	{
		LOCK_SCOPE(&tasks->lock);
		r = find_at_rest(tasks, ref);
		if (!r)
			return;
		r->cancel = cancel;
		r->stop = stop;
		r->opaque = opaque;
		r->stopped = false;
		first = cancel && !r->had_hook;
		r->had_hook |= cancel != NULL;
		if (cancel && r->cancelled)
			run_hook(tasks, r);
		else if (cancel && tasks->stopping)
			run_stop(tasks, r);
	}
	if (first)
		show_operations(tasks, ref);
}

void
task_set_cancel(struct tasks *tasks, const char *ref, void (*cancel)(void *opaque), void *opaque)
{
	task_set_stop(tasks, ref, cancel, NULL, opaque);
}

bool
task_cancelled(struct tasks *tasks, const char *ref)
{
	struct running *r;

	if (!ref)
		return false;
	LOCK_SCOPE(&tasks->lock);
	r = running_find(tasks, ref);
	return r && r->cancelled;
}

bool
task_stopped(struct tasks *tasks, const char *ref)
{
	struct running *r;

	if (!ref)
		return false;
	LOCK_SCOPE(&tasks->lock);
	r = running_find(tasks, ref);
	return r && tasks->stopping && !r->asked;
}

int
task_cancel(struct tasks *tasks, const char *ref, struct smd_error *err)
{
	struct running *r;
	bool known;

	if (!db_exists(tasks->daemon->db, "task", ref))
		return smd_fail_HANDLE_INVALID(err, "task", ref, "there is no task %s", ref);
	{
		LOCK_SCOPE(&tasks->lock);
		r = running_find(tasks, ref);
		known = r != NULL;
	}
	if (!known)
		return 0;	/* it has ended: nothing is left to cancel */
	row_operations(tasks, ref, NULL, "cancel");
	LOCK_SCOPE(&tasks->lock);
	r = find_at_rest(tasks, ref);
	if (r) {
		r->cancelled = r->asked = true;
		run_hook(tasks, r);
	}
	return 0;
}

int
task_destroy(struct tasks *tasks, const char *ref, struct smd_error *err)
{
	bool pending = false;
	struct running *r;

	{
		LOCK_SCOPE(&tasks->lock);
		r = running_find(tasks, ref);
		if (r && (r->taken || r->had_hook))
			r->destroy = pending = true;
	}
	if (pending) {
		row_operations(tasks, ref, SMD_PARAMS("cancel"), "destroy");
		return 0;
	}
	/* Ended, or a client's own that nothing of ours works for. */
	running_remove(tasks, ref, &pending);
	return db_delete(tasks->daemon->db, "task", ref, err);
}

void
task_forget(struct tasks *tasks, const char *ref)
{
	bool destroy;

	running_remove(tasks, ref, &destroy);
}

/* With the lock: one that works and was not told to stop yet; again: or to give up. */
static struct running *
running_to_stop(struct tasks *tasks, bool again)
{
	struct running *r = tasks->running;

	while (r && (!r->cancel || r->in_hook || (r->stopped && !again)))
		r = r->next;
	return r;
}

static bool
any_working(struct tasks *tasks)
{
	for (struct running *r = tasks->running; r; r = r->next) {
		if (r->had_hook)
			return true;
	}
	return false;
}

/* With the lock. */
static void
wait_idle(struct tasks *tasks, time_t seconds)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	while (any_working(tasks)) {
		if (pthread_cond_timedwait(&tasks->changed, &tasks->lock, &until) != 0)
			return;
	}
}

void
tasks_stop_all(struct tasks *tasks)
{
	struct running *r;

	LOCK_SCOPE(&tasks->lock);
	tasks->stopping = true;
	while ((r = running_to_stop(tasks, false)))
		run_stop(tasks, r);
	wait_idle(tasks, STOP_WAIT_S);
	while ((r = running_to_stop(tasks, true)))
		run_hook(tasks, r);
	wait_idle(tasks, KILL_WAIT_S);
}

/* Of those that work; a new reference each. */
static json *
working_refs(struct tasks *tasks)
{
	json *refs = json_object_new_array();

	LOCK_SCOPE(&tasks->lock);
	for (struct running *r = tasks->running; r; r = r->next) {
		if (r->had_hook)
			json_object_array_add(refs, json_object_new_string(r->ref));
	}
	return refs;
}

char *
tasks_status(struct tasks *tasks)
{
	CLEANUP_JSON json *refs = working_refs(tasks);
	size_t n = json_object_array_length(refs);
	char *text = n ? smd_asprintf("%zu %s:", n, n == 1 ? "job" : "jobs") : smd_strdup("");

	for (size_t i = 0; i < n && i < STATUS_MAX; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		const char *ref = json_object_get_string(json_object_array_get_idx(refs, i));
		CLEANUP_JSON json *record = NULL;
		CLEANUP_FREE char *before = text;
		const char *name;

		if (db_get_record(tasks->daemon->db, "task", ref, &record, &err) != 0) {
			text = smd_strdup(before);	/* it has just ended */
			continue;
		}
		name = smd_json_str(record, "name_label", "");
		text = smd_asprintf("%s%s %s %.0f%%", before, i ? "," : "",
				    strncmp(name, "Async.", 6) == 0 ? name + 6 : name,
				    100 * json_object_get_double(smd_json_member(record, "progress")));
	}
	return text;
}

/* What it showed; 0 where that cannot be read. */
static double
row_shown(struct tasks *tasks, const char *ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *progress = NULL;

	if (db_get(tasks->daemon->db, "task", ref, "progress", &progress, &err) != 0)
		log_trouble(ref, &err);
	return json_object_get_double(progress);
}

void
task_adopt(struct tasks *tasks, const char *ref, const char *owner)
{
	double shown = row_shown(tasks, ref);
	struct running *r = running_add(tasks, ref, NULL, owner);

	r->progress = r->shown = shown;
	r->taken = true;
	stall_says_anew(ref, OWN_PART);
	show_operations(tasks, ref);
}

/* ---- Pausing ------------------------------------------------------------------- */

void
task_set_pause(struct tasks *tasks, const char *ref, void (*pause)(void *opaque, bool on),
	       void *opaque)
{
	struct running *r;
	bool changed;

	{
		LOCK_SCOPE(&tasks->lock);
		r = find_at_rest(tasks, ref);
		if (!r)
			return;
		changed = (r->pause != NULL) != (pause != NULL);
		r->pause = pause;
		r->pause_opaque = opaque;
	}
	if (changed && pause)
		show_operations(tasks, ref);
}

void
task_show_paused(struct tasks *tasks, const char *ref, bool paused)
{
	struct running *r;

	{
		LOCK_SCOPE(&tasks->lock);
		r = running_find(tasks, ref);
		if (!r || r->paused == paused)
			return;
		r->paused = paused;
	}
	show_operations(tasks, ref);
}

int
task_pause(struct tasks *tasks, const char *ref, bool on, struct smd_error *err)
{
	struct running *r;

	if (!db_exists(tasks->daemon->db, "task", ref))
		return smd_fail_HANDLE_INVALID(err, "task", ref, "there is no task %s", ref);
	{
		LOCK_SCOPE(&tasks->lock);
		while ((r = running_find(tasks, ref)) && r->in_hook)
			pthread_cond_wait(&tasks->changed, &tasks->lock);
		if (!r || !r->pause || r->cancelled)
			return smd_fail_OPERATION_NOT_ALLOWED(err, ref, "task %s is nothing that "
							      "can be paused now", ref);
		if (r->paused == on)
			return 0;
		r->paused = on;
		r->in_hook = true;
		r->hook_thread = pthread_self();
		pthread_mutex_unlock(&tasks->lock);
		r->pause(r->pause_opaque, on);
		pthread_mutex_lock(&tasks->lock);
		r->in_hook = false;
		pthread_cond_broadcast(&tasks->changed);
	}
	show_operations(tasks, ref);
	return 0;
}

/* ---- Collection ------------------------------------------------------------------ */

struct finished {
	const char *ref, *when;
};

static int
by_time(const void *a, const void *b)
{
	return strcmp(((const struct finished *)a)->when, ((const struct finished *)b)->when);
}

static void
collect_row(struct tasks *tasks, const char *ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	task_forget(tasks, ref);
	if (db_delete(tasks->daemon->db, "task", ref, &err) != 0)
		log_trouble(ref, &err);
}

static void
collect_records(struct tasks *tasks, json *records)
{
	const struct config *config = tasks->daemon->config;
	CLEANUP_FREE char *old = time_ago(config_int(config, "task_max_age"));
	CLEANUP_FREE char *stale = time_ago(PENDING_MAX_S);
	size_t keep = (size_t)config_int(config, "max_tasks"), n = 0;
	CLEANUP_FREE struct finished *list =
		smd_calloc((size_t)json_object_object_length(records), sizeof *list);

	json_object_object_foreach(records, ref, record) {
		const char *finished = smd_json_str(record, "finished", API_EPOCH);

		if (strcmp(smd_json_str(record, "status", ""), "pending") == 0) {
			if (strcmp(smd_json_str(record, "created", ""), stale) < 0 &&
			    json_object_get_double(smd_json_member(record, "progress")) == 0 &&
			    !task_is_taken(tasks, ref))
				collect_row(tasks, ref);
			continue;
		}
		list[n++] = (struct finished){ ref, finished };
	}
	qsort(list, n, sizeof *list, by_time);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(list[i].when, old) < 0 || n - i > keep)
			collect_row(tasks, list[i].ref);
	}
}

void
tasks_collect(struct tasks *tasks)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *records = NULL;

	if (db_all_records(tasks->daemon->db, "task", NULL, &records, &err) != 0)
		log_trouble("", &err);
	else
		collect_records(tasks, records);
}
