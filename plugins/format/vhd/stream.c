/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An image written from front to back: footer, header, BAT, blocks in the order
 * of the disk with bitmaps all ones, footer. Readers of streams (XenServer's)
 * sort the BAT and skip gaps; nothing lies between the blocks.
 */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

struct stream {
	struct vhd_layout layout;
	const struct smd_extent *data;
	size_t n_data;
	smd_piece_fn *emit;
	void *opaque;
};

static int
emit_bytes(const struct stream *s, const void *bytes, uint64_t count, struct smd_error *err)
{
	struct smd_piece p = { .kind = SMD_PIECE_BYTES, .bytes = bytes, .count = count };

	return s->emit(s->opaque, &p, err);
}

static int
emit_range(const struct stream *s, enum smd_piece_kind kind, uint64_t offset, uint64_t count,
	   struct smd_error *err)
{
	struct smd_piece p = { .kind = kind, .count = count, .guest_offset = offset };

	return count ? s->emit(s->opaque, &p, err) : 0;
}

static int
fixed_stream(const struct stream *s, uint64_t size, struct smd_error *err)
{
	uint64_t at = 0;

	for (size_t i = 0; i < s->n_data; i++) {
		const struct smd_extent *e = &s->data[i];

		if (emit_range(s, SMD_PIECE_ZERO, at, e->offset - at, err) < 0 ||
		    emit_range(s, SMD_PIECE_GUEST, e->offset, e->count, err) < 0)
			return -1;
		at = e->offset + e->count;
	}
	if (emit_range(s, SMD_PIECE_ZERO, at, size - at, err) < 0)
		return -1;
	return emit_bytes(s, s->layout.footer.raw, VHD_FOOTER_SIZE, err);
}

/* The data as ascending, disjoint ranges of the disk. */
static int
data_check(const struct stream *s, uint64_t size, struct smd_error *err)
{
	uint64_t before = 0;

	for (size_t i = 0; i < s->n_data; i++) {
		const struct smd_extent *e = &s->data[i];

		if (e->offset < before || !smd_range_ok(e->offset, e->count, size))
			return smd_fail(err, SMD_REASON_IO, "vhd",
					"extent %zu of the stream is out of order or past the end", i);
		before = e->offset + e->count;
	}
	return 0;
}

/* Set the bit of each block that holds data. */
static void
blocks_mark(const struct stream *s, uint8_t *used)
{
	for (size_t i = 0; i < s->n_data; i++) {
		const struct smd_extent *e = &s->data[i];
		uint64_t first = e->offset / VHD_BLOCK_SIZE;
		uint64_t end = smd_div_round_up_u64(e->offset + e->count, VHD_BLOCK_SIZE);

		if (e->count)
			vhd_bits_assign(used, first, end, true);
	}
}

static int
metadata_stream(const struct stream *s, const uint8_t *used, struct smd_error *err)
{
	const struct vhd_layout *l = &s->layout;
	uint64_t step = vhd_bitmap_size(VHD_BLOCK_SIZE) + VHD_BLOCK_SIZE, at = l->meta_end;
	CLEANUP_FREE uint8_t *bat = malloc((size_t)l->n_entries * 4);
	CLEANUP_FREE uint8_t *meta = malloc(l->meta_end);

	if (!bat || !meta)
		return vhd_no_memory(NULL, err);
	for (uint32_t b = 0; b < l->n_entries; b++) {
		bool here = vhd_bit(used, b);

		smd_store_be32(bat + (size_t)b * 4, here ? (uint32_t)(at / VHD_SECTOR)
							 : VHD_BAT_UNUSED);
		at += here ? step : 0;
	}
	vhd_layout_fill(l, bat, used, meta);
	return emit_bytes(s, meta, l->meta_end, err);
}

static int
blocks_stream(const struct stream *s, const uint8_t *used, struct smd_error *err)
{
	uint8_t ones[VHD_SECTOR];

	memset(ones, 0xff, sizeof ones);
	for (uint32_t b = 0; b < s->layout.n_entries; b++) {
		if (!vhd_bit(used, b))
			continue;
		if (emit_bytes(s, ones, sizeof ones, err) < 0 ||
		    emit_range(s, SMD_PIECE_GUEST, b * VHD_BLOCK_SIZE, VHD_BLOCK_SIZE, err) < 0)
			return -1;
	}
	return emit_bytes(s, s->layout.footer.raw, VHD_FOOTER_SIZE, err);
}

int
vhd_stream(const struct smd_create *params, const struct smd_extent *data, size_t n_data,
	   smd_piece_fn *emit, void *opaque, struct smd_error *err)
{
	struct stream s = { .data = data, .n_data = n_data, .emit = emit, .opaque = opaque };
	CLEANUP_FREE uint8_t *used = NULL;

	if (vhd_layout(params, NULL, &s.layout, err) < 0 ||
	    data_check(&s, params->virtual_size, err) < 0)
		return -1;
	if (s.layout.subformat == VHD_FIXED)
		return fixed_stream(&s, params->virtual_size, err);
	/* Sectors of map, as the batmap is made of it. */
	used = calloc(vhd_batmap_room(s.layout.n_entries), VHD_SECTOR);
	if (!used)
		return vhd_no_memory(NULL, err);
	blocks_mark(&s, used);
	if (metadata_stream(&s, used, err) < 0)
		return -1;
	return blocks_stream(&s, used, err);
}
