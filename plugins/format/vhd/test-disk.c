/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugins/format/vhd/test-disk.h"

#include <stdlib.h>

const struct smd_format *vhd;

int
disk_module(void **state)
{
	(void)state;
	vhd = smd_format_init(&smd_the_format_host);
	return vhd ? 0 : -1;
}

struct smd_create
disk_params(uint64_t size, const char *parent)
{
	struct smd_create p = { .virtual_size = size, .parent_name = parent,
				.timestamp_unix = 1700000000 };

	memset(p.uuid, 0x11, sizeof p.uuid);
	memset(p.parent_uuid, parent ? 0x22 : 0, sizeof p.parent_uuid);
	return p;
}

void
disk_make(struct disk *d, const struct smd_create *params)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	memset(d, 0, sizeof *d);
	d->memory = smd_io_memory(NULL, 0, "disk", RW);
	d->io = smd_io_test(d->memory);
	smd_io_test_record(d->io);
	assert_int_equal(vhd->create(d->io, params, &err), 0);
	assert_int_equal(d->io->ops->flush(d->io, &err), 0);
	assert_int_equal(vhd->open(d->io, SMD_OPEN_WRITE, &d->img, &err), 0);
}

void
disk_done(struct disk *d)
{
	vhd->close(d->img);
	smd_io_close(d->io);
	smd_io_close(d->memory);
}

size_t
disk_now(struct disk *d)
{
	size_t n;

	smd_io_test_records(d->io, &n);
	return n;
}

static int
place_fill(void *opaque, const struct smd_place *place, struct smd_error *err)
{
	struct disk *d = opaque;
	uint8_t tag = d->writes[d->n_writes - 1].tag;
	uint8_t *buf = malloc(place->count);
	int ret;

	assert_non_null(buf);
	memset(buf, tag, place->count);
	ret = d->io->ops->pwrite(d->io, buf, place->count, place->host_offset, err);
	free(buf);
	return ret;
}

static struct written *
history_add(struct disk *d, uint64_t offset, uint64_t count, uint8_t tag)
{
	struct written *w = &d->writes[d->n_writes++];

	assert_true(d->n_writes <= N_WRITES);
	*w = (struct written){ offset / VHD_SECTOR, count / VHD_SECTOR, tag, disk_now(d),
			       SIZE_MAX };
	return w;
}

void
disk_write(struct disk *d, uint64_t offset, uint64_t count, uint8_t tag)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	void *res;

	if (d->failed)
		return;
	history_add(d, offset, count, tag);
	d->failed = vhd->reserve(d->img, offset, count, place_fill, d, &res, &err) < 0 ||
		    vhd->commit(d->img, res, &err) < 0;
}

void
disk_zero(struct disk *d, uint64_t offset, uint64_t count)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (d->failed)
		return;
	history_add(d, offset, count, 0);
	d->failed = vhd->zero(d->img, offset, count, SMD_ZERO_UNMAP, &err) != 0;
}

void
disk_flush(struct disk *d)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	size_t n = d->n_writes;

	if (d->failed)
		return;
	d->failed = vhd->flush(d->img, &err) < 0;
	for (size_t i = 0; !d->failed && i < n; i++)
		if (d->writes[i].durable == SIZE_MAX)
			d->writes[i].durable = disk_now(d);
}

/* ---- Judging ---- */

struct reading {
	struct smd_io *io;
	uint8_t *buf;
	uint64_t offset;
};

static int
extent_take(void *opaque, const struct smd_extent *e, struct smd_error *err)
{
	struct reading *r = opaque;
	uint8_t *to = r->buf + (e->offset - r->offset);

	if (e->kind == SMD_EXTENT_DATA)
		return r->io->ops->pread(r->io, to, e->count, e->host_offset, err);
	memset(to, 0, e->count);
	return 0;
}

/* Whether sector may hold tag: newest first, until one that is durable. */
static bool
may_hold(const struct disk *d, uint64_t sector, uint8_t tag, size_t now)
{
	for (size_t i = d->n_writes; i-- > 0;) {
		const struct written *w = &d->writes[i];

		if (w->begun > now || sector < w->first || sector - w->first >= w->n)
			continue;
		if (tag == w->tag)
			return true;
		if (w->durable <= now)
			return false;
	}
	return tag == 0;
}

static void
sectors_judge(const struct disk *d, const uint8_t *buf, uint64_t first, uint64_t n, size_t now)
{
	for (uint64_t s = 0; s < n; s++) {
		const uint8_t *p = buf + s * VHD_SECTOR;

		if (memcmp(p, p + 1, VHD_SECTOR - 1) != 0 || !may_hold(d, first + s, p[0], now))
			fail_msg("sector %" PRIu64 " holds %02x %02x.. after record %zu",
				 first + s, p[0], p[1], now);
	}
}

void
disk_judge(const struct disk *d, struct smd_io *image, size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_image_info info;
	void *img;

	if (vhd->open(image, 0, &img, &err) < 0)
		fail_msg("after record %zu: %s", now, err.message);
	assert_int_equal(vhd->info(img, &info, &err), 0);
	free(info.details);
	for (uint64_t at = 0; at < smd_min_u64(info.virtual_size, 16 * MIB); at += MIB) {
		uint64_t n = smd_min_u64(MIB, info.virtual_size - at);
		CLEANUP_FREE uint8_t *buf = malloc(n);
		struct reading r = { image, buf, at };

		assert_int_equal(vhd->extents(img, at, n, extent_take, &r, &err), 0);
		sectors_judge(d, buf, at / VHD_SECTOR, n / VHD_SECTOR, now);
	}
	vhd->close(img);
}

struct findings {
	unsigned corruption, degraded, repaired;
};

static void
finding_count(void *opaque, const struct smd_finding *f)
{
	struct findings *n = opaque;

	n->corruption += f->kind == SMD_FINDING_CORRUPTION;
	n->degraded += f->kind == SMD_FINDING_DEGRADED;
	n->repaired += f->repaired;
}

void
disk_survives(const struct disk *d, struct smd_io *image, size_t now)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct findings before = { 0 }, after = { 0 };
	struct smd_check check;
	void *img;

	disk_judge(d, image, now);
	assert_int_equal(vhd->check(image, SMD_REPAIR_ALL, finding_count, &before, &check, &err),
			 0);
	assert_int_equal(before.corruption, 0);
	assert_int_equal(vhd->check(image, SMD_REPAIR_NONE, finding_count, &after, &check, &err),
			 0);
	assert_int_equal(after.corruption + after.degraded, 0);
	if (vhd->open(image, SMD_OPEN_WRITE, &img, &err) < 0)
		fail_msg("repaired, after record %zu: %s", now, err.message);
	vhd->close(img);
	disk_judge(d, image, now);
}

/* ---- Cutting ---- */

enum cut { CUT_ALL, CUT_TORN, CUT_SOME, CUT_KINDS };

/* What becomes of record i of the window [flushed, now). */
static void
record_replay(const struct smd_test_record *r, enum cut cut, bool last, unsigned dice,
	      struct smd_io *onto)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_test_record torn = *r;

	if (cut == CUT_SOME && dice & 0x40000)
		return;
	if (cut == CUT_TORN && last && r->op == SMD_TEST_PWRITE)
		torn.count = r->count / VHD_SECTOR / 2 * VHD_SECTOR;
	if (r->op == SMD_TEST_ZERO && !smd_range_ok(r->offset, r->count, onto->size))
		return;
	if (torn.count || r->op != SMD_TEST_PWRITE)
		assert_int_equal(smd_test_replay(&torn, onto, &err), 0);
}

static void
window_judge(struct disk *d, struct smd_io *durable, const struct smd_test_record *records,
	     size_t flushed, size_t now, enum cut cut, disk_judge_fn *judge, void *opaque)
{
	struct smd_bytes_view bytes = smd_io_memory_bytes(durable);
	struct smd_io *image CLEANUP_IO = smd_io_memory(bytes.data, bytes.len, "cut", RW);
	unsigned dice = (unsigned)now * 2654435761u;

	for (size_t i = flushed; i < now; i++) {
		dice = dice * 1103515245 + 12345;
		record_replay(&records[i], cut, i + 1 == now, dice, image);
	}
	judge(d, image, now, opaque);
}

void
disk_cut_everywhere(struct disk *d, disk_judge_fn *judge, void *opaque)
{
	struct smd_io *durable CLEANUP_IO = smd_io_memory(NULL, 0, "durable", RW);
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	size_t n, flushed = 0;
	const struct smd_test_record *records = smd_io_test_records(d->io, &n);
	bool made = false;

	for (size_t now = 1; now <= n; now++) {
		bool flush = records[now - 1].op == SMD_TEST_FLUSH;

		for (; flush && flushed < now; flushed++)
			assert_int_equal(smd_test_replay(&records[flushed], durable, &err), 0);
		for (int cut = 0; made && cut < (flush ? 1 : CUT_KINDS); cut++)
			window_judge(d, durable, records, flushed, now, (enum cut)cut, judge,
				     opaque);
		/* The first flush ends the making of the image. */
		made = made || flush;
	}
}
