/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PUT /import_raw_vdi. It writes a new volume and puts it in the old one's place at
 * the end, so that an upload that breaks leaves the disk as it was. A raw body goes
 * straight through a worker into it; an image is spooled in the SR first, since its
 * tables may come after the data they describe.
 */
#include "daemon/api/raw_vdi.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/job/move.h"
#include "daemon/job/task.h"

static int
import_check(struct raw_vdi *t, struct smd_error *err)
{
	if (raw_vdi_open(t, "blocked", true, err) < 0 || transfer_check_upload(&t->io, err) < 0)
		return -1;
	if (smd_json_bool(t->io.disk.record, "read_only", false))
		return smd_fail_VDI_READONLY(err, t->io.disk.vdi_ref, "VDI %s is read-only",
					     t->io.disk.uuid);
	if (strcmp(t->format, RAW) == 0 && !transfer_length_is_open(&t->io) &&
	    t->io.declared > t->io.disk.virtual_size)
		return smd_fail_VDI_TOO_SMALL(err, t->io.disk.vdi_ref, SMD_U64(t->io.declared),
					      "the upload has %" PRIu64 " bytes, VDI %s %" PRIu64,
					      t->io.declared, t->io.disk.uuid, t->io.disk.virtual_size);
	return 0;
}

/* The volume the VDI is to have, in the making. */
static int
import_volume(struct raw_vdi *t, struct smd_error *err)
{
	return new_volume_begin(t->io.daemon, "import_raw_vdi", t->io.disk.sr, t->io.disk.format,
				t->io.disk.virtual_size, t->io.disk.sr, t->io.disk.location, &t->volume, err);
}

static int
create_image(struct raw_vdi *t, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true,
				  .seconds = WORKER_QUESTION_SECONDS };
	CLEANUP_JSON json *result = NULL;
	struct new_volume *v = &t->volume;
	json *target = target_of_fd(v->fd, v->name, v->format, v->virtual_size, &job, err);

	if (!target)
		return -1;
	smd_json_set_str(request, "op", "create");
	smd_json_set(request, "target", target);
	return worker_run(t->io.daemon, &job, &result, err) < 0 ? volume_fail(v->sr, err) : 0;
}

static int
import_start_raw(struct raw_vdi *t, struct smd_error *err)
{
	uint64_t size = transfer_length_is_open(&t->io) ? t->io.disk.virtual_size : t->io.declared;
	json *target;

	if (import_volume(t, err) < 0 || create_image(t, err) < 0)
		return -1;
	target = source_of_fd(t->volume.fd, t->volume.name, t->volume.format, true, false, &t->io.job,
			      err);
	if (!target)
		return -1;
	smd_json_set_str(t->io.request, "op", "import-raw");
	smd_json_set(t->io.request, "source", target);
	smd_json_set_int(t->io.request, "size", (int64_t)size);
	/* A disk whose guest wrote such bytes is raw all the same; its owner knows. */
	if (!t->any_content)
		smd_json_set_str(t->io.request, "declared", RAW);
	return transfer_start(&t->io, false, err);
}

static unsigned
import_begin(struct http_request *request, void **ret_state, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_raw_vdi) struct raw_vdi *t = raw_vdi_new(request);
	unsigned status = transfer_check_session(request, "import_raw_vdi", "VDI.resize", ret_text);
	const char *any_content = http_query(request, "any_content");
	bool probe;
	int r;

	if (status != 0)
		return status;
	t->any_content = any_content && strcmp(any_content, "true") == 0;
	probe = transfer_is_probe(&t->io);
	r = probe ? 0 : transfer_take_task(&t->io, &err);
	if (r == 0)
		r = import_check(t, &err);
	if (r == 0 && probe)
		return 200;
	if (r == 0)
		r = strcmp(t->format, RAW) == 0 ? import_start_raw(t, &err) :
			new_volume_begin(t->io.daemon, "import_raw_vdi", t->io.disk.sr, t->format, 0, NULL,
					 NULL, &t->spool, &err);
	if (r < 0)
		return transfer_answer_error(&t->io, &err, ret_text);
	if (t->spool.fd >= 0 && t->io.task_ref)
		task_set_cancel(t->io.daemon->tasks, t->io.task_ref, transfer_hang_up, &t->io);
	transfer_name_task(&t->io);
	*ret_state = TAKE_PTR(t);
	return 0;
}

static int
write_spool(struct raw_vdi *t, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = pwrite(t->spool.fd, data, len, (off_t)t->io.received);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int errnum = errno;

			smd_fail_VDI_IO_ERROR(&t->io.error, "Device I/O errors", "after %" PRIu64 " bytes: "
					      "%s", t->io.received, strerror(errnum));
			t->io.error.errnum = errnum;
			return -1;
		}
		data += n;
		len -= (size_t)n;
		t->io.received += (uint64_t)n;
	}
	return 0;
}

static int
import_write(void *state, const void *data, size_t len)
{
	struct raw_vdi *t = state;
	const char *p = data;

	if (t->spool.fd >= 0) {
		if (t->io.task_ref && task_cancelled(t->io.daemon->tasks, t->io.task_ref))
			return smd_fail_TASK_CANCELLED(&t->io.error, t->io.task_ref, "the task was cancelled");
		if (write_spool(t, p, len) < 0)
			return -1;
		if (!transfer_length_is_open(&t->io))
			task_transfer(t->io.daemon->tasks, t->io.task_ref, 0, 0.5, t->io.received, t->io.declared);
		return 0;
	}
	return transfer_write(&t->io, data, len);
}

static int
check_complete(const struct raw_vdi *t, bool complete, struct smd_error *err)
{
	if (complete)
		return 0;
	return smd_fail_VDI_IO_ERROR(err, "Device I/O errors", "the upload broke off after %" PRIu64
				     " of %" PRIu64 " bytes; VDI %s is as it was", t->io.received,
				     t->io.declared, t->io.disk.uuid);
}

static int
import_finish_raw(struct raw_vdi *t, bool complete, struct smd_error *err)
{
	if (transfer_stop_pipe(&t->io, err) < 0)
		return -1;
	return check_complete(t, complete, err);
}

/* What the image in the spool is; it came from outside. */
static int
spool_info(struct raw_vdi *t, uint64_t *ret_size, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true,
				  .seconds = WORKER_QUESTION_SECONDS };
	CLEANUP_JSON json *result = NULL;
	json *source = source_of_fd(t->spool.fd, "the upload", t->format, false, true, &job, err);

	if (!source)
		return -1;
	smd_json_set_str(request, "op", "info");
	smd_json_set(request, "source", source);
	if (worker_run(t->io.daemon, &job, &result, err) < 0)
		return -1;
	*ret_size = (uint64_t)smd_json_int(result, "virtual-size", 0);
	return 0;
}

/* Its first corruption, as an error. */
static int
fail_corrupt(json *findings, struct smd_error *err)
{
	for (size_t i = 0; i < json_object_array_length(findings); i++) {
		json *finding = json_object_array_get_idx(findings, i);

		if (strcmp(smd_json_str(finding, "kind", ""), "corruption") == 0)
			return smd_fail_IMAGE_CORRUPT(err, "the upload",
						      smd_json_str(finding, "reason", ""), "%s",
						      smd_json_str(finding, "text", ""));
	}
	return smd_fail_IMAGE_CORRUPT(err, "the upload", "BAD_HEADER", "its check finds corruption");
}

/* Nothing of an image from outside is repaired, or half of it believed. */
static int
spool_check(struct raw_vdi *t, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = {
		.request = request, .task_ref = t->io.task_ref,
		.progress_from = 0.5, .progress_to = 0.5,
	};
	CLEANUP_JSON json *result = NULL;
	json *source = source_of_fd(t->spool.fd, "the upload", t->format, false, true, &job, err);

	if (!source)
		return -1;
	smd_json_set_str(request, "op", "check");
	smd_json_set(request, "source", source);
	worker_loads(&job, sr_ref(t->io.disk.sr));
	if (worker_run(t->io.daemon, &job, &result, err) < 0)
		return -1;
	if (smd_json_int(result, "corruptions", 0) == 0)
		return 0;
	return fail_corrupt(smd_json_member(result, "findings"), err);
}

static int
convert_spool(struct raw_vdi *t, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = {
		.request = request, .task_ref = t->io.task_ref,
		.progress_from = 0.5, .progress_to = 0.98,
	};
	CLEANUP_JSON json *result = NULL;
	struct new_volume *v = &t->volume;
	json *source = source_of_fd(t->spool.fd, "the upload", t->format, false, true, &job, err);
	json *target;

	if (!source)
		return -1;
	smd_json_set_str(request, "op", "convert");
	smd_json_set(request, "source", source);
	target = target_of_fd(v->fd, v->name, v->format, v->virtual_size, &job, err);
	if (!target) {
		worker_job_done(&job);
		return -1;
	}
	smd_json_set(request, "target", target);
	worker_loads(&job, sr_ref(t->io.disk.sr));
	return worker_run(t->io.daemon, &job, &result, err);
}

static int
import_finish_image(struct raw_vdi *t, bool complete, struct smd_error *err)
{
	uint64_t size;

	transfer_ending(&t->io);
	if (t->io.task_ref)
		task_set_cancel(t->io.daemon->tasks, t->io.task_ref, NULL, NULL);
	if (!t->io.error.code && task_cancelled(t->io.daemon->tasks, t->io.task_ref))
		smd_fail_TASK_CANCELLED(&t->io.error, t->io.task_ref, "the task was cancelled");
	if (t->io.error.code) {
		smd_error_move(err, &t->io.error);
		return -1;
	}
	if (check_complete(t, complete, err) < 0 || spool_info(t, &size, err) < 0)
		return -1;
	if (size > t->io.disk.virtual_size)
		return smd_fail_VDI_TOO_SMALL(err, t->io.disk.vdi_ref, SMD_U64(size),
					      "the image holds a disk of %" PRIu64 " bytes, VDI %s has "
					      "%" PRIu64, size, t->io.disk.uuid, t->io.disk.virtual_size);
	if (spool_check(t, err) < 0 || import_volume(t, err) < 0)
		return -1;
	return convert_spool(t, err);
}

static unsigned
import_end(void *state, bool complete, char **ret_text)
{
	CLEANUP(cleanup_raw_vdi) struct raw_vdi *t = state;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *result = NULL;
	int r = t->spool.fd >= 0 ? import_finish_image(t, complete, &err)
				 : import_finish_raw(t, complete, &err);

	if (r == 0)
		r = new_volume_publish(&t->volume, &err);
	if (r == 0)
		r = move_replace(&t->io.disk, &t->volume, &err);
	new_volume_done(&t->spool);
	new_volume_done(&t->volume);
	transfer_release(&t->io);
	if (r < 0) {
		volume_fail(t->io.disk.sr, &err);
		return transfer_answer_error(&t->io, &err, ret_text);
	}
	sr_update_stats(t->io.daemon, sr_ref(t->io.disk.sr), &err);
	result = smd_asprintf("<value>%s</value>", t->io.disk.vdi_ref);
	if (t->io.task_ref)
		task_succeed(t->io.daemon->tasks, t->io.task_ref, result);
	return 200;
}

const struct http_stream api_import_raw_vdi = {
	.begin = import_begin,
	.write = import_write,
	.end = import_end,
};
