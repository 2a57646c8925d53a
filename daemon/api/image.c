/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PUT /import_image and GET /export_image: chains of images as XenServer's archives,
 * and single images that may be compressed, over HTTP.
 *
 * An import makes new VDIs. A worker takes the upload apart as it comes, into volumes
 * that were made beforehand; what it found in them becomes VDIs when it is all there.
 */
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/api/transfer.h"
#include "daemon/db/db.h"
#include "daemon/job/digest.h"
#include "daemon/job/land.h"
#include "daemon/job/phase.h"
#include "daemon/job/task.h"
#include "daemon/sr/tree.h"

#define ARCHIVE_FORMAT "vhd"	/* of an archive's images, by what the archive is */

struct image {
	struct transfer io;
	bool verify;			/* what is converted is read back */
	bool reads;			/* what came is read, for its digest */
	struct sr *sr;
	struct staging staging;
};

static void
image_free(struct image *t)
{
	if (!t)
		return;
	transfer_stop(&t->io);
	staging_done(&t->staging);
	transfer_done(&t->io);
	sr_release(t->sr);
	free(t);
}

static void
cleanup_image(struct image **t)
{
	image_free(*t);
}

static struct image *
image_new(struct http_request *request)
{
	struct image *t = smd_calloc(1, sizeof *t);

	transfer_init(&t->io, request);
	t->staging = (struct staging)STAGING_INIT;
	return t;
}

/* A word of the query; "": absent. */
static const char *
word(const struct image *t, const char *name)
{
	const char *value = http_query(t->io.client, name);

	return value ? value : "";
}

/* ---- Import ---- */

static int
import_sr(struct image *t, struct smd_error *err)
{
	CLEANUP_FREE char *ref = NULL;

	if (!*word(t, "sr"))
		return smd_fail_INVALID_VALUE(err, "sr", "", "the request names no SR");
	if (db_resolve(t->io.daemon->db, "SR", word(t, "sr"), &ref, err) < 0)
		return -1;
	op_set_init(&t->io.ops, t->io.daemon, t->io.task_ref);
	if (op_set_begin(&t->io.ops, "SR", ref, "vdi_create", err) < 0)
		return -1;
	return sr_use(t->io.daemon, ref, &t->sr, err);
}

/* Whether what comes is to be something else; it may turn out to be that already. */
static bool
import_converts(const struct image *t)
{
	return *word(t, "format") || strcmp(word(t, "flatten"), "true") == 0;
}

/* What can be known to be wrong before a byte comes. */
static int
import_check(struct image *t, struct smd_error *err)
{
	CLEANUP_FREE char *format = NULL;
	bool flatten;

	if (import_sr(t, err) < 0 || transfer_query_bool(&t->io, "flatten", &flatten, err) < 0 ||
	    transfer_query_bool(&t->io, "verify", &t->verify, err) < 0)
		return -1;
	t->reads = digest_wanted(t->io.daemon, sr_ref(t->sr), word(t, "verify"));
	if (*word(t, "format") &&
	    sr_choose_format(t->io.daemon, sr_ref(t->sr), word(t, "format"), 1, "", &format, err) < 0)
		return -1;
	return transfer_check_upload(&t->io, err);
}

static int
import_request(struct image *t, struct smd_error *err)
{
	json *volumes = json_object_new_array(), *request = t->io.request;
	struct smd_sr_stat stat;

	smd_json_set_str(request, "op", "import-image");
	smd_json_set(request, "volumes", volumes);
	smd_json_set_str(request, "filename", word(t, "filename"));
	smd_json_set_str(request, "format", word(t, "format"));
	smd_json_set_int(request, "size", (int64_t)transfer_size(&t->io));
	if (sr_get_driver(t->sr)->stat(sr_handle(t->sr), &stat, err) < 0)
		return -1;
	smd_json_set_int(request, "room", (int64_t)smd_min_u64(stat.free, INT64_MAX));
	for (size_t i = 0; i < t->staging.n; i++) {
		CLEANUP_JSON json *volume = json_object_new_object();
		int number = -1;

		if (job_fd(t->staging.volumes[i].fd, &t->io.job, &number, err) < 0)
			return -1;
		smd_json_set_int(volume, "fd", number);
		smd_json_set_str(volume, "stem", t->staging.volumes[i].uuid.text);
		json_object_array_add(volumes, TAKE_PTR(volume));
	}
	return 0;
}

static int
import_start(struct image *t, struct smd_error *err)
{
	bool verifies = import_converts(t) || t->reads;

	phase_begin(t->io.daemon, t->io.task_ref, verifies);
	phase_enter(t->io.daemon, t->io.task_ref, PHASE_RESERVE);
	if (staging_begin(t->io.daemon, "import_image", t->sr, STAGING_MAX, &t->staging, err) < 0 ||
	    import_request(t, err) < 0)
		return -1;
	t->io.job.progress_to = verifies ? PHASE_VERIFIES_FROM : PHASE_MOVES_TO;
	return transfer_start(&t->io, false, err);
}

static unsigned
import_begin(struct http_request *request, void **ret_state, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_image) struct image *t = image_new(request);
	unsigned status = transfer_check_session(&t->io, "import_image", "VDI.create", ret_text);
	bool probe = transfer_is_probe(&t->io);

	if (status != 0)
		return status;
	if ((!probe && transfer_take_task(&t->io, "Importing an image", &err) < 0) ||
	    import_check(t, &err) < 0)
		return transfer_answer_error(&t->io, &err, ret_text);
	if (probe)
		return 200;
	if (import_start(t, &err) < 0)
		return transfer_answer_error(&t->io, &err, ret_text);
	transfer_name_task(&t->io);
	*ret_state = TAKE_PTR(t);
	return 0;
}

static int
import_write(void *state, const void *data, size_t len)
{
	struct image *t = state;

	return transfer_write(&t->io, data, len);
}

/* What the new disk is called where nobody says: as its file, less the suffixes that
 * tell what it is. */
static char *
default_name(const struct image *t)
{
	static const char *const outer[] = { ".gz", ".xz", ".zst" };
	CLEANUP_FREE char *name = smd_strdup(word(t, "filename"));
	char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && i < sizeof outer / sizeof *outer; i++) {
		if (strcmp(dot, outer[i]) == 0) {
			*dot = '\0';
			dot = strrchr(name, '.');
			break;
		}
	}
	if (dot)
		*dot = '\0';
	return *name ? TAKE_PTR(name) : smd_strdup("imported disk");
}

static int
import_land(struct image *t, char **ret_ref, struct smd_error *err)
{
	CLEANUP_FREE char *name = *word(t, "name_label") ? smd_strdup(word(t, "name_label")) :
				  default_name(t);
	struct landing landing = {
		.daemon = t->io.daemon, .task_ref = t->io.task_ref,
		.progress_from = t->io.job.progress_to, .progress_to = PHASE_MOVES_TO,
		.staging = &t->staging, .images = smd_json_member(t->io.result, "images"),
		.format = word(t, "format"), .flatten = strcmp(word(t, "flatten"), "true") == 0,
		.name_label = name, .name_description = word(t, "name_description"),
		.verify = t->verify, .reads = t->reads,
	};

	return land_images(&landing, ret_ref, err);
}

/* The ref of the new VDI is the task's result, its uuid the answer's text. */
static unsigned
import_end(void *state, bool complete, char **ret_text)
{
	CLEANUP(cleanup_image) struct image *t = state;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *ref = NULL, *result = NULL, *uuid = NULL;
	int r = transfer_finish_upload(&t->io, complete, &err);

	if (r == 0)
		r = import_land(t, &ref, &err);
	staging_done(&t->staging);
	if (r < 0) {
		volume_fail(t->sr, &err);
		op_set_done(&t->io.ops);
		return transfer_answer_error(&t->io, &err, ret_text);
	}
	op_set_done(&t->io.ops);
	sr_update_stats(t->io.daemon, sr_ref(t->sr), &err);
	if (db_get_str(t->io.daemon->db, "VDI", ref, "uuid", &uuid, &err) == 0)
		*ret_text = smd_asprintf("%s\n", uuid);
	result = smd_asprintf("<value>%s</value>", ref);
	if (t->io.task_ref)
		task_succeed(t->io.daemon->tasks, t->io.task_ref, result);
	return 200;
}

const struct http_stream api_import_image = {
	.begin = import_begin,
	.write = import_write,
	.end = import_end,
};

/* ---- Export ---- */

static int
export_depth(struct image *t, int64_t *ret, struct smd_error *err)
{
	const char *text = word(t, "depth");
	int64_t depth = 0;

	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9' || depth > TREE_LAYERS_MAX)
			depth = -1;
		else if (depth >= 0)
			depth = 10 * depth + (*p - '0');
	}
	if (*text && depth < 1)
		return smd_fail_INVALID_VALUE(err, "depth", text,
					      "depth is a number of images, from 1 up");
	*ret = depth;
	return 0;
}

static int
export_start(struct image *t, struct smd_error *err)
{
	int64_t depth = 0;
	json *source;

	phase_begin_download(t->io.daemon, t->io.task_ref);
	if (export_depth(t, &depth, err) < 0 ||
	    transfer_open(&t->io, "copy", "vdi_copy", false, err) < 0)
		return -1;
	source = disk_source(&t->io.disk, &t->io.job, false, err);
	if (!source)
		return -1;
	smd_json_set_str(t->io.request, "op", "export-image");
	smd_json_set(t->io.request, "source", source);
	smd_json_set_str(t->io.request, "format", ARCHIVE_FORMAT);
	smd_json_set_int(t->io.request, "depth", depth);
	if (transfer_start(&t->io, true, err) < 0 || transfer_wait_begun(&t->io, err) < 0)
		return -1;
	t->io.size = UINT64_MAX;	/* what it said is how much it has to read */
	return 0;
}

static unsigned
export_begin(struct http_request *request, void **ret_state, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_image) struct image *t = image_new(request);
	CLEANUP_FREE char *disposition = NULL;
	unsigned status = transfer_check_session(&t->io, "export_image", "VDI.copy", ret_text);

	if (status != 0)
		return status;
	if (transfer_take_task(&t->io, "Exporting an image", &err) < 0 || export_start(t, &err) < 0)
		return transfer_answer_error(&t->io, &err, ret_text);
	disposition = smd_asprintf("attachment; filename=\"%s.tgz\"", t->io.disk.uuid);
	http_reply_header(request, "Content-Type", "application/gzip");
	http_reply_header(request, "Content-Disposition", disposition);
	http_reply_header(request, "Cache-Control", "no-cache, no-store");
	transfer_name_task(&t->io);
	http_reply_size(request, UINT64_MAX);
	*ret_state = TAKE_PTR(t);
	return 0;
}

static int64_t
export_read(void *state, void *buf, size_t len)
{
	struct image *t = state;

	return transfer_read(&t->io, buf, len);
}

static unsigned
export_end(void *state, bool complete, char **ret_text)
{
	CLEANUP(cleanup_image) struct image *t = state;

	(void)ret_text;
	return transfer_read_end(&t->io, complete);
}

const struct http_stream api_export_image = {
	.begin = export_begin,
	.read = export_read,
	.end = export_end,
};
