/* SPDX-License-Identifier: BSD-2-Clause */
/* "Dynamic Disk Header Format". */
#include "plugins/format/vhd/vhd.h"

enum {
	HEADER_DATA_OFFSET = 8,
	HEADER_BAT_OFFSET = 16,
	HEADER_VERSION = 24,
	HEADER_N_ENTRIES = 28,
	HEADER_BLOCK_SIZE = 32,
	HEADER_CHECKSUM = 36,
	HEADER_PARENT_UUID = 40,
	HEADER_PARENT_TIMESTAMP = 56,
	HEADER_LOCATORS = 576,
	LOCATOR_CODE = 0,
	LOCATOR_SPACE = 4,
	LOCATOR_LENGTH = 8,
	LOCATOR_OFFSET = 16,
	LOCATOR_STEP = 24,
};

/* Sectors by the specification, bytes by everyone who writes them. */
uint64_t
vhd_locator_room(const struct vhd_locator *l)
{
	uint64_t room = l->space < VHD_SECTOR ? (uint64_t)l->space * VHD_SECTOR : l->space;

	return smd_max_u64(room, l->length);
}

static void
locator_decode(const uint8_t *p, struct vhd_locator *ret)
{
	ret->code = smd_load_be32(p + LOCATOR_CODE);
	ret->space = smd_load_be32(p + LOCATOR_SPACE);
	ret->length = smd_load_be32(p + LOCATOR_LENGTH);
	ret->offset = smd_load_be64(p + LOCATOR_OFFSET);
}

int
vhd_header_parse(const uint8_t raw[VHD_HEADER_SIZE], struct vhd_header *ret,
		 struct vhd_fault *fault)
{
	uint32_t sum = vhd_checksum(raw, VHD_HEADER_SIZE, HEADER_CHECKSUM);

	if (memcmp(raw, "cxsparse", 8) != 0)
		return vhd_fault(fault, SMD_REASON_BAD_COOKIE,
				 "no dynamic disk header \"cxsparse\" where the footer says");
	if (smd_load_be32(raw + HEADER_CHECKSUM) != sum)
		return vhd_fault(fault, SMD_REASON_BAD_CHECKSUM,
				 "the header's checksum is 0x%08" PRIx32 ", its bytes give 0x%08"
				 PRIx32, smd_load_be32(raw + HEADER_CHECKSUM), sum);
	memcpy(ret->raw, raw, VHD_HEADER_SIZE);
	ret->data_offset = smd_load_be64(raw + HEADER_DATA_OFFSET);
	ret->bat_offset = smd_load_be64(raw + HEADER_BAT_OFFSET);
	ret->version = smd_load_be32(raw + HEADER_VERSION);
	ret->n_entries = smd_load_be32(raw + HEADER_N_ENTRIES);
	ret->block_size = smd_load_be32(raw + HEADER_BLOCK_SIZE);
	ret->checksum = sum;
	memcpy(ret->parent_uuid, raw + HEADER_PARENT_UUID, 16);
	ret->parent_timestamp = smd_load_be32(raw + HEADER_PARENT_TIMESTAMP);
	for (unsigned i = 0; i < VHD_N_LOCATORS; i++)
		locator_decode(raw + HEADER_LOCATORS + i * LOCATOR_STEP, &ret->locators[i]);
	return 0;
}

/* The parent's name is put into raw by vhd_parent_put. */
void
vhd_header_seal(struct vhd_header *h)
{
	uint8_t *p = h->raw;

	memcpy(p, "cxsparse", 8);
	smd_store_be64(p + HEADER_DATA_OFFSET, h->data_offset);
	smd_store_be64(p + HEADER_BAT_OFFSET, h->bat_offset);
	smd_store_be32(p + HEADER_VERSION, h->version);
	smd_store_be32(p + HEADER_N_ENTRIES, h->n_entries);
	smd_store_be32(p + HEADER_BLOCK_SIZE, h->block_size);
	memcpy(p + HEADER_PARENT_UUID, h->parent_uuid, 16);
	smd_store_be32(p + HEADER_PARENT_TIMESTAMP, h->parent_timestamp);
	for (unsigned i = 0; i < VHD_N_LOCATORS; i++) {
		uint8_t *l = p + HEADER_LOCATORS + i * LOCATOR_STEP;

		memset(l, 0, LOCATOR_STEP);
		smd_store_be32(l + LOCATOR_CODE, h->locators[i].code);
		smd_store_be32(l + LOCATOR_SPACE, h->locators[i].space);
		smd_store_be32(l + LOCATOR_LENGTH, h->locators[i].length);
		smd_store_be64(l + LOCATOR_OFFSET, h->locators[i].offset);
	}
	h->checksum = vhd_checksum(p, VHD_HEADER_SIZE, HEADER_CHECKSUM);
	smd_store_be32(p + HEADER_CHECKSUM, h->checksum);
}

static int
fields_check(const struct vhd_header *h, const struct vhd_footer *f, struct vhd_fault *fault)
{
	uint64_t needed;

	if (h->version >> 16 != 1)
		return vhd_fault(fault, SMD_REASON_BAD_VERSION,
				 "header version 0x%08" PRIx32 ", not 1.x", h->version);
	if (!smd_is_pow2_u64(h->block_size) || h->block_size < VHD_BLOCK_SIZE_MIN ||
	    h->block_size > VHD_BLOCK_SIZE_MAX)
		return vhd_fault(fault, SMD_REASON_BAD_BLOCK_SIZE,
				 "block size %" PRIu32 " is no power of two in 512..256 MiB",
				 h->block_size);
	if ((uint64_t)h->n_entries * 4 > SMD_ALLOC_MAX ||
	    (uint64_t)h->n_entries * h->block_size > VHD_TABLE_COVER_MAX + h->block_size)
		return vhd_fault(fault, SMD_REASON_TABLE_TOO_LARGE,
				 "a BAT of %" PRIu32 " entries is for more than 2 TiB, or over %u "
				 "bytes", h->n_entries, SMD_ALLOC_MAX);
	needed = smd_div_round_up_u64(f->current_size, h->block_size);
	if (h->n_entries < needed)
		return vhd_fault(fault, SMD_REASON_L1_TOO_SMALL,
				 "the BAT has %" PRIu32 " entries, the disk needs %" PRIu64,
				 h->n_entries, needed);
	return 0;
}

static bool
areas_overlap(struct vhd_area a, struct vhd_area b)
{
	return a.start < b.end && b.start < a.end;
}

static int
locators_check(const struct vhd_header *h, const struct vhd_area *areas, uint64_t end,
	       struct vhd_fault *fault)
{
	for (unsigned i = 0; i < VHD_N_LOCATORS; i++) {
		const struct vhd_locator *l = &h->locators[i];
		struct vhd_area a = { l->offset, l->offset };

		if (l->code == 0)
			continue;
		if (l->length > VHD_LOCATOR_MAX || vhd_locator_room(l) > VHD_LOCATOR_MAX ||
		    !smd_range_ok(l->offset, vhd_locator_room(l), end))
			return vhd_fault(fault, SMD_REASON_LOCATOR_BOUNDS,
					 "parent locator %u, %" PRIu32 " bytes at %" PRIu64
					 ", passes the end or 64 KiB", i, l->length, l->offset);
		a.end += vhd_locator_room(l);
		for (unsigned k = 0; k < 3; k++)
			if (areas_overlap(a, areas[k]))
				return vhd_fault(fault, SMD_REASON_TABLE_OVERLAP,
						 "parent locator %u lies over other metadata", i);
	}
	return 0;
}

int
vhd_header_check(const struct vhd_header *h, const struct vhd_footer *f, uint64_t end,
		 struct vhd_fault *fault)
{
	struct vhd_area areas[VHD_AREAS_MAX];
	int ret = fields_check(h, f, fault);

	if (ret)
		return ret;
	if (h->bat_offset % VHD_SECTOR)
		return vhd_fault(fault, SMD_REASON_TABLE_MISALIGNED,
				 "BAT offset %" PRIu64 " is not on a sector", h->bat_offset);
	if (!smd_range_ok(h->bat_offset, (uint64_t)h->n_entries * 4, end))
		return vhd_fault(fault, SMD_REASON_TABLE_BOUNDS,
				 "%" PRIu32 " BAT entries at %" PRIu64 " pass the end, %" PRIu64,
				 h->n_entries, h->bat_offset, end);
	vhd_metadata_areas(f, h, areas);
	if (areas_overlap(areas[2], areas[0]) || areas_overlap(areas[2], areas[1]))
		return vhd_fault(fault, SMD_REASON_TABLE_OVERLAP,
				 "the BAT at %" PRIu64 " lies over the footer's copy or the header",
				 h->bat_offset);
	return f->type == VHD_TYPE_DIFFERENCING ? locators_check(h, areas, end, fault) : 0;
}

unsigned
vhd_metadata_areas(const struct vhd_footer *f, const struct vhd_header *h,
		   struct vhd_area areas[VHD_AREAS_MAX])
{
	unsigned n = 0;

	areas[n++] = (struct vhd_area){ 0, VHD_FOOTER_SIZE };
	areas[n++] = (struct vhd_area){ f->data_offset, f->data_offset + VHD_HEADER_SIZE };
	areas[n++] = (struct vhd_area){ h->bat_offset, h->bat_offset + (uint64_t)h->n_entries * 4 };
	for (unsigned i = 0; f->type == VHD_TYPE_DIFFERENCING && i < VHD_N_LOCATORS; i++)
		if (h->locators[i].code != 0)
			areas[n++] = (struct vhd_area){
				h->locators[i].offset,
				h->locators[i].offset + vhd_locator_room(&h->locators[i]),
			};
	return n;
}
