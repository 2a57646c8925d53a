/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * XenServer's batmap: a bit per block, set where the block's bitmap is all ones
 * and need not be read. An optimisation: the BAT and the bitmaps decide.
 */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

enum {
	BATMAP_MAP_OFFSET = 8,
	BATMAP_SIZE = 16,		/* in sectors */
	BATMAP_VERSION_FIELD = 20,
	BATMAP_CHECKSUM = 24,
};

uint64_t
vhd_batmap_offset(uint64_t bat_offset, uint32_t n_entries)
{
	uint64_t size = (uint64_t)n_entries * 4;

	return bat_offset + (size + VHD_SECTOR - 1) / VHD_SECTOR * VHD_SECTOR;
}

/* libvhd shifts the size to bytes of map before it rounds up. */
uint32_t
vhd_batmap_sectors(uint64_t size)
{
	return (uint32_t)smd_max_u64(1, smd_div_round_up_u64(size >> 24, VHD_SECTOR));
}

uint32_t
vhd_batmap_room(uint32_t n_entries)
{
	return (uint32_t)smd_max_u64(1, smd_div_round_up_u64(n_entries, VHD_SECTOR * 8));
}

static uint32_t
map_checksum(const uint8_t *map, size_t len, uint32_t version)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += version == VHD_BATMAP_VERSION_SIGNED ? (uint32_t)(int8_t)map[i] : map[i];
	return ~sum;
}

void
vhd_batmap_header_make(uint8_t header[VHD_SECTOR], uint64_t map_offset, uint32_t n_entries,
		       const uint8_t *map, uint32_t n_sectors)
{
	memcpy(header, VHD_BATMAP_COOKIE, 8);
	smd_store_be64(header + BATMAP_MAP_OFFSET, map_offset);
	smd_store_be32(header + BATMAP_SIZE, vhd_batmap_room(n_entries));
	smd_store_be32(header + BATMAP_VERSION_FIELD, VHD_BATMAP_VERSION);
	smd_store_be32(header + BATMAP_CHECKSUM,
		       map_checksum(map, (size_t)n_sectors * VHD_SECTOR, VHD_BATMAP_VERSION));
}

static const char *
header_check(const struct vhd_batmap *b, const struct vhd_header *h, uint64_t end)
{
	uint32_t size = smd_load_be32(b->header + BATMAP_SIZE);

	if (memcmp(b->header, VHD_BATMAP_COOKIE, 8) != 0)
		return "no batmap where the creator would have one";
	if (b->version != VHD_BATMAP_VERSION && b->version != VHD_BATMAP_VERSION_SIGNED)
		return "the batmap has an unknown version";
	if (b->map_offset % VHD_SECTOR || b->map_offset < b->header_offset + VHD_SECTOR ||
	    !smd_range_ok(b->map_offset, (uint64_t)b->n_sectors * VHD_SECTOR, end))
		return "the batmap is outside the file";
	if (size < b->n_sectors || size < vhd_batmap_room(h->n_entries))
		return "the batmap has too few sectors";
	return NULL;
}

int
vhd_batmap_read(struct smd_io *io, const struct vhd_footer *f, const struct vhd_header *h,
		uint64_t end, struct vhd_batmap *ret, const char **ret_text, struct smd_error *err)
{
	struct vhd_batmap *b = ret;
	size_t len;

	memset(b, 0, sizeof *b);
	*ret_text = NULL;
	if (!vhd_is_tap(f) || h->block_size != VHD_BLOCK_SIZE)
		return 0;
	b->header_offset = vhd_batmap_offset(h->bat_offset, h->n_entries);
	b->n_sectors = vhd_batmap_sectors(f->current_size);
	if (!smd_range_ok(b->header_offset, VHD_SECTOR, end)) {
		*ret_text = "no batmap where the creator would have one";
		return 0;
	}
	if (vhd_pread(io, b->header, VHD_SECTOR, b->header_offset, err) < 0)
		return -1;
	b->map_offset = smd_load_be64(b->header + BATMAP_MAP_OFFSET);
	b->version = smd_load_be32(b->header + BATMAP_VERSION_FIELD);
	*ret_text = header_check(b, h, end);
	if (*ret_text)
		return 0;
	len = (size_t)b->n_sectors * VHD_SECTOR;
	b->map = malloc(len);
	b->next = malloc(len);
	if (!b->map || !b->next)
		return vhd_no_memory(io, err);
	if (vhd_pread(io, b->map, len, b->map_offset, err) < 0)
		return -1;
	memcpy(b->next, b->map, len);
	if (smd_load_be32(b->header + BATMAP_CHECKSUM) == map_checksum(b->map, len, b->version))
		b->valid = true;
	else
		*ret_text = "the checksum of the batmap is wrong";
	return 0;
}

void
vhd_batmap_done(struct vhd_batmap *b)
{
	free(b->map);
	free(b->next);
	memset(b, 0, sizeof *b);
}

uint64_t
vhd_batmap_end(const struct vhd_batmap *b)
{
	return b->map_offset + (uint64_t)smd_load_be32(b->header + BATMAP_SIZE) * VHD_SECTOR;
}

bool
vhd_batmap_test(const struct vhd_batmap *b, uint32_t block)
{
	return b->valid && block / 8 < b->n_sectors * VHD_SECTOR && vhd_bit(b->map, block);
}

static void
widen(uint32_t *lo, uint32_t *hi, uint32_t sector)
{
	if (*lo == *hi) {
		*lo = sector;
		*hi = sector + 1;
	} else if (sector < *lo) {
		*lo = sector;
	} else if (sector >= *hi) {
		*hi = sector + 1;
	}
}

void
vhd_batmap_clear(struct vhd_batmap *b, uint32_t block)
{
	if (!b->valid || block / 8 >= b->n_sectors * VHD_SECTOR)
		return;
	vhd_bits_assign(b->next, block, (uint64_t)block + 1, false);
	if (vhd_bit(b->map, block)) {
		vhd_bits_assign(b->map, block, (uint64_t)block + 1, false);
		widen(&b->clear_lo, &b->clear_hi, block / 8 / VHD_SECTOR);
	}
}

void
vhd_batmap_set(struct vhd_batmap *b, uint32_t block)
{
	if (!b->valid || block / 8 >= b->n_sectors * VHD_SECTOR || vhd_bit(b->next, block))
		return;
	vhd_bits_assign(b->next, block, (uint64_t)block + 1, true);
	widen(&b->set_lo, &b->set_hi, block / 8 / VHD_SECTOR);
}

/* Torn, the checksum is wrong and readers fall back on the bitmaps. */
static int
sectors_write(struct vhd_batmap *b, struct smd_io *io, uint32_t lo, uint32_t hi,
	      struct smd_error *err)
{
	size_t start = (size_t)lo * VHD_SECTOR, len = (size_t)(hi - lo) * VHD_SECTOR;

	smd_store_be32(b->header + BATMAP_CHECKSUM,
		       map_checksum(b->map, (size_t)b->n_sectors * VHD_SECTOR, b->version));
	if (vhd_pwrite(io, b->map + start, len, b->map_offset + start, err) < 0)
		return -1;
	return vhd_pwrite(io, b->header, VHD_SECTOR, b->header_offset, err);
}

int
vhd_batmap_write_cleared(struct vhd_batmap *b, struct smd_io *io, struct smd_error *err)
{
	if (!b->valid || b->clear_lo == b->clear_hi)
		return 0;
	if (sectors_write(b, io, b->clear_lo, b->clear_hi, err) < 0)
		return -1;
	b->clear_lo = b->clear_hi = 0;
	return 0;
}

int
vhd_batmap_write_set(struct vhd_batmap *b, struct smd_io *io, struct smd_error *err)
{
	if (!b->valid || b->set_lo == b->set_hi)
		return 0;
	memcpy(b->map, b->next, (size_t)b->n_sectors * VHD_SECTOR);
	if (sectors_write(b, io, b->set_lo, b->set_hi, err) < 0)
		return -1;
	b->set_lo = b->set_hi = 0;
	return 0;
}
