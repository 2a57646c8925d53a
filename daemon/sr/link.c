/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/link.h"

#include "common/cleanup.h"
#include "common/lock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/job/worker.h"
#include "daemon/sr/internal.h"
#include "daemon/sr/volume.h"

/* The parent as the request's second layer, for what a child records of it. */
static int
add_parent(struct sr *sr, json *source, const char *parent, const char *format,
	   struct worker_job *job, struct smd_error *err)
{
	json *layer = json_object_new_object();
	int fd;

	if (sr->driver->volume_open(sr->handle, parent, 0, &fd, err) < 0) {
		json_object_put(layer);
		return -1;
	}
	smd_json_set_int(layer, "fd", worker_fd(job, fd));
	smd_json_set_str(layer, "name", parent);
	smd_json_set_str(layer, "format", format);
	json_object_array_add(smd_json_member(source, "layers"), layer);
	return 0;
}

int
volume_set_parent(struct sr *sr, const char *volume, const char *format, const char *parent,
		  const char *parent_format, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true };
	CLEANUP_JSON json *result = NULL;
	CLEANUP_CLOSE int fd = -1;
	json *source;

	if (sr->driver->volume_open(sr->handle, volume, SMD_SR_OPEN_WRITE, &fd, err) < 0)
		return -1;
	source = source_of_fd(fd, volume, format, true, false, &job, err);
	if (!source)
		return -1;
	smd_json_set_str(request, "op", "set-parent");
	smd_json_set(request, "source", source);
	smd_json_set_str(request, "name", parent ? parent : "");
	if (parent && add_parent(sr, source, parent, parent_format, &job, err) < 0) {
		worker_job_done(&job);
		return -1;
	}
	return worker_run(sr->daemon, &job, &result, err);
}

static int
set_hidden_once(struct sr *sr, const char *volume, const char *format, bool hidden,
		struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true };
	CLEANUP_JSON json *result = NULL;
	CLEANUP_CLOSE int fd = -1;
	json *source;

	if (sr->driver->volume_open(sr->handle, volume, SMD_SR_OPEN_WRITE, &fd, err) < 0)
		return -1;
	source = source_of_fd(fd, volume, format, true, false, &job, err);
	if (!source)
		return -1;
	smd_json_set_str(request, "op", "hide");
	smd_json_set(request, "source", source);
	smd_json_set_bool(request, "hidden", hidden);
	return worker_run(sr->daemon, &job, &result, err);
}

int
volume_set_hidden(struct sr *sr, const char *volume, const char *format, bool hidden,
		  struct smd_error *err)
{
	int r = -1;

	if (!storage_format_can(sr->daemon, format, "hidden"))
		return 0;
	for (int tries = 0; tries < LINK_TRIES && r < 0; tries++) {
		smd_error_clear(err);
		r = set_hidden_once(sr, volume, format, hidden, err);
		if (r < 0 && !smd_error_is(err, SMD_E_JOB_WORKER_FAILED))
			break;
	}
	return r;
}

static int
hide(struct sr *sr, const char *volume, const char *format, struct smd_error *err)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (sr->driver->volume_open(sr->handle, volume, SMD_SR_OPEN_WRITE, &fd, err) < 0)
		return -1;
	r = smd_image_lock(fd, true, volume, err);
	if (r != 0)
		return r < 0 ? -1 : 0;	/* read by others: it stays as it is */
	r = volume_set_hidden(sr, volume, format, true, err);
	smd_image_unlock(fd);
	return r;
}

void
volume_hide(struct sr *sr, const char *volume, const char *format)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (hide(sr, volume, format, &err) < 0)
		smd_log(SMD_LOG_WARNING, "%s of SR %s could not be marked hidden: %s", volume,
			sr_uuid(sr), err.message);
}
