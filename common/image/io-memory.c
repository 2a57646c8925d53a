/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/io.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/checked.h"
#include "common/image/format.h"
#include "common/image/io-impl.h"
#include "common/mem.h"

#define MEMORY_MAX (1u << 30)	/* a test that grows past this is in error */

struct memory_io {
	struct smd_io_other other;
	char *name;
	uint8_t *data;
	size_t room;
	pthread_mutex_t lock;		/* guards data, room and io.size */
};

static struct memory_io *
memory_of(struct smd_io *io)
{
	return (struct memory_io *)io;
}

static int
memory_full(struct smd_io *io, struct smd_error *err, uint64_t size)
{
	smd_fail_IMAGE_IO(err, io->name, "%s: no room for %" PRIu64 " bytes", io->name, size);
	if (!err->errnum)
		err->errnum = ENOSPC;
	return -1;
}

static int
memory_set_size(struct smd_io *io, uint64_t size, struct smd_error *err)
{
	struct memory_io *m = memory_of(io);

	if (!(io->flags & SMD_IO_CAN_GROW) || size > MEMORY_MAX)
		return memory_full(io, err, size);
	if (size > m->room) {
		m->room = (size_t)smd_max_u64(size, smd_min_u64(2 * (uint64_t)m->room, MEMORY_MAX));
		m->data = smd_reallocarray(m->data, m->room, 1);
	}
	if (size > io->size)
		memset(m->data + io->size, 0, (size_t)(size - io->size));
	io->size = size;
	return 0;
}

static int
memory_pread(struct smd_io *io, void *buf, size_t count, uint64_t offset, struct smd_error *err)
{
	LOCK_SCOPE(&memory_of(io)->lock);
	if (!smd_range_ok(offset, count, io->size))
		return smd_image_fail(err, SMD_REASON_TRUNCATED, io->name,
				"%zu bytes at %" PRIu64 " pass the end, %" PRIu64,
				count, offset, io->size);
	if (count > 0)
		memcpy(buf, memory_of(io)->data + offset, count);
	return 0;
}

static int
memory_pwrite(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
	      struct smd_error *err)
{
	uint64_t end;

	LOCK_SCOPE(&memory_of(io)->lock);
	if (count == 0)
		return 0;
	if (!smd_add_u64(offset, count, &end))
		return memory_full(io, err, UINT64_MAX);
	if (end > io->size && memory_set_size(io, end, err) < 0)
		return -1;
	memcpy(memory_of(io)->data + offset, buf, count);
	return 0;
}

static int
memory_zero(struct smd_io *io, uint64_t offset, uint64_t count, struct smd_error *err)
{
	(void)err;
	LOCK_SCOPE(&memory_of(io)->lock);
	if (offset < io->size)
		memset(memory_of(io)->data + offset, 0,
		       (size_t)smd_min_u64(count, io->size - offset));
	return 0;
}

static int
memory_truncate(struct smd_io *io, uint64_t size, struct smd_error *err)
{
	LOCK_SCOPE(&memory_of(io)->lock);
	return memory_set_size(io, size, err);
}

static int
memory_flush(struct smd_io *io, struct smd_error *err)
{
	(void)io;
	(void)err;
	return 0;
}

static const struct smd_io_ops memory_ops = {
	.pread = memory_pread,
	.pwrite = memory_pwrite,
	.zero = memory_zero,
	.truncate = memory_truncate,
	.flush = memory_flush,
};

static void
memory_close(struct smd_io *io)
{
	pthread_mutex_destroy(&memory_of(io)->lock);
	free(memory_of(io)->data);
	free(memory_of(io)->name);
	free(io);
}

struct smd_io *
smd_io_memory(const void *data, size_t size, const char *name, uint32_t flags)
{
	struct memory_io *m = smd_calloc(1, sizeof *m);

	m->name = smd_strdup(name);
	m->room = size;
	m->data = smd_malloc(size);
	if (size > 0 && data)
		memcpy(m->data, data, size);
	else
		memset(m->data, 0, size);
	pthread_mutex_init(&m->lock, NULL);
	m->other.close = memory_close;
	m->other.io.ops = &memory_ops;
	m->other.io.name = m->name;
	m->other.io.flags = flags;
	m->other.io.size = size;
	return &m->other.io;
}

struct smd_bytes_view
smd_io_memory_bytes(struct smd_io *io)
{
	return (struct smd_bytes_view){ memory_of(io)->data, (size_t)io->size };
}
