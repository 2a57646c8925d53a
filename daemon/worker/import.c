/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * import-image: an archive of a chain (XenServer's: 0.vhd is the leaf, n.vhd lies
 * below it), or one image that may be compressed, from a pipe into volumes.
 *
 * Each member is written as it streams by; what it is, and that it breaks no rule, is
 * looked at when it is all there. The order is the chain: what the images say of
 * parents is not followed but written afresh, with the names of the volumes.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/image/io.h"
#include "common/mem.h"
#include "daemon/worker/archive.h"
#include "daemon/worker/control.h"
#include "daemon/worker/internal.h"

#define IMAGES_MAX 30		/* of a chain, in XenServer's SRs and in ours */
#define MEMBERS_MAX 100		/* with those that are passed over */
#define MEMBER_NAME_MAX 100	/* of a name in a message */
#define SPARSE_UNIT 4096u	/* zeroes of this size are left out */
/* No disk is larger, whatever its zeroes take. */
#define PLAIN_SIZE_MAX (UINT64_C(64) << 40)

struct image {
	int fd;				/* the volume it goes into */
	int64_t volume;			/* which of the request's */
	const char *stem;		/* of the volume's name */
	char *name;			/* the volume's; NULL: nothing came for it */
	char *member;			/* what it was called */
	const struct smd_format *format;
	uint64_t size;
	struct smd_image_info info;
};

struct import {
	const char *archive;
	enum archive_kind kind;
	const struct smd_format *format;	/* of one that is plain */
	uint64_t room, written;		/* bytes that may be, and have been, taken */
	uint64_t total;			/* of all members */
	uint64_t upload;		/* the length declared; 0: unknown */
	size_t n;			/* volumes, then images */
	struct image images[IMAGES_MAX];
};

static void
cleanup_import(struct import *in)
{
	for (size_t i = 0; i < in->n; i++) {
		close(in->images[i].fd);
		free(in->images[i].name);
		free(in->images[i].member);
	}
}

/* ---- What is being sent ---- */

struct suffix {
	const char *text;
	enum archive_kind kind;
};

static const struct suffix containers[] = {
	{ ".tar", ARCHIVE_TAR }, { ".tgz", ARCHIVE_TAR }, { ".txz", ARCHIVE_TAR },
	{ ".tzst", ARCHIVE_TAR }, { ".tar.gz", ARCHIVE_TAR }, { ".tar.xz", ARCHIVE_TAR },
	{ ".tar.zst", ARCHIVE_TAR }, { ".zip", ARCHIVE_ZIP }, { NULL, 0 },
};

static const struct suffix compressors[] = {
	{ ".gz", ARCHIVE_GZIP }, { ".xz", ARCHIVE_XZ }, { ".zst", ARCHIVE_ZSTD }, { NULL, 0 },
};

static const struct suffix *
suffix_of(const char *name, const struct suffix *list)
{
	size_t len = strlen(name);

	for (; list->text; list++) {
		size_t n = strlen(list->text);

		if (len > n && strcmp(name + len - n, list->text) == 0)
			return list;
	}
	return NULL;
}

/* The format a name's last suffix declares; NULL: none. */
static const struct smd_format *
format_of_name(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot ? smd_format_find(dot + 1) : NULL;
}

/* By the file's name, or by the format declared where it has none: never by the
 * bytes, which a guest may have written. */
static int
import_kind(struct import *in, const char *declared, struct smd_error *err)
{
	CLEANUP_FREE char *name = smd_strdup(in->archive);
	const struct suffix *suffix;

	for (char *p = name; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	in->kind = ARCHIVE_TAR;
	suffix = suffix_of(name, containers);
	if (suffix || (!*name && !*declared)) {
		in->kind = suffix ? suffix->kind : ARCHIVE_TAR;
		return 0;
	}
	suffix = suffix_of(name, compressors);
	in->kind = suffix ? suffix->kind : ARCHIVE_PLAIN;
	if (suffix)
		name[strlen(name) - strlen(suffix->text)] = '\0';
	in->format = format_of_name(name);
	if (in->format)
		return 0;
	if (*declared)
		return smd_format_get(declared, &in->format, err);
	return smd_fail_INVALID_VALUE(err, "filename", in->archive,
			"%s: the name does not say what it is: an archive is .tgz, .tar, .tar.xz, "
			".tar.zst or .zip, an image has its format as a suffix, and .gz, .xz or "
			".zst behind it where it is compressed; format= declares it otherwise",
			in->archive);
}

/* A name as a message can show it. */
static char *
printable(const char *name)
{
	char *text = smd_strndup(name, MEMBER_NAME_MAX);

	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			*p = '?';
	}
	return text;
}

/* "0", "12": the place in the chain; older archives have names for theirs. */
static bool
place_of_stem(const char *stem, size_t len, size_t *ret)
{
	static const char *const older[] = { "image", "snap", "base" };
	size_t n = 0;

	for (size_t i = 0; i < sizeof older / sizeof *older; i++) {
		if (strlen(older[i]) == len && memcmp(stem, older[i], len) == 0) {
			*ret = i;
			return true;
		}
	}
	if (len == 0 || len > 9 || (len > 1 && *stem == '0'))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isdigit((unsigned char)stem[i]))
			return false;
		n = 10 * n + (size_t)(stem[i] - '0');
	}
	*ret = n;
	return true;
}

/* That a member may be read at all. 1: a directory that is the archive's own. */
static int
member_check(const struct archive_member *m, const char *shown, struct smd_error *err)
{
	const char *name = strncmp(m->name, "./", 2) == 0 ? m->name + 2 : m->name;

	if (strcmp(m->kind, "a directory") == 0 && (!*name || strcmp(name, ".") == 0))
		return 1;
	if (*m->kind)
		return smd_image_fail(err, SMD_REASON_EXTERNAL_REF, shown,
				      "it is %s, and an archive of images holds files only", m->kind);
	if (strchr(name, '/') || strcmp(name, "..") == 0 || strchr(name, '\\'))
		return smd_image_fail(err, SMD_REASON_EXTERNAL_REF, shown,
				      "the name leads to another directory");
	return 0;
}

/* Where a member goes: 0, 1 nowhere, -1. */
static int
member_place(struct import *in, const struct archive_member *m, const char *shown,
	     struct image **ret, struct smd_error *err)
{
	const char *name = strncmp(m->name, "./", 2) == 0 ? m->name + 2 : m->name;
	const struct smd_format *format = format_of_name(name);
	size_t place = 0;

	if (in->kind == ARCHIVE_TAR && strncmp(name, "swap.", 5) == 0 && format)
		return 1;
	if (!format || (in->kind == ARCHIVE_TAR &&
			!place_of_stem(name, (size_t)(strrchr(name, '.') - name), &place)))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, shown,
				      "the name is not that of an image: in %s", in->kind == ARCHIVE_ZIP ?
				      "a .zip it ends in its format" :
				      "an archive they are 0.vhd, the leaf, 1.vhd and so on");
	if (place >= in->n)
		return smd_image_fail(err, SMD_REASON_CHAIN_DEPTH, shown,
				      "a chain has %zu images at most", in->n);
	if (in->images[place].member)
		return smd_image_fail(err, SMD_REASON_AMBIGUOUS, shown, in->kind == ARCHIVE_ZIP ?
				      "a .zip holds one image, and there was %s before it" :
				      "the archive has %s already", in->images[place].member);
	*ret = &in->images[place];
	(*ret)->format = format;
	return 0;
}

/* ---- Writing a member as it comes ---- */

static int
fail_full(const struct import *in, const char *member, uint64_t size, struct smd_error *err)
{
	return smd_fail_SR_FULL(err, SMD_U64(size), SMD_U64(in->room),
				"%s: with it the upload takes %" PRIu64 " bytes, and the SR has room "
				"for %" PRIu64, member, size, in->room);
}

/* What a member may have. An image with tables is all it says it is; one without
 * may be mostly zeroes, which take no room. */
static int
check_size(const struct import *in, const struct image *image, const char *member,
	   uint64_t size, struct smd_error *err)
{
	bool sparse = image && !(image->format->caps & SMD_CAP_PROBE);

	if (sparse && size > PLAIN_SIZE_MAX)
		return smd_image_fail(err, SMD_REASON_SIZE_LIMIT, member,
				      "more than %" PRIu64 " bytes", PLAIN_SIZE_MAX);
	if (!sparse && (size > in->room || in->total > in->room - size))
		return fail_full(in, member, size > UINT64_MAX - in->total ? UINT64_MAX :
				 in->total + size, err);
	return 0;
}

static int
write_data(struct import *in, struct image *image, const uint8_t *data, size_t len,
	   uint64_t offset, struct smd_error *err)
{
	if (len > in->room - in->written)
		return fail_full(in, image->member, in->written + len, err);
	if (smd_copy_control_pass(control_get(), len, err) != 0)
		return -1;
	in->written += len;
	while (len > 0) {
		ssize_t n = pwrite(image->fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int e = errno;

			smd_image_fail(err, SMD_REASON_IO, image->member, "writing at %" PRIu64 ": %s",
				       offset, strerror(e));
			err->errnum = e;
			return -1;
		}
		data += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* The volume is empty: zeroes are in it. */
static int
write_sparse(struct import *in, struct image *image, const uint8_t *data, size_t len,
	     uint64_t offset, struct smd_error *err)
{
	while (len > 0) {
		size_t n = (size_t)smd_min_u64(len, SPARSE_UNIT - offset % SPARSE_UNIT);
		bool zero = is_zero(data, n);

		while (n < len) {
			size_t more = (size_t)smd_min_u64(len - n, SPARSE_UNIT);

			if (is_zero(data + n, more) != zero)
				break;
			n += more;
		}
		if (!zero && write_data(in, image, data, n, offset, err) != 0)
			return -1;
		data += n;
		offset += n;
		len -= n;
	}
	return 0;
}

/* image NULL: pass it over. */
static int
member_read(struct import *in, struct archive_reader *r, struct image *image, const char *member,
	    uint64_t size, struct smd_error *err)
{
	const uint8_t *data;
	uint64_t offset, end = 0;
	size_t len;
	int rc;

	while ((rc = archive_reader_data(r, &data, &len, &offset, err)) > 0) {
		if (offset < end || offset > UINT64_MAX - len)
			return smd_image_fail(err, SMD_REASON_BAD_HEADER, member,
					      "its parts are out of order");
		end = offset + len;
		if (check_size(in, image, member, end, err) != 0 ||
		    (image && write_sparse(in, image, data, len, offset, err) != 0))
			return -1;
	}
	if (rc != 0)
		return smd_error_prefix(err, "%s", member);
	end = smd_max_u64(end, size);	/* a sparse one may end in a hole */
	if (!image)
		return 0;
	in->total += end;
	image->size = end;
	if (ftruncate(image->fd, (off_t)end) == 0)
		return 0;
	rc = errno;
	smd_image_fail(err, SMD_REASON_IO, member, "its size: %s", strerror(rc));
	err->errnum = rc;
	return -1;
}

static int
member_take(struct import *in, struct archive_reader *r, const struct archive_member *m,
	    struct smd_error *err)
{
	CLEANUP_FREE char *shown = printable(m->name);
	uint64_t size = m->size_known ? m->size : 0;
	struct image *image = NULL;
	int rc;

	rc = member_check(m, shown, err);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	if (member_place(in, m, shown, &image, err) < 0 ||
	    check_size(in, image, shown, size, err) != 0)
		return -1;
	if (image)
		image->member = smd_strdup(shown);
	return member_read(in, r, image, shown, size, err);
}

static int
import_members(struct import *in, struct archive_reader *r, struct smd_error *err)
{
	struct archive_member m;
	unsigned n = 0;
	int rc;

	while ((rc = archive_reader_next(r, &m, err)) > 0) {
		if (++n > MEMBERS_MAX) {
			CLEANUP_FREE char *shown = printable(m.name);

			return smd_image_fail(err, SMD_REASON_TABLE_TOO_LARGE, shown,
					      "an archive of images has %u members at most",
					      MEMBERS_MAX);
		}
		if (member_take(in, r, &m, err) != 0)
			return -1;
	}
	return rc;
}

static int
import_plain(struct import *in, struct archive_reader *r, struct smd_error *err)
{
	struct archive_member m;
	int rc = archive_reader_next(r, &m, err);

	if (rc < 0)
		return -1;
	in->images[0].format = in->format;
	in->images[0].member = printable(*in->archive ? in->archive : "the upload");
	if (rc > 0 && member_read(in, r, &in->images[0], in->images[0].member, 0, err) != 0)
		return -1;
	/* Its compression may have a checksum behind the last byte. */
	return rc > 0 ? archive_reader_next(r, &m, err) : 0;
}

static int
import_stream(struct import *in, int fd, enum coding coding, struct smd_error *err)
{
	CLEANUP(cleanup_decoder) struct decoder *d = decoder_new(fd, coding, print_consumed, &in->upload);
	CLEANUP(cleanup_archive_reader) struct archive_reader *r = NULL;
	const char *name = *in->archive ? in->archive : "the upload";

	if (archive_reader_open(d, name, in->kind, &r, err) != 0)
		return -1;
	if (in->kind == ARCHIVE_TAR || in->kind == ARCHIVE_ZIP)
		return import_members(in, r, err);
	return import_plain(in, r, err);
}

/* ---- What came ---- */

/* The images in the order of the chain, the volumes nobody needs behind them. The
 * older names may leave out one, the numbers none. */
static int
import_sort(struct import *in, struct smd_error *err)
{
	size_t n = 0;

	for (size_t i = 0; i < in->n; i++) {
		struct image *image = &in->images[i], unused = in->images[n];

		if (!image->member)
			continue;
		if (n < i && isdigit((unsigned char)*basename(image->member)))
			return smd_image_fail(err, SMD_REASON_MISSING_PARENT, image->member,
					      "the archive has no image %zu, which comes before it", n);
		if (n > 0 && image->format != in->images[0].format)
			return smd_image_fail(err, SMD_REASON_FORMAT_MISMATCH, image->member,
					      "the images of a chain are of one format, and %s is not",
					      in->images[0].member);
		if (n != i) {
			in->images[n] = *image;
			*image = unused;
		}
		n++;
	}
	if (n == 0)
		return smd_image_fail(err, SMD_REASON_TRUNCATED, in->archive,
				      "it holds no image");
	for (size_t i = n; i < in->n; i++)
		close(in->images[i].fd);
	in->n = n;
	return 0;
}

static int
image_io(const struct image *image, uint32_t flags, struct smd_io **ret, struct smd_error *err)
{
	CLEANUP_CLOSE int fd = dup(image->fd);

	if (fd < 0)
		return smd_fail_INTERNAL_ERROR(err, "dup", "no descriptor left");
	if (smd_io_file(fd, image->member, flags, ret, err) != 0)
		return -1;
	fd = -1;
	return 0;
}

struct decoding {
	const struct image *image;
	void *img;
	uint8_t *unit;
};

static int
decode_extent(void *opaque, const struct smd_extent *e, struct smd_error *err)
{
	struct decoding *d = opaque;
	uint64_t size = d->image->info.alloc_unit;

	if (e->kind != SMD_EXTENT_ENCODED)
		return 0;
	for (uint64_t at = e->offset; at < e->offset + e->count; at += size) {
		if (d->image->format->read_encoded(d->img, at, d->unit, err) != 0)
			return -1;
	}
	return 0;
}

/* A check reads tables, and not what is compressed: whether that decodes. */
static int
image_decode(const struct image *image, void *img, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *unit = NULL;
	uint64_t size;

	if (!(image->info.flags & SMD_INFO_COMPRESSED))
		return 0;
	unit = image->info.alloc_unit <= SMD_ALLOC_MAX ? malloc(image->info.alloc_unit) : NULL;
	if (!unit || !smd_round_up_u64(image->info.virtual_size, SMD_SECTOR, &size))
		return smd_image_fail(err, SMD_REASON_SIZE_LIMIT, image->member,
				      "it takes more memory to read than is allowed");
	return image->format->extents(img, 0, size, decode_extent,
				      &(struct decoding){ image, img, unit }, err);
}

/* What it says of itself, as an image from outside. */
static int
image_look(struct image *image, struct smd_error *err)
{
	CLEANUP_IO struct smd_io *io = NULL;
	void *img;
	int rc;

	if (image->size == 0)
		return smd_image_fail(err, SMD_REASON_BAD_SIZE, image->member, "it is empty");
	if (image_io(image, 0, &io, err) != 0 ||
	    smd_detect_refuse(io, image->format, err) != 0 ||
	    image->format->open(io, SMD_OPEN_FOREIGN, &img, err) != 0)
		return -1;
	memset(&image->info, 0, sizeof image->info);
	rc = image->format->info(img, &image->info, err);
	free(image->info.details);
	image->info.details = NULL;
	if (rc == 0)
		rc = image_decode(image, img, err);
	image->format->close(img);
	return rc;
}

static int
check_once(struct image *image, uint32_t repair, int *ret_verdict, struct smd_error *err)
{
	CLEANUP_JSON json *found = NULL;
	json *finding;
	int fd = dup(image->fd);

	if (smd_op_check(fd, image->member, image->format->name, repair, &found, ret_verdict,
			 err) != 0)
		return -1;
	if (smd_json_int(found, "corruptions", 0) == 0)
		return 0;
	finding = json_object_array_get_idx(smd_json_member(found, "findings"), 0);
	for (size_t i = 0; i < json_object_array_length(smd_json_member(found, "findings")); i++) {
		finding = json_object_array_get_idx(smd_json_member(found, "findings"), i);
		if (strcmp(smd_json_str(finding, "kind", ""), "corruption") == 0)
			break;
	}
	return smd_fail_IMAGE_CORRUPT(err, image->member, smd_json_str(finding, "reason", ""),
				      "%s: %s", image->member, smd_json_str(finding, "text", ""));
}

/* A second copy that is damaged, space that leaks and what was left open are mended,
 * since the volume is ours from here on; data that may be wrong is refused. */
static int
image_check(struct image *image, struct smd_error *err)
{
	int verdict;

	if (image_look(image, err) != 0 ||
	    check_once(image, SMD_REPAIR_NONE, &verdict, err) != 0)
		return -1;
	/* 3 is qemu-img's: nothing worse than leaks. */
	if (verdict != 3 && !(image->info.flags & (SMD_INFO_DIRTY | SMD_INFO_DEGRADED)))
		return 0;
	if (check_once(image, SMD_REPAIR_ALL, &verdict, err) != 0 ||
	    check_once(image, SMD_REPAIR_NONE, &verdict, err) != 0)
		return -1;
	return image_look(image, err);
}

static bool
has_parent(const struct image *image)
{
	return image->info.flags & SMD_INFO_HAS_PARENT;
}

/* That each but the last is made to lie on another, which is not larger. */
static int
check_chain(const struct import *in, struct smd_error *err)
{
	const struct image *base = &in->images[in->n - 1];

	for (size_t i = 0; i + 1 < in->n; i++) {
		const struct image *image = &in->images[i], *parent = image + 1;

		if (!has_parent(image))
			return smd_image_fail(err, SMD_REASON_PARENT_MISMATCH, image->member,
					      "it is a whole disk, and cannot lie on %s",
					      parent->member);
		if (parent->info.virtual_size > image->info.virtual_size)
			return smd_image_fail(err, SMD_REASON_BAD_SIZE, image->member,
					      "its disk of %" PRIu64 " bytes is smaller than that of "
					      "%s below it, %" PRIu64, image->info.virtual_size,
					      parent->member, parent->info.virtual_size);
	}
	if (has_parent(base))
		return smd_image_fail(err, SMD_REASON_MISSING_PARENT, base->member,
				      "it needs a parent, and nothing came that it could lie on");
	return 0;
}

/* ---- Making it a chain of ours ---- */

static int
image_change(const struct image *image, void *img, const struct image *parent, bool hidden,
	     struct smd_error *err)
{
	const struct smd_format *f = image->format;

	if (parent && f->set_parent(img, parent->name, parent->format->name, parent->info.uuid,
				    err) != 0)
		return -1;
	if ((f->caps & SMD_CAP_HIDDEN) && f->set_hidden(img, hidden, err) != 0)
		return -1;
	return f->flush(img, err);
}

static int
image_relink(const struct image *image, const struct image *parent, bool hidden,
	     struct smd_error *err)
{
	bool is_hidden = image->info.flags & SMD_INFO_HIDDEN;
	CLEANUP_IO struct smd_io *io = NULL;
	void *img;
	int rc;

	if (!parent && (is_hidden == hidden || !(image->format->caps & SMD_CAP_HIDDEN) ||
			(image->info.flags & SMD_INFO_READ_ONLY)))
		return 0;
	if (parent && !(image->format->caps & SMD_CAP_PARENT))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, image->member,
				      "%s has no parents", image->format->name);
	if (image_io(image, SMD_IO_WRITABLE, &io, err) != 0 ||
	    image->format->open(io, SMD_OPEN_WRITE, &img, err) != 0)
		return -1;
	rc = image_change(image, img, parent, hidden, err);
	image->format->close(img);
	return rc;
}

/* From the base up. Then it opens as any chain of ours does, or it is none. */
static int
import_relink(struct import *in, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	struct smd_source source = { .n = in->n };

	for (size_t i = 0; i < in->n; i++)
		in->images[i].name = smd_asprintf("%s.%s", in->images[i].stem,
						  in->images[i].format->name);
	for (size_t i = in->n; i-- > 0;) {
		const struct image *parent = i + 1 < in->n ? &in->images[i + 1] : NULL;

		if (image_relink(&in->images[i], parent, i > 0, err) != 0)
			return -1;
	}
	for (size_t i = 0; i < in->n; i++) {
		source.layers[i].fd = dup(in->images[i].fd);
		source.layers[i].name = in->images[i].member;
		source.layers[i].format = in->images[i].format->name;
	}
	return smd_source_open(&source, &chain, err);
}

static json *
import_answer(const struct import *in)
{
	json *answer = json_object_new_object(), *list = json_object_new_array();

	for (size_t i = 0; i < in->n; i++) {
		const struct image *image = &in->images[i];
		json *entry = json_object_new_object();

		smd_json_set_int(entry, "volume", image->volume);
		smd_json_set_str(entry, "member", image->member);
		smd_json_set_str(entry, "format", image->format->name);
		smd_json_set_int(entry, "virtual-size", (int64_t)image->info.virtual_size);
		smd_json_set_bool(entry, "writable", !(image->info.flags & SMD_INFO_READ_ONLY));
		json_object_array_add(list, entry);
	}
	smd_json_set(answer, "images", list);
	return answer;
}

static int
parse_import(json *request, struct import *in, int *ret_fd, struct smd_error *err)
{
	json *list = smd_json_member(request, "volumes");
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	in->archive = smd_json_str(request, "filename", "");
	if (n == 0 || n > IMAGES_MAX)
		return bad_request(err, "volumes");
	for (; in->n < n; in->n++) {
		json *volume = json_object_array_get_idx(list, in->n);
		struct image *image = &in->images[in->n];

		if (parse_fd(volume, &image->fd, err) != 0)
			return -1;
		image->volume = (int64_t)in->n;
		image->stem = smd_json_str(volume, "stem", "");
	}
	if (parse_fd(request, ret_fd, err) != 0 || parse_size(request, "room", &in->room, err) != 0 ||
	    parse_size(request, "size", &in->upload, err) != 0)
		return -1;
	return import_kind(in, smd_json_str(request, "format", ""), err);
}

int
run_import_image(json *request, json **ret, struct smd_error *err)
{
	CLEANUP(cleanup_import) struct import in = { .n = 0 };
	enum coding coding;
	int fd = -1;

	if (parse_import(request, &in, &fd, err) != 0 || coding_parse(request, &coding, err) != 0 ||
	    import_stream(&in, fd, coding, err) != 0 ||
	    import_sort(&in, err) != 0)
		return -1;
	for (size_t i = in.n; i-- > 0;) {
		if (image_check(&in.images[i], err) != 0)
			return -1;
	}
	if (check_chain(&in, err) != 0 || import_relink(&in, err) != 0)
		return -1;
	*ret = import_answer(&in);
	return 0;
}
