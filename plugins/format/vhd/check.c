/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Checking, and what can be mended without guessing: a damaged copy of the
 * footer, a journal that was not carried out, the batmap, and space at the end
 * that a crash left over. Blocks that overlap or lie outside are reported and
 * left alone.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

struct check {
	struct vhd *v;
	struct vhd_footers footers;
	uint32_t repair;
	smd_finding_fn *found;
	void *opaque;
};

static bool
wanted(const struct check *c, bool leak)
{
	uint32_t level = c->repair & ~SMD_REPAIR_DRY_RUN;

	if (c->repair & SMD_REPAIR_DRY_RUN || !(c->v->io->flags & SMD_IO_WRITABLE))
		return false;
	return level == SMD_REPAIR_ALL || (leak && level == SMD_REPAIR_LEAKS);
}

__attribute__((format(printf, 6, 7))) static void
report(const struct check *c, enum smd_finding_kind kind, enum smd_reason reason, bool repairable,
       bool repaired, const char *fmt, ...)
{
	char text[256];
	struct smd_finding f = { kind, reason, repairable, repaired, text };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	c->found(c->opaque, &f);
}

/* ---- Footers and journal ---- */

static int
journal_mend(struct check *c, struct smd_error *err)
{
	struct vhd *v = c->v;
	bool mend = wanted(c, false);

	if (v->journal.size == 0)
		return 0;
	if (mend && vhd_journal_apply(v->io, &v->journal, v->data_end, err) < 0)
		return -1;
	report(c, SMD_FINDING_DEGRADED, SMD_REASON_NEEDS_REPAIR, true, mend,
	       "a change of the metadata was begun and not carried out");
	if (mend) {
		vhd_journal_done(&v->journal);
		v->degraded = false;
		v->tail_offset = v->io->size - VHD_FOOTER_SIZE;
	}
	return 0;
}

/* The tail goes behind the data, or to the end of a store that cannot grow. */
static int
tail_mend(struct check *c, struct smd_error *err)
{
	struct vhd *v = c->v;
	bool mend = wanted(c, false), grows = v->io->flags & SMD_IO_CAN_GROW;
	uint64_t at = v->data_end;

	if (c->footers.tail_state == -1)
		return 0;
	if (!grows)
		at = v->io->size / VHD_SECTOR * VHD_SECTOR - VHD_FOOTER_SIZE;
	if (!grows && at < v->data_end)
		mend = false;
	if (mend && (vhd_pwrite(v->io, v->footer.raw, VHD_FOOTER_SIZE, at, err) < 0 ||
		     (grows && v->io->ops->truncate(v->io, at + VHD_FOOTER_SIZE, err) < 0)))
		return -1;
	report(c, SMD_FINDING_DEGRADED,
	       c->footers.tail_state == SMD_REASON_BAD_CHECKSUM ? SMD_REASON_BAD_CHECKSUM
								: SMD_REASON_BAD_COOKIE,
	       true, mend, "no footer at the end; its copy at the start is used");
	if (mend) {
		v->tail_offset = at;
		v->degraded = false;
	}
	return 0;
}

static int
head_mend(struct check *c, struct smd_error *err)
{
	struct vhd *v = c->v;
	bool damaged = c->footers.head_state != -1, mend = wanted(c, false);

	if (c->footers.tail_state != -1)
		return 0;
	if (!damaged && memcmp(c->footers.head.raw, c->footers.tail.raw, VHD_FOOTER_SIZE) == 0)
		return 0;
	if (mend && vhd_pwrite(v->io, v->footer.raw, VHD_FOOTER_SIZE, 0, err) < 0)
		return -1;
	report(c, SMD_FINDING_DEGRADED,
	       damaged ? (enum smd_reason)c->footers.head_state : SMD_REASON_AMBIGUOUS, true, mend,
	       damaged ? "the footer's copy at the start is damaged"
		       : "the footer's copy at the start differs from the footer");
	if (mend)
		v->degraded = false;
	return 0;
}

/* ---- Slack ---- */

/* A block that was never published, or dropped. Less than a block is anybody's
 * alignment, and a store that cannot grow is all slack. */
static int
slack_mend(struct check *c, struct smd_error *err)
{
	struct vhd *v = c->v;
	uint64_t end = vhd_is_fixed(v) ? v->footer.current_size : v->data_end;
	uint64_t unit = vhd_is_fixed(v) ? VHD_SECTOR : v->header.block_size;
	bool mend = wanted(c, true) && !v->degraded;

	if (!(v->io->flags & SMD_IO_CAN_GROW) || v->degraded || v->tail_offset < end + unit)
		return 0;
	if (mend && (vhd_pwrite(v->io, v->footer.raw, VHD_FOOTER_SIZE, end, err) < 0 ||
		     vhd_io_flush(v->io, err) < 0 ||
		     v->io->ops->truncate(v->io, end + VHD_FOOTER_SIZE, err) < 0))
		return -1;
	report(c, SMD_FINDING_LEAK, SMD_REASON_NEEDS_REPAIR, true, mend,
	       "%" PRIu64 " bytes between the data and the footer are not in use",
	       v->tail_offset - end);
	if (mend)
		v->tail_offset = end;
	return 0;
}

/* ---- Blocks ---- */

/* What the batmap should say: ret_map has a bit for each full block. */
static int
bitmaps_read(struct check *c, uint8_t *map, uint32_t *ret_lies, struct smd_error *err)
{
	struct vhd *v = c->v;
	uint64_t sectors = v->header.block_size / VHD_SECTOR;

	*ret_lies = 0;
	for (uint32_t i = 0; i < v->n_blocks; i++) {
		struct vhd_bitmap *m;
		bool full;

		if (v->bat[i] == VHD_BAT_UNUSED)
			continue;
		if (vhd_bitmap_get(v, i, v->bat[i], false, &m, err) < 0)
			return -1;
		full = vhd_bits_full(m->bits, sectors);
		*ret_lies += !full && vhd_batmap_test(&v->batmap, i);
		if (full && i / 8 < v->batmap.n_sectors * VHD_SECTOR)
			vhd_bits_assign(map, i, (uint64_t)i + 1, true);
	}
	return 0;
}

/* Rewriting needs the place to be the batmap's own: behind the BAT, before
 * blocks and locators. */
static bool
batmap_placeable(const struct vhd *v)
{
	uint64_t start = vhd_batmap_offset(v->header.bat_offset, v->header.n_entries);
	uint64_t end = start + VHD_SECTOR +
		       (uint64_t)vhd_batmap_room(v->header.n_entries) * VHD_SECTOR;
	struct vhd_area areas[VHD_AREAS_MAX];
	unsigned n = vhd_metadata_areas(&v->footer, &v->header, areas);

	for (unsigned i = 0; i < n; i++)
		if (start < areas[i].end && areas[i].start < end)
			return false;
	for (uint32_t i = 0; i < v->n_blocks; i++)
		if (v->bat[i] != VHD_BAT_UNUSED && (uint64_t)v->bat[i] * VHD_SECTOR < end &&
		    start < (uint64_t)v->bat[i] * VHD_SECTOR + vhd_block_file_size(v))
			return false;
	return end <= v->tail_offset;
}

static int
batmap_rewrite(struct vhd *v, const uint8_t *map, struct smd_error *err)
{
	uint64_t at = vhd_batmap_offset(v->header.bat_offset, v->header.n_entries);
	uint8_t header[VHD_SECTOR] = { 0 };

	/* The marker and the key hash of one that is merely wrong stay. */
	if (v->batmap.valid)
		memcpy(header, v->batmap.header, sizeof header);
	vhd_batmap_header_make(header, at + VHD_SECTOR, v->header.n_entries, map,
			       v->batmap.n_sectors);
	if (vhd_pwrite(v->io, map, (size_t)v->batmap.n_sectors * VHD_SECTOR, at + VHD_SECTOR,
		       err) < 0)
		return -1;
	return vhd_pwrite(v->io, header, sizeof header, at, err);
}

/*
 * A batmap that is missing, damaged or claims blocks that do not exist costs
 * speed and no more; it is mended where repair is asked for, and no finding
 * else. One that calls a partial block full makes readers show stale bytes.
 */
static int
batmap_mend(struct check *c, const char *damage, struct smd_error *err)
{
	struct vhd *v = c->v;
	bool could = v->header.block_size == VHD_BLOCK_SIZE && batmap_placeable(v);
	bool asked = (c->repair & ~SMD_REPAIR_DRY_RUN) == SMD_REPAIR_ALL;
	CLEANUP_FREE uint8_t *map = NULL;
	uint32_t lies;
	bool differs, mend;

	if (!vhd_is_tap(&v->footer))
		return 0;
	v->batmap.n_sectors = vhd_batmap_sectors(v->footer.current_size);
	map = calloc(v->batmap.n_sectors, VHD_SECTOR);
	if (!map)
		return vhd_no_memory(v->io, err);
	if (bitmaps_read(c, map, &lies, err) < 0)
		return -1;
	differs = could && (!v->batmap.valid || memcmp(map, v->batmap.map,
				(size_t)v->batmap.n_sectors * VHD_SECTOR) != 0);
	mend = differs && wanted(c, false);
	if (mend && batmap_rewrite(v, map, err) < 0)
		return -1;
	if (lies > 0)
		report(c, SMD_FINDING_DEGRADED, SMD_REASON_AMBIGUOUS, could, mend,
		       "the batmap calls %" PRIu32 " blocks full whose bitmaps are not", lies);
	else if (differs && asked)
		report(c, SMD_FINDING_DEGRADED, SMD_REASON_BAD_CHECKSUM, true, mend, "%s",
		       damage ? damage : "the batmap does not match the bitmaps");
	return 0;
}

static void
blocks_count(const struct vhd *v, struct smd_check *ret)
{
	uint64_t next = 0;

	ret->total_units = v->n_blocks;
	ret->allocated_units = v->n_allocated;
	for (uint32_t i = 0; i < v->n_blocks; i++) {
		uint64_t at = (uint64_t)v->bat[i] * VHD_SECTOR;

		if (v->bat[i] == VHD_BAT_UNUSED)
			continue;
		/* Up to a page lies between two blocks for alignment. */
		ret->fragmented_units += next != 0 && (at < next || at - next >= VHD_PAGE);
		next = at + vhd_block_file_size(v);
	}
	ret->image_end_offset = v->data_end;
}

/* ---- All of it ---- */

static void
geometry_check(const struct check *c)
{
	const struct vhd_footer *f = &c->v->footer;
	struct vhd_geometry g = f->geometry;

	/* The maximum says "look at the size" to everyone. */
	if (g.cylinders == 65535 && g.heads == 16 && g.sectors == 255)
		return;
	if (vhd_geometry_size(g) > f->current_size)
		report(c, SMD_FINDING_DEGRADED, SMD_REASON_BAD_HEADER, false, false,
		       "the geometry %u/%u/%u is larger than the disk", g.cylinders, g.heads,
		       g.sectors);
}

static int
sparse_check(struct check *c, const char *damage, struct smd_check *ret, struct smd_error *err)
{
	struct vhd *v = c->v;

	if (vhd_bitmaps_init(&v->bitmaps, v->bitmap_size) < 0)
		return vhd_no_memory(v->io, err);
	if (v->footer.type == VHD_TYPE_DIFFERENCING && v->parent_name[0] == '\0')
		report(c, SMD_FINDING_CORRUPTION, SMD_REASON_EXTERNAL_REF, false, false,
		       "a differencing disk that names no parent");
	blocks_count(v, ret);
	if (v->journal.size != 0)
		return journal_mend(c, err);
	if (tail_mend(c, err) < 0 || head_mend(c, err) < 0 || batmap_mend(c, damage, err) < 0)
		return -1;
	return 0;
}

static int
image_check(struct check *c, struct smd_check *ret, struct smd_error *err)
{
	struct vhd *v = c->v;
	struct vhd_fault fault;
	const char *damage;
	int loaded = vhd_load(v, &c->footers, &damage, &fault, err);

	if (loaded < 0)
		return -1;
	if (loaded == VHD_FAULT) {
		report(c, SMD_FINDING_CORRUPTION, fault.reason, false, false, "%s", fault.text);
		return 0;
	}
	geometry_check(c);
	if (vhd_is_fixed(v)) {
		ret->total_units = smd_div_round_up_u64(v->footer.current_size, VHD_BLOCK_SIZE);
		ret->allocated_units = ret->total_units;
		ret->image_end_offset = v->footer.current_size;
	} else if (sparse_check(c, damage, ret, err) < 0) {
		return -1;
	}
	return slack_mend(c, err);
}

int
vhd_check(struct smd_io *io, uint32_t repair, smd_finding_fn *found, void *opaque,
	  struct smd_check *ret, struct smd_error *err)
{
	struct vhd v = { .io = io };
	struct check c = { .v = &v, .repair = repair, .found = found, .opaque = opaque };
	int done;

	memset(ret, 0, sizeof *ret);
	done = image_check(&c, ret, err);
	if (done == 0 && io->flags & SMD_IO_WRITABLE && !(repair & SMD_REPAIR_DRY_RUN) && repair)
		done = vhd_io_flush(io, err);
	vhd_unload(&v);
	return done;
}
