/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer target: the bytes are an image from outside. It is opened, asked for
 * everything and checked; then a copy is opened for writing and written to.
 */
#include <stdint.h>
#include <stdlib.h>

#include "common/error.h"
#include "common/image/format.h"
#include "common/image/io.h"

#define ENCODED_MAX 64u		/* clusters decoded per image */
#define SIZE_MAX_READ (1ull << 40)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	const struct smd_format *format;
	struct smd_io *io;
	void *img;
	uint8_t *buf;
	uint64_t unit;
	unsigned n_encoded;
};

static int
on_extent(void *opaque, const struct smd_extent *e, struct smd_error *err)
{
	struct fuzz *f = opaque;

	(void)err;
	if (e->kind == SMD_EXTENT_DATA &&
	    (e->host_offset > f->io->size || e->count > f->io->size - e->host_offset))
		abort();
	if (e->kind == SMD_EXTENT_ENCODED && f->n_encoded < ENCODED_MAX) {
		struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

		f->n_encoded++;
		(void)f->format->read_encoded(f->img, e->offset & ~(f->unit - 1), f->buf, &ignored);
	}
	return 0;
}

static int
on_place(void *opaque, const struct smd_place *place, struct smd_error *err)
{
	(void)opaque;
	(void)place;
	(void)err;
	return 0;
}

static void
on_finding(void *opaque, const struct smd_finding *finding)
{
	(void)opaque;
	(void)finding;
}

static int
on_snapshot(void *opaque, const struct smd_snapshot *snapshot, struct smd_error *err)
{
	(void)opaque;
	(void)snapshot;
	(void)err;
	return 0;
}

static void
use(const struct smd_format *format, struct smd_io *io, uint32_t flags)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct fuzz f = { .format = format, .io = io };
	struct smd_image_info info;
	void *res;

	if (format->open(io, flags, &f.img, &err) < 0)
		return;
	if (format->info(f.img, &info, &err) < 0)
		abort();
	free(info.details);
	f.unit = info.alloc_unit;
	f.buf = malloc(f.unit);
	if (info.virtual_size < SIZE_MAX_READ)
		(void)format->extents(f.img, 0, info.virtual_size, on_extent, &f, &err);
	smd_error_clear(&err);
	(void)format->snapshot_list(f.img, on_snapshot, NULL, &err);
	smd_error_clear(&err);
	if ((flags & SMD_OPEN_WRITE) && info.virtual_size >= f.unit) {
		if (format->reserve(f.img, 0, f.unit, on_place, NULL, &res, &err) == 0)
			(void)format->commit(f.img, res, &err);
		smd_error_clear(&err);
		(void)format->zero(f.img, 0, f.unit, SMD_ZERO_UNMAP, &err);
		smd_error_clear(&err);
		(void)format->flush(f.img, &err);
	}
	free(f.buf);
	format->close(f.img);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct smd_format *format = smd_format_init(&smd_the_format_host);
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = smd_io_memory(data, size, "fuzz", SMD_IO_WRITABLE | SMD_IO_CAN_GROW);
	struct smd_check stats;

	use(format, io, SMD_OPEN_FOREIGN);
	(void)format->check(io, SMD_REPAIR_NONE, on_finding, NULL, &stats, &err);
	use(format, io, SMD_OPEN_WRITE);
	smd_error_clear(&err);
	(void)format->check(io, SMD_REPAIR_ALL, on_finding, NULL, &stats, &err);
	smd_io_close(io);
	return 0;
}
