/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/archive.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "common/image/format.h"
#include "common/mem.h"

#define ARCHIVE_CHUNK (256u << 10)
#define ARCHIVE_FILTERS_MAX 2	/* one that decompresses, and the source below it */

/* ---- Reading ---- */

struct archive_reader {
	struct archive *a;
	int fd;
	char *name;
	bool members;			/* else one file, which is its first entry */
	bool at_end;			/* of fd */
	uint64_t consumed;
	archive_tick_fn *tick;
	void *opaque;
	uint8_t buf[ARCHIVE_CHUNK];
};

/* libarchive's own words; the reason is what can be told of it. */
static int
reader_fail(struct archive_reader *r, struct smd_error *err)
{
	const char *text = archive_error_string(r->a);
	int e = archive_errno(r->a);
	enum smd_reason reason = SMD_REASON_DECOMPRESS;

	if (e == ENOMEM)
		reason = SMD_REASON_SIZE_LIMIT;
	else if (r->at_end)
		reason = SMD_REASON_TRUNCATED;
	return smd_image_fail(err, reason, r->name, "%s", text ? text :
			      e == ENOMEM ? "it takes more memory to read than is allowed" :
			      "it cannot be read");
}

static la_ssize_t
reader_read(struct archive *a, void *opaque, const void **ret)
{
	struct archive_reader *r = opaque;
	ssize_t n;

	do {
		n = read(r->fd, r->buf, sizeof r->buf);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		archive_set_error(a, errno, "reading it: %s", strerror(errno));
		return -1;
	}
	r->at_end = n == 0;
	r->consumed += (uint64_t)n;
	if (r->tick)
		r->tick(r->opaque, r->consumed);
	*ret = r->buf;
	return n;
}

/* ARCHIVE_WARN from a filter means that it would start another program. */
static bool
reader_support(struct archive *a, enum archive_kind kind)
{
	bool ok = true;

	if (kind == ARCHIVE_TAR || kind == ARCHIVE_GZIP)
		ok = ok && archive_read_support_filter_gzip(a) == ARCHIVE_OK;
	if (kind == ARCHIVE_TAR || kind == ARCHIVE_XZ)
		ok = ok && archive_read_support_filter_xz(a) == ARCHIVE_OK;
	if (kind == ARCHIVE_TAR || kind == ARCHIVE_ZSTD)
		ok = ok && archive_read_support_filter_zstd(a) == ARCHIVE_OK;
	if (kind == ARCHIVE_TAR)
		return ok && archive_read_support_format_tar(a) == ARCHIVE_OK;
	if (kind == ARCHIVE_ZIP)
		return ok && archive_read_support_format_zip_streamable(a) == ARCHIVE_OK;
	return ok && archive_read_support_format_raw(a) == ARCHIVE_OK;
}

int
archive_reader_open(int fd, const char *name, enum archive_kind kind, archive_tick_fn *tick,
		    void *opaque, struct archive_reader **ret, struct smd_error *err)
{
	CLEANUP(cleanup_archive_reader) struct archive_reader *r = smd_calloc(1, sizeof *r);

	r->a = archive_read_new();
	r->fd = fd;
	r->name = smd_strdup(name);
	r->members = kind == ARCHIVE_TAR || kind == ARCHIVE_ZIP;
	r->tick = tick;
	r->opaque = opaque;
	if (!r->a || !reader_support(r->a, kind))
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

/* What follows the last member (padding, a checksum) is part of the file too. */
static int
reader_drain(struct archive_reader *r, struct smd_error *err)
{
	ssize_t n;

	do {
		const void *unused;

		n = r->at_end ? 0 : reader_read(r->a, r, &unused);
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
	int fd;
};

static int
writer_fail(struct archive_writer *w, struct smd_error *err)
{
	const char *text = archive_error_string(w->a);
	int e = archive_errno(w->a);

	smd_fail_IMAGE_IO(err, "archive", "writing the archive: %s", text ? text : strerror(e));
	err->errnum = e;
	return -1;
}

static la_ssize_t
writer_write(struct archive *a, void *opaque, const void *data, size_t len)
{
	struct archive_writer *w = opaque;
	ssize_t n;

	do {
		n = write(w->fd, data, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		archive_set_error(a, errno, "%s", strerror(errno));
	return n;
}

int
archive_writer_open(int fd, struct archive_writer **ret, struct smd_error *err)
{
	CLEANUP(cleanup_archive_writer) struct archive_writer *w = smd_calloc(1, sizeof *w);

	w->fd = fd;
	w->a = archive_write_new();
	if (!w->a || archive_write_add_filter_gzip(w->a) != ARCHIVE_OK ||
	    archive_write_set_format_pax_restricted(w->a) != ARCHIVE_OK ||
	    archive_write_set_options(w->a, "gzip:compression-level=1,gzip:!timestamp") !=
	    ARCHIVE_OK)
		return smd_fail_INTERNAL_ERROR(err, "libarchive",
					       "libarchive was built without gzip or pax");
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
	free(w);
}
