/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stores of bytes behind the contract's smd_io: files and block devices by
 * descriptor, memory, a file's head, and a wrapper that fails, shortens, records or cuts I/O
 * for tests. None opens a path: whoever owns the name opens it.
 *
 * Threads: as the contract says, the ops may be called in parallel; making and
 * closing are the owner's.
 */
#ifndef SMD_COMMON_IMAGE_IO_H
#define SMD_COMMON_IMAGE_IO_H

#include <sys/uio.h>

#include "common/error.h"
#include "plugins/smd-format.h"

/* Serve a descriptor, which the io owns from a successful return on. flags:
 * SMD_IO_WRITABLE as the descriptor was opened; CAN_GROW is found out (regular
 * files can). Errors: IMAGE_CORRUPT NOT_REGULAR for anything but a regular file
 * or a block device, IMAGE_IO. */
int smd_io_file(int fd, const char *name, uint32_t flags, struct smd_io **ret,
		struct smd_error *err);

/* A growing buffer. For tests, fuzzers and small images. */
struct smd_io *smd_io_memory(const void *data, size_t size, const char *name, uint32_t flags);
struct smd_bytes_view { const uint8_t *data; size_t len; };
struct smd_bytes_view smd_io_memory_bytes(struct smd_io *io);

/* A file of which no more is known than what it begins with: a read of other bytes fails, which
 * `lacked` tells from all other failures. Nothing is copied, the name neither, and nothing is
 * to be closed. */
struct smd_io_head {
	struct smd_io io;
	struct smd_bytes_view head;
	bool lacked;
};
void smd_io_head_init(struct smd_io_head *ret, const char *name, uint64_t size,
		      struct smd_bytes_view head);

/* The descriptor behind a file io, for extent sharing, copy_file_range and
 * SEEK_HOLE; -1 for other stores. Borrowed. */
int smd_io_fd(struct smd_io *io);

/* Holes of the store within [offset, offset + count): the next run of data,
 * *ret_data = *ret_end = offset + count when there is none. A store that cannot
 * tell says it is all data. */
int smd_io_next_data(struct smd_io *io, uint64_t offset, uint64_t count,
		     uint64_t *ret_data, uint64_t *ret_end, struct smd_error *err);

/* Let dst have src's bytes without copying them (FICLONERANGE). 0 done; 1 not
 * here: another file system, one that can't, an unaligned range. */
int smd_io_share(struct smd_io *dst, uint64_t dst_offset, struct smd_io *src,
		 uint64_t src_offset, uint64_t count);

/* Whether its file system lets files share extents: xfs may be made without. */
bool smd_io_can_share(struct smd_io *io);

/* Begin to write a range back (count 0: up to the end), so that a later flush has less to wait
 * for. */
void smd_io_start_writeback(struct smd_io *io, uint64_t offset, uint64_t count);

/* Write a range back, wait for that, and let the page cache forget it, but for what is written
 * meanwhile. No flush; yet what it fails with no later flush of this io would say. */
int smd_io_write_away(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_error *err);

/* Have the next reads come from the device, as far as the kernel can be asked for that;
 * what is dirty stays. Files only. */
void smd_io_drop_cache(struct smd_io *io);

/* Another descriptor of the same file, opened with O_DIRECT, for smd_io_pwrite_data: the io
 * owns it from now on. Files only. */
void smd_io_set_direct(struct smd_io *io, int fd);
bool smd_io_is_direct(const struct smd_io *io);
/* Write what nobody is to read soon: past the page cache, as far as io was given a way
 * and buf and offset lie on pages (4096 bytes). */
int smd_io_pwrite_data(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
		       struct smd_error *err);

/* A file's bytes where the page cache has them, for who reads each once and keeps none: map
 * all of it, while there is one thread; then in parallel have ranges of it there. NULL: not to
 * be had so (no regular file, an older kernel, past the end, or it cannot be read: a pread will
 * say why). */
void smd_io_map(struct smd_io *io);
const uint8_t *smd_io_mapped(struct smd_io *io, uint64_t offset, uint64_t count);

/* What was looked at, of whatever ios, is let go of some MiB at a time and all of it together,
 * for each time costs all processors a moment; it stays in the page cache. What lies around it
 * goes too, and comes back when it is touched. Empty: all but limit are 0. */
#define SMD_SEEN_MAX 64u
struct smd_seen {
	struct iovec ranges[SMD_SEEN_MAX];
	size_t n, size;
	size_t limit;			/* of size: what there is then goes before more is noted */
};
void smd_io_mapped_seen(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_seen *seen);
void smd_seen_let_go(struct smd_seen *seen);

/* Whether both hold the same; b NULL: whether a is zeroes. Either may be mapped, and its page be
 * gone by now, because the disk failed or the file was cut: -1, where to touch it would be the
 * process's end (SIGBUS, whose handler smd_io_map sets). */
int smd_mapped_equal(const uint8_t *a, const uint8_t *b, size_t n);

/* From now on, growth makes the file longer by so much more than is asked, and takes that
 * space if told to: a file grows often while it is copied to, and each time everybody
 * who writes to it waits. smd_io_grow_end, when nobody does, cuts it to io->size. A crash
 * between them leaves zeroes at the end. Nothing where the store is no growing file. */
void smd_io_grow_ahead(struct smd_io *io, uint64_t ahead, bool take);
int smd_io_grow_end(struct smd_io *io, struct smd_error *err);

/* Whether writes go into it one at a time, each while the others wait: a regular file's, by
 * the inode's lock (but for O_DIRECT's into space that is taken). */
bool smd_io_writes_alone(const struct smd_io *io);

/* Whether writing costs less where space was taken before: on ext4, which else looks for
 * each page's place, reserves space for it and notes that, while others wait to write. */
bool smd_io_gains_by_taking(struct smd_io *io);
/* Take the space of a range that is written next; where that can't be, the write will. */
void smd_io_take(struct smd_io *io, uint64_t offset, uint64_t count);

/* Make flush do nothing, for a caller that would rather be fast than safe
 * (qemu-img's cache mode "unsafe"). Files only. */
void smd_io_set_no_flush(struct smd_io *io, bool no_flush);

/* Flush nothing, free everything. NULL is fine. */
void smd_io_close(struct smd_io *io);
static inline void
cleanup_io(struct smd_io **io)
{
	smd_io_close(*io);
}
#define CLEANUP_IO CLEANUP(cleanup_io)

/* ---- Shorthands ---- */
static inline int
smd_io_pread(struct smd_io *io, void *buf, size_t count, uint64_t offset, struct smd_error *err)
{
	return io->ops->pread(io, buf, count, offset, err);
}

static inline int
smd_io_pwrite(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
	      struct smd_error *err)
{
	return io->ops->pwrite(io, buf, count, offset, err);
}

static inline int
smd_io_flush(struct smd_io *io, struct smd_error *err)
{
	return io->ops->flush(io, err);
}

#endif
