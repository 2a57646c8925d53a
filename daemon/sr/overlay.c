/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/overlay.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/lock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/job.h"
#include "daemon/sr/link.h"
#include "daemon/sr/settle.h"
#include "daemon/sr/tree.h"

/* ---- driver_params: the format's options; SM's `type` where it says what is done ---- */

static bool
format_has_option(struct daemon *daemon, const char *format, const char *name)
{
	json *options = smd_json_member(storage_format(daemon, format), "options");
	size_t n = options ? json_object_array_length(options) : 0;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(smd_json_str(json_object_array_get_idx(options, i), "name", ""), name) == 0)
			return true;
	}
	return false;
}

static bool
is_double(const char *name, const char *value)
{
	return strcmp(name, "type") == 0 && strcmp(value, "double") == 0;
}

static int
check_options(struct overlay *o, struct smd_error *err)
{
	if (!o->options)
		return 0;
	json_object_object_foreach(o->options, name, value) {
		const char *text = json_object_get_string(value);

		if (!is_double(name, text) && !format_has_option(o->daemon, o->format, name))
			return smd_fail_VALUE_NOT_SUPPORTED(
				err, "driver_params", name, "not an option of the format",
				"driver_params: %s=%s is no option of %s", name, text, o->format);
	}
	return 0;
}

static json *
target_options(const struct overlay *o)
{
	json *options = json_object_new_object();

	if (!o->options)
		return options;
	json_object_object_foreach(o->options, name, value) {
		if (!is_double(name, json_object_get_string(value)))
			smd_json_set_str(options, name, json_object_get_string(value));
	}
	return options;
}

/* T of one of the new images. fd -1: none. */
static json *
overlay_target(const struct overlay *o, int fd, const char *name, struct worker_job *job,
	       struct smd_error *err)
{
	json *target = target_of_fd(fd, name, o->format, o->virtual_size, job, err);

	if (target)
		smd_json_set(target, "options", target_options(o));
	return target;
}

/* ---- The plan ---- */

/* Whether nothing has been written to the disk since it came to lie on its parent. */
static int
find_empty(struct overlay *o, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = {
		.request = request, .task_ref = o->task_ref, .urgent = true, .leaves = true,
	};
	CLEANUP_JSON json *result = NULL;
	struct disk *disk = o->disk;
	json *source;

	if (disk->n_parents == 0)
		return 0;
	source = source_of_fd(disk->fd, disk->location, disk->format, false, false, &job, err);
	if (!source)
		return -1;
	smd_json_set_str(request, "op", "own");
	smd_json_set(request, "source", source);
	if (worker_run(o->daemon, &job, &result, err) < 0)
		return smd_error_prefix(err, "VDI %s", disk->uuid);
	o->empty = smd_json_int(result, "data", 1) == 0 && smd_json_int(result, "zero", 1) == 0;
	return 0;
}

static int
measure(struct overlay *o, json *target, int64_t *ret, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .task_ref = o->task_ref, .urgent = true };
	CLEANUP_JSON json *result = NULL;

	smd_json_set_str(request, "op", "measure");
	smd_json_set_int(request, "size", (int64_t)o->virtual_size);
	smd_json_set(request, "target", json_object_get(target));
	if (worker_run(o->daemon, &job, &result, err) < 0)
		return -1;
	*ret = smd_json_int(result, "allocated", 0);
	return 0;
}

#define MEASURED_MAX 64		/* kept */

static pthread_mutex_t measured_lock = PTHREAD_MUTEX_INITIALIZER;
static json *measured;		/* {an image's target: what it takes while empty}; measured_lock */

static int64_t
recall(const char *target)
{
	LOCK_SCOPE(&measured_lock);
	return smd_json_int(measured, target, -1);
}

static void
remember(const char *target, int64_t allocated)
{
	LOCK_SCOPE(&measured_lock);
	if (measured && json_object_object_length(measured) >= MEASURED_MAX) {
		json_object_put(measured);
		measured = NULL;
	}
	if (!measured)
		measured = json_object_new_object();
	smd_json_set_int(measured, target, allocated);
}

/* What an empty image takes depends on nothing but its format, size and options. */
static int
check_room(struct overlay *o, struct smd_error *err)
{
	CLEANUP_JSON json *target = overlay_target(o, -1, "the new image", NULL, err);
	CLEANUP_FREE char *text = smd_json_print(target);
	int64_t allocated = recall(text);

	if (allocated < 0) {
		if (measure(o, target, &allocated, err) < 0)
			return -1;
		remember(text, allocated);
	}
	return sr_check_room(o->disk->sr, (uint64_t)allocated * o->n, err);
}

int
overlay_plan(struct overlay *o, struct smd_error *err)
{
	struct disk *disk = o->disk;

	if (sr_choose_overlay_format(o->daemon, sr_ref(disk->sr), disk->format, disk->virtual_size,
				     disk->vdi_ref, &o->format, err) < 0 ||
	    check_options(o, err) < 0 || find_empty(o, err) < 0)
		return -1;
	o->n = o->empty ? 1 : 2;
	o->virtual_size = format_round_size(o->daemon, o->format, disk->virtual_size);
	if (tree_check_depth(o->daemon->db, o->empty ? disk->parents[0].vdi_ref : disk->vdi_ref,
			     err) < 0)
		return -1;
	return check_room(o, err);
}

/* ---- Making ---- */

static json *
parent_source(const struct overlay *o, struct worker_job *job, struct smd_error *err)
{
	const struct disk *disk = o->disk;

	if (o->empty)
		return source_of_fd(disk->parents[0].fd, disk->parents[0].name,
				    disk->parents[0].format, false, false, job, err);
	return source_of_fd(disk->fd, disk->location, disk->format, false, false, job, err);
}

/* NULL: *err is set. */
static json *
image_target(const struct overlay *o, const struct new_volume *v, struct worker_job *job,
	     struct smd_error *err)
{
	CLEANUP_JSON json *target = overlay_target(o, v->fd, v->name, job, err);
	json *parent = target ? parent_source(o, job, err) : NULL;

	if (!parent)
		return NULL;
	smd_json_set(target, "parents", parent);
	return TAKE_PTR(target);
}

/* While a worker makes the images, and waits for leave to hide the base. */
struct making {
	struct overlay *o;
	overlay_commit_fn *commit;
	void *opaque;
	int base_fd;			/* to hide it by; -1: not hidden */
	bool called;			/* commit was, with this result */
	int result;
	struct smd_error error;
};

static void
commit_made(struct making *m)
{
	struct overlay *o = m->o;
	struct smd_sr_stat stat;

	m->called = true;
	m->result = settle_prepare(o->v, o->n, &stat, &m->error);
	if (m->result == 0)
		m->result = m->commit(m->opaque, &stat, &m->error);
	if (m->result == 0)
		disk_unlock(o->disk);
}

/* By now it is one, for whoever comes. Read by others it stays as it is. */
static bool
made(void *opaque)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct making *m = opaque;

	if (m->called)	/* it has read an image, and may say anything */
		return false;
	commit_made(m);
	return m->result == 0 && smd_image_lock(m->base_fd, true, m->o->disk->location, &err) == 0;
}

/* The base, where it has a mark to be hidden by. */
static int
set_hide(struct making *m, struct worker_job *job, struct smd_error *err)
{
	struct smd_error why CLEANUP_ERROR = SMD_ERROR_INIT;
	struct overlay *o = m->o;
	struct disk *disk = o->disk;
	json *source;

	if (o->empty || !storage_format_can(o->daemon, disk->format, "hidden"))
		return 0;
	if (volume_open(disk->sr, disk->location, SMD_SR_OPEN_WRITE, &m->base_fd, &why) < 0) {
		smd_log(SMD_LOG_WARNING, "%s of SR %s could not be marked hidden: %s",
			disk->location, sr_uuid(disk->sr), why.message);
		return 0;
	}
	source = source_of_fd(m->base_fd, disk->location, disk->format, true, false, job, err);
	if (!source)
		return -1;
	smd_json_set(job->request, "hide", source);
	return 0;
}

static int
set_targets(struct overlay *o, struct worker_job *job, struct smd_error *err)
{
	json *more = json_object_new_array();

	smd_json_set(job->request, "more", more);
	for (size_t i = 0; i < o->n; i++) {
		json *target = image_target(o, &o->v[i], job, err);

		if (!target)
			return -1;
		if (i == 0)
			smd_json_set(job->request, "target", target);
		else
			json_object_array_add(more, target);
	}
	return 0;
}

/* All of them by one worker. */
static int
write_images(struct making *m, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct overlay *o = m->o;
	struct worker_job job = {
		.request = request, .task_ref = o->task_ref, .urgent = true, .leaves = true,
		.made = made, .opaque = m,
	};
	CLEANUP_JSON json *result = NULL;

	smd_json_set_str(request, "op", "create");
	if (set_targets(o, &job, err) < 0 || set_hide(m, &job, err) < 0) {
		worker_job_done(&job);
		return -1;
	}
	return worker_run(o->daemon, &job, &result, err);
}

/* What was committed stays, whatever becomes of its worker; another one may hide the base. */
static int
conclude(struct making *m, int result, struct smd_error *err)
{
	struct overlay *o = m->o;

	if (!m->called && result < 0)
		return volume_fail(o->v[0].sr, err);
	if (!m->called)
		commit_made(m);
	if (m->base_fd >= 0)
		smd_image_unlock(m->base_fd);
	if (m->result == 0 && result < 0)
		volume_hide(o->disk->sr, o->disk->location, o->disk->format);
	smd_error_clear(err);
	smd_error_move(err, &m->error);
	if (m->result < 0)
		return -1;
	settle_publish(TAKE_PTR(o->settling), o->v, o->n);
	return 0;
}

int
overlay_make(struct overlay *o, overlay_commit_fn *commit, void *opaque, struct smd_error *err)
{
	struct making m = { .o = o, .commit = commit, .opaque = opaque, .base_fd = -1 };
	int r;

	for (size_t i = 0; i < o->n; i++) {
		o->v[i] = new_volume_name(o->daemon, o->disk->sr, o->format, o->virtual_size);
		if (new_volume_make(&o->v[i], err) < 0)
			return -1;
	}
	r = conclude(&m, write_images(&m, err), err);
	if (m.base_fd >= 0)
		close(m.base_fd);
	return r;
}

/* The new image as the journal can make it again. */
static void
plan_image(const struct overlay *o, const struct new_volume *v, json **redo)
{
	CLEANUP_JSON json *target = overlay_target(o, -1, v->name, NULL, NULL);
	const struct disk *disk = o->disk;

	if (o->empty)
		job_plan_add_made(redo, sr_uuid(disk->sr), v->name, target, disk->parents[0].name,
				  disk->parents[0].format);
	else
		job_plan_add_made(redo, sr_uuid(disk->sr), v->name, target, disk->location,
				  disk->format);
}

int
overlay_promise(struct overlay *o, const char *old, struct smd_error *err)
{
	const char *sr = sr_uuid(o->disk->sr);
	CLEANUP_JSON json *redo = NULL;

	for (size_t i = 0; i < o->n; i++)
		plan_image(o, &o->v[i], &redo);
	if (old)
		job_plan_add(&redo, sr, old);
	if (!o->empty)
		job_plan_add_hidden(&redo, sr, o->disk->location, o->disk->format);
	return settle_promise(o->kind, o->v, o->n, redo, &o->settling, err);
}

int
overlay_split(struct overlay *o, char **ret_parent, struct smd_error *err)
{
	struct disk *disk = o->disk;
	struct db *db = o->daemon->db;

	if (o->empty)
		return tree_parent(db, disk->vdi_ref, ret_parent, err);
	if (tree_leave_base(db, disk->vdi_ref, volume_allocated(disk->sr, disk->location), ret_parent,
			    err) < 0 ||
	    new_volume_give(&o->v[1], disk->vdi_ref, err) < 0)
		return -1;
	return tree_set_parent(db, disk->vdi_ref, *ret_parent, err);
}

void
overlay_done(struct overlay *o)
{
	settle_forget(o->settling);
	o->settling = NULL;
	for (size_t i = 0; i < 2; i++)
		new_volume_done(&o->v[i]);
	free(o->format);
	o->format = NULL;
}
