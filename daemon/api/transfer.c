/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/api/transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/lock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/api/coding.h"
#include "daemon/db/db.h"
#include "daemon/job/digest.h"
#include "daemon/job/phase.h"
#include "daemon/job/stall.h"
#include "daemon/job/task.h"
#include "daemon/rpc/audit.h"
#include "daemon/rpc/session.h"

/* A client at work hears of the end by what it does, one that stalls is told after so long,
 * or when what it sent is not at work any more, and hung up on a little later. */
#define HEARING_MS 500
#define HEARING_TRIES 20

#define UPLOAD_LOST "; nothing is left of the upload: send it again"

void
transfer_init(struct transfer *t, struct http_request *request)
{
	memset(t, 0, sizeof *t);
	t->daemon = http_daemon(request);
	t->client = request;
	t->declared = http_content_length(request);
	t->request = json_object_new_object();
	t->job.request = t->request;
	t->job.opaque = t;
	t->pipe = -1;
	t->disk = (struct disk)DISK_INIT;
	t->base = (struct disk)DISK_INIT;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->moved, NULL);
}

void
transfer_stop(struct transfer *t)
{
	transfer_ending(t);
	if (t->pipe >= 0)
		close(t->pipe);
	t->pipe = -1;
	if (t->running)
		pthread_join(t->thread, NULL);
	t->running = false;
}

void
transfer_done(struct transfer *t)
{
	transfer_stop(t);
	worker_job_done(&t->job);
	disk_done(&t->base);
	disk_done(&t->disk);
	if (t->ops.key)
		op_set_done(&t->ops);
	json_object_put(t->request);
	json_object_put(t->result);
	smd_error_clear(&t->error);
	pthread_cond_destroy(&t->moved);
	pthread_mutex_destroy(&t->lock);
	free(t->made_vdi);
	free(t->session);
	free(t->task_ref);
}

/* ---- The request ---- */

unsigned
transfer_check_session(struct transfer *t, const char *what, const char *message,
		       char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *vdi = http_query(t->client, "vdi"), *sr = http_query(t->client, "sr");
	struct daemon *daemon = t->daemon;
	unsigned status = http_authenticate(t->client, &t->session, &err);

	if (status == 0) {
		bool may = session_may(daemon->sessions, t->session, api_message_find(message),
				       &err) == 0;

		audit_log(daemon, http_peer(t->client), t->session, what, vdi ? vdi : sr,
			  http_query(t->client, "task_id"), may ? NULL : &err);
		if (may)
			return 0;
	}
	if (!err.code)
		smd_fail_SESSION_AUTHENTICATION_FAILED(&err, "", "", "the request needs a session");
	*ret_text = smd_asprintf("%s: %s\n", err.code, err.message);
	return status ? status : 403;
}

/* subtask_of: the client's task of which this one is a part. */
static int
make_task(struct transfer *t, const char *name, struct smd_error *err)
{
	const char *parent = http_query(t->client, "subtask_of");
	CLEANUP_FREE char *owner = session_user(t->daemon->sessions, t->session);

	if (task_create(t->daemon->tasks, name, "", owner, &t->task_ref, err) < 0 ||
	    task_take(t->daemon->tasks, t->task_ref, err) < 0)
		return -1;
	if (!parent || !db_exists(t->daemon->db, "task", parent))
		return 0;
	return db_set_str(t->daemon->db, "task", t->task_ref, "subtask_of", parent, err);
}

int
transfer_take_task(struct transfer *t, const char *name, struct smd_error *err)
{
	const char *task = http_query(t->client, "task_id");

	if (!task || !db_exists(t->daemon->db, "task", task))
		return make_task(t, name, err);
	if (task_take(t->daemon->tasks, task, err) < 0)
		return -1;
	t->task_ref = smd_strdup(task);
	return 0;
}

int
transfer_open(struct transfer *t, const char *operation, const char *sr_operation, bool write,
	      struct smd_error *err)
{
	const char *vdi = t->made_vdi ? t->made_vdi : http_query(t->client, "vdi");
	CLEANUP_FREE char *ref = NULL;

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

void
transfer_release(struct transfer *t)
{
	disk_unlock(&t->base);
	disk_unlock(&t->disk);
	op_set_done(&t->ops);
}

void
transfer_name_task(const struct transfer *t)
{
	if (t->task_ref)
		http_reply_header(t->client, "task-id", t->task_ref);
}

bool
transfer_length_is_open(const struct transfer *t)
{
	return t->declared >= TRANSFER_LENGTH_UNKNOWN;
}

bool
transfer_is_probe(const struct transfer *t)
{
	return t->declared == 0 || (t->declared != UINT64_MAX && transfer_length_is_open(t) &&
				    !http_query(t->client, "task_id"));
}

int
transfer_query_bool(const struct transfer *t, const char *name, bool *ret, struct smd_error *err)
{
	const char *value = http_query(t->client, name);

	*ret = value && strcmp(value, "true") == 0;
	if (*ret || !value || !*value || strcmp(value, "false") == 0)
		return 0;
	return smd_fail_INVALID_VALUE(err, name, value, "%s is true or false, not \"%s\"", name, value);
}

/* As xapi has it, of any. */
static int
check_transfer_encoding(struct transfer *t, struct smd_error *err)
{
	const char *encoding = http_header(t->client, "Transfer-Encoding");
	CLEANUP_FREE char *text = NULL;

	if (!encoding)
		return 0;
	t->status = 404;
	text = smd_asprintf("Cannot handle encoding: %s", encoding);
	return smd_fail_INTERNAL_ERROR(err, text, "the upload must declare its Content-Length: "
				       "Transfer-Encoding is %s", encoding);
}

int
transfer_check_upload(struct transfer *t, struct smd_error *err)
{
	const char *encoding = http_header(t->client, "Content-Encoding"), *coding;

	if (check_transfer_encoding(t, err) < 0)
		return -1;
	if (t->declared == UINT64_MAX)
		return smd_fail_INVALID_VALUE(err, "Content-Length", "", "the upload declares no "
					      "length, and has no body then");
	if (!coding_known(encoding, &coding)) {
		t->status = 415;
		http_reply_header(t->client, "Accept-Encoding", CODINGS);
		return smd_fail_VALUE_NOT_SUPPORTED(err, "Content-Encoding", encoding,
						    "it is none of " CODINGS,
						    "Content-Encoding is one of " CODINGS);
	}
	if (*coding)
		smd_json_set_str(t->request, "coding", coding);
	return 0;
}

uint64_t
transfer_size(const struct transfer *t)
{
	return transfer_length_is_open(t) ? 0 : t->declared;
}

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

unsigned
transfer_answer_error(struct transfer *t, const struct smd_error *err, char **ret_text)
{
	smd_log_fields(SMD_LOG_INFO, SMD_FIELDS("CODE", err->code, "TASK", t->task_ref),
		       "a transfer failed: %s: %s", err->code, err->message);
	if (t->task_ref)
		task_fail(t->daemon->tasks, t->task_ref, err);
	*ret_text = smd_asprintf("%s: %s\n", err->code, err->message);
	return t->status ? t->status : status_of(err);
}

/* ---- The worker ---- */

/* Whether the connection's thread knows of the end, or learns of it by then. */
static bool
hears_within(struct transfer *t, long ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	LOCK_SCOPE(&t->lock);
	while (!t->ending && pthread_cond_timedwait(&t->moved, &t->lock, &until) == 0)
		;
	return t->ending;
}

/* A client that sends or reads finds out by itself, one that does neither would hold its VDI
 * for as long as it likes. */
void
transfer_hang_up(void *opaque)
{
	struct transfer *t = opaque;

	if (hears_within(t, 2 * HEARING_MS))
		return;
	LOCK_SCOPE(&t->lock);
	if (!t->ending)
		http_hang_up(t->client);
}

void
transfer_ending(struct transfer *t)
{
	LOCK_SCOPE(&t->lock);
	t->ending = true;
	pthread_cond_broadcast(&t->moved);
}

static void
transfer_begun(void *opaque, uint64_t size)
{
	struct transfer *t = opaque;

	LOCK_SCOPE(&t->lock);
	t->size = size;
	t->begun = true;
	pthread_cond_broadcast(&t->moved);
}

/* Half of its body is here, and the rest does not come: it is told why nobody waits for that
 * any more. The error stays the connection's. */
static void
answer_stalled(struct transfer *t)
{
	int tries = smd_error_is(&t->error, SMD_E_TASK_CANCELLED) ? 1 : HEARING_TRIES;
	CLEANUP_FREE char *text = smd_asprintf(
		"%s: %s%s\n", t->error.code, t->error.message,
		smd_error_is(&t->error, SMD_E_JOB_WORKER_FAILED) ? UPLOAD_LOST : "");

	while (!t->refused && tries-- > 0 && !hears_within(t, HEARING_MS)) {
		LOCK_SCOPE(&t->lock);
		if (!t->ending && http_answer_idle(t->client, t->status ? t->status :
						   status_of(&t->error), text))
			t->refused = true;
	}
}

static void *
transfer_main(void *opaque)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct transfer *t = opaque;
	bool failed;

	worker_run(t->daemon, &t->job, &t->result, &err);
	failed = err.code != NULL;
	{
		LOCK_SCOPE(&t->lock);
		if (err.code)
			smd_error_move(&t->error, &err);
		t->done = true;
		pthread_cond_broadcast(&t->moved);
	}
	if (failed && t->uploads)
		answer_stalled(t);
	if (failed)
		transfer_hang_up(t);
	return NULL;
}

int
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
	if (t->disk.sr)
		worker_loads(&t->job, sr_ref(t->disk.sr));
	t->uploads = !worker_writes;
	t->job.begin = transfer_begun;
	t->job.streams = true;
	t->job.urgent = true;	/* as fast as its client: it must not hold up the others */
	phase_enter(t->daemon, t->task_ref, PHASE_COPY);
	t->job.progress_from = PHASE_MOVES_FROM;
	if (t->job.progress_to <= t->job.progress_from)
		t->job.progress_to = PHASE_MOVES_TO;
	if (pthread_create(&t->thread, NULL, transfer_main, t) != 0)
		return smd_fail_INTERNAL_ERROR(err, "threads", "no thread left");
	t->running = true;
	stall_says_anew(t->task_ref, worker_writes ? "smd-worker, which looks at the disk"
						   : "its client, which is to send data");
	return 0;
}

int
transfer_wait_begun(struct transfer *t, struct smd_error *err)
{
	pthread_mutex_lock(&t->lock);
	while (!t->begun && !t->done)
		pthread_cond_wait(&t->moved, &t->lock);
	pthread_mutex_unlock(&t->lock);
	return t->begun ? 0 : transfer_join(t, err);
}

/* What xapi calls it when a disk cannot be read or written. */
static int
fail_io(struct smd_error *was, struct smd_error *err)
{
	int errnum = was->errnum;

	smd_fail_VDI_IO_ERROR(err, "Device I/O errors", "%s", was->message);
	err->errnum = errnum;
	smd_error_clear(was);
	return -1;
}

int
transfer_join(struct transfer *t, struct smd_error *err)
{
	transfer_ending(t);
	if (t->running)
		pthread_join(t->thread, NULL);
	t->running = false;
	if (!t->error.code)
		return 0;
	if (smd_error_is(&t->error, SMD_E_IMAGE_IO))
		return fail_io(&t->error, err);
	smd_error_move(err, &t->error);
	return -1;
}

static int
fail_broken(const struct transfer *t, struct smd_error *err)
{
	CLEANUP_FREE char *of = transfer_length_is_open(t) ? smd_strdup("") :
				smd_asprintf(" of %" PRIu64, t->declared);

	return smd_fail_VDI_IO_ERROR(err, "Device I/O errors", "the upload broke off after %" PRIu64
				     "%s bytes; nothing is left of it: send it again", t->received, of);
}

/* What it had read of the upload is nowhere else. */
static int
fail_lost(struct smd_error *err)
{
	struct smd_error was CLEANUP_ERROR = SMD_ERROR_INIT;

	smd_error_move(&was, err);
	return smd_fail_JOB_WORKER_FAILED(err, was.params[0], was.params[1],
					  "%s" UPLOAD_LOST, was.message);
}

int
transfer_finish_upload(struct transfer *t, bool complete, struct smd_error *err)
{
	int r;

	stall_says_anew(t->task_ref, "smd-worker, which writes what came");
	close(t->pipe);
	t->pipe = -1;
	r = transfer_join(t, err);
	if (r == 0 && complete)
		return 0;
	if (smd_error_is(err, SMD_E_JOB_WORKER_FAILED))
		return fail_lost(err);
	if (err->code && (complete || t->refused || smd_error_is(err, SMD_E_TASK_CANCELLED)))
		return -1;
	smd_error_clear(err);
	return fail_broken(t, err);
}

const char *
transfer_digest(const struct transfer *t)
{
	return smd_json_str(t->result, "digest", NULL);
}

void
transfer_show_digest(struct transfer *t)
{
	digest_show(t->daemon, t->task_ref, transfer_digest(t),
		    smd_json_str(t->result, "digest_absent", "the transfer was of a part of the disk"));
}

/* ---- The bytes ---- */

int64_t
transfer_read(struct transfer *t, void *buf, size_t len)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	ssize_t n;

	stall_says_anew(t->task_ref, "smd-worker, which reads the disk");
	do {
		n = recv(t->pipe, buf, len, 0);
	} while (n < 0 && errno == EINTR);
	stall_says_anew(t->task_ref, "its client, which is to take more");
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

unsigned
transfer_read_end(struct transfer *t, bool complete)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	bool whole;

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
		phase_enter(t->daemon, t->task_ref, PHASE_CLEAN_UP);
		transfer_show_digest(t);
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

int
transfer_write(struct transfer *t, const void *data, size_t len)
{
	const char *p = data;

	stall_says_anew(t->task_ref, "smd-worker, which writes what came");
	while (len > 0) {
		ssize_t n = send(t->pipe, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			t->refused = true;
			return -1;
		}
		p += n;
		len -= (size_t)n;
		t->received += (uint64_t)n;
	}
	stall_says_anew(t->task_ref, "its client, which is to send more");
	return 0;
}
