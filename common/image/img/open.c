/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/image/io.h"
#include "common/image/img/img.h"
#include "common/lock.h"
#include "common/mem.h"

#define PROBE_BYTES 4096	/* of the head and of the tail */

int
img_open_file(const char *path, int flags, struct smd_error *err)
{
	/* O_NONBLOCK: a FIFO must not hang us; what is no file is refused later. */
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0666);
	int e = errno;

	if (fd < 0) {
		smd_fail_IMAGE_IO(err, path, "cannot open %s: %s", path, strerror(e));
		err->errnum = e;
	}
	return fd;
}

/* The bytes formats are told by: the ends of the file. */
struct ends {
	uint8_t head[PROBE_BYTES], tail[PROBE_BYTES];
	size_t head_len, tail_len;
	uint64_t size;
};

static int
ends_read(int fd, const char *path, struct ends *ret, struct smd_error *err)
{
	off_t size = lseek(fd, 0, SEEK_END);
	ssize_t n;

	if (size < 0)
		return smd_image_fail(err, SMD_REASON_NOT_REGULAR, path,
				      "it is neither a file nor a block device");
	ret->size = (uint64_t)size;
	n = pread(fd, ret->head, sizeof ret->head, 0);
	ret->head_len = n > 0 ? (size_t)n : 0;
	n = pread(fd, ret->tail, ret->head_len, size - (off_t)ret->head_len);
	ret->tail_len = n > 0 ? (size_t)n : 0;
	return 0;
}

int
img_format(int fd, const char *path, const char *declared, const char **ret,
	   struct smd_error *err)
{
	const struct smd_format *format, *found = NULL;
	struct ends ends;

	if (declared) {
		if (smd_format_get(declared, &format, err) != 0)
			return -1;
		*ret = format->name;
		return 0;
	}
	if (ends_read(fd, path, &ends, err) != 0)
		return -1;
	for (const struct smd_format *const *f = smd_formats(); *f; f++) {
		if (!((*f)->caps & SMD_CAP_PROBE) ||
		    (*f)->probe(ends.head, ends.head_len, ends.tail, ends.tail_len, ends.size) == 0)
			continue;
		if (found)
			return smd_image_fail(err, SMD_REASON_FORMAT_MISMATCH, path,
					      "it looks like %s and like %s: say -f",
					      found->name, (*f)->name);
		found = *f;
	}
	if (!found)
		return smd_image_fail(err, SMD_REASON_BAD_MAGIC, path,
				      "it has no signature of a known format (raw is never "
				      "guessed: -f raw)");
	*ret = found->name;
	return 0;
}

static int
lock_file(const struct img_options *o, int fd, bool write, const char *path,
	  struct smd_error *err)
{
	int rc = o->share ? 0 : smd_image_lock(fd, write, path, err);

	if (rc == 1)
		return smd_fail_IMAGE_IO(err, path, "%s is in use by another program%s", path,
					 write ? "" : " that writes it (-U to read it all the same)");
	return rc;
}

/* What an image says of its parent. */
static int
parent_of(int fd, const char *path, const char *format, struct smd_image_info *ret,
	  struct smd_error *err)
{
	CLEANUP_IO struct smd_io *io = NULL;
	CLEANUP_CLOSE int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	const struct smd_format *f;
	void *img;
	int rc;

	if (smd_format_get(format, &f, err) != 0 || smd_io_file(copy, path, 0, &io, err) != 0)
		return -1;
	copy = -1;
	if (f->open(io, 0, &img, err) != 0)
		return -1;
	memset(ret, 0, sizeof *ret);
	rc = f->info(img, ret, err);
	free(ret->details);
	ret->details = NULL;
	f->close(img);
	return rc;
}

/* A plain name in the child's own directory, perhaps written "./name". */
static int
parent_name_check(const char *child, const char *name, const char **ret, struct smd_error *err)
{
	const char *plain = name;

	if (strncmp(plain, "./", 2) == 0 || strncmp(plain, ".\\", 2) == 0)
		plain += 2;
	if (*plain == '\0' || strcmp(plain, ".") == 0 || strcmp(plain, "..") == 0 ||
	    strpbrk(plain, "/\\:"))
		return smd_image_fail(err, SMD_REASON_EXTERNAL_REF, child,
				      "it names a parent that is no plain file name in its "
				      "directory");
	*ret = plain;
	return 0;
}

/* Open a parent beside its child: no link, no way out, a regular file. */
static int
parent_open(int dir, const char *child, const char *name, struct smd_error *err)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	CLEANUP_CLOSE int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
	struct stat st;

	if (fd < 0 && (errno == ELOOP || errno == EXDEV))
		return smd_image_fail(err, SMD_REASON_NOT_REGULAR, child,
				      "its parent, %s, is a symbolic link", name);
	if (fd < 0)
		return smd_image_fail(err, SMD_REASON_MISSING_PARENT, child,
				      "its parent, %s: %s", name, strerror(errno));
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return smd_image_fail(err, SMD_REASON_NOT_REGULAR, child,
				      "its parent, %s, is no regular file", name);
	return TAKE_FD(fd);
}

static bool
seen_before(const struct smd_source *source, int fd)
{
	struct stat a, b;

	if (fstat(fd, &a) != 0)
		return false;
	for (size_t i = 0; i < source->n; i++) {
		if (fstat(source->layers[i].fd, &b) == 0 && a.st_dev == b.st_dev &&
		    a.st_ino == b.st_ino)
			return true;
	}
	return false;
}

static void
source_add(struct smd_source *source, int fd, const char *name, const char *format)
{
	source->layers[source->n].fd = fd;
	source->layers[source->n].name = smd_strdup(name);
	source->layers[source->n].format = format;
	source->n++;
}

/* Add the parent of the last layer; 0 where it names none, 1 added, -1. */
static int
parent_add(const struct img_options *o, int dir, struct smd_source *source,
	   struct smd_error *err)
{
	const char *child = source->layers[source->n - 1].name, *name = NULL;
	struct smd_image_info info;
	const struct smd_format *format;
	int fd;

	if (parent_of(source->layers[source->n - 1].fd, child,
		      source->layers[source->n - 1].format, &info, err) != 0)
		return -1;
	if (!(info.flags & SMD_INFO_HAS_PARENT))
		return 0;
	if (source->n == SMD_CHAIN_MAX)
		return smd_image_fail(err, SMD_REASON_CHAIN_DEPTH, child,
				      "the chain is longer than %d images", SMD_CHAIN_MAX);
	if (parent_name_check(child, info.parent_name, &name, err) != 0)
		return -1;
	format = smd_format_find(info.parent_format);
	if (!format)
		return smd_image_fail(err, SMD_REASON_BACKING_FORMAT, child,
				      "%s records %s%s as its parent's format", child,
				      *info.parent_format ? "an unknown one" : "nothing", "");
	fd = parent_open(dir, child, name, err);
	if (fd < 0)
		return -1;
	if (seen_before(source, fd)) {
		close(fd);
		return smd_image_fail(err, SMD_REASON_CHAIN_CYCLE, child,
				      "%s is its own ancestor", name);
	}
	source_add(source, fd, name, format->name);
	return lock_file(o, fd, false, name, err) != 0 ? -1 : 1;
}

static int
parents_add(const struct img_options *o, const char *path, struct smd_source *source,
	    struct smd_error *err)
{
	CLEANUP_FREE char *copy = smd_strdup(path);
	CLEANUP_CLOSE int dir = open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
	int rc;

	if (dir < 0)
		return smd_fail_IMAGE_IO(err, path, "the directory of %s: %s", path,
					 strerror(errno));
	while ((rc = parent_add(o, dir, source, err)) == 1)
		;
	return rc;
}

int
img_source(const struct img_options *o, const char *path, const char *format, bool write,
	   struct smd_source *ret, struct smd_error *err)
{
	const char *name = NULL;
	int fd;

	memset(ret, 0, sizeof *ret);
	fd = img_open_file(path, write ? O_RDWR : O_RDONLY, err);
	if (fd < 0)
		return -1;
	source_add(ret, fd, path, "");
	ret->write = write;
	ret->foreign = !o->chain;
	if (img_format(fd, path, format, &name, err) != 0 ||
	    lock_file(o, fd, write, path, err) != 0)
		return -1;
	ret->layers[0].format = name;
	return o->chain ? parents_add(o, path, ret, err) : 0;
}

void
img_source_free(struct smd_source *source)
{
	for (size_t i = 0; i < source->n; i++) {
		if (source->layers[i].fd >= 0)
			close(source->layers[i].fd);
		free((char *)source->layers[i].name);
	}
	source->n = 0;
}

int
img_target(const struct img_options *o, const char *path, const char *format,
	   struct smd_target *ret, bool *ret_made, struct smd_error *err)
{
	const struct smd_format *f;
	bool made = access(path, F_OK) != 0;

	memset(ret, 0, sizeof *ret);
	ret->fd = -1;
	if (smd_format_get(format, &f, err) != 0)
		return -1;
	ret->format = f->name;
	ret->name = path;
	for (size_t i = 0; i < o->n_create; i++) {
		if (smd_options_add(&ret->options, f, o->create[i].name, o->create[i].value,
				    err) != 0)
			return -1;
	}
	ret->fd = img_open_file(path, O_RDWR | O_CREAT, err);
	if (ret->fd < 0 || lock_file(o, ret->fd, true, path, err) != 0)
		return -1;
	*ret_made = made;
	if (o->marks)	/* it may be what an earlier run left */
		return 0;
	/* A block device keeps its size; a file starts empty. One that is empty is
	 * left alone: ext4 writes a file back on close once it was cut to nothing. */
	if (lseek(ret->fd, 0, SEEK_END) > 0 && ftruncate(ret->fd, 0) != 0 && errno != EINVAL)
		return smd_fail_IMAGE_IO(err, path, "cannot empty %s: %s", path, strerror(errno));
	return 0;
}

void
img_target_free(struct smd_target *target)
{
	if (target->fd >= 0)
		close(target->fd);
	smd_options_free(&target->options);
}
