/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/lasting.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/again.h"
#include "daemon/job/carry.h"
#include "daemon/job/control.h"
#include "daemon/job/copy.h"
#include "daemon/job/phase.h"
#include "daemon/job/stall.h"
#include "daemon/job/task.h"

static const struct lasting_kind *const kinds[] = { &carry_kind, &copy_kind, NULL };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned kicks;		/* lock: SRs attached since the start */
static unsigned n_threads;	/* lock */

/* ---- Waiting ---- */

static void
wake(struct lasting *l, bool *what)
{
	LOCK_SCOPE(&lock);
	(void)l;
	*what = true;
	pthread_cond_broadcast(&changed);
}

static void
cancel_waiting(void *opaque)
{
	struct lasting *l = opaque;

	wake(l, &l->cancelled);
}

static void
stop_waiting(void *opaque)
{
	struct lasting *l = opaque;

	wake(l, &l->stopped);
}

int
lasting_keep(struct lasting *l, const char *key, json *value, struct smd_error *err)
{
	CLEANUP_JSON json *resume = NULL;

	{
		LOCK_SCOPE(&lock);
		smd_json_set(l->resume, key, value);
		resume = smd_json_copy(l->resume);
	}
	return job_note(l->daemon, l->id, resume, err);
}

json *
lasting_kept(struct lasting *l, const char *key)
{
	LOCK_SCOPE(&lock);
	return smd_json_member(l->resume, key);
}

/* Somebody's pause outlives the daemon. */
static void
note_paused(struct lasting *l, bool on)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (lasting_keep(l, "paused", json_object_new_boolean(on), &err) < 0)
		smd_log(SMD_LOG_WARNING, "job %s: %s", l->id, err.message);
}

static void
show_running(struct lasting *l)
{
	task_note(l->daemon->tasks, l->task_ref,
		  SMD_PARAMS("state", "running", "waits_for", "", "error", "", "error_message", ""));
}

/* task.pause and task.resume. */
static void
pause_job(void *opaque, bool on)
{
	struct lasting *l = opaque;

	note_paused(l, on);
	if (on)
		task_note(l->daemon->tasks, l->task_ref,
			  SMD_PARAMS("state", "paused", "waits_for", "task.resume"));
	else
		show_running(l);
	control_pause(l->daemon, l->task_ref, on);
	if (!on)
		wake(l, &l->resumed);
}

/* Until resumed, cancelled, stopped, kicked where that helps, or too late: false. */
static bool
wait_for_change(struct lasting *l, const unsigned *kicks_seen)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)config_int(l->daemon->config, "paused_job_seconds");
	LOCK_SCOPE(&lock);
	while (!l->resumed && !l->cancelled && !l->stopped && (!kicks_seen || kicks == *kicks_seen)) {
		if (pthread_cond_timedwait(&changed, &lock, &until) == ETIMEDOUT)
			return false;
	}
	return true;
}

/* What it waited for has come; where somebody paused it meanwhile, it waits for that. */
static void
show_going_on(struct lasting *l)
{
	if (control_paused(l->task_ref)) {
		task_note(l->daemon->tasks, l->task_ref,
			  SMD_PARAMS("waits_for", "task.resume", "error", "", "error_message", ""));
		return;
	}
	task_show_paused(l->daemon->tasks, l->task_ref, false);
	show_running(l);
}

/* *err: why it waits, which goes where the job goes on. kicks_seen: an SR that is attached may
 * be what it waits for; NULL: it cannot. */
static int
wait_paused(struct lasting *l, const char *waits_for, const unsigned *kicks_seen,
	    struct smd_error *err)
{
	struct tasks *tasks = l->daemon->tasks;
	bool in_time;

	smd_log_fields(SMD_LOG_NOTICE, SMD_FIELDS("TASK", l->task_ref), "%s waits for %s: %s",
		       l->kind->name, waits_for, err->message);
	task_note(tasks, l->task_ref, SMD_PARAMS("state", "paused", "waits_for", waits_for, "error",
						 err->code, "error_message", err->message));
	l->resumed = false;
	task_show_paused(tasks, l->task_ref, true);
	task_set_stop(tasks, l->task_ref, cancel_waiting, stop_waiting, l);
	in_time = wait_for_change(l, kicks_seen);
	task_set_stop(tasks, l->task_ref, NULL, NULL, NULL);
	if (!in_time)
		return -1;
	smd_error_clear(err);
	if (l->cancelled)
		return smd_fail_TASK_CANCELLED(err, l->task_ref, "the task was cancelled");
	if (l->stopped)
		return smd_fail_JOB_STOPPED(err, "%s was stopped, to go on later", l->kind->name);
	show_going_on(l);
	return 0;
}

/* ---- One copy ---- */

static bool
is_full(const struct smd_error *err)
{
	return err->errnum == ENOSPC || err->errnum == EDQUOT;
}

/* What a disk says that was pulled, or a server that went away. */
static bool
is_lost(const struct smd_error *err)
{
	static const int lost[] = {
		EIO, ENOENT, ENODEV, ENXIO, ESTALE, ENOTCONN, ETIMEDOUT, EREMOTEIO, ESHUTDOWN, 0,
	};

	for (const int *e = lost; *e; e++) {
		if (err->errnum == *e)
			return true;
	}
	return false;
}

static void
show_moves(void *opaque, bool reads_back)
{
	struct lasting *l = opaque;

	phase_enter(l->daemon, l->task_ref, reads_back ? PHASE_VERIFY : PHASE_COPY);
}

static int
copy_once(struct lasting *l, const struct lasting_copy *copy, struct worker_job *job, json **ret,
	  struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	json *marks = json_object_new_object();
	int fd;

	job->request = request;
	job->task_ref = l->task_ref;
	job->stoppable = true;
	job->progress_from = PHASE_MOVES_FROM;
	job->progress_to = PHASE_MOVES_TO;
	job->moves = show_moves;
	job->opaque = l;
	smd_json_set_str(request, "op", "convert");
	/* Disks are larger than the memory that others have in use. */
	smd_json_set_bool(request, "spare_cache", true);
	smd_json_set(request, "marks", marks);
	if (new_volume_take(copy->v, err) < 0 || job_marks_open(l->daemon, l->id, copy->n, &fd, err) < 0)
		return -1;
	smd_json_set_int(marks, "fd", worker_fd(job, fd));
	if (copy->fill(copy->opaque, job, err) < 0) {
		worker_job_done(job);
		return -1;
	}
	worker_direct(job, smd_json_member(request, "target"), copy->v->fd);
	return worker_run(l->daemon, job, ret, err);
}

static int
wait_for_room(struct lasting *l, const struct lasting_copy *copy, struct smd_error *err)
{
	CLEANUP_FREE char *room = smd_asprintf("room in SR %s", sr_uuid(copy->v->sr));

	volume_fail(copy->v->sr, err);
	return l->waits ? wait_paused(l, room, NULL, err) : -1;
}

/* What the worker said of its marks. */
static void
note_marks(struct lasting *l, json *result)
{
	const char *over = smd_json_str(result, "started_over", NULL);
	uint64_t at = (uint64_t)smd_json_int(result, "resumed_at", 0);

	if (over) {
		smd_log_fields(SMD_LOG_WARNING, SMD_FIELDS("TASK", l->task_ref),
			       "%s began again at its start: %s", l->kind->name, over);
		task_note(l->daemon->tasks, l->task_ref, SMD_PARAMS("started_over", over));
	}
	if (at > 0)
		task_note(l->daemon->tasks, l->task_ref, SMD_PARAMS("resumed_at", SMD_U64(at)));
}

int
lasting_copy(struct lasting *l, const struct lasting_copy *copy, json **ret, struct smd_error *err)
{
	uint64_t marked = 0;

	for (int tries = 1;; tries++) {
		struct worker_job job = *copy->job;

		if (copy_once(l, copy, &job, ret, err) == 0) {
			note_marks(l, *ret);
			return 0;
		}
		if (job.marked > marked) {
			marked = job.marked;
			tries = 1;
		}
		if (is_full(err)) {
			if (wait_for_room(l, copy, err) < 0)
				return -1;
			tries = 0;
			continue;
		}
		if (!again_may(&job, err) && !is_lost(err))
			return -1;
		if (tries >= AGAIN_TRIES) {
			l->lost = is_lost(err);
			return -1;
		}
		smd_log_fields(SMD_LOG_WARNING, SMD_FIELDS("TASK", l->task_ref),
			       "%s goes on from its last mark: %s", l->kind->name, err->message);
		smd_error_clear(err);
	}
}

/* ---- A job ---- */

int
lasting_committed(struct lasting *l, const char *ref, struct smd_error *err)
{
	return task_promise(l->daemon->tasks, l->task_ref, ref, err);
}

/* It is known from now on. */
static void
lasting_show(struct lasting *l)
{
	task_set_pause(l->daemon->tasks, l->task_ref, pause_job, l);
	task_note(l->daemon->tasks, l->task_ref, SMD_PARAMS("state", "running"));
}

int
lasting_begin(struct lasting *l, struct daemon *daemon, const struct lasting_kind *kind, void *job,
	      const char *task_ref, bool waits, struct job_plan *plan, struct smd_error *err)
{
	CLEANUP_FREE char *owner = task_owner(daemon->tasks, task_ref);

	*l = (struct lasting){
		.daemon = daemon, .kind = kind, .job = job, .waits = waits,
		.task_ref = smd_strdup(task_ref), .resume = json_object_get(plan->resume),
	};
	plan->kind = kind->name;
	smd_json_set_str(plan->resume, "task", task_ref);
	smd_json_set_str(plan->resume, "owner", owner ? owner : "");
	phase_enter(daemon, task_ref, PHASE_RESERVE);
	if (job_begin(daemon, plan, &l->id, err) < 0)
		return -1;
	lasting_show(l);
	return 0;
}

/* By its uuid, as everything that is shown to people. */
static char *
name_sr(struct lasting *l, const char *ref)
{
	struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *uuid = NULL;

	if (db_get_str(l->daemon->db, "SR", ref, "uuid", &uuid, &none) < 0)
		return smd_asprintf("SR %s", ref);
	return smd_asprintf("SR %s", uuid);
}

/* Nothing of the job can be reached: let go of all of it until that may be otherwise. */
static int
wait_for_srs(struct lasting *l, unsigned kicks_seen, struct smd_error *err)
{
	CLEANUP_FREE char *waits_for = l->lost ? smd_strdup("its files")
					       : name_sr(l, err->params ? err->params[0] : "");

	l->kind->close(l->job);
	l->lost = false;
	return wait_paused(l, waits_for, &kicks_seen, err);
}

static bool
can_wait(const struct lasting *l, const struct smd_error *err)
{
	return l->waits && (l->lost || smd_error_is(err, SMD_E_SR_NOT_ATTACHED) ||
			    smd_error_is(err, SMD_E_SR_HAS_NO_PBDS));
}

static int
run(struct lasting *l, int opened, unsigned kicks_seen, char **ret_ref, struct smd_error *err)
{
	for (;;) {
		if (opened == 0 && l->kind->work(l->job, ret_ref, err) == 0)
			return 0;
		if (opened < 0 && is_lost(err))
			l->lost = true;
		if (!can_wait(l, err) || wait_for_srs(l, kicks_seen, err) < 0)
			break;
		{
			LOCK_SCOPE(&lock);
			kicks_seen = kicks;
		}
		opened = l->kind->open(l->job, err);
	}
	l->stopped = smd_error_is(err, SMD_E_JOB_STOPPED);
	return -1;
}

int
lasting_run(struct lasting *l, char **ret_ref, struct smd_error *err)
{
	unsigned seen;

	{
		LOCK_SCOPE(&lock);
		seen = kicks;
	}
	return run(l, 0, seen, ret_ref, err);
}

void
lasting_done(struct lasting *l, struct op_set *ops)
{
	if (l->stopped)
		op_set_keep(ops);
	if (l->task_ref) {
		task_set_pause(l->daemon->tasks, l->task_ref, NULL, NULL);
		task_note(l->daemon->tasks, l->task_ref, l->stopped ?
			  SMD_PARAMS("state", "paused", "waits_for", "the next start of smd") :
			  SMD_PARAMS("state", "concluded", "waits_for", ""));
	}
	if (l->id && !l->stopped)
		job_end(l->daemon, l->id);
	json_object_put(l->resume);
	free(l->task_ref);
	free(l->id);
	l->id = NULL;
	l->task_ref = NULL;
	l->resume = NULL;
}

/* ---- Those of the run before ---- */

struct taken {
	struct lasting l;
	int opened;
	unsigned kicks_seen;
	struct smd_error err;
};

static void *
run_taken(void *opaque)
{
	struct taken *t = opaque;
	struct tasks *tasks = t->l.daemon->tasks;
	CLEANUP_FREE char *task = smd_strdup(t->l.task_ref);
	CLEANUP_FREE char *ref = NULL;
	bool stopped;
	int r;

	stall_thread(task);
	r = run(&t->l, t->opened, t->kicks_seen, &ref, &t->err);
	stopped = t->l.stopped;
	t->l.kind->close(t->l.job);
	t->l.kind->free(t->l.job);
	if (stopped) {
		task_leave(tasks, task);
	} else if (r < 0) {
		smd_log_fields(SMD_LOG_INFO, SMD_FIELDS("TASK", task), "%s: %s: %s",
			       t->l.kind->name, t->err.code, t->err.message);
		task_fail(tasks, task, &t->err);
	} else {
		CLEANUP_FREE char *xml = smd_asprintf("<value>%s</value>", ref);

		task_succeed(tasks, task, xml);
	}
	stall_thread(NULL);
	smd_error_clear(&t->err);
	free(t);
	LOCK_SCOPE(&lock);
	n_threads--;
	pthread_cond_broadcast(&changed);
	return NULL;
}

/* The same task, or where that was deleted another one. */
static char *
take_task(struct daemon *daemon, const struct lasting_kind *kind, json *resume,
	  struct smd_error *err)
{
	const char *ref = smd_json_str(resume, "task", ""), *owner = smd_json_str(resume, "owner", "");
	CLEANUP_FREE char *label = smd_asprintf("Async.%s", kind->name);
	char *made;

	if (db_exists(daemon->db, "task", ref)) {
		task_adopt(daemon->tasks, ref, *owner ? owner : NULL);
		return smd_strdup(ref);
	}
	if (task_create(daemon->tasks, label, "", *owner ? owner : NULL, &made, err) < 0)
		return NULL;
	if (task_take(daemon->tasks, made, err) < 0) {
		free(made);
		return NULL;
	}
	phase_begin(daemon, made, smd_json_bool(resume, "verify", false));
	return made;
}

static void
start_thread(struct taken *t)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	{
		LOCK_SCOPE(&lock);
		n_threads++;
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, run_taken, t);
	pthread_attr_destroy(&attr);
	if (r == 0)
		return;
	smd_log(SMD_LOG_ERR, "no thread for a job: %s", strerror(r));
	run_taken(t);
}

static int
take_up(struct daemon *daemon, const struct lasting_kind *kind, const char *id, json *resume,
	struct smd_error *err)
{
	char *task = take_task(daemon, kind, resume, err);
	struct taken *t;

	if (!task)
		return -1;
	t = smd_calloc(1, sizeof *t);
	t->l = (struct lasting){
		.daemon = daemon, .kind = kind, .task_ref = task, .id = smd_strdup(id),
		.waits = true, .resume = json_object_get(resume),
	};
	t->l.job = kind->load(&t->l, resume);
	lasting_show(&t->l);
	show_running(&t->l);
	if (smd_json_bool(resume, "paused", false) && task_pause(daemon->tasks, task, true, err) < 0)
		smd_error_clear(err);
	smd_log_fields(SMD_LOG_NOTICE, SMD_FIELDS("TASK", task),
		       "%s of an earlier run is taken up again", kind->name);
	t->opened = kind->open(t->l.job, &t->err);
	start_thread(t);
	return 0;
}

static const struct lasting_kind *
kind_of(const char *name)
{
	const struct lasting_kind *const *kind = kinds;

	while (*kind && strcmp((*kind)->name, name) != 0)
		kind++;
	return *kind;
}

void
jobs_resume(struct daemon *daemon)
{
	CLEANUP_JSON json *left = jobs_left(daemon->jobs);

	json_object_object_foreach(left, id, plan) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		/* A tree for its thread alone. */
		CLEANUP_JSON json *resume = smd_json_copy(smd_json_member(plan, "resume"));
		const struct lasting_kind *kind = kind_of(smd_json_str(plan, "kind", ""));

		if (kind && take_up(daemon, kind, id, resume, &err) == 0)
			continue;
		smd_log(SMD_LOG_ERR, "%s of an earlier run is undone: %s",
			smd_json_str(plan, "kind", "a job"), kind ? err.message : "it is not known");
		job_end(daemon, id);
	}
}

void
jobs_kick(struct daemon *daemon)
{
	(void)daemon;
	LOCK_SCOPE(&lock);
	kicks++;
	pthread_cond_broadcast(&changed);
}

void
jobs_wait(struct daemon *daemon)
{
	(void)daemon;
	LOCK_SCOPE(&lock);
	while (n_threads > 0)
		pthread_cond_wait(&changed, &lock);
}
