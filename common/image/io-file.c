/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/image/format.h"
#include "common/image/io-impl.h"
#include "common/mem.h"

/* With a page the kernel maps what else it has of 64 KiB, and since 6.18 all of a large folio,
 * which is at most so much. */
#define MAPS_WITH_IT (2u << 20)

struct file_io {
	struct smd_io io;
	int fd;
	int direct_fd;			/* the same file, O_DIRECT; -1: none */
	uint64_t ahead;			/* it is made longer by so much more than asked; 0: no */
	bool ahead_taken;		/* and that space taken */
	uint64_t length;		/* of the file, where that is more than io.size; else 0 */
	bool regular;
	bool no_flush;
	uint8_t *map;			/* all of it as it was then; NULL: not mapped */
	uint64_t map_size;
	char *name;
};

static const struct smd_io_ops file_ops;

static struct file_io *
file_of(struct smd_io *io)
{
	return (struct file_io *)io;
}

static int
file_fail(struct smd_io *io, struct smd_error *err, const char *what, uint64_t offset,
	  uint64_t count)
{
	int e = errno;

	smd_fail_IMAGE_IO(err, io->name, "%s: %s %" PRIu64 " bytes at %" PRIu64 ": %s", io->name,
			  what, count, offset, strerror(e));
	if (!err->errnum)
		err->errnum = e;
	return -1;
}

/* size only grows here; truncate alone sets it down. */
void
smd_io_grown_to(struct smd_io *io, uint64_t end)
{
	uint64_t size = __atomic_load_n(&io->size, __ATOMIC_RELAXED);

	while (size < end && !__atomic_compare_exchange_n(&io->size, &size, end, true,
							  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static int
file_passes_end(struct smd_io *io, uint64_t offset, size_t count, struct smd_error *err)
{
	return smd_image_fail(err, SMD_REASON_TRUNCATED, io->name,
			      "%zu bytes at %" PRIu64 " pass the end", count, offset);
}

static int
file_pread(struct smd_io *io, void *buf, size_t count, uint64_t offset, struct smd_error *err)
{
	uint8_t *p = buf;
	size_t left = count;

	if (file_of(io)->length > 0 &&
	    !smd_range_ok(offset, count, __atomic_load_n(&io->size, __ATOMIC_RELAXED)))
		return file_passes_end(io, offset, count, err);
	while (left > 0) {
		ssize_t r = pread(file_of(io)->fd, p, left, (off_t)(offset + (count - left)));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return file_fail(io, err, "reading", offset, count);
		if (r == 0)
			return file_passes_end(io, offset, count, err);
		p += r;
		left -= (size_t)r;
	}
	return 0;
}

static int
file_pwrite(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
	    struct smd_error *err)
{
	const uint8_t *p = buf;
	size_t left = count;

	if (!(io->flags & SMD_IO_CAN_GROW) && !smd_range_ok(offset, count, io->size)) {
		errno = ENOSPC;
		return file_fail(io, err, "writing", offset, count);
	}
	while (left > 0) {
		ssize_t r = pwrite(file_of(io)->fd, p, left, (off_t)(offset + (count - left)));

		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0)
			errno = EIO;
		if (r <= 0)
			return file_fail(io, err, "writing", offset, count);
		p += r;
		left -= (size_t)r;
	}
	smd_io_grown_to(io, offset + count);
	return 0;
}

static int
file_write_zeroes(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_error *err)
{
	static const uint8_t zeroes[65536];

	while (count > 0) {
		size_t n = (size_t)smd_min_u64(count, sizeof zeroes);

		if (file_pwrite(io, zeroes, n, offset, err) < 0)
			return -1;
		offset += n;
		count -= n;
	}
	return 0;
}

static int
file_zero(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_error *err)
{
	uint64_t range[2];

	if (offset >= io->size)
		return 0;
	count = smd_min_u64(count, io->size - offset);
	if (count == 0)
		return 0;
	if (fallocate(file_of(io)->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)offset, (off_t)count) == 0)
		return 0;
	range[0] = offset;
	range[1] = count;
	if (!file_of(io)->regular && ioctl(file_of(io)->fd, BLKZEROOUT, range) == 0)
		return 0;
	return file_write_zeroes(io, offset, count, err);
}

/* Longer by more than is asked for, so that not every growth is one of the file. */
static bool
file_lengthen(struct file_io *f, uint64_t size)
{
	uint64_t from = smd_max_u64(f->length, f->io.size), to;

	if (size <= from)
		return f->length > 0;
	if (f->ahead == 0 || !smd_add_u64(size, f->ahead, &to) || to > INT64_MAX)
		return false;
	if ((!f->ahead_taken || fallocate(f->fd, 0, (off_t)from, (off_t)(to - from)) < 0) &&
	    ftruncate(f->fd, (off_t)to) < 0)
		return false;
	f->length = to;
	return true;
}

static int
file_truncate(struct smd_io *io, uint64_t size, struct smd_error *err)
{
	if (!(io->flags & SMD_IO_CAN_GROW)) {
		errno = ENOSPC;
		return file_fail(io, err, "resizing to", 0, size);
	}
	if (size == io->size)	/* cutting an empty file makes ext4 write it back on close */
		return 0;
	if (size < io->size || !file_lengthen(file_of(io), size)) {
		if (ftruncate(file_of(io)->fd, (off_t)size) < 0)
			return file_fail(io, err, "resizing to", 0, size);
		file_of(io)->length = 0;
	}
	__atomic_store_n(&io->size, size, __ATOMIC_RELAXED);
	return 0;
}

static int
file_flush(struct smd_io *io, struct smd_error *err)
{
	if (file_of(io)->no_flush)
		return 0;
	if (fdatasync(file_of(io)->fd) < 0)
		return file_fail(io, err, "flushing", 0, io->size);
	return 0;
}

static int
file_allocate(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_error *err)
{
	int mode = io->flags & SMD_IO_CAN_GROW ? 0 : FALLOC_FL_KEEP_SIZE;

	if (!file_of(io)->regular || count == 0)
		return 0;
	if (fallocate(file_of(io)->fd, mode, (off_t)offset, (off_t)count) < 0)
		return file_fail(io, err, "allocating", offset, count);
	if (mode == 0)
		smd_io_grown_to(io, offset + count);
	return 0;
}

static const struct smd_io_ops file_ops = {
	.pread = file_pread,
	.pwrite = file_pwrite,
	.zero = file_zero,
	.truncate = file_truncate,
	.flush = file_flush,
	.allocate = file_allocate,
};

int
smd_io_file(int fd, const char *name, uint32_t flags, struct smd_io **ret, struct smd_error *err)
{
	struct file_io *f;
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st) < 0)
		return smd_fail_IMAGE_IO(err, name, "%s: %s", name, strerror(errno));
	size = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &size) < 0)
			return smd_fail_IMAGE_IO(err, name, "%s: its size: %s", name,
						 strerror(errno));
	} else if (!S_ISREG(st.st_mode)) {
		return smd_image_fail(err, SMD_REASON_NOT_REGULAR, name,
				      "neither a regular file nor a block device");
	}
	f = smd_calloc(1, sizeof *f);
	f->name = smd_strdup(name);
	f->fd = fd;
	f->direct_fd = -1;
	f->regular = S_ISREG(st.st_mode);
	f->io.ops = &file_ops;
	f->io.name = f->name;
	f->io.size = size;
	f->io.flags = flags & SMD_IO_WRITABLE;
	if (f->regular && (flags & SMD_IO_WRITABLE))
		f->io.flags |= SMD_IO_CAN_GROW;
	*ret = &f->io;
	return 0;
}

int
smd_io_fd(struct smd_io *io)
{
	return io->ops == &file_ops ? file_of(io)->fd : -1;
}

void
smd_io_set_no_flush(struct smd_io *io, bool no_flush)
{
	if (io->ops == &file_ops)
		file_of(io)->no_flush = no_flush;
}

int
smd_io_next_data(struct smd_io *io, uint64_t offset, uint64_t count, uint64_t *ret_data,
		 uint64_t *ret_end, struct smd_error *err)
{
	uint64_t end = offset + count;
	off_t data, hole;

	*ret_data = offset;
	*ret_end = end;
	if (io->ops != &file_ops || !file_of(io)->regular)
		return 0;
	data = lseek(file_of(io)->fd, (off_t)offset, SEEK_DATA);
	if (data < 0 && errno == EINVAL)
		return 0;
	if (data < 0 && errno != ENXIO)
		return file_fail(io, err, "seeking data in", offset, count);
	if (data < 0 || (uint64_t)data >= end) {
		*ret_data = end;
		return 0;
	}
	hole = lseek(file_of(io)->fd, data, SEEK_HOLE);
	if (hole < 0)
		return file_fail(io, err, "seeking a hole in", offset, count);
	*ret_data = (uint64_t)data;
	*ret_end = smd_min_u64((uint64_t)hole, end);
	return 0;
}

int
smd_io_share(struct smd_io *dst, uint64_t dst_offset, struct smd_io *src, uint64_t src_offset,
	     uint64_t count)
{
	struct file_clone_range range = {
		.src_fd = smd_io_fd(src),
		.src_offset = src_offset,
		.src_length = count,
		.dest_offset = dst_offset,
	};

	if (smd_io_fd(dst) < 0 || smd_io_fd(src) < 0)
		return 1;
	if (ioctl(smd_io_fd(dst), FICLONERANGE, &range) < 0)
		return 1;
	smd_io_grown_to(dst, dst_offset + count);
	return 0;
}

/* All of a file over itself is refused as an overlap, or there is nothing in it. */
bool
smd_io_can_share(struct smd_io *io)
{
	struct file_clone_range range = { .src_fd = smd_io_fd(io) };

	return smd_io_fd(io) >= 0 &&
	       (ioctl(smd_io_fd(io), FICLONERANGE, &range) == 0 || errno == EINVAL);
}

void
smd_io_set_direct(struct smd_io *io, int fd)
{
	file_of(io)->direct_fd = fd;
}

int
smd_io_direct_fd(const struct smd_io *io)
{
	return io->ops == &file_ops ? ((const struct file_io *)io)->direct_fd : -1;
}

bool
smd_io_is_direct(const struct smd_io *io)
{
	return smd_io_direct_fd(io) >= 0;
}

/* As much as can go that way; the rest is for the page cache. */
static int
direct_pwrite(struct file_io *f, const uint8_t *buf, size_t count, uint64_t offset,
	      size_t *ret_done, struct smd_error *err)
{
	size_t done = 0;

	while (done < count && done % IO_DIRECT_ALIGN == 0) {
		ssize_t r = pwrite(f->direct_fd, buf + done, count - done, (off_t)(offset + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0 || (r < 0 && errno == EINVAL))	/* a device of larger sectors */
			break;
		if (r < 0)
			return file_fail(&f->io, err, "writing", offset, count);
		done += (size_t)r;
	}
	smd_io_grown_to(&f->io, offset + done);
	*ret_done = done;
	return 0;
}

int
smd_io_pwrite_data(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
		   struct smd_error *err)
{
	const uint8_t *p = buf;
	size_t done = 0;

	if (smd_io_is_direct(io) && ((uintptr_t)p | offset) % IO_DIRECT_ALIGN == 0 &&
	    (io->flags & SMD_IO_CAN_GROW || smd_range_ok(offset, count, io->size)) &&
	    direct_pwrite(file_of(io), p, count - count % IO_DIRECT_ALIGN, offset, &done, err) < 0)
		return -1;
	return done == count ? 0 : smd_io_pwrite(io, p + done, count - done, offset + done, err);
}

void
smd_io_grow_ahead(struct smd_io *io, uint64_t ahead, bool take)
{
	if (io->ops != &file_ops || !(io->flags & SMD_IO_CAN_GROW))
		return;
	file_of(io)->ahead = ahead;
	file_of(io)->ahead_taken = take;
}

int
smd_io_grow_end(struct smd_io *io, struct smd_error *err)
{
	struct file_io *f = file_of(io);

	if (io->ops != &file_ops || f->ahead == 0)
		return 0;
	f->ahead = 0;
	if (f->length > io->size && ftruncate(f->fd, (off_t)io->size) < 0)
		return file_fail(io, err, "resizing to", 0, io->size);
	f->length = 0;
	return 0;
}

void
smd_io_map(struct smd_io *io)
{
	struct file_io *f = file_of(io);
	void *map;

	if (io->ops != &file_ops || !f->regular || f->map || io->size == 0)
		return;
	smd_mapped_guard();
	map = mmap(NULL, io->size, PROT_READ, MAP_SHARED, f->fd, 0);
	if (map == MAP_FAILED)
		return;
	f->map = map;
	f->map_size = io->size;
}

const uint8_t *
smd_io_mapped(struct smd_io *io, uint64_t offset, uint64_t count)
{
	const struct file_io *f = file_of(io);
	uint64_t start = smd_round_down_u64(offset, IO_DIRECT_ALIGN);

	if (io->ops != &file_ops || !f->map || !smd_range_ok(offset, count, f->map_size))
		return NULL;
	return madvise(f->map + start, offset + count - start, MADV_POPULATE_READ) == 0 ?
	       f->map + offset : NULL;
}

void
smd_io_mapped_seen(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_seen *seen)
{
	const struct file_io *f = file_of(io);
	uint64_t start, end;

	if (io->ops != &file_ops || !f->map || count == 0 ||
	    !smd_range_ok(offset, count, f->map_size))
		return;
	start = smd_round_down_u64(offset, MAPS_WITH_IT);
	end = smd_round_down_u64(offset + count - 1, MAPS_WITH_IT) + MAPS_WITH_IT;
	smd_seen_add(seen, f->map + start, smd_min_u64(end, f->map_size) - start);
}

bool
smd_io_writes_alone(const struct smd_io *io)
{
	return io->ops == &file_ops && ((const struct file_io *)io)->regular;
}

bool
smd_io_gains_by_taking(struct smd_io *io)
{
	struct statfs fs;

	return io->ops == &file_ops && file_of(io)->regular && (io->flags & SMD_IO_CAN_GROW) &&
	       fstatfs(file_of(io)->fd, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC;
}

void
smd_io_take(struct smd_io *io, uint64_t offset, uint64_t count)
{
	if (io->ops == &file_ops)
		(void)!fallocate(file_of(io)->fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)count);
}

void
smd_io_start_writeback(struct smd_io *io, uint64_t offset, uint64_t count)
{
	if (io->ops == &file_ops && !file_of(io)->no_flush)
		sync_file_range(file_of(io)->fd, (off_t)offset, (off_t)count,
				SYNC_FILE_RANGE_WRITE);
}

int
smd_io_write_away(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_error *err)
{
	if (io->ops != &file_ops || count == 0)
		return 0;
	if (sync_file_range(file_of(io)->fd, (off_t)offset, (off_t)count,
			    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			    SYNC_FILE_RANGE_WAIT_AFTER) < 0)
		return file_fail(io, err, "writing back", offset, count);
	posix_fadvise(file_of(io)->fd, (off_t)offset, (off_t)count, POSIX_FADV_DONTNEED);
	return 0;
}

void
smd_io_drop_cache(struct smd_io *io)
{
	if (io->ops == &file_ops)
		posix_fadvise(file_of(io)->fd, 0, 0, POSIX_FADV_DONTNEED);
}

void
smd_io_close(struct smd_io *io)
{
	if (!io)
		return;
	if (io->ops != &file_ops) {
		smd_io_close_other(io);
		return;
	}
	if (file_of(io)->map)
		munmap(file_of(io)->map, file_of(io)->map_size);
	close(file_of(io)->fd);
	if (file_of(io)->direct_fd >= 0)
		close(file_of(io)->direct_fd);
	free(file_of(io)->name);
	free(io);
}
