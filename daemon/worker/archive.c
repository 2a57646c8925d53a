/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/archive.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "common/image/format.h"
#include "common/mem.h"
#include "daemon/worker/gzip.h"

#define ARCHIVE_CHUNK (256u << 10)
#define ARCHIVE_FILTERS_MAX 2	/* one that decompresses, and the source */

/* ---- Reading ---- */

struct archive_reader {
	struct archive *a;
	struct decoder *from;
	char *name;
	bool members;			/* else one file, which is its first entry */
	bool at_end;			/* of from */
	enum smd_reason reason;		/* of an error of our own */
	struct smd_error error;		/* of from */
	struct gunzip *gunzip;		/* NULL: not by gzip */
	const uint8_t *in;		/* read, and not given on yet */
	size_t in_len;
	uint8_t buf[ARCHIVE_CHUNK], out[ARCHIVE_CHUNK];
};

/* libarchive's own words; the reason is what can be told of it. */
static int
reader_fail(struct archive_reader *r, struct smd_error *err)
{
	const char *text = archive_error_string(r->a);
	int e = archive_errno(r->a);
	enum smd_reason reason = r->reason;

	if (r->error.code) {
		smd_error_move(err, &r->error);
		return -1;
	}
	if (reason == SMD_N_REASONS)
		reason = e == ENOMEM ? SMD_REASON_SIZE_LIMIT :
			 r->at_end ? SMD_REASON_TRUNCATED :
			 r->members ? SMD_REASON_BAD_HEADER : SMD_REASON_DECOMPRESS;
	return smd_image_fail(err, reason, r->name, "%s", text ? text :
			      e == ENOMEM ? "it takes more memory to read than is allowed" :
			      "it cannot be read");
}

static la_ssize_t
read_fail(struct archive_reader *r, enum smd_reason reason, const char *text)
{
	r->reason = reason;
	archive_set_error(r->a, EINVAL, "%s", text);
	return -1;
}

/* More into in, behind what is there: 1, 0 at the end, -1. */
static int
read_more(struct archive_reader *r)
{
	size_t n;

	if (r->in_len == 0)
		r->in = r->buf;
	if (decoder_read(r->from, r->buf + r->in_len, sizeof r->buf - r->in_len, &n,
			 &r->error) != 0) {
		archive_set_error(r->a, EIO, "%s", r->error.message);
		return -1;
	}
	r->at_end = n == 0;
	r->in_len += n;
	return n > 0;
}

/* The next bytes that gzip yields. */
static la_ssize_t
read_gunzip(struct archive_reader *r)
{
	for (;;) {
		enum gunzip_result result;
		size_t n = 0;
		int rc;

		result = gunzip(r->gunzip, &r->in, &r->in_len, r->out, sizeof r->out, &n);
		if (result == GUNZIP_BROKEN)
			return read_fail(r, SMD_REASON_DECOMPRESS, "it is damaged: what gzip "
					 "compressed does not decode");
		if (result == GUNZIP_CHECKSUM)
			return read_fail(r, SMD_REASON_BAD_CHECKSUM,
					 "it is damaged: gzip's checksum is another");
		if (n > 0)
			return (la_ssize_t)n;
		if (result == GUNZIP_END)
			r->in_len = 0;
		if (r->in_len > 0)
			continue;
		rc = read_more(r);
		if (rc < 0)
			return -1;
		if (rc == 0 && !gunzip_at_end(r->gunzip))
			return read_fail(r, SMD_REASON_TRUNCATED, "it ends before gzip's end");
		if (rc == 0)
			return 0;
	}
}

static la_ssize_t
reader_read(struct archive *a, void *opaque, const void **ret)
{
	struct archive_reader *r = opaque;
	size_t n;

	(void)a;
	if (r->gunzip) {
		*ret = r->out;
		return read_gunzip(r);
	}
	if (r->in_len == 0 && read_more(r) < 0)
		return -1;
	*ret = r->in;
	n = r->in_len;
	r->in_len = 0;
	return (la_ssize_t)n;
}

/* ARCHIVE_WARN from a filter means that it would start another program. gzip is
 * undone before libarchive sees the bytes. */
static bool
reader_support(struct archive_reader *r, enum archive_kind kind)
{
	struct archive *a = r->a;
	bool ok = true;

	if ((kind == ARCHIVE_TAR && !r->gunzip) || kind == ARCHIVE_XZ)
		ok = ok && archive_read_support_filter_xz(a) == ARCHIVE_OK;
	if ((kind == ARCHIVE_TAR && !r->gunzip) || kind == ARCHIVE_ZSTD)
		ok = ok && archive_read_support_filter_zstd(a) == ARCHIVE_OK;
	/* On behind the end of a tar to that of the stream: checksums are there. */
	if (kind == ARCHIVE_TAR || kind == ARCHIVE_TAR_PLAIN)
		return ok && archive_read_support_format_tar(a) == ARCHIVE_OK &&
		       archive_read_set_format_option(a, "tar", "read_concatenated_archives",
						      "1") == ARCHIVE_OK;
	if (kind == ARCHIVE_ZIP)
		return ok && archive_read_support_format_zip_streamable(a) == ARCHIVE_OK;
	return ok && archive_read_support_format_raw(a) == ARCHIVE_OK;
}

/* By gzip, where that may be. */
static int
reader_detect(struct archive_reader *r, enum archive_kind kind)
{
	int rc = 1;

	if (kind != ARCHIVE_TAR && kind != ARCHIVE_GZIP)
		return 0;
	while (r->in_len < 2 && rc > 0)
		rc = read_more(r);
	if (gunzip_is(r->in, r->in_len))
		r->gunzip = gunzip_new();
	return rc < 0 ? -1 : 0;
}

int
archive_reader_open(struct decoder *from, const char *name, enum archive_kind kind,
		    struct archive_reader **ret, struct smd_error *err)
{
	CLEANUP(cleanup_archive_reader) struct archive_reader *r = smd_calloc(1, sizeof *r);

	r->a = archive_read_new();
	r->from = from;
	r->name = smd_strdup(name);
	r->members = kind == ARCHIVE_TAR || kind == ARCHIVE_TAR_PLAIN || kind == ARCHIVE_ZIP;
	r->reason = SMD_N_REASONS;
	r->in = r->buf;
	if (r->a && reader_detect(r, kind) < 0)
		return reader_fail(r, err);
	if (!r->a || !reader_support(r, kind))
		return smd_fail_INTERNAL_ERROR(err, "libarchive", "libarchive was built without "
					       "gzip, xz, zstd, tar or zip");
	if (archive_read_open(r->a, r, NULL, reader_read, NULL) != ARCHIVE_OK)
		return reader_fail(r, err);
	if (archive_filter_count(r->a) > ARCHIVE_FILTERS_MAX)
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, name,
				      "it is compressed more than once");
	*ret = TAKE_PTR(r);
	return 0;
}

void
archive_reader_close(struct archive_reader *r)
{
	if (!r)
		return;
	archive_read_free(r->a);
	gunzip_free(r->gunzip);
	smd_error_clear(&r->error);
	free(r->name);
	free(r);
}

static const char *
entry_kind(struct archive_entry *entry)
{
	if (archive_entry_hardlink(entry) || archive_entry_hardlink_w(entry))
		return "a link";
	switch (archive_entry_filetype(entry)) {
	case AE_IFREG:
		return "";
	case AE_IFDIR:
		return "a directory";
	case AE_IFLNK:
		return "a symbolic link";
	}
	return "a special file";
}

/* What follows the last member (padding, a zip's directory) is part of the file too. */
static int
reader_drain(struct archive_reader *r, struct smd_error *err)
{
	const void *unused;
	la_ssize_t n;

	do {
		n = reader_read(r->a, r, &unused);
	} while (n > 0);
	return n < 0 ? reader_fail(r, err) : 0;
}

int
archive_reader_next(struct archive_reader *r, struct archive_member *ret, struct smd_error *err)
{
	struct archive_entry *entry;
	const char *name;
	int rc = archive_read_next_header(r->a, &entry);

	if (rc == ARCHIVE_EOF)
		return reader_drain(r, err);
	if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
		return reader_fail(r, err);
	name = archive_entry_pathname(entry);
	*ret = (struct archive_member){
		.name = r->members && name ? name : "",
		.kind = entry_kind(entry),
		.size_known = r->members && archive_entry_size_is_set(entry),
		.size = (uint64_t)archive_entry_size(entry),
	};
	return 1;
}

int
archive_reader_data(struct archive_reader *r, const uint8_t **ret_data, size_t *ret_len,
		    uint64_t *ret_offset, struct smd_error *err)
{
	const void *data;
	la_int64_t offset;
	size_t len;
	int rc = archive_read_data_block(r->a, &data, &len, &offset);

	if (rc == ARCHIVE_EOF)
		return 0;
	if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
		return reader_fail(r, err);
	*ret_data = data;
	*ret_len = len;
	*ret_offset = (uint64_t)offset;
	return 1;
}

/* ---- Writing ---- */

struct archive_writer {
	struct archive *a;
	struct encoder *to;
	struct smd_error error;		/* of to */
};

static int
writer_fail(struct archive_writer *w, struct smd_error *err)
{
	const char *text = archive_error_string(w->a);
	int e = archive_errno(w->a);

	if (w->error.code) {
		smd_error_move(err, &w->error);
		return -1;
	}
	smd_fail_IMAGE_IO(err, "archive", "writing the archive: %s", text ? text : strerror(e));
	err->errnum = e;
	return -1;
}

static la_ssize_t
writer_write(struct archive *a, void *opaque, const void *data, size_t len)
{
	struct archive_writer *w = opaque;

	if (encoder_write(w->to, data, len, &w->error) == 0)
		return (la_ssize_t)len;
	archive_set_error(a, w->error.errnum, "%s", w->error.message);
	return -1;
}

int
archive_writer_open(struct encoder *to, struct archive_writer **ret, struct smd_error *err)
{
	CLEANUP(cleanup_archive_writer) struct archive_writer *w = smd_calloc(1, sizeof *w);

	w->to = to;
	w->a = archive_write_new();
	if (!w->a || archive_write_set_format_pax_restricted(w->a) != ARCHIVE_OK)
		return smd_fail_INTERNAL_ERROR(err, "libarchive",
					       "libarchive was built without pax");
	archive_write_set_bytes_per_block(w->a, ARCHIVE_CHUNK);
	archive_write_set_bytes_in_last_block(w->a, 1);
	if (archive_write_open(w->a, w, NULL, writer_write, NULL) != ARCHIVE_OK)
		return writer_fail(w, err);
	*ret = TAKE_PTR(w);
	return 0;
}

int
archive_writer_member(struct archive_writer *w, const char *name, uint64_t size,
		      uint32_t mtime_unix, struct smd_error *err)
{
	struct archive_entry *entry = archive_entry_new();
	int rc;

	if (!entry)
		return smd_fail_INTERNAL_ERROR(err, "libarchive", "no memory");
	archive_entry_set_pathname(entry, name);
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0644);
	archive_entry_set_size(entry, (la_int64_t)size);
	archive_entry_set_mtime(entry, mtime_unix, 0);
	rc = archive_write_header(w->a, entry);
	archive_entry_free(entry);
	return rc == ARCHIVE_OK ? 0 : writer_fail(w, err);
}

int
archive_writer_data(struct archive_writer *w, const void *data, size_t len,
		    struct smd_error *err)
{
	const uint8_t *p = data;

	while (len > 0) {
		la_ssize_t n = archive_write_data(w->a, p, len);

		if (n <= 0)
			return writer_fail(w, err);
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int
archive_writer_finish(struct archive_writer *w, struct smd_error *err)
{
	return archive_write_close(w->a) == ARCHIVE_OK ? 0 : writer_fail(w, err);
}

/* Without finish the archive has no end: nobody shall take it for a whole one. */
void
archive_writer_close(struct archive_writer *w)
{
	if (!w)
		return;
	if (w->a)
		archive_write_fail(w->a);
	archive_write_free(w->a);
	smd_error_clear(&w->error);
	free(w);
}
