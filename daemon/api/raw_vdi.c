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
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/job/move.h"
#include "daemon/job/task.h"
#include "daemon/rpc/session.h"
#include "daemon/sr/volume.h"

/* What clients declare who do not know the length: 1 PiB; they hang up early. */
#define LENGTH_UNKNOWN (UINT64_C(1) << 50)
#define RAW "raw"
#define HEARING_MS 500	/* a client at work hears of the end before it is hung up on */

struct transfer {
	struct daemon *daemon;
	struct http_request *client;
	char *task_ref;			/* NULL: none */
	char *format;			/* of the body */
	struct disk disk;
	struct op_set ops;
	bool failed_task;		/* the task has its end */
	/* The worker at the other end of the pipe. */
	struct worker_job job;
	json *request;
	int pipe;			/* our end; -1: closed */
	bool running;			/* thread is to be joined */
	pthread_t thread;
	pthread_mutex_t lock;		/* guards what follows */
	pthread_cond_t moved;
	bool begun, done;
	bool ending;			/* the connection knows */
	uint64_t size;
	struct smd_error error;
	uint64_t received;		/* bytes that went through here */
	/* Import. */
	uint64_t declared;
	bool any_content;		/* of a raw body: it may look like an image */
	struct new_volume volume;	/* the new content */
	struct new_volume spool;	/* the image as it came */
};

/* ---- Shared ---- */

static unsigned
status_of(const struct smd_error *err)
{
	if (smd_error_is(err, SMD_E_HANDLE_INVALID) || smd_error_is(err, SMD_E_UUID_INVALID) ||
	    smd_error_is(err, SMD_E_FORMAT_UNKNOWN))
		return 404;
	if (smd_error_is(err, SMD_E_INVALID_VALUE) || smd_error_is(err, SMD_E_VDI_TOO_SMALL) ||
	    smd_error_is(err, SMD_E_IMAGE_CORRUPT) || smd_error_is(err, SMD_E_IMAGE_UNSUPPORTED) ||
	    smd_error_is(err, SMD_E_VALUE_NOT_SUPPORTED))
		return 400;
	if (smd_error_is(err, SMD_E_RBAC_PERMISSION_DENIED) || smd_error_is(err, SMD_E_VDI_READONLY))
		return 403;
	if (smd_error_is(err, SMD_E_VDI_IN_USE) ||
	    smd_error_is(err, SMD_E_OTHER_OPERATION_IN_PROGRESS) ||
	    smd_error_is(err, SMD_E_OPERATION_NOT_ALLOWED))
		return 409;
	return 500;
}

/* The answer to a request that failed, once; the task ends with it. */
static unsigned
answer_error(struct daemon *daemon, const char *task_ref, const struct smd_error *err,
	     char **ret_text)
{
	smd_log_fields(SMD_LOG_INFO, SMD_FIELDS("CODE", err->code, "TASK", task_ref),
		       "a transfer failed: %s: %s", err->code, err->message);
	if (task_ref)
		task_fail(daemon->tasks, task_ref, err);
	*ret_text = smd_asprintf("%s: %s\n", err->code, err->message);
	return status_of(err);
}

/* The task was cancelled. A client that sends or reads finds out by itself, one that
 * does neither would hold its VDI for as long as it likes. */
static void
hang_up(void *opaque)
{
	struct transfer *t = opaque;
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += HEARING_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	LOCK_SCOPE(&t->lock);
	while (!t->ending && pthread_cond_timedwait(&t->moved, &t->lock, &until) == 0)
		;
	if (!t->ending)
		http_hang_up(t->client);
}

/* The connection's thread is at the end of the stream. */
static void
transfer_ending(struct transfer *t)
{
	LOCK_SCOPE(&t->lock);
	t->ending = true;
	pthread_cond_broadcast(&t->moved);
}

static void
transfer_free(struct transfer *t)
{
	if (!t)
		return;
	transfer_ending(t);
	if (t->pipe >= 0)
		close(t->pipe);
	if (t->running)
		pthread_join(t->thread, NULL);
	worker_job_done(&t->job);
	new_volume_done(&t->spool);
	new_volume_done(&t->volume);
	disk_done(&t->disk);
	if (t->ops.key)
		op_set_done(&t->ops);
	json_object_put(t->request);
	smd_error_clear(&t->error);
	pthread_cond_destroy(&t->moved);
	pthread_mutex_destroy(&t->lock);
	free(t->task_ref);
	free(t->format);
	free(t);
}

static void
cleanup_transfer(struct transfer **t)
{
	transfer_free(*t);
}

static struct transfer *
transfer_new(struct http_request *request)
{
	struct transfer *t = smd_calloc(1, sizeof *t);
	const char *format = http_query(request, "format");

	t->daemon = http_daemon(request);
	t->client = request;
	t->format = smd_strdup(format && *format ? format : RAW);
	for (char *p = t->format; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	t->request = json_object_new_object();
	t->job.request = t->request;
	t->job.opaque = t;
	t->pipe = -1;
	t->disk = (struct disk)DISK_INIT;
	t->volume = (struct new_volume)NEW_VOLUME_INIT;
	t->spool = (struct new_volume)NEW_VOLUME_INIT;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->moved, NULL);
	return t;
}

/* The client's task, which the transfer is to end. Only once the client has shown that
 * it may change things: the end of a task is such a change. */
static int
transfer_take_task(struct transfer *t, struct http_request *request, struct smd_error *err)
{
	const char *task = http_query(request, "task_id");

	if (!task || !db_exists(t->daemon->db, "task", task))
		return 0;
	if (task_take(t->daemon->tasks, task, err) < 0)
		return -1;
	t->task_ref = smd_strdup(task);
	return 0;
}

/* The VDI of the request, open, with the operation noted on it. */
static int
transfer_open(struct transfer *t, struct http_request *request, const char *operation,
	      const char *sr_operation, bool write, struct smd_error *err)
{
	const char *vdi = http_query(request, "vdi");
	CLEANUP_FREE char *ref = NULL;

	if (!storage_format(t->daemon, t->format))
		return smd_fail_FORMAT_UNKNOWN(err, t->format, "", "Unknown format %s", t->format);
	if (!vdi)
		return smd_fail_INVALID_VALUE(err, "vdi", "", "the request names no vdi");
	if (db_resolve(t->daemon->db, "VDI", vdi, &ref, err) < 0)
		return -1;
	op_set_init(&t->ops, t->daemon, t->task_ref);
	if (op_set_begin(&t->ops, "VDI", ref, operation, err) < 0 ||
	    disk_find(t->daemon, ref, &t->disk, err) < 0 ||
	    op_set_begin(&t->ops, "SR", sr_ref(t->disk.sr), sr_operation, err) < 0)
		return -1;
	return disk_open(t->daemon, &t->disk, write, operation, err);
}

static void *
transfer_main(void *opaque)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *result = NULL;
	struct transfer *t = opaque;

	bool cancelled;

	worker_run(t->daemon, &t->job, &result, &err);
	cancelled = smd_error_is(&err, SMD_E_TASK_CANCELLED);
	{
		LOCK_SCOPE(&t->lock);
		if (err.code)
			smd_error_move(&t->error, &err);
		t->done = true;
		pthread_cond_broadcast(&t->moved);
	}
	if (cancelled)
		hang_up(t);
	return NULL;
}

/* Start the worker with one end of a pipe as "fd" of its request. */
static int
transfer_start(struct transfer *t, bool worker_writes, struct smd_error *err)
{
	int ends[2];

	/* A socket is a pipe whose writer is told of a closed end without a signal. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return smd_fail_INTERNAL_ERROR(err, "socketpair", "%s", strerror(errno));
	shutdown(ends[0], worker_writes ? SHUT_WR : SHUT_RD);
	t->pipe = ends[0];
	smd_json_set_int(t->request, "fd", worker_fd(&t->job, ends[1]));
	t->job.task_ref = t->task_ref;
	t->job.urgent = true;	/* as fast as its client: it must not hold up the others */
	t->job.progress_from = 0.01;
	t->job.progress_to = 0.98;
	if (pthread_create(&t->thread, NULL, transfer_main, t) != 0)
		return smd_fail_INTERNAL_ERROR(err, "threads", "no thread left");
	t->running = true;
	return 0;
}

/* The VDI is free for others; whoever sees the transfer end may go on with it. */
static void
transfer_release(struct transfer *t)
{
	disk_unlock(&t->disk);
	op_set_done(&t->ops);
}

/* Wait for the worker's end: 0, or its error. */
static int
transfer_join(struct transfer *t, struct smd_error *err)
{
	transfer_ending(t);
	if (t->running)
		pthread_join(t->thread, NULL);
	t->running = false;
	if (!t->error.code)
		return 0;
	smd_error_move(err, &t->error);
	return -1;
}

/* 0, or the status to answer with: who is asking, and may they. */
static unsigned
check_session(struct http_request *request, const char *message, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct daemon *daemon = http_daemon(request);
	CLEANUP_FREE char *session = NULL;
	unsigned status = http_authenticate(request, &session, &err);

	if (status == 0 &&
	    session_may(daemon->sessions, session, api_message_find(message), &err) == 0)
		return 0;
	if (!err.code)
		smd_fail_SESSION_AUTHENTICATION_FAILED(&err, "", "", "the request needs a session");
	*ret_text = smd_asprintf("%s: %s\n", err.code, err.message);
	return status ? status : 403;
}

static void
name_task(struct http_request *request, const struct transfer *t)
{
	if (t->task_ref)
		http_reply_header(request, "task-id", t->task_ref);
}

/* ---- Export ---- */

static void
export_begun(void *opaque, uint64_t size)
{
	struct transfer *t = opaque;

	LOCK_SCOPE(&t->lock);
	t->size = size;
	t->begun = true;
	pthread_cond_broadcast(&t->moved);
}

static int
export_start(struct transfer *t, struct http_request *request, struct smd_error *err)
{
	json *source;

	if (http_query(request, "base"))
		return smd_fail_VALUE_NOT_SUPPORTED(err, "base", http_query(request, "base"),
						    "not in this version", "this smd exports whole "
						    "disks only: leave base out");
	if (transfer_open(t, request, "copy", "vdi_copy", false, err) < 0)
		return -1;
	source = disk_source(&t->disk, &t->job, false, err);
	if (!source)
		return -1;
	smd_json_set_str(t->request, "op", "export");
	smd_json_set(t->request, "source", source);
	smd_json_set_str(t->request, "format", t->format);
	t->job.begin = export_begun;
	if (transfer_start(t, true, err) < 0)
		return -1;
	pthread_mutex_lock(&t->lock);
	while (!t->begun && !t->done)
		pthread_cond_wait(&t->moved, &t->lock);
	pthread_mutex_unlock(&t->lock);
	return t->begun ? 0 : transfer_join(t, err);
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

static unsigned
export_begin(struct http_request *request, void **ret_state, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_transfer) struct transfer *t = transfer_new(request);
	CLEANUP_FREE char *disposition = NULL;
	unsigned status = check_session(request, "VDI.copy", ret_text);

	if (status != 0)
		return status;
	if (transfer_take_task(t, request, &err) < 0 || export_start(t, request, &err) < 0)
		return answer_error(t->daemon, t->task_ref, &err, ret_text);
	disposition = smd_asprintf("attachment; filename=\"%s.%s\"", t->disk.uuid, t->format);
	http_reply_header(request, "Content-Type", content_type(t->format));
	http_reply_header(request, "Content-Disposition", disposition);
	http_reply_header(request, "Cache-Control", "no-cache, no-store");
	name_task(request, t);
	http_reply_size(request, t->size);
	*ret_state = TAKE_PTR(t);
	return 0;
}

static int64_t
export_read(void *state, void *buf, size_t len)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct transfer *t = state;
	ssize_t n;

	do {
		n = recv(t->pipe, buf, len, 0);
	} while (n < 0 && errno == EINTR);
	t->received += n > 0 ? (uint64_t)n : 0;
	/* A client that counts goes on when it has the last byte. */
	if (n >= 0 && (n == 0 || t->received >= t->size) && transfer_join(t, &err) == 0) {
		transfer_release(t);
		return n;
	}
	if (n > 0 && !err.code)
		return n;
	if (err.code && t->task_ref)
		task_fail(t->daemon->tasks, t->task_ref, &err);
	t->failed_task = err.code != NULL;
	return -1;
}

static unsigned
export_end(void *state, bool complete, char **ret_text)
{
	CLEANUP(cleanup_transfer) struct transfer *t = state;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	bool whole;

	(void)ret_text;
	/* A reader may stop when it has all the bytes, before it sees their end. */
	if (complete && t->running)
		transfer_join(t, &err);
	close(t->pipe);
	t->pipe = -1;
	whole = transfer_join(t, &err) == 0 && complete && !err.code;
	transfer_release(t);
	if (!t->task_ref || t->failed_task)
		return 200;
	if (whole) {
		task_succeed(t->daemon->tasks, t->task_ref, "");
		return 200;
	}
	if (!err.code || smd_error_is(&err, SMD_E_JOB_WORKER_FAILED)) {
		smd_error_clear(&err);
		smd_fail_VDI_IO_ERROR(&err, "Device I/O errors", "the client hung up");
	}
	task_fail(t->daemon->tasks, t->task_ref, &err);
	return 200;
}

const struct http_stream api_export_raw_vdi = {
	.begin = export_begin,
	.read = export_read,
	.end = export_end,
};

/* ---- Import ---- */

static bool
length_is_open(const struct transfer *t)
{
	return t->declared >= LENGTH_UNKNOWN;
}

static int
import_check(struct transfer *t, struct http_request *request, struct smd_error *err)
{
	const char *encoding = http_header(request, "Transfer-Encoding");

	if (encoding)
		return smd_fail_INVALID_VALUE(err, "Transfer-Encoding", encoding,
					      "Cannot handle encoding: %s", encoding);
	if (transfer_open(t, request, "blocked", "vdi_copy", true, err) < 0)
		return -1;
	if (smd_json_bool(t->disk.record, "read_only", false))
		return smd_fail_VDI_READONLY(err, t->disk.vdi_ref, "VDI %s is read-only",
					     t->disk.uuid);
	if (strcmp(t->format, RAW) == 0 && !length_is_open(t) && t->declared > t->disk.virtual_size)
		return smd_fail_VDI_TOO_SMALL(err, t->disk.vdi_ref, SMD_U64(t->declared),
					      "the upload has %" PRIu64 " bytes, VDI %s %" PRIu64,
					      t->declared, t->disk.uuid, t->disk.virtual_size);
	return 0;
}

/* The volume the VDI is to have, in the making. */
static int
import_volume(struct transfer *t, struct smd_error *err)
{
	return new_volume_begin(t->daemon, "import_raw_vdi", t->disk.sr, t->disk.format,
				t->disk.virtual_size, t->disk.sr, t->disk.location, &t->volume, err);
}

static int
create_image(struct transfer *t, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true };
	CLEANUP_JSON json *result = NULL;
	struct new_volume *v = &t->volume;
	json *target = target_of_fd(v->fd, v->name, v->format, v->virtual_size, &job, err);

	if (!target)
		return -1;
	smd_json_set_str(request, "op", "create");
	smd_json_set(request, "target", target);
	return worker_run(t->daemon, &job, &result, err) < 0 ? volume_fail(v->sr, err) : 0;
}

static int
import_start_raw(struct transfer *t, struct smd_error *err)
{
	uint64_t size = length_is_open(t) ? t->disk.virtual_size : t->declared;
	json *target;

	if (import_volume(t, err) < 0 || create_image(t, err) < 0)
		return -1;
	target = source_of_fd(t->volume.fd, t->volume.name, t->volume.format, true, false, &t->job,
			      err);
	if (!target)
		return -1;
	smd_json_set_str(t->request, "op", "import-raw");
	smd_json_set(t->request, "source", target);
	smd_json_set_int(t->request, "size", (int64_t)size);
	/* A disk whose guest wrote such bytes is raw all the same; its owner knows. */
	if (!t->any_content)
		smd_json_set_str(t->request, "declared", RAW);
	return transfer_start(t, false, err);
}

/* npm xen-api first asks without a task whether it may: with an empty body, or with
 * the length it declares where it knows none, and no body either. */
static bool
is_probe(const struct transfer *t, struct http_request *request)
{
	return t->declared == 0 || (!http_query(request, "task_id") && length_is_open(t));
}

static unsigned
import_begin(struct http_request *request, void **ret_state, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_transfer) struct transfer *t = transfer_new(request);
	unsigned status = check_session(request, "VDI.resize", ret_text);
	const char *any_content = http_query(request, "any_content");
	bool probe;
	int r;

	if (status != 0)
		return status;
	t->declared = http_content_length(request);
	t->any_content = any_content && strcmp(any_content, "true") == 0;
	probe = is_probe(t, request);
	r = probe ? 0 : transfer_take_task(t, request, &err);
	if (r == 0)
		r = import_check(t, request, &err);
	if (r == 0 && probe)
		return 200;
	if (r == 0 && t->declared == UINT64_MAX)
		r = smd_fail_INVALID_VALUE(&err, "Content-Length", "", "the upload declares no length, "
					   "and has no body then");
	if (r == 0)
		r = strcmp(t->format, RAW) == 0 ? import_start_raw(t, &err) :
			new_volume_begin(t->daemon, "import_raw_vdi", t->disk.sr, t->format, 0, NULL,
					 NULL, &t->spool, &err);
	if (r < 0)
		return answer_error(t->daemon, t->task_ref, &err, ret_text);
	if (t->spool.fd >= 0 && t->task_ref)
		task_set_cancel(t->daemon->tasks, t->task_ref, hang_up, t);
	name_task(request, t);
	*ret_state = TAKE_PTR(t);
	return 0;
}

static int
write_spool(struct transfer *t, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = pwrite(t->spool.fd, data, len, (off_t)t->received);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int errnum = errno;

			smd_fail_VDI_IO_ERROR(&t->error, "Device I/O errors", "after %" PRIu64 " bytes: "
					      "%s", t->received, strerror(errnum));
			t->error.errnum = errnum;
			return -1;
		}
		data += n;
		len -= (size_t)n;
		t->received += (uint64_t)n;
	}
	return 0;
}

static int
import_write(void *state, const void *data, size_t len)
{
	struct transfer *t = state;
	const char *p = data;

	if (t->spool.fd >= 0) {
		if (t->task_ref && task_cancelled(t->daemon->tasks, t->task_ref))
			return smd_fail_TASK_CANCELLED(&t->error, t->task_ref, "the task was cancelled");
		if (write_spool(t, p, len) < 0)
			return -1;
		if (!length_is_open(t))
			task_transfer(t->daemon->tasks, t->task_ref, 0, 0.5, t->received, t->declared);
		return 0;
	}
	while (len > 0) {
		ssize_t n = send(t->pipe, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;	/* the worker has ended, and says why */
		p += n;
		len -= (size_t)n;
		t->received += (uint64_t)n;
	}
	return 0;
}

static int
check_complete(const struct transfer *t, bool complete, struct smd_error *err)
{
	if (complete)
		return 0;
	return smd_fail_VDI_IO_ERROR(err, "Device I/O errors", "the upload broke off after %" PRIu64
				     " of %" PRIu64 " bytes; VDI %s is as it was", t->received,
				     t->declared, t->disk.uuid);
}

static int
import_finish_raw(struct transfer *t, bool complete, struct smd_error *err)
{
	close(t->pipe);
	t->pipe = -1;
	if (transfer_join(t, err) < 0)
		return -1;
	return check_complete(t, complete, err);
}

/* What the image in the spool is; it came from outside. */
static int
spool_info(struct transfer *t, uint64_t *ret_size, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .urgent = true };
	CLEANUP_JSON json *result = NULL;
	json *source = source_of_fd(t->spool.fd, "the upload", t->format, false, true, &job, err);

	if (!source)
		return -1;
	smd_json_set_str(request, "op", "info");
	smd_json_set(request, "source", source);
	if (worker_run(t->daemon, &job, &result, err) < 0)
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
spool_check(struct transfer *t, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = {
		.request = request, .task_ref = t->task_ref,
		.progress_from = 0.5, .progress_to = 0.5,
	};
	CLEANUP_JSON json *result = NULL;
	json *source = source_of_fd(t->spool.fd, "the upload", t->format, false, true, &job, err);

	if (!source)
		return -1;
	smd_json_set_str(request, "op", "check");
	smd_json_set(request, "source", source);
	if (worker_run(t->daemon, &job, &result, err) < 0)
		return -1;
	if (smd_json_int(result, "corruptions", 0) == 0)
		return 0;
	return fail_corrupt(smd_json_member(result, "findings"), err);
}

static int
convert_spool(struct transfer *t, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = {
		.request = request, .task_ref = t->task_ref,
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
	return worker_run(t->daemon, &job, &result, err);
}

static int
import_finish_image(struct transfer *t, bool complete, struct smd_error *err)
{
	uint64_t size;

	transfer_ending(t);
	if (t->task_ref)
		task_set_cancel(t->daemon->tasks, t->task_ref, NULL, NULL);
	if (!t->error.code && task_cancelled(t->daemon->tasks, t->task_ref))
		smd_fail_TASK_CANCELLED(&t->error, t->task_ref, "the task was cancelled");
	if (t->error.code) {
		smd_error_move(err, &t->error);
		return -1;
	}
	if (check_complete(t, complete, err) < 0 || spool_info(t, &size, err) < 0)
		return -1;
	if (size > t->disk.virtual_size)
		return smd_fail_VDI_TOO_SMALL(err, t->disk.vdi_ref, SMD_U64(size),
					      "the image holds a disk of %" PRIu64 " bytes, VDI %s has "
					      "%" PRIu64, size, t->disk.uuid, t->disk.virtual_size);
	if (spool_check(t, err) < 0 || import_volume(t, err) < 0)
		return -1;
	return convert_spool(t, err);
}

static unsigned
import_end(void *state, bool complete, char **ret_text)
{
	CLEANUP(cleanup_transfer) struct transfer *t = state;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *result = NULL;
	int r = t->spool.fd >= 0 ? import_finish_image(t, complete, &err)
				 : import_finish_raw(t, complete, &err);

	if (r == 0)
		r = new_volume_publish(&t->volume, &err);
	if (r == 0)
		r = move_replace(&t->disk, &t->volume, &err);
	new_volume_done(&t->spool);
	new_volume_done(&t->volume);
	transfer_release(t);
	if (r < 0) {
		volume_fail(t->disk.sr, &err);
		return answer_error(t->daemon, t->task_ref, &err, ret_text);
	}
	sr_update_stats(t->daemon, sr_ref(t->disk.sr), &err);
	result = smd_asprintf("<value>%s</value>", t->disk.vdi_ref);
	if (t->task_ref)
		task_succeed(t->daemon->tasks, t->task_ref, result);
	return 200;
}

const struct http_stream api_import_raw_vdi = {
	.begin = import_begin,
	.write = import_write,
	.end = import_end,
};
