/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/collect.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/coalesce.h"
#include "daemon/job/control.h"
#include "daemon/job/stall.h"
#include "daemon/job/task.h"
#include "daemon/sr/cbt.h"
#include "daemon/sr/tree.h"

#define TASK_NAME "SR.collect"
#define RETRY_MS 10000u			/* what waits is looked at again, */
#define RETRY_MAX_MS 300000u		/* and later each time */
#define YIELD_MS 2000u			/* who took an image from us is to get it */
#define NAP_MS 100u

/* An SR that has, or had, work. */
struct place {
	struct place *next;
	char *sr_ref;
	uint64_t due_ms;		/* 0: nothing to do */
	uint64_t retry_ms;		/* the next wait */
	bool running, leaving;		/* leaving: the run is to end */
	bool switched_off;		/* by other_config, when last looked at */
	json *images;			/* what a merge has locked; NULL: none does */
	uint64_t merges;		/* that had any */
	bool yield;			/* somebody wants one of them */
	struct worker_stop *stop;	/* of the merge's worker, while images are locked */
	json *notes;			/* {VDI ref: {"state", "waits_for", "reason"}} */
};

struct collector {
	struct daemon *daemon;
	pthread_mutex_t lock;		/* guards all below */
	pthread_cond_t changed;
	struct place *places;
	unsigned n_running;
	bool stopping;
};

/* One run of one SR; its thread's. */
struct run {
	struct collector *collector;
	struct daemon *daemon;
	struct place *place;
	const char *sr_ref;		/* the place's */
	json *tried;			/* refs of nodes */
	json *before;			/* the notes of the run before */
	char *task;			/* NULL: no work so far */
	uint64_t bytes;			/* of the merges done */
	bool waiting;			/* something is left that may be done later */
	bool cancelled;
};

/* One hidden node that is garbage or has one child. */
struct work {
	char *ref;
	size_t depth;
	bool garbage;
	uint64_t estimate;		/* bytes to write, by what the images take */
};

struct list {
	struct work *work;
	size_t n;
};

/* ---- Places ---- */

/* With the lock. */
static struct place *
place_find(struct collector *collector, const char *ref)
{
	struct place *p = collector->places;

	while (p && strcmp(p->sr_ref, ref) != 0)
		p = p->next;
	return p;
}

static void
place_free(struct place *p)
{
	json_object_put(p->images);
	json_object_put(p->notes);
	free(p->sr_ref);
	free(p);
}

struct collector *
collector_new(struct daemon *daemon)
{
	struct collector *collector = smd_calloc(1, sizeof *collector);

	collector->daemon = daemon;
	pthread_mutex_init(&collector->lock, NULL);
	pthread_cond_init(&collector->changed, NULL);
	return collector;
}

void
collector_stop(struct collector *collector)
{
	if (!collector)
		return;
	LOCK_SCOPE(&collector->lock);
	collector->stopping = true;
	for (struct place *p = collector->places; p; p = p->next) {
		if (p->stop)
			worker_stop(p->stop);
	}
	while (collector->n_running > 0)
		pthread_cond_wait(&collector->changed, &collector->lock);
}

void
collector_free(struct collector *collector)
{
	if (!collector)
		return;
	for (struct place *p = collector->places, *next; p; p = next) {
		next = p->next;
		place_free(p);
	}
	pthread_cond_destroy(&collector->changed);
	pthread_mutex_destroy(&collector->lock);
	free(collector);
}

void
collect_kick(struct daemon *daemon, const char *ref)
{
	struct collector *collector = daemon->collector;
	struct place *p;

	if (!collector)
		return;
	LOCK_SCOPE(&collector->lock);
	p = place_find(collector, ref);
	if (!p) {
		p = smd_calloc(1, sizeof *p);
		p->sr_ref = smd_strdup(ref);
		p->next = collector->places;
		collector->places = p;
	}
	p->due_ms = smd_now_ms();
	p->retry_ms = RETRY_MS;
}

bool
collect_yield(struct daemon *daemon, const char *ref, const char *location)
{
	struct collector *collector = daemon->collector;
	struct place *p;
	uint64_t merge;

	if (!collector)
		return false;
	LOCK_SCOPE(&collector->lock);
	p = place_find(collector, ref);
	if (!p || !smd_json_has_str(p->images, location))
		return false;
	merge = p->merges;
	p->yield = true;
	worker_stop(p->stop);
	while (p->images && p->merges == merge)
		pthread_cond_wait(&collector->changed, &collector->lock);
	return true;
}

void
collect_leave(struct daemon *daemon, const char *ref)
{
	struct collector *collector = daemon->collector;
	struct place *p;

	if (!collector)
		return;
	LOCK_SCOPE(&collector->lock);
	p = place_find(collector, ref);
	if (!p)
		return;
	p->leaving = true;
	if (p->stop)
		worker_stop(p->stop);
	while (p->running)
		pthread_cond_wait(&collector->changed, &collector->lock);
	p->leaving = false;
	p->due_ms = 0;
}

json *
collect_note(struct daemon *daemon, const char *ref, const char *vdi_ref)
{
	struct collector *collector = daemon->collector;
	json *note = NULL, *copy = NULL;
	struct place *p;

	LOCK_SCOPE(&collector->lock);
	p = place_find(collector, ref);
	if (p && p->notes)
		note = smd_json_member(p->notes, vdi_ref);
	if (note)
		copy = smd_json_copy(note);
	return copy;
}

/* ---- Notes ---- */

static void
note(struct run *run, const char *vdi_ref, const char *state, const char *waits_for,
     const char *reason)
{
	json *entry = json_object_new_object();

	smd_json_set_str(entry, "state", state);
	smd_json_set_str(entry, "waits_for", waits_for);
	smd_json_set_str(entry, "reason", reason);
	LOCK_SCOPE(&run->collector->lock);
	smd_json_set(run->place->notes, vdi_ref, entry);
}

static void
note_nothing(struct run *run, const char *vdi_ref)
{
	LOCK_SCOPE(&run->collector->lock);
	json_object_object_del(run->place->notes, vdi_ref);
}

static void
wait_for(struct run *run, const char *vdi_ref, const char *what)
{
	note(run, vdi_ref, "waiting", what, "");
	stall_says_anew(run->task, what);
	run->waiting = true;
}

/* The image that is broken says so in its own row. */
static void
flag_image(struct run *run, struct coalesce *c, const struct smd_error *error)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct disk *disk = coalesce_blamed(c, error);
	CLEANUP_FREE char *why = NULL;

	if (!disk)
		return;
	why = smd_asprintf("%s %s: %s", error->code, error->params[1], error->message);
	db_map_set(run->daemon->db, "VDI", disk->vdi_ref, "sm_config", "image-error", why, &err);
}

/* Logged once, as long as it stays the same. */
static void
fail(struct run *run, struct coalesce *c, const char *vdi_ref, const struct smd_error *error)
{
	json *before = smd_json_member(run->before, vdi_ref);
	bool known = strcmp(smd_json_str(before, "reason", ""), error->message) == 0;

	note(run, vdi_ref, "failed", "", error->message);
	if (smd_error_is(error, SMD_E_JOB_WORKER_FAILED))
		run->waiting = true;	/* killed, perhaps, and not by the image */
	flag_image(run, c, error);
	smd_log_fields(known ? SMD_LOG_DEBUG : SMD_LOG_WARNING, SMD_FIELDS("VDI", vdi_ref),
		       "a chain of SR %s stays as long as it is: %s", run->sr_ref, error->message);
}

/* ---- What there is to do ---- */

static void
list_free(struct list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->work[i].ref);
	free(list->work);
}
#define CLEANUP_LIST CLEANUP(list_free)

static int
image_size(struct db *db, const char *ref, uint64_t *ret, struct smd_error *err)
{
	int64_t size;

	if (db_get_int(db, "VDI", ref, "physical_utilisation", &size, err) < 0)
		return -1;
	*ret = size > 0 ? (uint64_t)size : 0;
	return 0;
}

/* Add a node if it is work. */
static int
look(struct run *run, const char *ref, struct list *list, struct smd_error *err)
{
	struct db *db = run->daemon->db;
	CLEANUP_JSON json *children = NULL;
	struct work w = { .ref = NULL };
	uint64_t own, childs;

	if (tree_children(db, ref, &children, err) < 0)
		return -1;
	if (json_object_array_length(children) > 1)
		return 0;
	w.garbage = json_object_array_length(children) == 0;
	if (tree_depth(db, ref, &w.depth, err) < 0)
		return -1;
	if (!w.garbage) {
		if (image_size(db, ref, &own, err) < 0 ||
		    image_size(db, json_object_get_string(json_object_array_get_idx(children, 0)),
			       &childs, err) < 0)
			return -1;
		w.estimate = own < childs ? own : childs;
	}
	w.ref = smd_strdup(ref);
	list->work = smd_reallocarray(list->work, list->n + 1, sizeof *list->work);
	list->work[list->n++] = w;
	return 0;
}

/* Garbage first; then from the root up, so that what is written into a parent is
 * written once. */
static int
by_order(const void *a, const void *b)
{
	const struct work *x = a, *y = b;

	if (x->garbage != y->garbage)
		return x->garbage ? -1 : 1;
	if (x->depth != y->depth)
		return x->depth < y->depth ? -1 : 1;
	return strcmp(x->ref, y->ref);
}

static int
find_work(struct run *run, struct list *list, struct smd_error *err)
{
	CLEANUP_JSON json *refs = NULL;

	if (tree_unmanaged(run->daemon->db, run->sr_ref, &refs, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(refs); i++) {
		const char *ref = json_object_get_string(json_object_array_get_idx(refs, i));
		struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT;

		/* A row that goes meanwhile, or that no chain leads down from, is none. */
		if (!smd_json_member(run->tried, ref))
			look(run, ref, list, &gone);
	}
	if (list->n > 1)
		qsort(list->work, list->n, sizeof *list->work, by_order);
	return 0;
}

/* ---- Switches ---- */

static bool
is_false(json *other_config, const char *key)
{
	return strcmp(smd_json_str(other_config, key, ""), "false") == 0;
}

/* What of an SR's other_config forbids this; NULL: nothing. leaf: a disk that clients
 * use is the child. */
static const char *
switch_of(struct daemon *daemon, const char *ref, bool garbage, bool leaf)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *other = NULL;

	if (db_get(daemon->db, "SR", ref, "other_config", &other, &err) < 0)
		return NULL;
	if (is_false(other, "gc"))
		return "the SR's other_config, where gc is false";
	if (!garbage && is_false(other, "coalesce"))
		return "the SR's other_config, where coalesce is false";
	if (leaf && is_false(other, "leaf-coalesce"))
		return "the SR's other_config, where leaf-coalesce is false";
	return NULL;
}

/* Whether the node may be worked on; else it waits. */
static bool
may(struct run *run, const struct coalesce *c)
{
	bool garbage = !c->child.sr;
	bool leaf = !garbage && smd_json_bool(c->child.record, "managed", true);
	const char *why = switch_of(run->daemon, run->sr_ref, garbage, leaf);

	if (why) {
		note(run, c->parent.vdi_ref, "waiting", why, "");
		LOCK_SCOPE(&run->collector->lock);
		run->place->switched_off = true;
		return false;
	}
	if (leaf && is_false(smd_json_member(c->child.record, "other_config"), "leaf-coalesce")) {
		wait_for(run, c->parent.vdi_ref, "the VDI's other_config, where leaf-coalesce is false");
		return false;
	}
	if (leaf && cbt_needs_image(run->daemon->db, c->child.vdi_ref)) {
		wait_for(run, c->parent.vdi_ref, "the VDI's next snapshot: its changed blocks are counted "
			 "from here");
		return false;
	}
	return true;
}

/* ---- One piece of work ---- */

static bool
ending(struct run *run)
{
	if (task_cancelled(run->daemon->tasks, run->task))
		return true;
	LOCK_SCOPE(&run->collector->lock);
	return run->collector->stopping || run->place->leaving;
}

/* From here on others may ask for the images. */
static void
hold(struct run *run, const struct coalesce *c)
{
	LOCK_SCOPE(&run->collector->lock);
	run->place->images = coalesce_images(c);
	run->place->merges++;
	run->place->stop = c->stop;
	run->place->yield = false;
	if (run->collector->stopping || run->place->leaving)
		worker_stop(c->stop);
}

/* After the locks are gone. Returns whether somebody asked. */
static bool
let_go(struct run *run)
{
	LOCK_SCOPE(&run->collector->lock);
	json_object_put(run->place->images);
	run->place->images = NULL;
	run->place->stop = NULL;
	pthread_cond_broadcast(&run->collector->changed);
	return run->place->yield;
}

/* The merge under way rests, and the next one does not begin. */
static void
pause_run(void *opaque, bool on)
{
	struct run *run = opaque;

	task_note(run->daemon->tasks, run->task, SMD_PARAMS("state", on ? "paused" : "running",
							     "waits_for", on ? "task.resume" : ""));
	control_pause(run->daemon, run->task, on);
}

static void
begin_task(struct run *run)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *name = NULL, *description = NULL;

	if (run->task)
		return;
	if (db_get_str(run->daemon->db, "SR", run->sr_ref, "name_label", &name, &err) < 0)
		return;
	description = smd_asprintf("Shortens the chains of SR %s and deletes what nobody needs", name);
	if (task_create(run->daemon->tasks, TASK_NAME, description, "", &run->task, &err) < 0)
		return;
	task_take(run->daemon->tasks, run->task, &err);
	task_set_pause(run->daemon->tasks, run->task, pause_run, run);
	stall_thread(run->task);
}

static int
merge(struct run *run, struct coalesce *c, uint64_t after, struct smd_error *err)
{
	struct worker_job job = {
		.task_ref = run->task, .progress_to = 1.0,
		.bytes_before = run->bytes, .bytes_after = after,
	};

	note(run, c->parent.vdi_ref, "merging", "", c->into_parent ? "its child into it"
								   : "it into its child");
	if (coalesce_merge(c, &job, err) == 0)
		return 0;
	/* Some formats cannot grow under their children. */
	if (!c->into_parent || !smd_error_is(err, SMD_E_IMAGE_UNSUPPORTED))
		return -1;
	smd_error_clear(err);
	c->into_parent = false;
	note(run, c->parent.vdi_ref, "merging", "", "it into its child");
	return coalesce_merge(c, &job, err);
}

/* 0 done, 1 it waits, -1. */
static int
check_room(struct run *run, struct coalesce *c, struct smd_error *err)
{
	if (sr_check_room(c->parent.sr, coalesce_room(c), err) == 0)
		return 0;
	if (!smd_error_is(err, SMD_E_SR_FULL))
		return -1;
	wait_for(run, c->parent.vdi_ref, err->message);
	smd_error_clear(err);
	return 1;
}

static int
work_locked(struct run *run, struct coalesce *c, uint64_t after, struct smd_error *err)
{
	int r;

	if (c->child.sr) {
		r = coalesce_choose(c, err);
		if (r == 0)
			r = check_room(run, c, err);
		if (r != 0)
			return r;
		begin_task(run);
		if (merge(run, c, after, err) < 0)
			return -1;
	}
	begin_task(run);
	r = coalesce_commit(c, err);
	if (r != 0)
		return r;
	if (c->child.sr) {
		run->bytes += coalesce_bytes(c);
		smd_log(SMD_LOG_INFO, "VDI %s and its hidden parent %s are one image, %s: %" PRIu64
			" bytes were merged", c->child.uuid, c->parent.uuid,
			c->into_parent ? c->parent.location : c->child.location, coalesce_bytes(c));
	}
	note_nothing(run, c->parent.vdi_ref);
	return 0;
}

static int
work_found(struct run *run, struct coalesce *c, uint64_t after, struct smd_error *err)
{
	CLEANUP_FREE char *busy = NULL, *who = NULL;
	int r = coalesce_lock(c, &busy, err);

	if (r == 0)
		return work_locked(run, c, after, err);
	if (r == 1 && busy) {
		who = smd_asprintf("the image of VDI %s, which is in use", busy);
		wait_for(run, c->parent.vdi_ref, who);
	}
	return r;
}

/* Sleep, unless the run is to end. */
static void
nap(struct run *run, uint64_t ms)
{
	const struct timespec step = { 0, NAP_MS * 1000000L };

	for (uint64_t end = smd_now_ms() + ms; smd_now_ms() < end && !ending(run);)
		nanosleep(&step, NULL);
}

/* What became of it. */
static void
conclude(struct run *run, struct coalesce *c, const char *ref, bool taken,
	 const struct smd_error *err)
{
	if (!err->code)
		return;
	if (!smd_error_is(err, SMD_E_TASK_CANCELLED)) {
		fail(run, c, ref, err);
		return;
	}
	if (taken) {
		/* It is tried again in this run, when whoever it was has it. */
		wait_for(run, ref, "an operation that needs the same chain");
		json_object_object_del(run->tried, ref);
		nap(run, YIELD_MS);
	} else {
		note_nothing(run, ref);
	}
}

static void
work(struct run *run, const struct work *w, uint64_t after)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_stop stop;
	struct coalesce c;
	bool taken;
	int r;

	r = coalesce_find(run->daemon, w->ref, &c, &err);
	if (r != 0 || !may(run, &c)) {
		if (r < 0)
			fail(run, &c, w->ref, &err);
		coalesce_done(&c);
		return;
	}
	worker_stop_init(&stop);
	c.stop = &stop;
	hold(run, &c);
	/* Rows that have changed meanwhile are looked at afresh, later. */
	if (work_found(run, &c, after, &err) == 1)
		run->waiting = true;
	for (size_t i = 0; i < c.n_above; i++)
		disk_unlock(&c.above[i]);
	disk_unlock(&c.child);
	disk_unlock(&c.parent);
	taken = let_go(run);
	conclude(run, &c, w->ref, taken, &err);
	coalesce_done(&c);
	worker_stop_done(&stop);
}

/* ---- A run ---- */

static bool
run_next(struct run *run)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct list list CLEANUP_LIST = { NULL, 0 };
	uint64_t after = 0;

	if (find_work(run, &list, &err) < 0) {
		smd_log(SMD_LOG_WARNING, "the chains of SR %s: %s", run->sr_ref, err.message);
		return false;
	}
	if (list.n == 0)
		return false;
	for (size_t i = 1; i < list.n; i++)
		after += list.work[i].estimate;
	smd_json_set_bool(run->tried, list.work[0].ref, true);
	work(run, &list.work[0], after);
	sr_update_stats(run->daemon, run->sr_ref, &err);
	return true;
}

static void
run_end(struct run *run)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	run->cancelled = ending(run);
	if (!run->task)
		return;
	task_set_pause(run->daemon->tasks, run->task, NULL, NULL);
	if (run->cancelled) {
		smd_fail_TASK_CANCELLED(&err, run->task, "the run was cancelled");
		task_fail(run->daemon->tasks, run->task, &err);
	} else {
		task_transfer(run->daemon->tasks, run->task, 0, 1, run->bytes, run->bytes);
		task_succeed(run->daemon->tasks, run->task, "");
	}
}

/* With the lock: when to look again. */
static void
place_rest(struct place *p, const struct run *run)
{
	p->running = false;
	if (p->due_ms || run->cancelled || !run->waiting)
		return;
	p->due_ms = smd_now_ms() + p->retry_ms;
	p->retry_ms = p->retry_ms < RETRY_MAX_MS / 2 ? 2 * p->retry_ms : RETRY_MAX_MS;
}

static void *
run_main(void *opaque)
{
	struct run *run = opaque;
	struct collector *collector = run->collector;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct sr *sr;

	/* It stays attached; what cannot be used now is looked at when it is attached. */
	if (sr_use(run->daemon, run->sr_ref, &sr, &err) == 0) {
		while (!ending(run) && run_next(run))
			;
		run_end(run);
		sr_release(sr);
	}
	json_object_put(run->tried);
	json_object_put(run->before);
	stall_thread(NULL);
	free(run->task);
	LOCK_SCOPE(&collector->lock);
	place_rest(run->place, run);
	free(run);
	collector->n_running--;
	pthread_cond_broadcast(&collector->changed);
	return NULL;
}

/* With the lock. */
static void
run_begin(struct collector *collector, struct place *p)
{
	struct run *run = smd_calloc(1, sizeof *run);
	pthread_attr_t attr;
	pthread_t thread;

	run->collector = collector;
	run->daemon = collector->daemon;
	run->place = p;
	run->sr_ref = p->sr_ref;
	run->tried = json_object_new_object();
	run->before = p->notes ? p->notes : json_object_new_object();
	p->notes = json_object_new_object();
	p->due_ms = 0;
	p->running = true;
	p->switched_off = false;
	collector->n_running++;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, run_main, run) != 0) {
		collector->n_running--;
		p->running = false;
		p->due_ms = smd_now_ms() + RETRY_MS;
		json_object_put(run->tried);
		json_object_put(run->before);
		free(run);
	}
	pthread_attr_destroy(&attr);
}

/* ---- Ticks ---- */

/* Whom the switches have to be asked for: a merge that must stop, a run that may begin. */
static json *
switched(struct collector *collector)
{
	json *refs = json_object_new_array();

	LOCK_SCOPE(&collector->lock);
	for (struct place *p = collector->places; p; p = p->next) {
		if (p->images || p->switched_off)
			json_object_array_add(refs, json_object_new_string(p->sr_ref));
	}
	return refs;
}

static void
heed_switch(struct collector *collector, const char *ref)
{
	bool off = switch_of(collector->daemon, ref, false, false) != NULL;
	struct place *p;

	LOCK_SCOPE(&collector->lock);
	p = place_find(collector, ref);
	if (off && p->stop) {
		p->yield = true;
		worker_stop(p->stop);
	}
	if (!off && p->switched_off && !p->running)
		p->due_ms = smd_now_ms();
}

void
collect_tick(struct daemon *daemon)
{
	struct collector *collector = daemon->collector;
	CLEANUP_JSON json *refs = switched(collector);
	unsigned max = (unsigned)config_int(daemon->config, "max_workers") / 2;

	for (size_t i = 0; i < json_object_array_length(refs); i++)
		heed_switch(collector, json_object_get_string(json_object_array_get_idx(refs, i)));
	LOCK_SCOPE(&collector->lock);
	for (struct place *p = collector->places; p && !collector->stopping; p = p->next) {
		/* So many beside those that max_workers allows. */
		if (collector->n_running >= (max ? max : 1))
			return;
		if (!p->running && !p->leaving && p->due_ms && p->due_ms <= smd_now_ms())
			run_begin(collector, p);
	}
}
