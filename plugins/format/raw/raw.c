/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * raw: byte n of the disk is byte n of the store. Nothing in the bytes is ever
 * looked at, so nothing in them can mislead us; the size is the store's own,
 * whatever it is a multiple of.
 */
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "plugins/smd-format.h"

#define RAW_SIZE_MAX ((uint64_t)INT64_MAX - SMD_SECTOR)
#define RAW_ZEROES 65536u
#define RAW_PAGE 4096u		/* of the file system: what a run of data takes at least */

struct raw {
	struct smd_io *io;
	uint64_t size;
	bool writable;
};

static const struct smd_option raw_options[] = {
	{ "preallocation", SMD_OPTION_ENUM, "off", "off|falloc|full",
	  "take no space (off), reserve it (falloc) or write zeroes to all of it (full)" },
	{ .name = NULL },
};

static const char *
raw_option(const struct smd_create *params, const char *name, const char *fallback)
{
	for (size_t i = 0; i < params->n_options; i++) {
		if (strcmp(params->option_names[i], name) == 0)
			return params->option_values[i];
	}
	return fallback;
}

static int
raw_write_zeroes(struct smd_io *io, uint64_t size, struct smd_error *err)
{
	static const uint8_t zeroes[RAW_ZEROES];

	for (uint64_t done = 0; done < size; done += RAW_ZEROES) {
		uint64_t left = size - done;

		if (io->ops->pwrite(io, zeroes, left < RAW_ZEROES ? (size_t)left : RAW_ZEROES, done,
				    err) < 0)
			return -1;
	}
	return 0;
}

static int
raw_create(struct smd_io *io, const struct smd_create *params, struct smd_error *err)
{
	const char *preallocation = raw_option(params, "preallocation", "off");
	uint64_t size = params->virtual_size;

	if (params->parent_name)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, io->name, "raw has no parents: another "
				"format has, or make it a whole disk");
	if (!(io->flags & SMD_IO_CAN_GROW)) {
		if (io->size < size)
			return smd_fail(err, SMD_REASON_SIZE_LIMIT, io->name,
					"a disk of %llu bytes does not fit in a store of %llu: make "
					"the store larger",
					(unsigned long long)size, (unsigned long long)io->size);
	} else if (io->ops->truncate(io, size, err) < 0) {
		return -1;
	}
	if (strcmp(preallocation, "falloc") == 0)
		return io->ops->allocate ? io->ops->allocate(io, 0, size, err) : 0;
	if (strcmp(preallocation, "full") == 0)
		return raw_write_zeroes(io, size, err);
	return 0;
}

static int
raw_measure(const struct smd_create *params, uint64_t data_size, uint64_t n_extents,
	    struct smd_measure *ret, struct smd_error *err)
{
	uint64_t taken;

	(void)err;
	ret->fully_allocated = ret->required = params->virtual_size;
	/* Holes take nothing; a run of data takes whole pages of the file. */
	if (strcmp(raw_option(params, "preallocation", "off"), "off") == 0 &&
	    smd_mul_u64(n_extents, 2 * RAW_PAGE, &taken) &&
	    smd_add_u64(taken, data_size, &taken))
		ret->required = smd_min_u64(taken, params->virtual_size);
	return 0;
}

static int
raw_usage(const struct smd_create *params, struct smd_usage *ret, struct smd_error *err)
{
	(void)params;
	(void)err;
	*ret = (struct smd_usage){ .write_unit = SMD_SECTOR, .alloc_unit = RAW_PAGE };
	return 0;
}

static int
raw_taken(const struct smd_create *params, const struct smd_usage *usage, struct smd_taken *ret,
	  struct smd_error *err)
{
	uint64_t all = smd_div_round_up_u64(params->virtual_size, SMD_PAGE);
	bool sparse = strcmp(raw_option(params, "preallocation", "off"), "off") == 0;

	(void)err;
	ret->size = params->virtual_size;
	ret->allocated = (sparse ? smd_min_u64(usage->pages, all) : all) * SMD_PAGE;
	return 0;
}

static int
raw_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	struct raw *raw;

	if (io->size > RAW_SIZE_MAX)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, io->name,
				"%llu bytes are over the limit of %llu: make it smaller",
				(unsigned long long)io->size, (unsigned long long)RAW_SIZE_MAX);
	raw = calloc(1, sizeof *raw);
	if (!raw)
		return smd_fail(err, SMD_REASON_IO, io->name, "out of memory");
	raw->io = io;
	raw->size = io->size;
	raw->writable = flags & SMD_OPEN_WRITE && io->flags & SMD_IO_WRITABLE;
	*ret_img = raw;
	return 0;
}

static void
raw_close(void *img)
{
	free(img);
}

static int
raw_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	const struct raw *raw = img;

	(void)err;
	ret->virtual_size = raw->size;
	ret->write_unit = SMD_SECTOR;
	ret->alloc_unit = 4096;
	ret->host_align = SMD_SECTOR;
	return 0;
}

static int
raw_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
	    struct smd_error *err)
{
	const struct smd_extent all = { SMD_EXTENT_DATA, offset, count, offset };

	(void)img;
	return add(opaque, &all, err);
}

static int
raw_reserve(void *img, uint64_t offset, uint64_t count, smd_place_fn *add, void *opaque,
	    void **ret_res, struct smd_error *err)
{
	const struct smd_place all = { SMD_PLACE_IN_PLACE, offset, count, offset };
	const struct raw *raw = img;

	if (!raw->writable)
		return smd_fail(err, SMD_REASON_IO, raw->io->name, "open for reading only: open "
				"it for writing");
	*ret_res = NULL;
	return add(opaque, &all, err);
}

static int
raw_commit(void *img, void *res, struct smd_error *err)
{
	(void)img;
	(void)res;
	(void)err;
	return 0;
}

static void
raw_abandon(void *img, void *res)
{
	(void)img;
	(void)res;
}

static int
raw_zero(void *img, uint64_t offset, uint64_t count, uint32_t flags, struct smd_error *err)
{
	const struct raw *raw = img;

	(void)flags;
	return raw->io->ops->zero(raw->io, offset, count, err);
}

static int
raw_flush(void *img, struct smd_error *err)
{
	const struct raw *raw = img;

	return raw->io->ops->flush(raw->io, err);
}

static int
raw_resize(void *img, uint64_t virtual_size, uint32_t flags, struct smd_error *err)
{
	struct raw *raw = img;

	if (virtual_size == 0 || virtual_size > RAW_SIZE_MAX)
		return smd_fail(err, SMD_REASON_BAD_SIZE, raw->io->name,
				"a size is from 1 to %llu bytes, and not %llu",
				(unsigned long long)RAW_SIZE_MAX, (unsigned long long)virtual_size);
	if (virtual_size < raw->size && !(flags & SMD_RESIZE_SHRINK))
		return smd_fail(err, SMD_REASON_BAD_SIZE, raw->io->name,
				"%llu bytes are less than the present %llu: smd-img resize "
				"--shrink makes it smaller",
				(unsigned long long)virtual_size, (unsigned long long)raw->size);
	if (raw->io->ops->truncate(raw->io, virtual_size, err) < 0 ||
	    raw->io->ops->flush(raw->io, err) < 0)
		return -1;
	raw->size = virtual_size;
	return 0;
}

static int
raw_emit(enum smd_piece_kind kind, uint64_t offset, uint64_t count, smd_piece_fn *emit,
	 void *opaque, struct smd_error *err)
{
	const struct smd_piece piece = { .kind = kind, .count = count, .guest_offset = offset };

	return count ? emit(opaque, &piece, err) : 0;
}

static int
raw_stream(const struct smd_create *params, const struct smd_extent *data, size_t n_data,
	   smd_piece_fn *emit, void *opaque, struct smd_error *err)
{
	uint64_t size = params->virtual_size;
	uint64_t at = 0;

	for (size_t i = 0; i < n_data && data[i].offset < size; i++) {
		uint64_t left = size - data[i].offset;
		uint64_t count = data[i].count < left ? data[i].count : left;

		if (raw_emit(SMD_PIECE_ZERO, at, data[i].offset - at, emit, opaque, err) < 0 ||
		    raw_emit(SMD_PIECE_GUEST, data[i].offset, count, emit, opaque, err) < 0)
			return -1;
		at = data[i].offset + count;
	}
	return raw_emit(SMD_PIECE_ZERO, at, size - at, emit, opaque, err);
}

static const struct smd_format raw_format = {
	.name = "raw",
	.doc = "the disk's bytes and nothing else",
	.caps = SMD_CAP_WRITE | SMD_CAP_CREATE | SMD_CAP_RESIZE | SMD_CAP_STREAM,
	.max_virtual_size = RAW_SIZE_MAX,
	.size_unit = 1,
	.options = raw_options,
	.create = raw_create,
	.measure = raw_measure,
	.usage = raw_usage,
	.taken = raw_taken,
	.open = raw_open,
	.close = raw_close,
	.info = raw_info,
	.extents = raw_extents,
	.reserve = raw_reserve,
	.commit = raw_commit,
	.abandon = raw_abandon,
	.zero = raw_zero,
	.flush = raw_flush,
	.resize = raw_resize,
	.stream = raw_stream,
};

SMD_REGISTER_FORMAT(raw_format)
