/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/io.h"

#include <inttypes.h>
#include <string.h>

#include "common/checked.h"
#include "common/image/format.h"

static int
head_pread(struct smd_io *io, void *buf, size_t count, uint64_t offset, struct smd_error *err)
{
	struct smd_io_head *h = (struct smd_io_head *)io;

	if (!smd_range_ok(offset, count, io->size))
		return smd_image_fail(err, SMD_REASON_TRUNCATED, io->name,
				      "%zu bytes at %" PRIu64 " pass the end", count, offset);
	if (count == 0)
		return 0;
	if (!smd_range_ok(offset, count, h->head.len)) {
		h->lacked = true;
		return smd_fail_IMAGE_IO(err, io->name, "%s: %zu bytes at %" PRIu64 " are not known",
					 io->name, count, offset);
	}
	memcpy(buf, h->head.data + offset, count);
	return 0;
}

static int
head_fail(struct smd_io *io, struct smd_error *err)
{
	return smd_fail_IMAGE_IO(err, io->name, "%s: its head can only be read", io->name);
}

static int
head_pwrite(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
	    struct smd_error *err)
{
	(void)buf;
	(void)count;
	(void)offset;
	return head_fail(io, err);
}

static int
head_zero(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_error *err)
{
	(void)offset;
	(void)count;
	return head_fail(io, err);
}

static int
head_truncate(struct smd_io *io, uint64_t size, struct smd_error *err)
{
	(void)size;
	return head_fail(io, err);
}

static int
head_flush(struct smd_io *io, struct smd_error *err)
{
	(void)io;
	(void)err;
	return 0;
}

static const struct smd_io_ops head_ops = {
	.pread = head_pread,
	.pwrite = head_pwrite,
	.zero = head_zero,
	.truncate = head_truncate,
	.flush = head_flush,
};

void
smd_io_head_init(struct smd_io_head *ret, const char *name, uint64_t size,
		 struct smd_bytes_view head)
{
	*ret = (struct smd_io_head){
		.io = { .ops = &head_ops, .name = name, .size = size }, .head = head,
	};
}
