/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes past the page cache, many under way at a time, while who asked for them goes on.
 *
 * A file system gives a hole its blocks with the inode's lock held: of writes that are waited for
 * the next one gets it when the one before is on the disk, of these when it is on its way
 * (ext4, xfs). So the space need not be taken beforehand, and pages of zeroes stay holes.
 *
 * Threads: a queue is one thread's own; an io may have several.
 */
#ifndef SMD_COMMON_IMAGE_IO_QUEUE_H
#define SMD_COMMON_IMAGE_IO_QUEUE_H

#include "common/image/io.h"

struct smd_queue;

/* What less is written for is not worth a queue: to take it back costs the kernel 30 ms (two grace
 * periods of RCU, in io_destroy or at the process's end), and each GiB gains 80. */
#define SMD_QUEUE_WORTH (512u << 20)

/* Writes that belong together. Zeroed: none. */
struct smd_writes {
	unsigned under_way;
};

/* The io outlives it. NULL: it has no direct descriptor, or the kernel no queue for us (all
 * processes together have fs.aio-max-nr writes): then whoever writes waits. */
struct smd_queue *smd_queue_new(struct smd_io *io);
/* Wait for all, whatever becomes of them. NULL is fine. */
void smd_queue_free(struct smd_queue *queue);

/* Whether writes into the file's holes get their blocks as they are sent: on ext4 and xfs. */
bool smd_queue_fills_holes(struct smd_io *io);

/* One more of writes; buf stays as it is until smd_queue_wait. What lies across pages (4096
 * bytes, of buf or of the file) is written at once, through the page cache. */
int smd_queue_pwrite(struct smd_queue *queue, struct smd_writes *writes, const void *buf,
		     size_t count, uint64_t offset, struct smd_error *err);
/* All that was asked for goes to the disk now: smd_queue_pwrite lets some come together. */
void smd_queue_send(struct smd_queue *queue);
/* Until none of writes is under way. Fails once any write of the queue has. */
int smd_queue_wait(struct smd_queue *queue, struct smd_writes *writes, struct smd_error *err);

#endif
