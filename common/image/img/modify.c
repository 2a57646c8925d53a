/* SPDX-License-Identifier: BSD-2-Clause */
/* Verbs that write: convert, create, resize; and bench, which measures convert. */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/direct.h"
#include "common/image/io.h"
#include "common/image/img/img.h"
#include "common/mem.h"

static void
cleanup_source(struct smd_source *source)
{
	img_source_free(source);
}

static void
cleanup_target(struct smd_target *target)
{
	img_target_free(target);
}

static int
refuse_same_file(const char *in, const char *out, struct smd_error *err)
{
	struct stat a, b;

	if (stat(in, &a) == 0 && stat(out, &b) == 0 && a.st_dev == b.st_dev &&
	    a.st_ino == b.st_ino)
		return smd_fail_INVALID_VALUE(err, "output", out, "%s is the input itself", out);
	return 0;
}

static const char *
plain_name(const char *path)
{
	return strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
}

/* What -B names. Its images and the input's are ours, and have parents. */
static int
base_source(struct img_options *o, const char *out, struct smd_source *ret,
	    struct smd_error *err)
{
	if (!o->backing)
		return 0;
	if (!o->second_format)
		return smd_fail_INVALID_VALUE(err, "-F", "", "-B needs -F FORMAT: the format of a "
					      "parent is recorded, never guessed");
	o->chain = true;
	if (refuse_same_file(o->backing, out, err) != 0)
		return -1;
	return img_source(o, o->backing, o->second_format, false, ret, err);
}

/* As qemu-img has it: base shows what the input's own parent shows. An input without
 * one is compared. */
static void
target_over(struct smd_target *target, struct smd_source *base, const char *path, size_t depth)
{
	target->parents = base;
	target->parent_name = plain_name(path);
	target->upper = depth > 1 ? 1 : 0;
}

/* --marks FILE. */
struct marks_file {
	struct smd_io *io;
	struct smd_marks *marks;
};

static void
marks_close(struct marks_file *m)
{
	smd_marks_close(m->marks);
	smd_io_close(m->io);
}

static int
marks_open(const struct img_options *o, struct marks_file *ret, struct smd_error *err)
{
	CLEANUP_CLOSE int fd = -1;

	if (!o->marks)
		return 0;
	fd = img_open_file(o->marks, O_RDWR | O_CREAT, err);
	if (fd < 0 || smd_io_file(fd, o->marks, SMD_IO_WRITABLE, &ret->io, err) != 0)
		return -1;
	fd = -1;
	return smd_marks_open(ret->io, &ret->marks, err);
}

static int
convert(struct img_options *o, const char *in, const char *out, json **ret,
	struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP(cleanup_target) struct smd_target target = { .fd = -1 };
	CLEANUP(cleanup_source) struct smd_source base = { 0 };
	CLEANUP(marks_close) struct marks_file marks = { NULL, NULL };
	struct smd_copy_options options;
	struct img_progress progress;
	bool made = false;
	int rc;

	if (refuse_same_file(in, out, err) != 0 || base_source(o, out, &base, err) != 0 ||
	    img_source(o, in, o->format, false, &source, err) != 0 ||
	    marks_open(o, &marks, err) != 0)
		return -1;
	rc = img_target(o, out, o->out_format, &target, &made, err);
	if (rc == 0) {
		if (o->backing)
			target_over(&target, &base, o->backing, source.n);
		target.no_flush = !o->durable;
		if (o->durable || o->marks)
			target.direct_fd = smd_open_direct(target.fd);
		img_copy_options(o, &progress, &options);
		options.marks = marks.marks;
		rc = smd_op_convert(&source, &target, &options, ret, err);
		img_progress_end(&progress);
	}
	if (rc != 0 && made && !o->marks)
		unlink(out);
	if (rc == 0 && o->marks)
		unlink(o->marks);
	return rc;
}

int
img_convert(struct img_options *o, struct smd_error *err)
{
	CLEANUP_JSON json *result = NULL;
	const char *why;

	if (!o->out_format)
		return smd_fail_INVALID_VALUE(err, "-O", "", "convert needs -O FORMAT");
	if (convert(o, o->args[0], o->args[1], &result, err) != 0)
		return -1;
	why = smd_json_str(result, "started_over", NULL);
	if (why && !o->quiet)
		fprintf(stderr, "smd-img: the conversion was started over: %s\n", why);
	if (o->json)
		img_print_json(result);
	return IMG_OK;
}

static int
parent_fill(struct img_options *o, struct smd_target *target, struct smd_chain **ret,
	    struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source parent = { 0 };
	const struct smd_image_info *info;
	bool chain = o->chain;
	int rc;

	if (!o->second_format)
		return smd_fail_INVALID_VALUE(err, "-F", "", "-b needs -F FORMAT: the format of a "
					      "parent is recorded, never guessed");
	o->chain = true;	/* the parent is ours, and may have one itself */
	rc = img_source(o, o->backing, o->second_format, false, &parent, err);
	o->chain = chain;
	if (rc != 0 || smd_source_open(&parent, ret, err) != 0)
		return -1;
	info = smd_chain_info(*ret, 0);
	target->parent_name = plain_name(o->backing);
	target->parent_format = smd_format_elsewhere(smd_chain_format(*ret, 0));
	memcpy(target->parent_uuid, info->uuid, sizeof target->parent_uuid);
	target->parent_virtual_size = smd_chain_size(*ret);
	return 0;
}

int
img_create(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_target) struct smd_target target = { .fd = -1 };
	CLEANUP_CHAIN struct smd_chain *parent = NULL;
	bool made = false;
	uint64_t size = 0;
	int rc = 0;

	if (o->n_args == 1 && !o->backing)
		return smd_fail_INVALID_VALUE(err, "size", "", "create needs a size");
	if (o->n_args == 2 && smd_size_parse(o->args[1], &size, err) != 0)
		return -1;
	if (img_target(o, o->args[0], o->format ? o->format : "raw", &target, &made, err) != 0)
		rc = -1;
	if (rc == 0 && o->backing)
		rc = parent_fill(o, &target, &parent, err);
	target.virtual_size = o->n_args == 2 ? size : target.parent_virtual_size;
	if (rc == 0)
		rc = smd_op_create(&target, err);
	if (rc != 0 && made)
		unlink(o->args[0]);
	return rc == 0 ? IMG_OK : -1;
}

int
img_resize(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	const char *text = o->args[1];
	CLEANUP_JSON json *info = NULL;
	uint64_t size, now;

	if (smd_size_parse(text + strspn(text, "+-"), &size, err) != 0)
		return -1;
	if (*text == '+' || *text == '-') {
		if (img_source(o, o->args[0], o->format, false, &source, err) != 0 ||
		    smd_op_info(&source, &info, err) != 0)
			return -1;
		now = (uint64_t)smd_json_int(info, "virtual-size", 0);
		img_source_free(&source);
		if (*text == '-' ? size > now : !smd_add_u64(now, size, &size))
			return smd_fail_INVALID_VALUE(err, "size", text, "the size is %" PRIu64
						      ": %s is out of range", now, text);
		if (*text == '-')
			size = now - size;
	}
	if (img_source(o, o->args[0], o->format, true, &source, err) != 0)
		return -1;
	return smd_op_resize(&source, size, o->shrink, err) == 0 ? IMG_OK : -1;
}

/* Convert FILE to OUT again and again, and say how fast that was. */
int
img_bench(struct img_options *o, struct smd_error *err)
{
	double best = 0;
	int64_t bytes = 0;

	if (!o->out_format)
		return smd_fail_INVALID_VALUE(err, "-O", "", "bench needs -O FORMAT");
	if (access(o->args[1], F_OK) == 0)
		return smd_fail_INVALID_VALUE(err, "output", o->args[1], "%s exists", o->args[1]);
	for (int i = 0; i < 3; i++) {
		CLEANUP_JSON json *result = NULL;
		json *seconds;
		double s;

		if (convert(o, o->args[0], o->args[1], &result, err) != 0)
			return -1;
		unlink(o->args[1]);
		seconds = smd_json_member(result, "seconds");
		s = seconds ? json_object_get_double(seconds) : 0;
		bytes = smd_json_int(result, "data", 0);
		if (i == 0 || s < best)
			best = s;
	}
	printf("%" PRId64 " bytes of data in %.3f s, %.0f MB/s (best of 3)\n", bytes, best,
	       best > 0 ? (double)bytes / best / 1e6 : 0);
	return IMG_OK;
}
