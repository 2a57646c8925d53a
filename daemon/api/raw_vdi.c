/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * GET /export_raw_vdi and PUT /import_raw_vdi: a disk's content over HTTP, raw or
 * as an image, made and read by a worker.
 *
 * An import writes a new volume and puts it in the old one's place at the end, so
 * that an upload that breaks leaves the disk as it was. A raw body goes straight
 * through a worker into it; an image is spooled in the SR first, since its tables
 * may come after the data they describe.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/api/transfer.h"
#include "daemon/db/db.h"
#include "daemon/job/move.h"
#include "daemon/job/task.h"
#include "daemon/sr/volume.h"

#define RAW "raw"

struct raw_vdi {
	struct transfer io;
	char *format;			/* of the body */
	/* Import. */
	bool any_content;		/* of a raw body: it may look like an image */
	struct new_volume volume;	/* the new content */
	struct new_volume spool;	/* the image as it came */
};

/* ---- Shared ---- */

static void
raw_vdi_free(struct raw_vdi *t)
{
	if (!t)
		return;
	transfer_stop(&t->io);
	new_volume_done(&t->spool);
	new_volume_done(&t->volume);
	transfer_done(&t->io);
	free(t->format);
	free(t);
}

static void
cleanup_raw_vdi(struct raw_vdi **t)
{
	raw_vdi_free(*t);
}

static struct raw_vdi *
raw_vdi_new(struct http_request *request)
{
	struct raw_vdi *t = smd_calloc(1, sizeof *t);
	const char *format = http_query(request, "format");

	transfer_init(&t->io, request);
	t->format = smd_strdup(format && *format ? format : RAW);
	for (char *p = t->format; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	t->volume = (struct new_volume)NEW_VOLUME_INIT;
	t->spool = (struct new_volume)NEW_VOLUME_INIT;
	return t;
}

/* The VDI of the request, and a format that there is. */
static int
raw_vdi_open(struct raw_vdi *t, const char *operation, bool write, struct smd_error *err)
{
	if (!storage_format(t->io.daemon, t->format))
		return smd_fail_FORMAT_UNKNOWN(err, t->format, "", "Unknown format %s", t->format);
	return transfer_open(&t->io, operation, "vdi_copy", write, err);
}

/* ---- Export ---- */

/* The image is to lie on another disk's, which the client has: only what differs goes. */
static int
export_base(struct raw_vdi *t, const char *base, struct smd_error *err)
{
	struct daemon *daemon = t->io.daemon;
	struct disk *disk = &t->io.base;
	CLEANUP_FREE char *ref = NULL;
	json *source;

	if (!storage_format_can(daemon, t->format, "parent"))
		return smd_fail_VALUE_NOT_SUPPORTED(err, "base", base, "the format has no differences",
						    "a %s image can lie on no other one: leave base "
						    "out, or ask for vhd or qcow2", t->format);
	if (db_resolve(daemon->db, "VDI", base, &ref, err) < 0 ||
	    op_set_begin(&t->io.ops, "VDI", ref, "copy", err) < 0 ||
	    disk_find(daemon, ref, disk, err) < 0 ||
	    op_set_begin(&t->io.ops, "SR", sr_ref(disk->sr), "vdi_copy", err) < 0 ||
	    disk_open(daemon, disk, false, "copy", err) < 0)
		return -1;
	source = disk_source(disk, &t->io.job, false, err);
	if (!source)
		return -1;
	smd_json_set(t->io.request, "base", source);
	smd_json_set_str(t->io.request, "base_uuid", disk->uuid);
	return 0;
}

/* A part of a disk: "bytes=FIRST-LAST", "bytes=FIRST-" or "bytes=-LENGTH". */
struct range {
	uint64_t offset, count;
};

static bool
parse_number(const char **text, uint64_t *ret)
{
	char *end;

	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	*ret = strtoull(*text, &end, 10);
	*text = end;
	return errno == 0;
}

/* 206 and the part of a disk of this size, 416, or 200 where there is no range or one
 * that may be left aside: of several parts, or with a condition (RFC 9110). */
static unsigned
parse_range(struct http_request *request, uint64_t size, struct range *ret)
{
	const char *text = http_header(request, "Range");
	uint64_t first = 0, last = UINT64_MAX;
	bool has_first;

	if (!text || strncmp(text, "bytes=", 6) != 0 || http_header(request, "If-Range"))
		return 200;
	text += 6;
	has_first = parse_number(&text, &first);
	if (*text++ != '-' || (!parse_number(&text, &last) && !has_first) || *text != '\0' ||
	    (has_first && last < first))
		return 200;
	if (!has_first) {
		uint64_t length = last < size ? last : size;

		*ret = (struct range){ size - length, length };
		return length > 0 ? 206 : 416;
	}
	if (first >= size)
		return 416;
	*ret = (struct range){ first, (last < size ? last + 1 : size) - first };
	return 206;
}

/* What the reply says of a range; returns the status. */
static unsigned
reply_range(struct raw_vdi *t, struct http_request *request, struct range *ret)
{
	uint64_t size = t->io.disk.virtual_size;
	unsigned status = parse_range(request, size, ret);
	CLEANUP_FREE char *text = NULL;

	http_reply_header(request, "Accept-Ranges", "bytes");
	if (status == 206)
		text = smd_asprintf("bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, ret->offset,
				    ret->offset + ret->count - 1, size);
	else if (status == 416)
		text = smd_asprintf("bytes */%" PRIu64, size);
	if (text)
		http_reply_header(request, "Content-Range", text);
	http_reply_status(request, status);
	return status;
}

static int
export_start(struct raw_vdi *t, struct http_request *request, unsigned *ret_status,
	     struct smd_error *err)
{
	const char *base = http_query(request, "base");
	struct range range;
	json *source;

	if (raw_vdi_open(t, "copy", false, err) < 0)
		return -1;
	*ret_status = strcmp(t->format, RAW) == 0 ? reply_range(t, request, &range) : 200;
	if (*ret_status == 416)
		return 0;
	if (*ret_status == 206) {
		smd_json_set_int(t->io.request, "offset", (int64_t)range.offset);
		smd_json_set_int(t->io.request, "count", (int64_t)range.count);
	}
	source = disk_source(&t->io.disk, &t->io.job, false, err);
	if (!source)
		return -1;
	smd_json_set_str(t->io.request, "op", "export");
	smd_json_set(t->io.request, "source", source);
	smd_json_set_str(t->io.request, "format", t->format);
	/* Known by the same uuid when another one lies on it. */
	smd_json_set_str(t->io.request, "uuid", t->io.disk.uuid);
	if (base && *base && export_base(t, base, err) < 0)
		return -1;
	if (transfer_start(&t->io, true, err) < 0)
		return -1;
	return transfer_wait_begun(&t->io, err);
}

static const char *
content_type(const char *format)
{
	static const struct {
		const char *format, *type;
	} types[] = {	/* as xapi names them */
		{ "vhd", "application/vhd" }, { "qcow2", "application/x-qemu-disk" },
	};

	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
		if (strcmp(types[i].format, format) == 0)
			return types[i].type;
	}
	return "application/octet-stream";
}

static void
reply_headers(struct raw_vdi *t, struct http_request *request)
{
	CLEANUP_FREE char *disposition = smd_asprintf("attachment; filename=\"%s.%s\"",
						      t->io.disk.uuid, t->format);

	http_reply_header(request, "Content-Type", content_type(t->format));
	http_reply_header(request, "Content-Disposition", disposition);
	http_reply_header(request, "Cache-Control", "no-cache, no-store");
}

static unsigned
export_begin(struct http_request *request, void **ret_state, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_raw_vdi) struct raw_vdi *t = raw_vdi_new(request);
	unsigned status = transfer_check_session(request, "export_raw_vdi", "VDI.copy", ret_text);

	if (status != 0)
		return status;
	if (transfer_take_task(&t->io, &err) < 0 || export_start(t, request, &status, &err) < 0)
		return transfer_answer_error(&t->io, &err, ret_text);
	if (status == 416) {
		smd_fail_INVALID_VALUE(&err, "Range", http_header(request, "Range"),
				       "the disk ends before this range");
		transfer_answer_error(&t->io, &err, ret_text);
		return status;
	}
	reply_headers(t, request);
	transfer_name_task(&t->io);
	http_reply_size(request, t->io.size);
	*ret_state = TAKE_PTR(t);
	return 0;
}

static int64_t
export_read(void *state, void *buf, size_t len)
{
	struct raw_vdi *t = state;

	return transfer_read(&t->io, buf, len);
}

static unsigned
export_end(void *state, bool complete, char **ret_text)
{
	CLEANUP(cleanup_raw_vdi) struct raw_vdi *t = state;

	(void)ret_text;
	return transfer_read_end(&t->io, complete);
}

const struct http_stream api_export_raw_vdi = {
	.begin = export_begin,
	.read = export_read,
	.end = export_end,
};

/* HEAD: the same look at who asks and for what, and the length where it needs no look
 * into the disk. */
static unsigned
head_begin(struct http_request *request, void **ret_state, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_raw_vdi) struct raw_vdi *t = raw_vdi_new(request);
	unsigned status = transfer_check_session(request, "export_raw_vdi", "VDI.copy", ret_text);

	if (status != 0)
		return status;
	if (raw_vdi_open(t, "copy", false, &err) < 0)
		return transfer_answer_error(&t->io, &err, ret_text);
	if (strcmp(t->format, RAW) == 0) {
		http_reply_header(request, "Accept-Ranges", "bytes");
		http_reply_size(request, t->io.disk.virtual_size);
	}
	reply_headers(t, request);
	*ret_state = TAKE_PTR(t);
	return 0;
}

static int64_t
head_read(void *state, void *buf, size_t len)
{
	(void)state;
	(void)buf;
	(void)len;
	return 0;
}

static unsigned
head_end(void *state, bool complete, char **ret_text)
{
	CLEANUP(cleanup_raw_vdi) struct raw_vdi *t = state;

	(void)complete;
	(void)ret_text;
	(void)t;
	return 200;
}

const struct http_stream api_head_raw_vdi = {
	.begin = head_begin,
	.read = head_read,
	.end = head_end,
};

/* ---- Import ---- */

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
