/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Another virtual size. A dynamic disk's BAT grows in place: blocks in its way
 * move to the end first, each valid at both places until the BAT is switched;
 * then footer, header and BAT change as one (journal.c).
 */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

/* ---- Blocks in the way ---- */

static int
block_move(struct vhd *v, uint32_t block, uint8_t *buf, struct smd_error *err)
{
	uint64_t size = vhd_block_file_size(v);
	uint32_t sector;

	if (vhd_block_place(v, &sector, err) < 0 ||
	    vhd_pread(v->io, buf, size, (uint64_t)v->bat[block] * VHD_SECTOR, err) < 0 ||
	    vhd_pwrite(v->io, buf, size, (uint64_t)sector * VHD_SECTOR, err) < 0)
		return -1;
	vhd_bat_set(v, block, sector);
	return 0;
}

int
vhd_blocks_move_away(struct vhd *v, uint64_t start, uint64_t end, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = NULL;

	/* A place that was given up may be in the way too. */
	v->n_spare = 0;
	v->data_end = smd_max_u64(v->data_end, end);
	for (uint32_t i = 0; i < v->n_blocks; i++) {
		uint64_t at = (uint64_t)v->bat[i] * VHD_SECTOR;

		if (v->bat[i] == VHD_BAT_UNUSED || at >= end || at + vhd_block_file_size(v) <= start)
			continue;
		if (!buf && !(buf = malloc(vhd_block_file_size(v))))
			return vhd_no_memory(v->io, err);
		if (block_move(v, i, buf, err) < 0)
			return -1;
	}
	return vhd_flush(v, err);
}

void
vhd_metadata_changed(struct vhd *v, const struct vhd_footer *footer,
		     const struct vhd_header *header, uint64_t data_end)
{
	v->footer = *footer;
	v->header = *header;
	v->data_end = data_end;
	v->tail_offset = v->io->size - VHD_FOOTER_SIZE;
}

/* ---- A table for more blocks ---- */

struct plan {
	struct vhd_footer footer;
	struct vhd_header header;
	uint32_t n_blocks;
	uint64_t meta_end;
	struct vhd_record records[VHD_JOURNAL_RECORDS];
	uint32_t n_records;
	uint8_t *locators;	/* their bytes, where they move */
};

static void
plan_record(struct plan *p, uint64_t offset, uint64_t count, int fill, const uint8_t *data)
{
	if (count)
		p->records[p->n_records++] =
			(struct vhd_record){ offset, (uint32_t)count, fill, data };
}

/* Locators between BAT and the new end of metadata go behind it. */
static int
plan_locators(struct vhd *v, struct plan *p, struct smd_error *err)
{
	size_t used = 0;

	p->locators = calloc(VHD_N_LOCATORS, VHD_LOCATOR_MAX);
	if (!p->locators)
		return vhd_no_memory(v->io, err);
	for (unsigned i = 0; i < VHD_N_LOCATORS; i++) {
		struct vhd_locator *l = &p->header.locators[i];
		uint64_t room = smd_div_round_up_u64(vhd_locator_room(l), VHD_SECTOR) * VHD_SECTOR;

		if (l->code == 0 || l->offset < v->header.bat_offset ||
		    l->offset >= p->meta_end)
			continue;
		if (vhd_pread(v->io, p->locators + used, l->length, l->offset, err) < 0)
			return -1;
		l->offset = p->meta_end;
		plan_record(p, l->offset, room, -1, p->locators + used);
		p->meta_end += room;
		used += room;
	}
	return 0;
}

static int
plan_table(struct vhd *v, struct plan *p, struct smd_error *err)
{
	struct vhd_header *h = &p->header;
	uint64_t bat_end = h->bat_offset + (uint64_t)p->n_blocks * 4;
	uint64_t table_end = vhd_batmap_offset(h->bat_offset, p->n_blocks);

	p->meta_end = table_end;
	if (vhd_is_tap(&v->footer))
		p->meta_end += VHD_SECTOR + (uint64_t)vhd_batmap_room(p->n_blocks) * VHD_SECTOR;
	if (v->footer.data_offset >= h->bat_offset && v->footer.data_offset < p->meta_end)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, v->io->name,
				"the header lies behind the BAT, which cannot grow then: converted to VHD "
				"again it can");
	if (v->footer.type == VHD_TYPE_DIFFERENCING && plan_locators(v, p, err) < 0)
		return -1;
	h->n_entries = p->n_blocks;
	vhd_header_seal(h);
	plan_record(p, v->footer.data_offset, VHD_HEADER_SIZE, -1, h->raw);
	plan_record(p, bat_end, table_end - bat_end, 0, NULL);
	return vhd_blocks_move_away(v, h->bat_offset, p->meta_end, err);
}

/* ---- The batmap of the new size ---- */

static int
batmap_resize(struct vhd *v, bool moved, struct smd_error *err)
{
	struct vhd_batmap *b = &v->batmap;
	uint32_t n = vhd_batmap_sectors(v->footer.current_size);
	uint64_t offset, map_offset;
	uint8_t *map, *next;

	if (!vhd_is_tap(&v->footer) || (!b->valid && !moved))
		return 0;
	map = calloc(n, VHD_SECTOR);
	next = malloc((size_t)n * VHD_SECTOR);
	if (!map || !next) {
		free(map);
		free(next);
		return vhd_no_memory(v->io, err);
	}
	if (b->valid)
		memcpy(map, b->map, (size_t)smd_min_u64(n, b->n_sectors) * VHD_SECTOR);
	if (v->n_blocks < (uint64_t)n * VHD_SECTOR * 8)
		vhd_bits_assign(map, v->n_blocks, (uint64_t)n * VHD_SECTOR * 8, false);
	memcpy(next, map, (size_t)n * VHD_SECTOR);
	offset = moved ? vhd_batmap_offset(v->header.bat_offset, v->header.n_entries)
		       : b->header_offset;
	map_offset = moved ? offset + VHD_SECTOR : b->map_offset;
	if (!b->valid)
		memset(b->header, 0, sizeof b->header);
	if (moved || b->version != VHD_BATMAP_VERSION)
		vhd_batmap_header_make(b->header, map_offset, v->header.n_entries, map, n);
	free(b->map);
	free(b->next);
	b->valid = true;
	b->header_offset = offset;
	b->map_offset = map_offset;
	b->map = map;
	b->next = next;
	b->version = VHD_BATMAP_VERSION;
	b->n_sectors = n;
	b->clear_lo = b->set_lo = b->set_hi = 0;
	b->clear_hi = n;
	return 0;
}

/* ---- Dynamic and differencing ---- */

/* Sectors of the last block past size must read as zeroes when it grows. */
static int
last_block_trim(struct vhd *v, uint64_t size, struct smd_error *err)
{
	uint32_t block = (uint32_t)(size / v->header.block_size);
	uint64_t first = size % v->header.block_size / VHD_SECTOR;
	uint64_t end = v->header.block_size / VHD_SECTOR;
	struct vhd_bitmap *m;

	if (first == 0 || block >= v->n_blocks || v->bat[block] == VHD_BAT_UNUSED)
		return 0;
	if (v->io->ops->zero(v->io, vhd_data_offset(v, v->bat[block]) + first * VHD_SECTOR,
			     (end - first) * VHD_SECTOR, err) < 0 ||
	    vhd_bitmap_get(v, block, v->bat[block], false, &m, err) < 0)
		return -1;
	if (vhd_bits_run(m->bits, first, end, false) == end)
		return 0;
	vhd_bits_assign(m->bits, first, end, false);
	v->bitmaps.n_dirty += !m->dirty;
	m->dirty = true;
	vhd_batmap_clear(&v->batmap, block);
	return vhd_flush(v, err);
}

static int
table_resize(struct vhd *v, uint32_t n, struct smd_error *err)
{
	uint32_t *bat = malloc((size_t)n * 4 + 4);
	uint8_t *dirty = calloc(1, n / 1024 + 1);

	if (!bat || !dirty) {
		free(bat);
		free(dirty);
		return vhd_no_memory(v->io, err);
	}
	memset(bat, 0xff, (size_t)n * 4);
	memcpy(bat, v->bat, (size_t)smd_min_u64(n, v->n_blocks) * 4);
	free(v->bat);
	free(v->bat_dirty);
	v->bat = bat;
	v->bat_dirty = dirty;
	v->n_blocks = n;
	v->n_allocated = 0;
	for (uint32_t i = 0; i < n; i++)
		v->n_allocated += bat[i] != VHD_BAT_UNUSED;
	return 0;
}

/* The end of data with the first n blocks alone. */
static uint64_t
data_end_of(const struct vhd *v, uint32_t n, uint64_t meta_end)
{
	uint64_t end = meta_end;

	for (uint32_t i = 0; i < n && i < v->n_blocks; i++)
		if (v->bat[i] != VHD_BAT_UNUSED)
			end = smd_max_u64(end, (uint64_t)v->bat[i] * VHD_SECTOR +
					  vhd_block_file_size(v));
	return end;
}

/* Give back what lies below the new end; dropped blocks are in no BAT. */
static int
dropped_punch(struct vhd *v, const uint32_t *old, uint32_t n_old, struct smd_error *err)
{
	for (uint32_t i = v->n_blocks; i < n_old; i++) {
		uint64_t at = (uint64_t)old[i] * VHD_SECTOR;

		if (old[i] == VHD_BAT_UNUSED || at + vhd_block_file_size(v) > v->data_end)
			continue;
		if (v->io->ops->zero(v->io, at, vhd_block_file_size(v), err) < 0)
			return -1;
	}
	return 0;
}

static int
plan_carry_out(struct vhd *v, struct plan *p, bool moved, struct smd_error *err)
{
	uint64_t busy_end = v->data_end, data_end = data_end_of(v, p->n_blocks, p->meta_end);
	CLEANUP_FREE uint32_t *old = NULL;
	uint32_t n_old = v->n_blocks;

	if (!(v->io->flags & SMD_IO_CAN_GROW) && data_end > v->tail_offset)
		return smd_fail(err, SMD_REASON_IO, v->io->name,
				"no room for a larger BAT before the footer at %" PRIu64 ": make the store larger",
				v->tail_offset);
	old = malloc((size_t)n_old * 4 + 4);
	if (!old)
		return vhd_no_memory(v->io, err);
	memcpy(old, v->bat, (size_t)n_old * 4);
	v->n_spare = 0;
	if (vhd_journal_commit(v->io, &v->footer, &p->footer, p->records, p->n_records, busy_end,
			       data_end, &v->failed, err) < 0)
		return -1;
	if (table_resize(v, p->n_blocks, err) < 0)
		return -1;
	vhd_metadata_changed(v, &p->footer, &p->header, data_end);
	/* They may have blocks that are no more. */
	vhd_bitmaps_forget(&v->bitmaps);
	if (batmap_resize(v, moved, err) < 0 || dropped_punch(v, old, n_old, err) < 0)
		return -1;
	v->meta_end = vhd_meta_end(v);
	v->failed = false;
	return last_block_trim(v, v->footer.current_size, err);
}

/* Xen Orchestra wants no disk that is smaller than it was made. */
static void
footer_resize(struct vhd_footer *f, uint64_t size)
{
	f->current_size = size;
	f->original_size = smd_min_u64(f->original_size, size);
	f->geometry = vhd_geometry_of(size);
	vhd_footer_seal(f);
}

static int
dynamic_resize(struct vhd *v, uint64_t size, struct smd_error *err)
{
	struct plan p = { .footer = v->footer, .header = v->header, .meta_end = v->meta_end };
	uint64_t table = v->header.bat_offset;
	bool moved;
	int ret;

	p.n_blocks = (uint32_t)smd_div_round_up_u64(size, v->header.block_size);
	footer_resize(&p.footer, size);
	moved = p.n_blocks > v->header.n_entries;
	if (size > v->footer.current_size &&
	    last_block_trim(v, v->footer.current_size, err) < 0)
		return -1;
	ret = moved ? plan_table(v, &p, err) : 0;
	/* Entries that come, or go, are unused. */
	if (p.n_blocks > v->n_blocks)
		plan_record(&p, table + (uint64_t)v->n_blocks * 4,
			    (uint64_t)(p.n_blocks - v->n_blocks) * 4, 0xff, NULL);
	else
		plan_record(&p, table + (uint64_t)p.n_blocks * 4,
			    (uint64_t)(v->n_blocks - p.n_blocks) * 4, 0xff, NULL);
	if (ret == 0)
		ret = plan_carry_out(v, &p, moved, err);
	free(p.locators);
	return ret;
}

/* ---- Fixed ---- */

/* A footer that could not be written may be there all the same: then it is not
 * the last, or the present one comes over it again. */
static int
footer_put(struct vhd *v, const struct vhd_footer *f, uint64_t offset, struct smd_error *err)
{
	if (vhd_pwrite(v->io, f->raw, VHD_FOOTER_SIZE, offset, err) < 0) {
		if (offset == v->tail_offset ?
		    vhd_pwrite(v->io, v->footer.raw, VHD_FOOTER_SIZE, offset, err) < 0 :
		    v->io->ops->truncate(v->io, v->tail_offset + VHD_FOOTER_SIZE, err) < 0)
			v->failed = true;
		return -1;
	}
	if (vhd_flush_io(v, err) < 0)
		return -1;
	v->tail_offset = offset;
	v->footer = *f;
	return 0;
}

/* The old footer, further back | zeroes where it was | the new one over it. */
static int
fixed_grow(struct vhd *v, const struct vhd_footer *after, struct smd_error *err)
{
	uint64_t from = v->footer.current_size, to = after->current_size, tail = v->tail_offset;

	if (to > tail) {
		uint64_t old_end = (tail + 2 * VHD_FOOTER_SIZE - 1) / VHD_SECTOR * VHD_SECTOR;

		if (!(v->io->flags & SMD_IO_CAN_GROW))
			return smd_fail(err, SMD_REASON_IO, v->io->name,
					"a disk of %" PRIu64 " bytes: the store has room for %" PRIu64
					": make it larger", to, tail);
		if (footer_put(v, &v->footer, smd_max_u64(to, old_end), err) < 0)
			return -1;
		tail = smd_min_u64(v->tail_offset, old_end);
	} else {
		tail = to;
	}
	if (v->io->ops->zero(v->io, from, tail - from, err) < 0 || vhd_flush_io(v, err) < 0)
		return -1;
	return footer_put(v, after, v->tail_offset, err);
}

static int
fixed_shrink(struct vhd *v, const struct vhd_footer *after, struct smd_error *err)
{
	uint64_t tail = v->tail_offset;

	if (footer_put(v, after, tail, err) < 0)
		return -1;
	if (!(v->io->flags & SMD_IO_CAN_GROW))
		return 0;
	if (footer_put(v, after, after->current_size, err) < 0)
		return -1;
	if (v->io->ops->truncate(v->io, after->current_size + VHD_FOOTER_SIZE, err) < 0) {
		v->tail_offset = tail;	/* there is one, too */
		return -1;
	}
	return vhd_flush_io(v, err);
}

static int
size_check(const struct vhd *v, uint64_t size, uint32_t flags, struct smd_error *err)
{
	const char *name = v->io->name;

	if (vhd_write_begin(v, err) < 0)
		return -1;
	if (size == 0 || size % VHD_SECTOR)
		return smd_fail(err, SMD_REASON_BAD_SIZE, name,
				"a VHD's size is a multiple of 512 above 0, not %" PRIu64 ": round it up", size);
	if (size > VHD_MAX_SIZE)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, name,
				"%" PRIu64 " bytes are over VHD's limit of %" PRIu64 " (2040 GiB): "
				"converted to another format it can have them", size, VHD_MAX_SIZE);
	if (size >= v->footer.current_size)
		return 0;
	if (!(flags & SMD_RESIZE_SHRINK))
		return smd_fail(err, SMD_REASON_BAD_SIZE, name,
				"from %" PRIu64 " to %" PRIu64 " bytes would shrink the disk: smd-img resize "
				"--shrink does",
				v->footer.current_size, size);
	if (v->footer.type == VHD_TYPE_DIFFERENCING)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, name,
				"a differencing disk that shrank would show its parent when it "
				"grows again: convert it to a whole disk first");
	return 0;
}

int
vhd_resize(void *img, uint64_t virtual_size, uint32_t flags, struct smd_error *err)
{
	struct vhd *v = img;
	struct vhd_footer after;

	if (size_check(v, virtual_size, flags, err) < 0 || vhd_no_pending(v, err) < 0 ||
	    vhd_flush(v, err) < 0)
		return -1;
	after = v->footer;
	if (virtual_size == v->footer.current_size)
		return 0;
	if (!vhd_is_fixed(v)) {
		if (dynamic_resize(v, virtual_size, err) < 0)
			return -1;
		return vhd_flush(v, err);
	}
	footer_resize(&after, virtual_size);
	return virtual_size > v->footer.current_size ? fixed_grow(v, &after, err)
						     : fixed_shrink(v, &after, err);
}
