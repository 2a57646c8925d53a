/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/fuzz-format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/error.h"
#include "common/image/format.h"
#include "common/image/io.h"
#include "common/mem.h"

#define EXTENTS_MAX 20000u
#define ENCODED_BYTES_MAX (4u << 20)
#define WALK_SIZE_MAX (1ull << 40)
#define GROW_MAX (4u << 20)	/* bytes past the input's end */

static const struct smd_format *format;

struct image {
	struct smd_io *io;
	void *img;
	struct smd_image_info info;
	uint64_t next;		/* where the next extent must begin */
	unsigned n_extents;
	uint64_t encoded_bytes;
};

struct verdict {
	bool checked;
	unsigned n_corrupt, n_repairable;
};

/* ---- A store that does not grow for ever ---------------------------------------- */

static struct smd_io_ops bounded;
static const struct smd_io_ops *memory;
static uint64_t size_max;

static int
full(struct smd_io *io, struct smd_error *err)
{
	smd_fail_IMAGE_IO(err, io->name, "no room");
	err->errnum = ENOSPC;
	return -1;
}

static int
bounded_pwrite(struct smd_io *io, const void *buf, size_t count, uint64_t offset,
	       struct smd_error *err)
{
	if (!smd_range_ok(offset, count, size_max))
		return full(io, err);
	return memory->pwrite(io, buf, count, offset, err);
}

static int
bounded_truncate(struct smd_io *io, uint64_t size, struct smd_error *err)
{
	return size > size_max ? full(io, err) : memory->truncate(io, size, err);
}

static struct smd_io *
open_bounded(const uint8_t *data, size_t size)
{
	struct smd_io *io = smd_io_memory(data, size, "fuzz", SMD_IO_WRITABLE | SMD_IO_CAN_GROW);

	memory = io->ops;
	bounded = *memory;
	bounded.pwrite = bounded_pwrite;
	bounded.truncate = bounded_truncate;
	io->ops = &bounded;
	size_max = size + GROW_MAX;
	return io;
}

/* ---- Reading ---------------------------------------------------------------------- */

static void
decode(struct image *im, uint64_t offset)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE uint8_t *buf = NULL;

	if (im->encoded_bytes >= ENCODED_BYTES_MAX)
		return;
	buf = smd_malloc(im->info.alloc_unit);
	im->encoded_bytes += im->info.alloc_unit;
	(void)format->read_encoded(im->img, offset & ~(im->info.alloc_unit - 1), buf, &ignored);
}

static int
on_extent(void *opaque, const struct smd_extent *e, struct smd_error *err)
{
	struct image *im = opaque;
	uint64_t count;

	if (e->offset != im->next || e->count == 0 || e->offset >= im->info.virtual_size)
		abort();
	im->next += e->count;
	/* The last sector of the disk may be a part of one. */
	count = smd_min_u64(e->count, im->info.virtual_size - e->offset);
	if (e->kind == SMD_EXTENT_DATA && !smd_range_ok(e->host_offset, count, im->io->size))
		abort();
	if (e->kind == SMD_EXTENT_ENCODED)
		decode(im, e->offset);
	if (++im->n_extents == EXTENTS_MAX)
		return smd_fail_IMAGE_IO(err, "fuzz", "that is enough");
	return 0;
}

static int
on_snapshot(void *opaque, const struct smd_snapshot *snapshot, struct smd_error *err)
{
	(void)opaque;
	(void)snapshot;
	(void)err;
	return 0;
}

/* Of sizes below WALK_SIZE_MAX. */
static uint64_t
round_up(uint64_t size, uint64_t unit)
{
	return smd_div_round_up_u64(size, unit) * unit;
}

static void
walk(struct image *im)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t size = round_up(im->info.virtual_size, 512);

	/* The host asks for something. */
	if (size != 0 && im->info.virtual_size < WALK_SIZE_MAX &&
	    format->extents(im->img, 0, size, on_extent, im, &err) == 0 && im->next != size)
		abort();
	smd_error_clear(&err);
	if (format->caps & SMD_CAP_SNAPSHOTS)
		(void)format->snapshot_list(im->img, on_snapshot, NULL, &err);
}

/* ---- Writing ---------------------------------------------------------------------- */

static int
on_place(void *opaque, const struct smd_place *place, struct smd_error *err)
{
	(void)opaque;
	(void)place;
	(void)err;
	return 0;
}

/* One unit written, another zeroed. The data itself does not matter. */
static void
write_unit(struct image *im, uint64_t offset)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t unit = im->info.alloc_unit;
	void *res;

	if (format->reserve(im->img, offset, unit, on_place, NULL, &res, &err) == 0)
		(void)format->commit(im->img, res, &err);
	smd_error_clear(&err);
	(void)format->zero(im->img, offset, unit, SMD_ZERO_UNMAP, &err);
	smd_error_clear(&err);
	if (format->reserve(im->img, offset, unit, on_place, NULL, &res, &err) == 0)
		format->abandon(im->img, res);
}

static void
change(struct image *im)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t unit = im->info.alloc_unit, size = im->info.virtual_size;

	if (size >= unit && unit != 0) {
		write_unit(im, 0);
		write_unit(im, size / unit / 2 * unit);
	}
	if (format->caps & SMD_CAP_SNAPSHOTS) {
		(void)format->snapshot_create(im->img, "fuzz", 0, &err);
		smd_error_clear(&err);
		(void)format->snapshot_delete(im->img, "1", &err);
		smd_error_clear(&err);
	}
	if ((format->caps & SMD_CAP_RESIZE) && size < WALK_SIZE_MAX)
		(void)format->resize(im->img, round_up(size + 1, 1u << 20), 0, &err);
	smd_error_clear(&err);
	(void)format->flush(im->img, &err);
}

static void
use(struct smd_io *io, uint32_t flags)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct image im = { .io = io };

	if (format->open(io, flags, &im.img, &err) < 0)
		return;
	if (format->info(im.img, &im.info, &err) < 0)
		abort();
	walk(&im);
	if (flags & SMD_OPEN_WRITE)
		change(&im);
	free(im.info.details);
	format->close(im.img);
}

static bool
same_info(const struct smd_image_info *a, const struct smd_image_info *b)
{
	return a->virtual_size == b->virtual_size && a->flags == b->flags &&
	       memcmp(a->uuid, b->uuid, sizeof a->uuid) == 0 &&
	       memcmp(a->parent_uuid, b->parent_uuid, sizeof a->parent_uuid) == 0 &&
	       strcmp(a->parent_name, b->parent_name) == 0 &&
	       strcmp(a->parent_format, b->parent_format) == 0;
}

/* A look refuses what is refused without it, and says the same of the rest. */
static void
look(struct smd_io *io)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_error look_err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_image_info info = { 0 }, look_info = { 0 };
	void *img, *look_img;
	int rc = format->open(io, 0, &img, &err);

	if (format->open(io, SMD_OPEN_LOOK, &look_img, &look_err) != rc)
		abort();
	if (rc < 0) {
		if (strcmp(err.message, look_err.message) != 0)
			abort();
		return;
	}
	if (format->info(img, &info, &err) < 0 ||
	    format->info(look_img, &look_info, &look_err) < 0)
		abort();
	if (!same_info(&info, &look_info))
		abort();
	free(info.details);
	free(look_info.details);
	format->close(img);
	format->close(look_img);
}

/* ---- The check -------------------------------------------------------------------- */

static void
on_finding(void *opaque, const struct smd_finding *finding)
{
	struct verdict *v = opaque;

	v->n_corrupt += finding->kind == SMD_FINDING_CORRUPTION;
	v->n_repairable += finding->repairable && !finding->repaired;
	if (getenv("SMD_FUZZ_VERBOSE"))
		fprintf(stderr, "%s%s%s\n", finding->text, finding->repairable ? ", repairable" : "",
			finding->repaired ? ", repaired" : "");
}

static struct verdict
check(struct smd_io *io, uint32_t repair)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct verdict v = { 0 };
	struct smd_check stats;

	if (format->caps & SMD_CAP_CHECK)
		v.checked = format->check(io, repair, on_finding, &v, &stats, &err) == 0;
	if (getenv("SMD_FUZZ_VERBOSE"))
		fprintf(stderr, "check: %s\n", err.code ? err.message : "done");
	return v;
}

int
fuzz_format(const uint8_t *data, size_t size)
{
	struct smd_io *io CLEANUP_IO = open_bounded(data, size);
	struct verdict before, after;

	format = smd_format_init(&smd_the_format_host);
	use(io, SMD_OPEN_FOREIGN);
	look(io);
	before = check(io, SMD_REPAIR_NONE);
	use(io, SMD_OPEN_WRITE);
	after = check(io, SMD_REPAIR_NONE);
	if (before.checked && before.n_corrupt == 0 && (!after.checked || after.n_corrupt > 0))
		abort();
	if (check(io, SMD_REPAIR_ALL).checked) {
		after = check(io, SMD_REPAIR_NONE);
		if (after.checked && after.n_repairable > 0)
			abort();
	}
	use(io, SMD_OPEN_FOREIGN);
	return 0;
}
