/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugins/format/qcow2/test-image.h"

#include <stdlib.h>
#include <string.h>

#include "common/error.h"

const struct smd_format *qcow2;

int
test_load(void **state)
{
	(void)state;
	qcow2 = smd_format_init(&smd_the_format_host);
	return qcow2 ? 0 : -1;
}

struct smd_io *
test_create(uint64_t size, const char *const *options)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = smd_io_memory(NULL, 0, "test.qcow2", TEST_RW);
	struct smd_create params = { .virtual_size = size };
	struct smd_options o = { 0 };

	for (; options && *options; options++) {
		char name[64];
		const char *value = strchr(*options, '=');

		assert_non_null(value);
		memcpy(name, *options, (size_t)(value - *options));
		name[value - *options] = '\0';
		assert_int_equal(smd_options_add(&o, qcow2, name, value + 1, &err), 0);
	}
	params.n_options = o.n;
	params.option_names = o.names;
	params.option_values = (const char *const *)o.values;
	assert_int_equal(qcow2->create(io, &params, &err), 0);
	smd_options_free(&o);
	return io;
}

void *
test_open(struct smd_io *io, uint32_t flags)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	void *img;

	if (qcow2->open(io, flags, &img, &err) < 0)
		fail_msg("open: %s", err.message);
	return img;
}

struct writing {
	struct smd_io *io;
	uint8_t fill;
};

static int
write_place(void *opaque, const struct smd_place *place, struct smd_error *err)
{
	struct writing *w = opaque;
	uint8_t *buf = malloc(place->count);
	int r = 0;

	memset(buf, w->fill, place->count);
	if (place->kind != SMD_PLACE_FRESH_ZEROED || w->fill != 0)
		r = w->io->ops->pwrite(w->io, buf, place->count, place->host_offset, err);
	free(buf);
	return r;
}

int
test_write(void *img, struct smd_io *io, uint64_t offset, uint64_t count, uint8_t fill,
	   struct smd_error *err)
{
	struct writing w = { io, fill };
	void *res;

	if (qcow2->reserve(img, offset, count, write_place, &w, &res, err) < 0)
		return -1;
	return qcow2->commit(img, res, err);
}

int
test_write_encoded(void *img, uint64_t unit, uint64_t offset, uint64_t count, uint8_t fill,
		   struct smd_error *err)
{
	uint8_t *buf = malloc(unit), *out = malloc(unit);
	size_t len = 0;
	int r;

	memset(buf, fill, unit);
	r = qcow2->encode(img, buf, out, unit - 1, &len, err);
	for (uint64_t at = offset; r == 0 && at < offset + count; at += unit)
		r = qcow2->write_encoded(img, at, out, len, err);
	free(buf);
	free(out);
	return r;
}

struct reading {
	struct smd_io *io;
	void *img;
	uint8_t *disk;
	uint64_t size, unit;
};

static int
read_extent(void *opaque, const struct smd_extent *e, struct smd_error *err)
{
	struct reading *r = opaque;
	uint8_t *buf;

	if (e->kind == SMD_EXTENT_DATA)
		return r->io->ops->pread(r->io, r->disk + e->offset, e->count, e->host_offset, err);
	if (e->kind != SMD_EXTENT_ENCODED)
		return 0;
	buf = malloc(r->unit);
	for (uint64_t at = e->offset; at < e->offset + e->count; at += r->unit) {
		uint64_t left = r->size - at;

		if (qcow2->read_encoded(r->img, at, buf, err) < 0) {
			free(buf);
			return -1;
		}
		memcpy(r->disk + at, buf, left < r->unit ? left : r->unit);
	}
	free(buf);
	return 0;
}

uint8_t *
test_read(void *img, struct smd_io *io, uint64_t *ret_size, struct smd_error *err)
{
	struct smd_image_info info;
	struct reading r = { .io = io, .img = img };

	if (qcow2->info(img, &info, err) < 0)
		return NULL;
	free(info.details);
	r.size = *ret_size = info.virtual_size;
	r.unit = info.alloc_unit;
	r.disk = calloc(1, r.size);
	if (qcow2->extents(img, 0, r.size, read_extent, &r, err) < 0) {
		free(r.disk);
		return NULL;
	}
	return r.disk;
}

int
test_sector(const uint8_t *disk, uint64_t sector)
{
	const uint8_t *p = disk + sector * SMD_SECTOR;

	return memcmp(p, p + 1, SMD_SECTOR - 1) == 0 ? *p : -1;
}

static void
count_finding(void *opaque, const struct smd_finding *f)
{
	struct test_findings *t = opaque;

	t->repaired += f->repaired;
	if (f->kind == SMD_FINDING_LEAK) {
		t->leaks++;
		return;
	}
	if (t->corruptions++ == 0)
		t->reason = f->reason;
}

struct test_findings
test_check(struct smd_io *io, uint32_t repair)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_findings t = { 0 };
	struct smd_check stats;

	if (qcow2->check(io, repair, count_finding, &t, &stats, &err) < 0)
		fail_msg("check: %s", err.message);
	return t;
}
