/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export, import-raw and spool: what a disk holds, to a pipe or from one.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>


#include "common/checked.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/worker/coding.h"
#include "daemon/worker/control.h"
#include "daemon/worker/internal.h"

#define IMPORT_CHUNK (1u << 20)
#define RANGE_WINDOW (1u << 20)
#define ZERO_GRANULE (64u << 10)	/* what import looks for zeroes in */

/* What an export is to lie on, if on anything. */
static int
open_base(json *request, struct smd_chain **ret, struct smd_error *err)
{
	json *base = smd_json_member(request, "base");
	struct smd_source source;

	if (!base)
		return 0;
	if (parse_source(base, &source, err) != 0)
		return -1;
	return smd_source_open(&source, ret, err);
}

/* Bytes of the disk itself: what a raw image of it has there. */
static int
export_range(struct smd_chain *chain, struct encoder *to, uint64_t offset, uint64_t count,
	     struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = smd_malloc_pages(RANGE_WINDOW);

	if (!smd_range_ok(offset, count, smd_chain_size(chain)))
		return smd_fail_INTERNAL_ERROR(err, "range", "the range passes the disk's end");
	if (print_begin(NULL, count, err) != 0)
		return -1;
	while (count > 0) {
		size_t n = smd_min_u64(RANGE_WINDOW, count);

		if (smd_chain_pread(chain, buf, n, offset, err) != 0 ||
		    encoder_write(to, buf, n, err) != 0)
			return -1;
		offset += n;
		count -= n;
	}
	return 0;
}

void
set_digest(json *result, const struct smd_digest *digest, bool known, uint64_t size)
{
	char text[SMD_DIGEST_TEXT_MAX];

	if (!known) {
		smd_json_set_str(result, "digest_absent", "only a part of the disk was read");
		return;
	}
	smd_digest_text(digest, size, text);
	smd_json_set_str(result, "digest", text);
}

static int
export_image(json *request, struct smd_chain *chain, struct encoder *to, json *result,
	     struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *base = NULL;
	CLEANUP_FREE char *parent_name = NULL;
	const struct smd_format *format;
	struct smd_create params = { 0 };
	struct smd_copy_options options;
	struct smd_copy_stats stats;

	if (smd_format_get(smd_json_str(request, "format", ""), &format, err) != 0 ||
	    open_base(request, &base, err) != 0)
		return -1;
	params.virtual_size = smd_chain_size(chain);
	params.timestamp_unix = (uint32_t)time(NULL);
	if (!smd_uuid_to_bytes(smd_json_str(request, "uuid", ""), params.uuid))
		smd_uuid_new_bytes(params.uuid);
	parse_copy_options(request, &options);
	options.base = base;
	if (base) {
		const char *uuid = smd_json_str(request, "base_uuid", "");

		parent_name = smd_asprintf("%s.%s", uuid, format->name);
		params.parent_name = parent_name;
		params.parent_format = smd_format_elsewhere(format);
		params.parent_virtual_size = smd_chain_size(base);
		smd_uuid_to_bytes(uuid, params.parent_uuid);
	}
	if (smd_stream_to(chain, format, &params, encoder_write, to, print_begin, &options, &stats,
			  err) != 0)
		return -1;
	set_digest(result, &stats.digest, stats.has_digest && !stats.is_change,
		   smd_chain_size(chain));
	return 0;
}

int
run_export(json *request, json **ret, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	CLEANUP(cleanup_encoder) struct encoder *to = NULL;
	struct smd_source source;
	enum coding coding;
	int fd = -1, rc;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0 ||
	    parse_fd(request, &fd, err) != 0 || coding_parse(request, &coding, err) != 0 ||
	    smd_source_open(&source, &chain, err) != 0)
		return -1;
	to = encoder_new(fd, coding);
	*ret = json_object_new_object();
	rc = smd_json_member(request, "count") ?
	     export_range(chain, to, (uint64_t)smd_json_int(request, "offset", 0),
			  (uint64_t)smd_json_int(request, "count", 0), err) :
	     export_image(request, chain, to, *ret, err);
	return rc == 0 ? encoder_finish(to, err) : -1;
}

/* ---- Import ---- */

bool
is_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

int
import_piece(struct smd_chain *chain, const uint8_t *buf, size_t count, uint64_t offset,
	     struct smd_error *err)
{
	if (smd_copy_control_pass(control_get(), count, err) != 0)
		return -1;
	for (size_t done = 0; done < count;) {
		size_t n = smd_min_u64(ZERO_GRANULE, count - done);
		int rc;

		if (is_zero(buf + done, n))
			rc = smd_chain_zero(chain, offset + done, n, true, err);
		else
			rc = smd_chain_pwrite(chain, buf + done, n, offset + done, err);
		if (rc != 0)
			return -1;
		done += n;
	}
	return 0;
}

/* A raw disk that looks like an image of another format is refused, by its head as
 * soon as that has come: the body's end is not there to be judged yet. */
static int
refuse_head(const struct smd_ends *ends, const struct smd_format *declared,
	    struct smd_error *err)
{
	struct smd_ends head = *ends;

	memset(head.tail, 0, sizeof head.tail);
	return smd_detect_refuse_ends(&head, UPLOAD_NAME, declared, err);
}

/* The same for a disk that did not come in order, by what it holds now. */
int
refuse_content(struct smd_chain *chain, const struct smd_format *declared, struct smd_error *err)
{
	struct smd_ends ends = { .size = smd_chain_size(chain) };

	ends.len = (size_t)smd_min_u64(ends.size, SMD_ENDS_MAX);
	if (smd_chain_pread(chain, ends.head, ends.len, 0, err) != 0 ||
	    smd_chain_pread(chain, ends.tail, ends.len, ends.size - ends.len, err) != 0)
		return -1;
	return smd_detect_refuse_ends(&ends, UPLOAD_NAME, declared, err);
}

/* Of so many bytes, of which so many are here; 0: nobody knows how many there are. */
void
print_consumed(void *opaque, uint64_t consumed)
{
	const uint64_t *size = opaque;

	if (*size)
		print_progress(NULL, consumed, smd_max_u64(*size, consumed));
}

int
parse_upload(json *request, struct upload *ret, struct smd_error *err)
{
	const char *declared = smd_json_str(request, "declared", "");
	struct smd_source source;
	enum coding coding;
	int fd = -1;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0 ||
	    parse_fd(request, &fd, err) != 0 || parse_size(request, "size", &ret->size, err) != 0 ||
	    coding_parse(request, &coding, err) != 0 ||
	    (*declared && smd_format_get(declared, &ret->declared, err) != 0))
		return -1;
	ret->name = source.layers[0].name;
	if (smd_source_open(&source, &ret->chain, err) != 0)
		return -1;
	ret->from = decoder_new(fd, coding, print_consumed, &ret->size);
	return 0;
}

void
upload_done(struct upload *u)
{
	decoder_free(u->from);
	smd_chain_close(u->chain);
}

int
upload_check(const struct upload *u, uint64_t offset, uint64_t count, struct smd_error *err)
{
	uint64_t size = smd_chain_size(u->chain), end;

	if (smd_range_ok(offset, count, size))
		return 0;
	if (!smd_add_u64(offset, count, &end))
		end = UINT64_MAX;
	return smd_fail_VDI_TOO_SMALL(err, u->name, SMD_U64(end),
				      "the upload passes the disk's end, %" PRIu64 ": VDI.resize makes it "
				      "larger", size);
}

static void
digest_page(struct upload *u)
{
	if (u->has_page)
		smd_digest_add(&u->digest, u->page, sizeof u->page, u->page_at);
	u->has_page = false;
	memset(u->page, 0, sizeof u->page);
}

void
upload_digest(struct upload *u, const uint8_t *buf, size_t count, uint64_t offset)
{
	u->disorder |= offset < u->next;
	u->next = offset + count;
	while (count > 0 && !u->disorder) {
		size_t start = offset % SMD_DIGEST_PAGE, n = smd_min_u64(count, SMD_DIGEST_PAGE - start);

		if (start == 0)
			digest_page(u);
		if (start == 0 && count >= SMD_DIGEST_PAGE) {
			n = count - count % SMD_DIGEST_PAGE;
			smd_digest_add(&u->digest, buf, n, offset);
		} else {
			if (u->page_at != offset - start)
				digest_page(u);
			u->has_page = true;
			u->page_at = offset - start;
			memcpy(u->page + start, buf, n);
		}
		buf += n;
		offset += n;
		count -= n;
	}
}

static json *
upload_answer(uint64_t bytes)
{
	json *answer = json_object_new_object();

	smd_json_set_int(answer, "bytes", (int64_t)bytes);
	return answer;
}

/* The bytes of the disk in order. */
static int
import_plain(struct upload *u, uint64_t *ret_bytes, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = smd_malloc_pages(IMPORT_CHUNK);
	struct smd_ends ends = { .size = 0 };
	uint64_t done = 0;

	for (size_t n;; done += n) {
		if (decoder_read_full(u->from, buf, IMPORT_CHUNK, &n, err) != 0)
			return -1;
		if (n == 0)
			break;
		if (upload_check(u, done, n, err) != 0)
			return -1;
		smd_ends_add(&ends, buf, n);
		if ((done == 0 && u->declared && refuse_head(&ends, u->declared, err) != 0) ||
		    import_piece(u->chain, buf, n, done, err) != 0)
			return -1;
		upload_digest(u, buf, n, done);
	}
	*ret_bytes = done;
	return u->declared ? smd_detect_refuse_ends(&ends, UPLOAD_NAME, u->declared, err) : 0;
}

/* vhd-tool's framing: before each piece its offset, 8 bytes, and its length, 4, both
 * little-endian; both 0 at the end. */
#define FRAME_SIZE 12

static uint64_t
load_le(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

static int
fail_frames(struct smd_error *err)
{
	return smd_image_fail(err, SMD_REASON_TRUNCATED, UPLOAD_NAME,
			      "its frames end in the middle of one, or without the last");
}

static int
import_frame(struct upload *u, uint8_t *buf, uint64_t offset, uint32_t count,
	     struct smd_error *err)
{
	if (upload_check(u, offset, count, err) != 0)
		return -1;
	while (count > 0) {
		size_t want = smd_min_u64(IMPORT_CHUNK, count), n;

		if (decoder_read_full(u->from, buf, want, &n, err) != 0)
			return -1;
		if (n < want)
			return fail_frames(err);
		if (import_piece(u->chain, buf, n, offset, err) != 0)
			return -1;
		upload_digest(u, buf, n, offset);
		offset += n;
		count -= (uint32_t)n;
	}
	return 0;
}

static int
import_frames(struct upload *u, uint64_t *ret_bytes, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = smd_malloc_pages(IMPORT_CHUNK);
	size_t n;

	*ret_bytes = smd_chain_size(u->chain);
	for (;;) {
		uint8_t head[FRAME_SIZE];
		uint64_t offset;
		uint32_t count;

		if (decoder_read_full(u->from, head, sizeof head, &n, err) != 0)
			return -1;
		if (n < sizeof head)
			return fail_frames(err);
		offset = load_le(head, 8);
		count = (uint32_t)load_le(head + 8, 4);
		if (offset == 0 && count == 0)
			break;
		if (import_frame(u, buf, offset, count, err) != 0)
			return -1;
	}
	if (decoder_read(u->from, buf, 1, &n, err) != 0)
		return -1;
	if (n > 0)
		return smd_image_fail(err, SMD_REASON_BAD_HEADER, UPLOAD_NAME,
				      "it goes on behind its last frame");
	return u->declared ? refuse_content(u->chain, u->declared, err) : 0;
}

/* import-raw: a disk as it is; framing says how it comes. */
int
run_import_raw(json *request, json **ret, struct smd_error *err)
{
	static const struct {
		const char *name;
		int (*import)(struct upload *u, uint64_t *ret_bytes, struct smd_error *err);
	} framings[] = {
		{ "", import_plain }, { "frames", import_frames }, { "blocks", import_blocks },
	};
	const char *framing = smd_json_str(request, "framing", "");
	CLEANUP(upload_done) struct upload u = { .name = NULL };
	uint64_t bytes = 0;

	if (parse_upload(request, &u, err) != 0)
		return -1;
	for (size_t i = 0; i < sizeof framings / sizeof *framings; i++) {
		if (strcmp(framings[i].name, framing) != 0)
			continue;
		if (framings[i].import(&u, &bytes, err) != 0 || smd_chain_flush(u.chain, err) != 0)
			return -1;
		*ret = upload_answer(bytes);
		/* What the upload leaves alone is zeroes. */
		digest_page(&u);
		if (u.disorder)
			smd_json_set_str(*ret, "digest_absent", "its parts did not come in order");
		else
			set_digest(*ret, &u.digest, true, smd_chain_size(u.chain));
		return 0;
	}
	return bad_request(err, "framing");
}

/* ---- An image, kept as it came until it is all there ---- */

static int
fail_spool(uint64_t offset, struct smd_error *err)
{
	int e = errno;

	if (e == EFBIG)
		return smd_image_fail(err, SMD_REASON_SIZE_LIMIT, UPLOAD_NAME,
				      "it decodes to more than the image of such a disk takes");
	smd_fail_VDI_IO_ERROR(err, "Device I/O errors", "after %" PRIu64 " bytes: %s", offset,
			      strerror(e));
	err->errnum = e;
	return -1;
}

static int
spool_piece(int fd, const uint8_t *data, size_t len, uint64_t offset, struct smd_error *err)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_spool(offset, err);
		data += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Its zeroes take no room. */
static int
spool_stream(struct decoder *from, int fd, uint64_t *ret_size, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = smd_malloc_pages(IMPORT_CHUNK);
	uint64_t done = 0;

	for (size_t n;; done += n) {
		if (decoder_read_full(from, buf, IMPORT_CHUNK, &n, err) != 0)
			return -1;
		if (n == 0)
			break;
		if (smd_copy_control_pass(control_get(), n, err) != 0)
			return -1;
		for (size_t at = 0; at < n; at += ZERO_GRANULE) {
			size_t len = smd_min_u64(ZERO_GRANULE, n - at);

			if (!is_zero(buf + at, len) && spool_piece(fd, buf + at, len, done + at, err) != 0)
				return -1;
		}
	}
	if (ftruncate(fd, (off_t)done) != 0)
		return fail_spool(done, err);
	*ret_size = done;
	return 0;
}

int
run_spool(json *request, json **ret, struct smd_error *err)
{
	CLEANUP(cleanup_decoder) struct decoder *from = NULL;
	uint64_t declared = 0, size = 0;
	enum coding coding;
	int fd = -1, into = -1;

	if (parse_fd(request, &fd, err) != 0 || coding_parse(request, &coding, err) != 0 ||
	    parse_size(request, "size", &declared, err) != 0 ||
	    parse_fd(smd_json_member(request, "target"), &into, err) != 0)
		return -1;
	from = decoder_new(fd, coding, print_consumed, &declared);
	if (spool_stream(from, into, &size, err) != 0)
		return -1;
	*ret = upload_answer(size);
	return 0;
}
