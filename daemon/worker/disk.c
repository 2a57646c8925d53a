/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export and import-raw: what a disk holds, to a pipe or from one.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/mem.h"
#include "common/uuid.h"
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
export_range(struct smd_chain *chain, int fd, uint64_t offset, uint64_t count,
	     struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = smd_malloc(RANGE_WINDOW);

	if (!smd_range_ok(offset, count, smd_chain_size(chain)))
		return smd_fail_INTERNAL_ERROR(err, "range", "the range passes the disk's end");
	if (print_begin(NULL, count, err) != 0)
		return -1;
	while (count > 0) {
		size_t n = smd_min_u64(RANGE_WINDOW, count);

		if (smd_chain_pread(chain, buf, n, offset, err) != 0)
			return -1;
		for (size_t done = 0; done < n;) {
			ssize_t w = write(fd, buf + done, n - done);

			if (w < 0 && errno != EINTR)
				return smd_fail_IMAGE_IO(err, "stream", "writing the stream: %m");
			done += w > 0 ? (size_t)w : 0;
		}
		offset += n;
		count -= n;
	}
	return 0;
}

static void
set_digest(json *result, const struct smd_digest *digest, uint64_t size)
{
	char text[SMD_DIGEST_TEXT_MAX];

	smd_digest_text(digest, size, text);
	smd_json_set_str(result, "digest", text);
}

int
run_export(json *request, json **ret, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	CLEANUP_CHAIN struct smd_chain *base = NULL;
	CLEANUP_FREE char *parent_name = NULL;
	const struct smd_format *format;
	struct smd_create params = { 0 };
	struct smd_copy_options options;
	struct smd_copy_stats stats;
	struct smd_source source;
	int fd = -1;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0 ||
	    parse_fd(request, &fd, err) != 0 ||
	    smd_format_get(smd_json_str(request, "format", ""), &format, err) != 0 ||
	    smd_source_open(&source, &chain, err) != 0 ||
	    open_base(request, &base, err) != 0)
		return -1;
	if (smd_json_member(request, "count"))
		return export_range(chain, fd, (uint64_t)smd_json_int(request, "offset", 0),
				    (uint64_t)smd_json_int(request, "count", 0), err);
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
	if (smd_stream_out(chain, format, &params, fd, print_begin, &options, &stats, err) != 0)
		return -1;
	*ret = json_object_new_object();
	if (stats.has_digest)
		set_digest(*ret, &stats.digest, smd_chain_size(chain));
	return 0;
}

static bool
is_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Write a piece, its zero granules as zeroes. */
static int
import_piece(struct smd_chain *chain, const uint8_t *buf, size_t count, uint64_t offset,
	     struct smd_error *err)
{
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

/* Fill buf from a pipe: fewer bytes only at its end. */
static ssize_t
read_full(int fd, uint8_t *buf, size_t count)
{
	size_t done = 0;

	while (done < count) {
		ssize_t n = read(fd, buf + done, count - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* A raw disk that looks like an image of another format is refused, by its head as
 * soon as that has come: the body's end is not there to be judged yet. */
static int
refuse_head(const struct smd_ends *ends, const struct smd_format *declared,
	    struct smd_error *err)
{
	struct smd_ends head = *ends;

	memset(head.tail, 0, sizeof head.tail);
	return smd_detect_refuse_ends(&head, "the upload", declared, err);
}

int
run_import_raw(json *request, json **ret, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	CLEANUP_FREE uint8_t *buf = smd_malloc(IMPORT_CHUNK);
	const char *declared_name = smd_json_str(request, "declared", "");
	const struct smd_format *declared = NULL;
	struct smd_ends ends = { .size = 0 };
	struct smd_digest digest = { 0, 0 };
	struct smd_source source;
	uint64_t size = 0, done = 0;
	int fd = -1;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0 ||
	    parse_fd(request, &fd, err) != 0 || parse_size(request, "size", &size, err) != 0 ||
	    (*declared_name && smd_format_get(declared_name, &declared, err) != 0) ||
	    smd_source_open(&source, &chain, err) != 0)
		return -1;
	for (ssize_t n; (n = read_full(fd, buf, IMPORT_CHUNK)) != 0; done += (uint64_t)n) {
		if (n < 0)
			return smd_fail_VDI_IO_ERROR(err, "Device I/O errors",
						     "reading the upload at %" PRIu64 ": %s", done,
						     strerror(errno));
		if ((uint64_t)n > smd_chain_size(chain) - done)
			return smd_fail_VDI_TOO_SMALL(err, source.layers[0].name, SMD_U64(done + (uint64_t)n),
						      "the upload passes the disk's end, %" PRIu64,
						      smd_chain_size(chain));
		smd_ends_add(&ends, buf, (size_t)n);
		if (smd_copy_control_pass(control_get(), (uint64_t)n, err) != 0)
			return -1;
		if ((done == 0 && declared && refuse_head(&ends, declared, err) != 0) ||
		    import_piece(chain, buf, (size_t)n, done, err) != 0)
			return -1;
		smd_digest_add(&digest, buf, (size_t)n, done);
		print_progress(NULL, done + (uint64_t)n, smd_max_u64(size, done + (uint64_t)n));
	}
	if ((declared && smd_detect_refuse_ends(&ends, "the upload", declared, err) != 0) ||
	    smd_chain_flush(chain, err) != 0)
		return -1;
	*ret = json_object_new_object();
	smd_json_set_int(*ret, "bytes", (int64_t)done);
	/* What the upload leaves alone it does not tell. */
	if (done == smd_chain_size(chain))
		set_digest(*ret, &digest, done);
	return 0;
}
