/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/api/raw_vdi.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/api/coding.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/job/phase.h"

/* ---- Shared ---- */

void
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

struct raw_vdi *
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

bool
raw_vdi_is_plain(const struct raw_vdi *t)
{
	return strcmp(t->format, RAW) == 0 || strcmp(t->format, TAR) == 0;
}

int
raw_vdi_open(struct raw_vdi *t, const char *operation, bool write, struct smd_error *err)
{
	if (!raw_vdi_is_plain(t) && !storage_format(t->io.daemon, t->format)) {
		CLEANUP_FREE char *loaded = storage_format_names(t->io.daemon);

		return smd_fail_FORMAT_UNKNOWN(err, t->format, loaded, "Unknown format %s: there are "
					       TAR ", which is raw in blocks, %s", t->format, loaded);
	}
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

/* What the reply says of a range; returns its status. */
static unsigned
reply_range(struct raw_vdi *t, struct http_request *request, struct range *ret)
{
	uint64_t size = t->io.disk.virtual_size;
	unsigned status = parse_range(request, size, ret);
	CLEANUP_FREE char *text = NULL;

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

/* The whole, or of a raw disk the part the client wants; *ret_status 416: there is none. */
static int
export_part(struct raw_vdi *t, struct http_request *request, unsigned *ret_status,
	    struct smd_error *err)
{
	struct range range;

	*ret_status = strcmp(t->format, RAW) == 0 ? reply_range(t, request, &range) : 200;
	if (*ret_status == 206) {
		smd_json_set_int(t->io.request, "offset", (int64_t)range.offset);
		smd_json_set_int(t->io.request, "count", (int64_t)range.count);
	} else if (*ret_status == 416) {
		return smd_fail_INVALID_VALUE(err, "Range", http_header(request, "Range"),
					      "the disk ends before this range");
	}
	return 0;
}

/* What the client likes to have it in, where it gets the whole; whether that is as it
 * is. */
static bool
choose_coding(struct raw_vdi *t, struct http_request *request)
{
	const char *coding = coding_choose(http_header(request, "Accept-Encoding"));

	if (*coding)
		smd_json_set_str(t->io.request, "coding", coding);
	return !*coding;
}

static int
export_request(struct raw_vdi *t, struct smd_error *err)
{
	const char *base = http_query(t->io.client, "base");
	bool blocks = strcmp(t->format, TAR) == 0;
	json *source = disk_source(&t->io.disk, &t->io.job, false, err);

	if (!source)
		return -1;
	smd_json_set_str(t->io.request, "op", blocks ? "export-blocks" : "export");
	smd_json_set(t->io.request, "source", source);
	smd_json_set_str(t->io.request, "format", blocks ? RAW : t->format);
	/* Known by the same uuid when another one lies on it. */
	smd_json_set_str(t->io.request, "uuid", t->io.disk.uuid);
	return base && *base ? export_base(t, base, err) : 0;
}

static int
export_start(struct raw_vdi *t, struct http_request *request, struct smd_error *err)
{
	bool sized = strcmp(t->format, TAR) != 0;
	unsigned status;

	phase_begin_download(t->io.daemon, t->io.task_ref);
	if (raw_vdi_open(t, "copy", false, err) < 0)
		return -1;
	if (export_part(t, request, &status, err) < 0) {
		t->io.status = status;
		return -1;
	}
	if (status == 200 && !choose_coding(t, request))
		sized = false;
	if (export_request(t, err) < 0 || transfer_start(&t->io, true, err) < 0 ||
	    transfer_wait_begun(&t->io, err) < 0)
		return -1;
	if (!sized)
		t->io.size = UINT64_MAX;	/* the worker said the disk's */
	return 0;
}

static const char *
content_type(const char *format)
{
	static const struct {
		const char *format, *type;
	} types[] = {	/* as xapi names them */
		{ "vhd", "application/vhd" }, { "qcow2", "application/x-qemu-disk" },
		{ TAR, "application/x-tar" },
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
	const char *coding = smd_json_str(t->io.request, "coding", NULL);
	CLEANUP_FREE char *disposition = smd_asprintf("attachment; filename=\"%s.%s\"",
						      t->io.disk.uuid, t->format);

	http_reply_header(request, "Content-Type", content_type(t->format));
	http_reply_header(request, "Content-Disposition", disposition);
	http_reply_header(request, "Vary", "Accept-Encoding");
	if (coding)
		http_reply_header(request, "Content-Encoding", coding);
	http_reply_size(request, t->io.size);
	if (strcmp(t->format, RAW) == 0 && t->io.size != UINT64_MAX)
		http_reply_header(request, "Accept-Ranges", "bytes");
}

static unsigned
export_begin(struct http_request *request, void **ret_state, char **ret_text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_raw_vdi) struct raw_vdi *t = raw_vdi_new(request);
	unsigned status = transfer_check_session(&t->io, "export_raw_vdi", "VDI.copy", ret_text);

	if (status != 0)
		return status;
	if (transfer_take_task(&t->io, "Exporting raw VDI", &err) < 0 ||
	    export_start(t, request, &err) < 0)
		return transfer_answer_error(&t->io, &err, ret_text);
	reply_headers(t, request);
	transfer_name_task(&t->io);
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
	unsigned status = transfer_check_session(&t->io, "export_raw_vdi", "VDI.copy", ret_text);

	if (status != 0)
		return status;
	if (raw_vdi_open(t, "copy", false, &err) < 0)
		return transfer_answer_error(&t->io, &err, ret_text);
	t->io.size = choose_coding(t, request) && strcmp(t->format, RAW) == 0 ?
		     t->io.disk.virtual_size : UINT64_MAX;
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
