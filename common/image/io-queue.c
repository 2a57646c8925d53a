/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/io-queue.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/image/io-impl.h"
#include "common/mem.h"

#define DEPTH 64u		/* writes under way */
#define TOGETHER 16u		/* are sent at a time */

struct write {
	struct iocb cb;
	struct smd_writes *of;
};

struct smd_queue {
	struct smd_io *io;
	aio_context_t ctx;
	struct write writes[DEPTH];
	struct write *idle[DEPTH];
	unsigned n_idle;
	struct iocb *ready[TOGETHER];		/* not yet sent */
	unsigned n_ready;
	bool failed;
	struct smd_error err;			/* where it failed, until somebody was told */
};

struct smd_queue *
smd_queue_new(struct smd_io *io)
{
	struct smd_queue *q;
	aio_context_t ctx = 0;

	if (!smd_io_is_direct(io) || syscall(SYS_io_setup, DEPTH, &ctx) < 0)
		return NULL;
	q = smd_calloc(1, sizeof *q);
	q->io = io;
	q->ctx = ctx;
	for (q->n_idle = 0; q->n_idle < DEPTH; q->n_idle++)
		q->idle[q->n_idle] = &q->writes[q->n_idle];
	return q;
}

bool
smd_queue_fills_holes(struct smd_io *io)
{
	struct statfs fs;

	return smd_io_is_direct(io) && fstatfs(smd_io_direct_fd(io), &fs) == 0 &&
	       (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC);
}

/* As far as it did not go past the page cache, it goes through it: what is wrong is then what
 * an ordinary write says. */
static void
write_ends(struct smd_queue *q, struct write *w, int64_t done)
{
	struct smd_error err = SMD_ERROR_INIT;
	uint64_t count = w->cb.aio_nbytes;

	if (done < 0 || (uint64_t)done > count)
		done = 0;
	if ((uint64_t)done < count &&
	    smd_io_pwrite(q->io, (const uint8_t *)(uintptr_t)w->cb.aio_buf + done,
			  count - (uint64_t)done, (uint64_t)w->cb.aio_offset + (uint64_t)done,
			  &err) < 0) {
		if (q->failed)
			smd_error_clear(&err);
		else
			smd_error_move(&q->err, &err);
		q->failed = true;
	}
	w->of->under_way--;
	q->idle[q->n_idle++] = w;
}

/* At least one of those that were sent has ended. */
static void
reap(struct smd_queue *q)
{
	struct io_event events[TOGETHER];
	long n = syscall(SYS_io_getevents, q->ctx, 1L, (long)TOGETHER, events, NULL);

	for (long i = 0; i < n; i++)
		write_ends(q, (struct write *)(uintptr_t)events[i].data, events[i].res);
}

void
smd_queue_send(struct smd_queue *q)
{
	unsigned at = 0;

	while (at < q->n_ready) {
		long n = syscall(SYS_io_submit, q->ctx, (long)(q->n_ready - at), q->ready + at);

		if (n > 0)
			at += (unsigned)n;
		else if (n < 0 && errno != EINTR)	/* none of this way, or of its alignment */
			write_ends(q, (struct write *)(uintptr_t)q->ready[at++]->aio_data, -1);
	}
	q->n_ready = 0;
}

int
smd_queue_pwrite(struct smd_queue *q, struct smd_writes *writes, const void *buf, size_t count,
		 uint64_t offset, struct smd_error *err)
{
	size_t whole = (((uintptr_t)buf | offset) % IO_DIRECT_ALIGN) == 0 &&
		       (q->io->flags & SMD_IO_CAN_GROW || smd_range_ok(offset, count, q->io->size)) ?
		       count - count % IO_DIRECT_ALIGN : 0;
	struct write *w;

	if (whole < count && smd_io_pwrite(q->io, (const uint8_t *)buf + whole, count - whole,
					   offset + whole, err) < 0)
		return -1;
	if (whole == 0)
		return 0;
	if (q->n_idle == 0)
		smd_queue_send(q);
	while (q->n_idle == 0)
		reap(q);
	w = q->idle[--q->n_idle];
	w->of = writes;
	writes->under_way++;
	w->cb = (struct iocb){
		.aio_data = (uintptr_t)w,
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = (uint32_t)smd_io_direct_fd(q->io),
		.aio_buf = (uintptr_t)buf,
		.aio_nbytes = whole,
		.aio_offset = (int64_t)offset,
	};
	smd_io_grown_to(q->io, offset + whole);
	q->ready[q->n_ready++] = &w->cb;
	if (q->n_ready == TOGETHER)
		smd_queue_send(q);
	return 0;
}

int
smd_queue_wait(struct smd_queue *q, struct smd_writes *writes, struct smd_error *err)
{
	if (writes->under_way > 0)
		smd_queue_send(q);
	while (writes->under_way > 0)
		reap(q);
	if (!q->failed)
		return 0;
	if (!q->err.code)
		return smd_fail_IMAGE_IO(err, q->io->name, "%s: an earlier write failed",
					 q->io->name);
	smd_error_move(err, &q->err);
	return -1;
}

void
smd_queue_free(struct smd_queue *q)
{
	if (!q)
		return;
	smd_queue_send(q);
	while (q->n_idle < DEPTH)
		reap(q);
	syscall(SYS_io_destroy, q->ctx);
	smd_error_clear(&q->err);
	free(q);
}
