/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PUT /import_raw_vdi. It writes a new volume and puts it in the old one's place at
 * the end, so that an upload that breaks leaves the disk as it was. A worker writes a raw
 * body straight into it, and spools an image in the SR first, since its tables may come
 * after the data they describe.
 */
#include "daemon/api/raw_vdi.h"

#include <inttypes.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/api/vdi.h"
#include "daemon/db/db.h"
#include "daemon/job/again.h"
#include "daemon/job/digest.h"
#include "daemon/job/move.h"
#include "daemon/job/phase.h"
#include "daemon/job/task.h"

/* Whether the body's length is the disk's. */
static bool
is_bare(const struct raw_vdi *t)
{
	return raw_vdi_is_plain(t) && !*t->framing && !smd_json_member(t->io.request, "coding");
}

/* How a disk's bytes come; chunked is vhd-tool's, and has nothing to do with HTTP's. */
static int
import_framing(struct raw_vdi *t, struct smd_error *err)
{
	t->framing = strcmp(t->format, TAR) == 0 ? "blocks" : "";
	if (!http_query(t->io.client, "chunked"))
		return 0;
	t->framing = "frames";
	if (strcmp(t->format, RAW) == 0)
		return 0;
	t->io.status = 404;	/* in xapi's words */
	return smd_fail_INTERNAL_ERROR(err, "Cannot handle chunked VHD", "chunked is for raw disks, "
				       "and not for %s", t->format);
}

/* Vhd-tool's frames may come in any order; whether they did is known at their end. */
static bool
import_verifies(const struct raw_vdi *t)
{
	return !raw_vdi_is_plain(t) || t->verify || (t->reads && strcmp(t->framing, "frames") == 0);
}

static int
import_check(struct raw_vdi *t, struct smd_error *err)
{
	if (transfer_query_bool(&t->io, "verify", &t->verify, err) < 0 ||
	    raw_vdi_open(t, "blocked", true, err) < 0)
		return -1;
	t->reads = digest_wanted(t->io.daemon, sr_ref(t->io.disk.sr),
				 http_query(t->io.client, "verify"));
	if (smd_json_bool(t->io.disk.record, "read_only", false))
		return smd_fail_VDI_READONLY(err, t->io.disk.vdi_ref, "VDI %s is read-only: "
					     "VDI.set_read_only changes that", t->io.disk.uuid);
	if (is_bare(t) && transfer_size(&t->io) > t->io.disk.virtual_size)
		return smd_fail_VDI_TOO_SMALL(err, t->io.disk.vdi_ref, SMD_U64(t->io.declared),
					      "the upload has %" PRIu64 " bytes, VDI %s %" PRIu64
					      ": VDI.resize makes it larger",
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
	uint64_t size = transfer_size(&t->io);
	json *target;

	if (import_volume(t, err) < 0 || create_image(t, err) < 0)
		return -1;
	target = source_of_fd(t->volume.fd, t->volume.name, t->volume.format, true, false, &t->io.job,
			      err);
	if (!target)
		return -1;
	smd_json_set_str(t->io.request, "op", "import-raw");
	smd_json_set(t->io.request, "source", target);
	smd_json_set_int(t->io.request, "size",
			 (int64_t)(size == 0 && is_bare(t) ? t->io.disk.virtual_size : size));
	smd_json_set_str(t->io.request, "framing", t->framing);
	smd_json_set_int(t->io.request, "quota", (int64_t)t->volume.virtual_size);
	if (import_verifies(t))
		t->io.job.progress_to = PHASE_VERIFIES_FROM;
	/* A disk whose guest wrote such bytes is raw all the same; its owner knows. */
	if (!t->any_content)
		smd_json_set_str(t->io.request, "declared", RAW);
	return transfer_start(&t->io, false, err);
}

static int
import_start_spool(struct raw_vdi *t, struct smd_error *err)
{
	json *target;

	if (new_volume_begin(t->io.daemon, "import_raw_vdi", t->io.disk.sr, t->format, 0, NULL, NULL,
			     &t->spool, err) < 0)
		return -1;
	target = target_of_fd(t->spool.fd, t->spool.name, t->format, t->io.disk.virtual_size,
			      &t->io.job, err);
	if (!target)
		return -1;
	smd_json_set_str(t->io.request, "op", "spool");
	smd_json_set(t->io.request, "target", target);
	smd_json_set_int(t->io.request, "size", (int64_t)transfer_size(&t->io));
	t->io.job.progress_to = PHASE_VERIFIES_FROM;
	return transfer_start(&t->io, false, err);
}

/* A request that names no VDI, and an SR instead, makes one of the body's length. */
static int
import_make_vdi(struct raw_vdi *t, struct smd_error *err)
{
	const char *id = http_query(t->io.client, "sr_id"), *uuid = http_query(t->io.client, "sr_uuid");
	CLEANUP_JSON json *record = json_object_new_object();
	CLEANUP_FREE char *sr = NULL;

	if (http_query(t->io.client, "vdi") || (!id && !uuid))
		return 0;
	t->io.status = 400;	/* as xapi answers where it knows too little */
	if (strcmp(t->format, RAW) != 0 || !is_bare(t) || transfer_size(&t->io) == 0)
		return smd_fail_INTERNAL_ERROR(err, "VDI size unknown: name a VDI",
				"only a raw body of a known length makes a VDI of its own: make one "
				"first and name it, or PUT an image to /import_image");
	if (db_resolve(t->io.daemon->db, "SR", id ? id : uuid, &sr, err) < 0)
		return -1;
	t->io.status = 0;
	smd_json_set_str(record, "SR", sr);
	smd_json_set_str(record, "name_label", "Imported VDI");
	smd_json_set_str(record, "type", "user");
	smd_json_set_int(record, "virtual_size", (int64_t)t->io.declared);
	return vdi_make(t->io.daemon, t->io.task_ref, record, &t->io.made_vdi, err);
}

/* The request's own VDI goes with an upload that failed. */
static unsigned
import_fail(struct raw_vdi *t, struct smd_error *err, char **ret_text)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_error was CLEANUP_ERROR = SMD_ERROR_INIT;

	if (t->io.made_vdi) {
		transfer_stop(&t->io);
		new_volume_done(&t->volume);
		transfer_release(&t->io);
		vdi_unmake(t->io.daemon, NULL, t->io.made_vdi, &ignored);
	}
	/* A worker knows the image and not the VDI. */
	if (smd_error_is(err, SMD_E_VDI_TOO_SMALL) && t->io.disk.vdi_ref) {
		smd_error_move(&was, err);
		smd_fail_VDI_TOO_SMALL(err, t->io.disk.vdi_ref, was.params[1], "%s", was.message);
	}
	return transfer_answer_error(&t->io, err, ret_text);
}

static int
import_start(struct raw_vdi *t, struct smd_error *err)
{
	return raw_vdi_is_plain(t) ? import_start_raw(t, err) : import_start_spool(t, err);
}

static unsigned
import_begin(struct http_request *request, void **ret_state, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_raw_vdi) struct raw_vdi *t = raw_vdi_new(request);
	bool makes_vdi = !http_query(request, "vdi");
	unsigned status = transfer_check_session(&t->io, "import_raw_vdi",
						 makes_vdi ? "VDI.create" : "VDI.resize", ret_text);
	const char *any_content = http_query(request, "any_content");
	bool probe = transfer_is_probe(&t->io);

	if (status != 0)
		return status;
	t->any_content = any_content && strcmp(any_content, "true") == 0;
	if ((!probe && transfer_take_task(&t->io, "Importing raw VDI", &err) < 0) ||
	    import_framing(t, &err) < 0 || transfer_check_upload(&t->io, &err) < 0 ||
	    import_make_vdi(t, &err) < 0 || import_check(t, &err) < 0)
		return import_fail(t, &err, ret_text);
	if (probe)
		return 200;
	phase_begin(t->io.daemon, t->io.task_ref, import_verifies(t));
	phase_enter(t->io.daemon, t->io.task_ref, PHASE_RESERVE);
	if (import_start(t, &err) < 0)
		return import_fail(t, &err, ret_text);
	transfer_name_task(&t->io);
	*ret_state = TAKE_PTR(t);
	return 0;
}

static int
import_write(void *state, const void *data, size_t len)
{
	struct raw_vdi *t = state;

	return transfer_write(&t->io, data, len);
}

/* The end of a tar of blocks is not told from its middle, but that of the disk is. */
static int
check_blocks(const struct raw_vdi *t, struct smd_error *err)
{
	if (strcmp(t->format, TAR) != 0 || transfer_size(&t->io) != 0 ||
	    (uint64_t)smd_json_int(t->io.result, "bytes", 0) == t->io.disk.virtual_size)
		return 0;
	return smd_fail_VDI_IO_ERROR(err, "Device I/O errors", "the upload, whose length was not "
				     "declared, ends before the disk");
}

/* The image in the spool, about which a worker is asked; it came from outside. */
static int
add_spool(struct raw_vdi *t, const char *op, struct worker_job *job, struct smd_error *err)
{
	json *source = source_of_fd(t->spool.fd, "the upload", t->format, false, true, job, err);

	if (!source)
		return -1;
	smd_json_set_str(job->request, "op", op);
	smd_json_set(job->request, "source", source);
	return 0;
}

static int
fill_info(void *opaque, struct worker_job *job, struct smd_error *err)
{
	job->urgent = true;
	job->seconds = WORKER_QUESTION_SECONDS;
	return add_spool(opaque, "info", job, err);
}

static int
spool_info(struct raw_vdi *t, uint64_t *ret_size, struct smd_error *err)
{
	CLEANUP_JSON json *result = NULL;

	if (again_run(t->io.daemon, fill_info, t, &result, err) < 0)
		return -1;
	*ret_size = (uint64_t)smd_json_int(result, "virtual-size", 0);
	return 0;
}

/* Its first corruption, as an error. */
static int
fail_corrupt(json *findings, struct smd_error *err)
{
	size_t n = json_object_is_type(findings, json_type_array) ?
		   json_object_array_length(findings) : 0;

	for (size_t i = 0; i < n; i++) {
		json *finding = json_object_array_get_idx(findings, i);

		if (strcmp(smd_json_str(finding, "kind", ""), "corruption") == 0)
			return smd_fail_IMAGE_CORRUPT(err, "the upload",
						      smd_json_str(finding, "reason", ""), "%s",
						      smd_json_str(finding, "text", ""));
	}
	return smd_fail_IMAGE_CORRUPT(err, "the upload", "BAD_HEADER", "its check finds corruption");
}

static int
fill_check(void *opaque, struct worker_job *job, struct smd_error *err)
{
	struct raw_vdi *t = opaque;

	job->task_ref = t->io.task_ref;
	job->progress_from = job->progress_to = PHASE_VERIFIES_FROM;
	worker_loads(job, sr_ref(t->io.disk.sr));
	return add_spool(t, "check", job, err);
}

/* Nothing of an image from outside is repaired, or half of it believed. */
static int
spool_check(struct raw_vdi *t, struct smd_error *err)
{
	CLEANUP_JSON json *result = NULL;

	if (again_run(t->io.daemon, fill_check, t, &result, err) < 0)
		return -1;
	if (smd_json_int(result, "corruptions", 0) == 0)
		return 0;
	return fail_corrupt(smd_json_member(result, "findings"), err);
}

static int
fill_convert(void *opaque, struct worker_job *job, struct smd_error *err)
{
	struct raw_vdi *t = opaque;
	struct new_volume *v = &t->volume;
	json *target;

	job->task_ref = t->io.task_ref;
	job->progress_from = PHASE_VERIFIES_FROM;
	job->progress_to = PHASE_MOVES_TO;
	worker_loads(job, sr_ref(t->io.disk.sr));
	if (new_volume_empty(v, err) < 0 || add_spool(t, "convert", job, err) < 0)
		return -1;
	target = target_of_fd(v->fd, v->name, v->format, v->virtual_size, job, err);
	smd_json_set(job->request, "target", target);
	smd_json_set_bool(job->request, "digest", t->reads);
	smd_json_set_bool(job->request, "verify", t->verify);
	return target ? 0 : -1;
}

/* The upload is all there: a worker that dies has a successor. */
static int
convert_spool(struct raw_vdi *t, struct smd_error *err)
{
	CLEANUP_JSON json *result = NULL;

	if (again_run(t->io.daemon, fill_convert, t, &result, err) < 0)
		return -1;
	/* What it says of the disk takes the place of what was said of the upload. */
	json_object_put(t->io.result);
	t->io.result = TAKE_PTR(result);
	return 0;
}

static int
import_finish_image(struct raw_vdi *t, struct smd_error *err)
{
	uint64_t size;

	if (spool_info(t, &size, err) < 0)
		return -1;
	if (size > t->io.disk.virtual_size)
		return smd_fail_VDI_TOO_SMALL(err, t->io.disk.vdi_ref, SMD_U64(size),
					      "the image holds a disk of %" PRIu64 " bytes, VDI %s has "
					      "%" PRIu64 ": VDI.resize makes it larger", size,
					      t->io.disk.uuid, t->io.disk.virtual_size);
	phase_enter(t->io.daemon, t->io.task_ref, PHASE_VERIFY);
	if (spool_check(t, err) < 0 || import_volume(t, err) < 0)
		return -1;
	return convert_spool(t, err);
}

/* ---- The disk that came of it ---- */

static json *
new_source(void *opaque, struct worker_job *job, struct smd_error *err)
{
	const struct new_volume *v = &((struct raw_vdi *)opaque)->volume;

	return source_of_fd(v->fd, v->name, v->format, false, false, job, err);
}

/* All of the new disk: for its digest, or that it is the one of what came. */
static int
read_back(struct raw_vdi *t, struct smd_error *err)
{
	const struct digest_reading reading = {
		.daemon = t->io.daemon, .task_ref = t->io.task_ref,
		.sr_ref = sr_ref(t->io.disk.sr), .progress_from = PHASE_VERIFIES_FROM,
		.progress_to = PHASE_MOVES_TO, .source = new_source, .opaque = t,
	};
	CLEANUP_FREE char *came = smd_json_dup(t->io.result, "digest");

	phase_enter(t->io.daemon, t->io.task_ref, PHASE_VERIFY);
	if (digest_read(&reading, &t->io.result, err) < 0)
		return -1;
	if (!came || strcmp(came, transfer_digest(&t->io)) == 0)
		return 0;
	return smd_fail_VDI_COPY_FAILED(err, "the disk reads back otherwise than it came: its digest is "
					"%s, and what came had %s: its storage, or this host's memory, "
					"changes data; the VDI is as it was", transfer_digest(&t->io),
					came);
}

static int
import_finish_raw(struct raw_vdi *t, struct smd_error *err)
{
	if (check_blocks(t, err) < 0)
		return -1;
	return t->verify || (t->reads && !transfer_digest(&t->io)) ? read_back(t, err) : 0;
}

static int
import_publish(struct raw_vdi *t, struct smd_error *err)
{
	phase_enter(t->io.daemon, t->io.task_ref, PHASE_SWITCH);
	/* Before the commit: a kill behind it leaves the task no other end. */
	transfer_show_digest(&t->io);
	return new_volume_publish(&t->volume, err);
}

static unsigned
import_end(void *state, bool complete, char **ret_text)
{
	CLEANUP(cleanup_raw_vdi) struct raw_vdi *t = state;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *result = NULL;
	int r = transfer_finish_upload(&t->io, complete, &err);

	if (r == 0)
		r = t->spool.fd >= 0 ? import_finish_image(t, &err) : import_finish_raw(t, &err);
	if (r == 0)
		r = import_publish(t, &err);
	if (r == 0)
		r = move_replace(&t->io.disk, &t->volume, transfer_digest(&t->io), t->io.task_ref,
				 &err);
	new_volume_done(&t->spool);
	new_volume_done(&t->volume);
	transfer_release(&t->io);
	if (r < 0) {
		volume_fail(t->io.disk.sr, &err);
		return import_fail(t, &err, ret_text);
	}
	sr_update_stats(t->io.daemon, sr_ref(t->io.disk.sr), &err);
	result = smd_asprintf("<value>%s</value>", t->io.disk.vdi_ref);
	task_succeed(t->io.daemon->tasks, t->io.task_ref, result);
	return 200;
}

const struct http_stream api_import_raw_vdi = {
	.begin = import_begin,
	.write = import_write,
	.end = import_end,
};
