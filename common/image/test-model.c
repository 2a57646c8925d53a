/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/test-model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/image/chain.h"
#include "common/image/format.h"
#include "common/mem.h"

#define MODEL_MAP 512u
#define MODEL_UNITS ((MODEL_DATA - MODEL_MAP) / 8)

struct model {
	struct smd_io *io;
	uint8_t flags;
	uint64_t size;
	uint64_t end;		/* of the units reserved so far */
};

struct reservation {
	uint64_t first, n;
	uint64_t at;
	bool fresh[];
};

static uint64_t
get64(struct smd_io *io, uint64_t offset)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t v = 0;

	smd_io_pread(io, &v, 8, offset, &err);
	return v;
}

static int
put64(struct smd_io *io, uint64_t offset, uint64_t v, struct smd_error *err)
{
	return smd_io_pwrite(io, &v, 8, offset, err);
}

uint64_t
model_get(struct smd_io *io, uint64_t unit)
{
	return get64(io, MODEL_MAP + 8 * unit);
}

void
model_set(struct smd_io *io, uint64_t unit, uint64_t entry)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	put64(io, MODEL_MAP + 8 * unit, entry, &err);
}

void
model_put(struct smd_io *io, uint64_t unit, uint8_t byte)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint8_t data[MODEL_UNIT];
	uint64_t at = io->size;

	memset(data, byte, sizeof data);
	smd_io_pwrite(io, data, sizeof data, at, &err);
	model_set(io, unit, at);
}

static int
model_create(struct smd_io *io, const struct smd_create *params, struct smd_error *err)
{
	if (io->ops->truncate(io, MODEL_DATA, err) < 0)
		return -1;
	return put64(io, 8, params->virtual_size, err);
}

struct smd_io *
model_new(uint64_t size, uint8_t flags, uint8_t uuid, uint8_t parent_uuid)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = smd_io_memory(NULL, MODEL_DATA, "model",
					  SMD_IO_WRITABLE | SMD_IO_CAN_GROW);

	put64(io, 8, size, &err);
	smd_io_pwrite(io, &flags, 1, 16, &err);
	smd_io_pwrite(io, &uuid, 1, 32, &err);
	smd_io_pwrite(io, &parent_uuid, 1, 48, &err);
	return io;
}

static int
model_measure(const struct smd_create *params, uint64_t data_size, uint64_t n_extents,
	      struct smd_measure *ret, struct smd_error *err)
{
	(void)err;
	ret->required = MODEL_DATA + data_size + 2 * n_extents * MODEL_UNIT;
	ret->fully_allocated = MODEL_DATA + params->virtual_size;
	return 0;
}

static int
model_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	struct model *m;

	(void)flags;
	if (io->size < MODEL_DATA || get64(io, 8) > MODEL_UNITS * (uint64_t)MODEL_UNIT)
		return smd_image_fail(err, SMD_REASON_BAD_MAGIC, io->name, "not a model");
	m = smd_calloc(1, sizeof *m);
	m->io = io;
	m->size = get64(io, 8);
	m->flags = (uint8_t)get64(io, 16);
	m->end = (io->size + MODEL_UNIT - 1) / MODEL_UNIT * MODEL_UNIT;
	*ret_img = m;
	return 0;
}

static void
model_close(void *img)
{
	free(img);
}

static int
model_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	const struct model *m = img;

	ret->virtual_size = m->size;
	ret->write_unit = MODEL_UNIT;
	ret->alloc_unit = m->flags & MODEL_LARGE_UNITS ? 2u << 20 : MODEL_UNIT;
	ret->host_align = MODEL_UNIT;
	ret->flags = SMD_INFO_COMPRESSED |
		     (m->flags & MODEL_HAS_PARENT ? SMD_INFO_HAS_PARENT : 0);
	if (smd_io_pread(m->io, ret->uuid, 16, 32, err) < 0)
		return -1;
	return smd_io_pread(m->io, ret->parent_uuid, 16, 48, err);
}

static int
model_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
	      struct smd_error *err)
{
	const struct model *m = img;
	uint64_t end = offset + count;

	for (uint64_t at = offset; at < end;) {
		uint64_t entry = model_get(m->io, at / MODEL_UNIT);
		uint64_t in = at % MODEL_UNIT;
		struct smd_extent e = { SMD_EXTENT_DATA, at, MODEL_UNIT - in, entry + in };

		if (entry == MODEL_PARENT)
			e.kind = SMD_EXTENT_PARENT;
		else if (entry == MODEL_ZERO)
			e.kind = SMD_EXTENT_ZERO;
		else if ((entry & 0xff) == 2)
			e.kind = SMD_EXTENT_ENCODED;
		if (e.count > end - at)
			e.count = end - at;
		if (add(opaque, &e, err) < 0)
			return -1;
		at += e.count;
	}
	return 0;
}

static int
model_read_encoded(void *img, uint64_t offset, void *buf, struct smd_error *err)
{
	const struct model *m = img;
	uint64_t entry = model_get(m->io, offset / MODEL_UNIT);

	if ((entry & 0xff) != 2)
		return smd_image_fail(err, SMD_REASON_DECOMPRESS, m->io->name, "not encoded");
	memset(buf, (int)(entry >> 8), MODEL_UNIT);
	return 0;
}

static int
model_place(struct model *m, uint64_t unit, uint64_t at, struct smd_place *place, bool *ret_fresh,
	    struct smd_error *err)
{
	uint64_t entry = model_get(m->io, unit);
	uint8_t rubbish[MODEL_UNIT];

	*ret_fresh = entry < MODEL_DATA || (entry & 0xff) == 2;
	if (!*ret_fresh) {
		place->host_offset = entry + at % MODEL_UNIT;
		return 0;
	}
	if (at % MODEL_UNIT)
		return smd_fail_INTERNAL_ERROR(err, "model", "a part of a unit that has no data");
	place->kind = SMD_PLACE_FRESH_ZEROED;
	place->host_offset = m->end;
	m->end += MODEL_UNIT;
	if (!(m->flags & MODEL_DIRTY_SPACE))
		return 0;
	place->kind = SMD_PLACE_FRESH;
	memset(rubbish, 0xdb, sizeof rubbish);
	return smd_io_pwrite(m->io, rubbish, sizeof rubbish, place->host_offset, err);
}

static int
model_reserve(void *img, uint64_t offset, uint64_t count, smd_place_fn *add, void *opaque,
	      void **ret_res, struct smd_error *err)
{
	struct model *m = img;
	uint64_t first = offset / MODEL_UNIT;
	uint64_t n = (offset + count + MODEL_UNIT - 1) / MODEL_UNIT - first;
	struct reservation *r = smd_calloc(1, sizeof *r + n * sizeof r->fresh[0]);
	uint64_t end = offset + count;

	r->first = first;
	r->n = n;
	r->at = m->end;
	for (uint64_t at = offset; at < end;) {
		uint64_t left = MODEL_UNIT - at % MODEL_UNIT;
		struct smd_place p = { SMD_PLACE_IN_PLACE, at, left < end - at ? left : end - at, 0 };

		if (model_place(m, at / MODEL_UNIT, at, &p, &r->fresh[at / MODEL_UNIT - first],
				err) < 0 ||
		    add(opaque, &p, err) < 0) {
			free(r);
			return -1;
		}
		at += p.count;
	}
	/* Beyond every place given out: writers under way never reach it. */
	if (m->end > r->at && m->io->ops->truncate(m->io, m->end, err) < 0) {
		free(r);
		return -1;
	}
	*ret_res = r;
	return 0;
}

static int
model_commit(void *img, void *res, struct smd_error *err)
{
	struct model *m = img;
	struct reservation *r = res;
	uint64_t at = r->at;
	int ret = 0;

	for (uint64_t i = 0; i < r->n && ret == 0; i++) {
		if (!r->fresh[i])
			continue;
		ret = put64(m->io, MODEL_MAP + 8 * (r->first + i), at, err);
		at += MODEL_UNIT;
	}
	free(r);
	return ret;
}

static void
model_abandon(void *img, void *res)
{
	(void)img;
	free(res);
}

static int
model_zero(void *img, uint64_t offset, uint64_t count, uint32_t flags, struct smd_error *err)
{
	struct model *m = img;

	(void)flags;
	for (uint64_t u = offset / MODEL_UNIT; u * MODEL_UNIT < offset + count; u++) {
		if (put64(m->io, MODEL_MAP + 8 * u, MODEL_ZERO, err) < 0)
			return -1;
	}
	return 0;
}

static int
model_flush(void *img, struct smd_error *err)
{
	struct model *m = img;

	return smd_io_flush(m->io, err);
}

static int
model_encode(void *img, const void *buf, void *out, size_t out_room, size_t *ret_len,
	     struct smd_error *err)
{
	const uint8_t *p = buf;

	(void)img;
	(void)err;
	if (out_room < 1 || memcmp(p, p + 1, MODEL_UNIT - 1) != 0 || *p & MODEL_NO_ENCODE)
		return 1;
	*(uint8_t *)out = *p;
	*ret_len = 1;
	return 0;
}

static int
model_write_encoded(void *img, uint64_t offset, const void *data, size_t len,
		    struct smd_error *err)
{
	struct model *m = img;
	uint8_t byte = *(const uint8_t *)data;

	if (len != 1 || offset % MODEL_UNIT)
		return smd_fail_INTERNAL_ERROR(err, "model", "not what encode gave");
	if (byte & MODEL_NO_WRITE_ENCODED)
		return 1;
	return put64(m->io, MODEL_MAP + 8 * (offset / MODEL_UNIT), MODEL_FILL(byte), err);
}

const struct smd_format model_format = {
	.abi = SMD_FORMAT_ABI,
	.struct_size = sizeof(struct smd_format),
	.name = "model",
	.caps = SMD_CAP_WRITE | SMD_CAP_CREATE | SMD_CAP_ENCODE,
	.max_virtual_size = MODEL_UNITS * (uint64_t)MODEL_UNIT,
	.size_unit = SMD_SECTOR,
	.create = model_create,
	.measure = model_measure,
	.open = model_open,
	.close = model_close,
	.info = model_info,
	.extents = model_extents,
	.read_encoded = model_read_encoded,
	.reserve = model_reserve,
	.commit = model_commit,
	.abandon = model_abandon,
	.zero = model_zero,
	.flush = model_flush,
	.encode = model_encode,
	.write_encoded = model_write_encoded,
};

/* ---- flat ---- */

static int
flat_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	(void)flags;
	(void)err;
	*ret_img = io;
	return 0;
}

static void
flat_close(void *img)
{
	(void)img;
}

static int
flat_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	(void)err;
	ret->virtual_size = ((struct smd_io *)img)->size;
	ret->write_unit = SMD_SECTOR;
	ret->alloc_unit = MODEL_UNIT;
	return 0;
}

static int
flat_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
	     struct smd_error *err)
{
	const struct smd_extent e = { SMD_EXTENT_DATA, offset, count, offset };

	(void)img;
	return add(opaque, &e, err);
}

static int
flat_reserve(void *img, uint64_t offset, uint64_t count, smd_place_fn *add, void *opaque,
	     void **ret_res, struct smd_error *err)
{
	const struct smd_place p = { SMD_PLACE_IN_PLACE, offset, count, offset };

	(void)img;
	*ret_res = NULL;
	return add(opaque, &p, err);
}

static int
flat_commit(void *img, void *res, struct smd_error *err)
{
	(void)img;
	(void)res;
	(void)err;
	return 0;
}

static void
flat_abandon(void *img, void *res)
{
	(void)img;
	(void)res;
}

static int
flat_zero(void *img, uint64_t offset, uint64_t count, uint32_t flags, struct smd_error *err)
{
	struct smd_io *io = img;

	(void)flags;
	return io->ops->zero(io, offset, count, err);
}

static int
flat_flush(void *img, struct smd_error *err)
{
	return smd_io_flush(img, err);
}

const struct smd_format flat_format = {
	.abi = SMD_FORMAT_ABI,
	.struct_size = sizeof(struct smd_format),
	.name = "flat",
	.caps = SMD_CAP_WRITE,
	.max_virtual_size = INT64_MAX / 2,
	.size_unit = 1,
	.open = flat_open,
	.close = flat_close,
	.info = flat_info,
	.extents = flat_extents,
	.reserve = flat_reserve,
	.commit = flat_commit,
	.abandon = flat_abandon,
	.zero = flat_zero,
	.flush = flat_flush,
};

int
model_step(void *steps, uint64_t done, uint64_t total)
{
	struct model_steps *s = steps;

	assert_true(s->n == 0 || total == s->total);
	assert_true(done >= s->last && done <= total);
	s->last = done;
	s->total = total;
	return ++s->n == s->stop_at;
}

struct smd_chain *
open_format(const struct smd_format *format, struct smd_io *io, uint32_t flags)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *chain = NULL;

	if (smd_chain_open(&(struct smd_layer){ format, io }, 1, flags, &chain, &err) < 0)
		fail_msg("%s", err.message);
	return chain;
}
