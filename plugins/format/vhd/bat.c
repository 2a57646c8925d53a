/* SPDX-License-Identifier: BSD-2-Clause */
/* "Block Allocation Table": the sector of each block's bitmap. */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

#define ENTRIES_PER_SECTOR (VHD_SECTOR / 4)
#define BAT_IO_SECTORS 256u		/* of the BAT in one write */

int
vhd_bat_read(struct smd_io *io, const struct vhd_journal *j, uint64_t offset, uint32_t n,
	     uint32_t **ret, struct smd_error *err)
{
	CLEANUP_FREE uint32_t *bat = malloc((size_t)n * 4 + 4);

	if (!bat)
		return vhd_no_memory(io, err);
	if (vhd_meta_pread(io, j, bat, (size_t)n * 4, offset, err) < 0)
		return -1;
	for (uint32_t i = 0; i < n; i++)
		bat[i] = smd_load_be32((const uint8_t *)&bat[i]);
	*ret = TAKE_PTR(bat);
	return 0;
}

static int
u32_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The allocated entries in the order of the file; NULL: no memory. */
static uint32_t *
bat_sorted(const uint32_t *bat, uint32_t n, uint32_t *ret_n)
{
	uint32_t *sorted = malloc((size_t)n * 4 + 4);
	bool in_order = true;
	uint32_t used = 0;

	if (!sorted)
		return NULL;
	for (uint32_t i = 0; i < n; i++) {
		if (bat[i] == VHD_BAT_UNUSED)
			continue;
		in_order = in_order && (used == 0 || sorted[used - 1] <= bat[i]);
		sorted[used++] = bat[i];
	}
	if (!in_order)
		qsort(sorted, used, 4, u32_compare);
	*ret_n = used;
	return sorted;
}

static int
block_check(struct vhd_area block, uint64_t before, const struct vhd_area *areas, unsigned n_areas,
	    uint64_t end, struct vhd_fault *fault)
{
	if (block.end > end)
		return vhd_fault(fault, SMD_REASON_DATA_BOUNDS,
				 "the block at %" PRIu64 " ends at %" PRIu64 ", after %" PRIu64,
				 block.start, block.end, end);
	if (block.start < before)
		return vhd_fault(fault, SMD_REASON_DATA_OVERLAP,
				 "the block at %" PRIu64 " begins inside the one before it",
				 block.start);
	for (unsigned k = 0; k < n_areas; k++)
		if (block.start < areas[k].end && areas[k].start < block.end)
			return vhd_fault(fault, SMD_REASON_DATA_OVERLAP,
					 "the block at %" PRIu64 " lies over metadata at %" PRIu64,
					 block.start, areas[k].start);
	return 0;
}

int
vhd_bat_check(const uint32_t *bat, uint32_t n, uint64_t block_size,
	      const struct vhd_area *areas, unsigned n_areas, uint64_t end,
	      uint64_t *ret_data_end, struct vhd_fault *fault)
{
	uint64_t size = vhd_bitmap_size(block_size) + block_size, before = 0;
	CLEANUP_FREE uint32_t *sorted = NULL;
	uint32_t n_sorted;

	sorted = bat_sorted(bat, n, &n_sorted);
	if (!sorted)
		return vhd_fault(fault, SMD_REASON_IO, "out of memory");
	for (uint32_t i = 0; i < n_sorted; i++) {
		uint64_t start = (uint64_t)sorted[i] * VHD_SECTOR;
		struct vhd_area block = { start, start + size };
		int ret = block_check(block, before, areas, n_areas, end, fault);

		if (ret)
			return ret;
		before = block.end;
	}
	*ret_data_end = before;
	return 0;
}

void
vhd_bat_set(struct vhd *v, uint32_t block, uint32_t bat_sector)
{
	uint32_t s = block / ENTRIES_PER_SECTOR;

	v->bat[block] = bat_sector;
	v->bat_dirty[s / 8] |= (uint8_t)(1u << (s % 8));
	v->any_bat_dirty = true;
}

/* Sectors [first, first + n) of the BAT; what lies past n_blocks is as unused. */
static int
bat_write_run(struct vhd *v, uint32_t first, uint32_t n, uint8_t *buf, struct smd_error *err)
{
	uint64_t begin = (uint64_t)first * ENTRIES_PER_SECTOR;
	uint64_t entries = smd_min_u64((uint64_t)n * ENTRIES_PER_SECTOR, v->n_blocks - begin);

	for (uint64_t i = 0; i < entries; i++)
		smd_store_be32(buf + i * 4, v->bat[begin + i]);
	return vhd_pwrite(v->io, buf, entries * 4, v->header.bat_offset + begin * 4, err);
}

/* Dirty sectors in runs; clean ones between two dirty ones cost less than a
 * write of their own. */
int
vhd_bat_write(struct vhd *v, struct smd_error *err)
{
	uint32_t n = (v->n_blocks + ENTRIES_PER_SECTOR - 1) / ENTRIES_PER_SECTOR;
	CLEANUP_FREE uint8_t *buf = NULL;
	uint32_t s = 0;

	if (!v->any_bat_dirty)
		return 0;
	buf = malloc(BAT_IO_SECTORS * VHD_SECTOR);
	if (!buf)
		return vhd_no_memory(v->io, err);
	while (s < n) {
		uint32_t first, last;

		if (!(v->bat_dirty[s / 8] & 1u << (s % 8))) {
			s += s % 8 == 0 && v->bat_dirty[s / 8] == 0 ? 8 : 1;
			continue;
		}
		for (first = last = s; s < n && s - first < BAT_IO_SECTORS && s - last <= 8; s++)
			if (v->bat_dirty[s / 8] & 1u << (s % 8))
				last = s;
		s = last + 1;
		if (bat_write_run(v, first, s - first, buf, err) < 0)
			return -1;
	}
	memset(v->bat_dirty, 0, (n + 7) / 8);
	v->any_bat_dirty = false;
	return 0;
}
