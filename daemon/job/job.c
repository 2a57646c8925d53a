/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/job.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/sr/link.h"
#include "daemon/sr/settle.h"
#include "daemon/sr/sr.h"

#define MARKS_DIR "jobs"
#define MAKE_KEY "make"		/* of an entry: what the image is */
#define WHOLE_KEY "whole"	/* of a live plan: its commit was all there was to do */

/* A plan in the journal: {"kind":…, "committed":bool, "undo":[…], "redo":[…],
 * "resume":{…}}. */

struct jobs {
	struct daemon *daemon;
	pthread_mutex_t lock;	/* guards live and left */
	json *live;		/* {id: plan} of the jobs of this run, and what is left of
				 * those that have ended: {"over":true, "undo":[…]} */
	json *left;		/* {id: plan} to be taken up again, as the start found them */
};

/* ---- Files of marks ---- */

static char *
marks_dir(struct daemon *daemon)
{
	CLEANUP_FREE char *state = config_str(daemon->config, "state_dir");

	return smd_asprintf("%s/" MARKS_DIR, state);
}

/* Those of a job, "<id>.<n>"; without an id those of no job that is known. */
static void
marks_remove(struct jobs *jobs, const char *id)
{
	CLEANUP_FREE char *path = marks_dir(jobs->daemon);
	DIR *dir = opendir(path);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		size_t len = strcspn(entry->d_name, ".");
		CLEANUP_FREE char *owner = smd_strndup(entry->d_name, len);

		if (len == 0 || (id ? strcmp(owner, id) != 0 : smd_json_member(jobs->left, owner) != NULL))
			continue;
		if (unlinkat(dirfd(dir), entry->d_name, 0) < 0)
			smd_log(SMD_LOG_WARNING, "%s/%s: %s", path, entry->d_name, strerror(errno));
	}
	if (dir)
		closedir(dir);
}

int
job_marks_open(struct daemon *daemon, const char *id, size_t n, int *ret_fd, struct smd_error *err)
{
	CLEANUP_FREE char *dir = marks_dir(daemon);
	CLEANUP_FREE char *path = smd_asprintf("%s/%s.%zu", dir, id, n);
	int fd;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return smd_fail_INTERNAL_ERROR(err, dir, "cannot make %s: %s", dir, strerror(errno));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return smd_fail_INTERNAL_ERROR(err, path, "cannot open %s: %s", path, strerror(errno));
	*ret_fd = fd;
	return 0;
}

/* ---- Those of the run before ---- */

static bool
goes_on(json *plan)
{
	return smd_json_member(plan, "resume") && !smd_json_bool(plan, "committed", false);
}

/* They are live from now on: what they have made stays. */
static void
find_left(struct jobs *jobs)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *all = NULL;

	if (db_jobs(jobs->daemon->db, &all, &err) < 0) {
		smd_log(SMD_LOG_ERR, "the journal cannot be read: %s", err.message);
		return;
	}
	json_object_object_foreach(all, id, plan) {
		if (!goes_on(plan))
			continue;
		smd_json_set(jobs->live, id, smd_json_copy(plan));
		smd_json_set(jobs->left, id, json_object_get(plan));
	}
	marks_remove(jobs, NULL);
}

struct jobs *
jobs_new(struct daemon *daemon)
{
	struct jobs *jobs = smd_calloc(1, sizeof *jobs);

	jobs->daemon = daemon;
	pthread_mutex_init(&jobs->lock, NULL);
	jobs->live = json_object_new_object();
	jobs->left = json_object_new_object();
	find_left(jobs);
	return jobs;
}

void
jobs_free(struct jobs *jobs)
{
	if (!jobs)
		return;
	json_object_put(jobs->live);
	json_object_put(jobs->left);
	pthread_mutex_destroy(&jobs->lock);
	free(jobs);
}

json *
jobs_left(struct jobs *jobs)
{
	LOCK_SCOPE(&jobs->lock);
	return smd_json_copy(jobs->left);
}

bool
jobs_left_task(struct jobs *jobs, const char *task_ref)
{
	LOCK_SCOPE(&jobs->lock);
	json_object_object_foreach(jobs->left, id, plan) {
		(void)id;
		if (strcmp(smd_json_str(smd_json_member(plan, "resume"), "task", ""), task_ref) == 0)
			return true;
	}
	return false;
}

/* ---- Plans ---- */

static json *
add_entry(json **list, const char *sr_uuid, const char *volume)
{
	json *entry = json_object_new_object();

	if (!*list)
		*list = json_object_new_array();
	smd_json_set_str(entry, "sr", sr_uuid);
	smd_json_set_str(entry, "volume", volume);
	json_object_array_add(*list, entry);
	return entry;
}

void
job_plan_add(json **list, const char *sr_uuid, const char *volume)
{
	add_entry(list, sr_uuid, volume);
}

void
job_plan_add_hidden(json **list, const char *sr_uuid, const char *volume, const char *format)
{
	json *entry = add_entry(list, sr_uuid, volume);

	smd_json_set_str(entry, "format", format);
	smd_json_set_bool(entry, "hidden", true);
}

static void
set_parent(json *entry, const char *parent, const char *parent_format)
{
	if (!parent)
		return;
	smd_json_set_str(entry, "parent", parent);
	smd_json_set_str(entry, "parent-format", parent_format);
}

void
job_plan_add_link(json **list, const char *sr_uuid, const char *volume, const char *format,
		  const char *parent, const char *parent_format)
{
	json *entry = add_entry(list, sr_uuid, volume);

	smd_json_set_str(entry, "format", format);
	set_parent(entry, parent, parent_format);
}

void
job_plan_add_made(json **list, const char *sr_uuid, const char *volume, json *target,
		  const char *parent, const char *parent_format)
{
	json *entry = add_entry(list, sr_uuid, volume);

	smd_json_set(entry, MAKE_KEY, smd_json_copy(target));
	set_parent(entry, parent, parent_format);
}

/* Trees belong to one thread at a time: the journal's copy is its own. */
static json *
copy_list(json *list)
{
	json *copy = NULL;

	if (!list || json_object_deep_copy(list, &copy, NULL) < 0)
		return json_object_new_array();
	return copy;
}

static json *
plan_new(const struct job_plan *plan)
{
	json *j = json_object_new_object();

	smd_json_set_str(j, "kind", plan->kind);
	smd_json_set_bool(j, "committed", false);
	smd_json_set(j, "undo", copy_list(plan->undo));
	smd_json_set(j, "redo", copy_list(plan->redo));
	if (plan->resume)
		smd_json_set(j, "resume", smd_json_copy(plan->resume));
	return j;
}

void
job_forget(struct daemon *daemon, const char *id)
{
	LOCK_SCOPE(&daemon->jobs->lock);
	json_object_object_del(daemon->jobs->live, id);
}

/* live: the same plan, which this takes over. */
static int
begin(struct daemon *daemon, json *stored, json *live, char **ret_id, struct smd_error *err)
{
	struct smd_uuid_text id = smd_uuid_new();

	pthread_mutex_lock(&daemon->jobs->lock);
	json_object_object_add(daemon->jobs->live, id.text, live);
	pthread_mutex_unlock(&daemon->jobs->lock);
	if (db_job_put(daemon->db, id.text, stored, err) < 0) {
		job_forget(daemon, id.text);
		return -1;
	}
	*ret_id = smd_strdup(id.text);
	return 0;
}

int
job_begin(struct daemon *daemon, const struct job_plan *plan, char **ret_id,
	  struct smd_error *err)
{
	CLEANUP_JSON json *stored = plan_new(plan);

	return begin(daemon, stored, plan_new(plan), ret_id, err);
}

int
job_promise(struct daemon *daemon, const char *kind, json *redo, char **ret_id,
	    struct smd_error *err)
{
	const struct job_plan plan = { kind, NULL, redo, NULL };
	CLEANUP_JSON json *stored = plan_new(&plan);
	json *live = plan_new(&plan);

	smd_json_set_bool(stored, "committed", true);
	smd_json_set_bool(live, "committed", true);
	return begin(daemon, stored, live, ret_id, err);
}

/* The plan as the journal has it; NULL: none. New reference. */
static json *
stored_plan(struct daemon *daemon, const char *id, struct smd_error *err)
{
	json *plan;

	return db_job_get(daemon->db, id, &plan, err) < 0 ? NULL : plan;
}

static int
fail_no_job(const char *id, struct smd_error *err)
{
	return smd_fail_INTERNAL_ERROR(err, id, "the journal has no job %s", id);
}

/* Its end will find nothing in the journal, if the transaction succeeds. */
static void
note_whole(struct jobs *jobs, const char *id)
{
	json *plan;

	LOCK_SCOPE(&jobs->lock);
	plan = smd_json_member(jobs->live, id);
	if (plan)
		smd_json_set_bool(plan, WHOLE_KEY, true);
}

/* What leaves nothing to do has ended with its commit. */
static int
commit_plan(struct daemon *daemon, const char *id, json *redo, struct smd_error *err)
{
	CLEANUP_JSON json *plan = stored_plan(daemon, id, err);

	if (!plan)
		return err->code ? -1 : fail_no_job(id, err);
	smd_json_set_bool(plan, "committed", true);
	if (redo)
		smd_json_set(plan, "redo", copy_list(redo));
	if (json_object_array_length(smd_json_member(plan, "redo")) > 0)
		return db_job_put(daemon->db, id, plan, err);
	note_whole(daemon->jobs, id);
	return db_job_delete(daemon->db, id, err);
}

static int
note_in_transaction(struct daemon *daemon, const char *id, json *resume, struct smd_error *err)
{
	CLEANUP_JSON json *plan = stored_plan(daemon, id, err);

	if (!plan)
		return err->code ? -1 : fail_no_job(id, err);
	smd_json_set(plan, "resume", smd_json_copy(resume));
	return db_job_put(daemon->db, id, plan, err);
}

int
job_note(struct daemon *daemon, const char *id, json *resume, struct smd_error *err)
{
	if (db_begin(daemon->db, DB_DURABLE, err) < 0)
		return -1;
	if (note_in_transaction(daemon, id, resume, err) == 0)
		return db_commit(daemon->db, err);
	db_rollback(daemon->db);
	return -1;
}

int
job_committed(struct daemon *daemon, const char *id, struct smd_error *err)
{
	return commit_plan(daemon, id, NULL, err);
}

int
job_committed_to(struct daemon *daemon, const char *id, json *redo, struct smd_error *err)
{
	return commit_plan(daemon, id, redo, err);
}

/* ---- Doing what is left ---- */

static int
delete_volume(struct sr *sr, const char *volume, struct smd_error *err)
{
	smd_log(SMD_LOG_DEBUG, "deleting volume %s of SR %s", volume, sr_uuid(sr));
	return sr_get_driver(sr)->volume_delete(sr_handle(sr), volume, err);
}

/* Nobody can read a disk whose image names the wrong parent: a worker that was killed
 * has a successor. */
static int
link_volume(struct sr *sr, const char *volume, const char *format, json *entry,
	    struct smd_error *err)
{
	int r = -1;

	for (int tries = 0; tries < LINK_TRIES && r < 0; tries++) {
		smd_error_clear(err);
		r = volume_set_parent(sr, volume, format, smd_json_str(entry, "parent", NULL),
				      smd_json_str(entry, "parent-format", ""), err);
		if (r < 0 && !smd_error_is(err, SMD_E_JOB_WORKER_FAILED))
			break;
	}
	return r;
}

static int
do_entry(struct sr *sr, json *entry, struct smd_error *err)
{
	const char *volume = smd_json_str(entry, "volume", "");
	const char *format = smd_json_str(entry, "format", NULL);

	if (smd_json_bool(entry, "hidden", false)) {
		volume_hide(sr, volume, format);
		return 0;
	}
	if (smd_json_member(entry, MAKE_KEY))
		return volume_make_again(sr, volume, smd_json_member(entry, MAKE_KEY),
					 smd_json_str(entry, "parent", NULL),
					 smd_json_str(entry, "parent-format", ""), err);
	return format ? link_volume(sr, volume, format, entry, err)
		      : delete_volume(sr, volume, err);
}

static const char *
wanted(json *entry)
{
	if (smd_json_member(entry, MAKE_KEY))
		return "made again";
	return smd_json_member(entry, "format") ? "linked to its parent" : "deleted";
}

/* What one entry wants; sr: the only SR that counts now, NULL: any that is attached.
 * Returns whether it is done. */
static bool
finish_entry(struct daemon *daemon, json *entry, struct sr *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *uuid = smd_json_str(entry, "sr", "");
	const char *volume = smd_json_str(entry, "volume", "");
	CLEANUP_FREE char *ref = NULL;
	struct sr *used = NULL;
	int r;

	if (sr) {
		if (strcmp(uuid, sr_uuid(sr)) != 0)
			return false;
		r = do_entry(sr, entry, &err);
	} else {
		r = db_by_uuid(daemon->db, "SR", uuid, &ref, &err);
		if (r == 0)
			r = sr_use(daemon, ref, &used, &err);
		if (r == 0) {
			r = do_entry(used, entry, &err);
			sr_release(used);
		}
	}
	if (r < 0)
		smd_log(SMD_LOG_WARNING,
			"volume %s of SR %s is left over, to be %s when the SR is attached "
			"again: %s", volume, uuid, wanted(entry), err.message);
	return r == 0;
}

/* In the place of what was known of a job that has ended. Whether it may have marks: one
 * that could not go on after a kill has none. */
static bool
replace_live(struct jobs *jobs, const char *id, json *entry)
{
	json *plan;
	bool marks;

	LOCK_SCOPE(&jobs->lock);
	plan = smd_json_member(jobs->live, id);
	marks = !plan || smd_json_member(plan, "resume");
	json_object_object_del(jobs->live, id);
	if (entry)
		json_object_object_add(jobs->live, id, entry);
	return marks;
}

/* The job has ended; what is left of it (NULL: nothing) is still nobody else's. */
static void
note_over(struct jobs *jobs, const char *id, json *left)
{
	json *entry = NULL;

	if (left) {
		entry = json_object_new_object();
		smd_json_set_bool(entry, "over", true);
		smd_json_set(entry, "undo", copy_list(left));
	}
	if (replace_live(jobs, id, entry))
		marks_remove(jobs, id);
}

static bool
entry_is(json *entry, const char *uuid, const char *volume)
{
	return strcmp(smd_json_str(entry, "volume", ""), volume) == 0 &&
	       strcmp(smd_json_str(entry, "sr", ""), uuid) == 0;
}

/* makes: only what is to be made counts. */
static bool
list_has(json *list, const char *uuid, const char *volume, bool makes)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		json *entry = json_object_array_get_idx(list, i);

		if ((!makes || smd_json_member(entry, MAKE_KEY)) && entry_is(entry, uuid, volume))
			return true;
	}
	return false;
}

static bool
list_makes(json *list)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		if (smd_json_member(json_object_array_get_idx(list, i), MAKE_KEY))
			return true;
	}
	return false;
}

/* Do a list's entries; made: but for images that are to be there, or hidden, and are. NULL:
 * nothing is left of it. */
static json *
do_list(struct daemon *daemon, json *list, struct sr *sr, bool made)
{
	json *left = NULL;

	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		json *entry = json_object_array_get_idx(list, i);

		if (made && (smd_json_member(entry, MAKE_KEY) ||
			     smd_json_bool(entry, "hidden", false)))
			continue;
		if (finish_entry(daemon, entry, sr))
			continue;
		if (!left)
			left = json_object_new_array();
		json_object_array_add(left, json_object_get(entry));
	}
	return left;
}

static const char *
list_key(json *plan)
{
	return smd_json_bool(plan, "committed", false) ? "redo" : "undo";
}

/* In a transaction: what is left of the plan goes back to the journal; nothing left (NULL):
 * it is forgotten. */
static int
store_left(struct daemon *daemon, const char *id, json *plan, json *left, struct smd_error *err)
{
	if (!left)
		return db_job_delete(daemon->db, id, err);
	smd_json_set(plan, list_key(plan), json_object_get(left));
	json_object_object_del(plan, "resume");
	return db_job_put(daemon->db, id, plan, err);
}

static void
finish_plan(struct daemon *daemon, const char *id, json *plan, struct sr *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *list = json_object_get(smd_json_member(plan, list_key(plan)));
	CLEANUP_JSON json *left = do_list(daemon, list, sr, false);
	bool makes = list_makes(list);

	/* Others may write to what was made once the journal has forgotten it. */
	if (db_begin(daemon->db, makes ? DB_DURABLE : DB_RELAXED, &err) == 0)
		db_end(daemon->db, store_left(daemon, id, plan, left, &err), &err);
	if (err.code)
		smd_log(SMD_LOG_ERR, "job %s stays in the journal: %s", id, err.message);
	note_over(daemon->jobs, id, err.code && makes ? list : left);
}

static int
store_all_left(struct daemon *daemon, char *const *ids, json **plans, json **left, size_t n,
	       struct smd_error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (store_left(daemon, ids[i], plans[i], left[i], err) < 0)
			return -1;
	}
	return 0;
}

static int
keep_all(struct daemon *daemon, struct sr *sr, char *const *ids, json **plans, json **left,
	 size_t n, struct smd_error *err)
{
	for (size_t i = 0; i < n; i++) {
		plans[i] = stored_plan(daemon, ids[i], err);
		if (!plans[i])
			return err->code ? -1 : fail_no_job(ids[i], err);
		left[i] = do_list(daemon, smd_json_member(plans[i], list_key(plans[i])), sr, true);
	}
	if (db_begin(daemon->db, DB_DURABLE, err) < 0 ||
	    db_end(daemon->db, store_all_left(daemon, ids, plans, left, n, err), err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		note_over(daemon->jobs, ids[i], left[i]);
	return 0;
}

int
job_kept(struct daemon *daemon, struct sr *sr, char *const *ids, size_t n, struct smd_error *err)
{
	CLEANUP_FREE json **plans = smd_calloc(n, sizeof *plans);
	CLEANUP_FREE json **left = smd_calloc(n, sizeof *left);
	int r = keep_all(daemon, sr, ids, plans, left, n, err);

	for (size_t i = 0; i < n; i++) {
		json_object_put(plans[i]);
		json_object_put(left[i]);
	}
	return r;
}

/* What is left of a plan without what it says of making the volume; NULL: nothing. */
static json *
list_without(json *list, const char *uuid, const char *volume)
{
	json *rest = NULL;

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json *entry = json_object_array_get_idx(list, i);

		if (smd_json_member(entry, MAKE_KEY) && entry_is(entry, uuid, volume))
			continue;
		if (!rest)
			rest = json_object_new_array();
		json_object_array_add(rest, json_object_get(entry));
	}
	return rest;
}

/* Those that were left over: another that is under way is waited for before this. */
int
job_unpromise(struct daemon *daemon, const char *sr_uuid, const char *volume,
	      struct smd_error *err)
{
	CLEANUP_JSON json *all = NULL;

	if (!job_makes_volume(daemon->jobs, sr_uuid, volume))
		return 0;
	if (db_jobs(daemon->db, &all, err) < 0)
		return -1;
	json_object_object_foreach(all, id, plan) {
		CLEANUP_JSON json *list = json_object_get(smd_json_member(plan, list_key(plan)));
		CLEANUP_JSON json *rest = NULL;

		if (!list_has(list, sr_uuid, volume, true))
			continue;
		rest = list_without(list, sr_uuid, volume);
		if (store_left(daemon, id, plan, rest, err) < 0)
			return -1;
	}
	return 0;
}

void
job_leave(struct daemon *daemon, const char *id)
{
	CLEANUP_JSON json *list = NULL;

	{
		LOCK_SCOPE(&daemon->jobs->lock);
		list = copy_list(smd_json_member(smd_json_member(daemon->jobs->live, id), "redo"));
	}
	note_over(daemon->jobs, id, list);
}

static bool
was_whole(struct jobs *jobs, const char *id)
{
	LOCK_SCOPE(&jobs->lock);
	return smd_json_bool(smd_json_member(jobs->live, id), WHOLE_KEY, false);
}

void
job_end(struct daemon *daemon, const char *id)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *plan = NULL;

	if (db_failure(daemon->db)) {
		smd_log(SMD_LOG_NOTICE, "job %s stays in the journal until smd has been started again",
			id);
		return;
	}
	plan = stored_plan(daemon, id, &err);
	if (plan) {
		finish_plan(daemon, id, plan, NULL);
		return;
	}
	if (err.code || !was_whole(daemon->jobs, id))
		smd_log(SMD_LOG_ERR, "the journal has no job %s%s%s", id, err.code ? ": " : "",
			err.code ? err.message : "");
	note_over(daemon->jobs, id, NULL);
}

static bool
plan_has_sr(json *plan, const char *uuid)
{
	json *list = smd_json_member(plan, list_key(plan));
	size_t n = list ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(smd_json_str(json_object_array_get_idx(list, i), "sr", ""), uuid) == 0)
			return true;
	}
	return n == 0;	/* nothing to do: any SR may clear it away */
}

static bool
is_live(struct jobs *jobs, const char *id)
{
	json *plan;

	LOCK_SCOPE(&jobs->lock);
	plan = smd_json_member(jobs->live, id);
	return plan && !smd_json_bool(plan, "over", false);
}

/* Of jobs that are over, what the journal has forgotten meanwhile (job_unpromise). */
static void
forget_over(struct jobs *jobs, json *journal)
{
	LOCK_SCOPE(&jobs->lock);
	json_object_object_foreach(jobs->live, id, plan) {
		if (smd_json_bool(plan, "over", false) && !smd_json_member(journal, id))
			json_object_object_del(jobs->live, id);
	}
}

void
job_recover(struct daemon *daemon, struct sr *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *all = NULL;

	if (db_failure(daemon->db))
		return;
	if (db_jobs(daemon->db, &all, &err) < 0) {
		smd_log(SMD_LOG_ERR, "the journal cannot be read: %s", err.message);
		return;
	}
	forget_over(daemon->jobs, all);
	json_object_object_foreach(all, id, plan) {
		if (is_live(daemon->jobs, id) || !plan_has_sr(plan, sr_uuid(sr)))
			continue;
		smd_log(SMD_LOG_NOTICE, "%s of an earlier run is %s in SR %s",
			smd_json_str(plan, "kind", "a job"),
			smd_json_bool(plan, "committed", false) ? "finished" : "undone",
			sr_uuid(sr));
		finish_plan(daemon, id, plan, sr);
	}
}

static bool
live_has(struct jobs *jobs, const char *uuid, const char *volume, bool makes)
{
	LOCK_SCOPE(&jobs->lock);
	json_object_object_foreach(jobs->live, id, plan) {
		(void)id;
		if (list_has(smd_json_member(plan, "undo"), uuid, volume, makes) ||
		    list_has(smd_json_member(plan, "redo"), uuid, volume, makes))
			return true;
	}
	return false;
}

bool
job_has_volume(struct jobs *jobs, const char *uuid, const char *volume)
{
	return live_has(jobs, uuid, volume, false);
}

bool
job_makes_volume(struct jobs *jobs, const char *uuid, const char *volume)
{
	return live_has(jobs, uuid, volume, true);
}
