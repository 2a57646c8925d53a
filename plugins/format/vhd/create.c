/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * New images. All have room between header and BAT: 1536 for parent locators,
 * 4096 on for what others may embed; the BAT is at 16384, the batmap behind it,
 * and the first block where its data lies on a page.
 */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

#define MIB (UINT64_C(1) << 20)
#define OS_WINDOWS 0x5769326bu		/* "Wi2k" */

const struct smd_option vhd_options[] = {
	{ "subformat", SMD_OPTION_ENUM, "dynamic", "dynamic|fixed",
	  "dynamic grows with its data, fixed has all its space from the start" },
	{ "creator", SMD_OPTION_ENUM, "tap", "tap|win",
	  "whose dialect: XenServer's, or Microsoft's; with fixed, win is what Azure takes" },
	{ .name = NULL },
};

static const char *
option(const struct smd_create *params, const char *name, const char *dflt)
{
	for (size_t i = 0; i < params->n_options; i++)
		if (strcmp(params->option_names[i], name) == 0)
			return params->option_values[i];
	return dflt;
}

static int
size_check(const struct smd_create *params, bool azure, const char *name, struct smd_error *err)
{
	uint64_t size = params->virtual_size;

	if (size > VHD_MAX_SIZE)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, name,
				"%" PRIu64 " bytes are over VHD's limit of %" PRIu64
				" (2040 GiB): another format holds it", size, VHD_MAX_SIZE);
	if (size == 0)
		return smd_fail(err, SMD_REASON_BAD_SIZE, name,
				"an empty disk can be no VHD: the least is %u bytes", VHD_SECTOR);
	if (size % VHD_SECTOR)
		return smd_fail(err, SMD_REASON_BAD_SIZE, name,
				"a VHD's size is a multiple of 512, not %" PRIu64 ": round it up", size);
	if (azure && size % MIB)
		return smd_fail(err, SMD_REASON_BAD_SIZE, name,
				"subformat=fixed,creator=win needs whole MiB, not %" PRIu64, size);
	return 0;
}

static void
footer_make(const struct smd_create *params, bool tap, uint32_t type, struct vhd_footer *ret)
{
	*ret = (struct vhd_footer){
		.features = 2,
		.version = 0x00010000,
		.data_offset = type == VHD_TYPE_FIXED ? VHD_NO_OFFSET : VHD_OWN_HEADER_OFFSET,
		.timestamp = params->timestamp_unix - (uint32_t)VHD_EPOCH_UNIX,
		.creator_app = tap ? VHD_APP_TAP : VHD_APP_WIN,
		.creator_version = tap ? VHD_TAP_VERSION_1_3 : 0x000a0000,
		.creator_os = tap ? 0 : OS_WINDOWS,
		.original_size = params->virtual_size,
		.current_size = params->virtual_size,
		.geometry = vhd_geometry_of(params->virtual_size),
		.type = type,
	};
	memcpy(ret->uuid, params->uuid, 16);
	vhd_footer_seal(ret);
}

static int
header_make(const struct smd_create *params, const struct smd_io *io, struct vhd_layout *l,
	    struct smd_error *err)
{
	l->header = (struct vhd_header){
		.data_offset = VHD_NO_OFFSET,
		.bat_offset = VHD_OWN_BAT_OFFSET,
		.version = 0x00010000,
		.n_entries = l->n_entries,
		.block_size = VHD_BLOCK_SIZE,
	};
	if (params->parent_name) {
		if (vhd_parent_text(params->parent_name, io, &l->parent, err) < 0)
			return -1;
		l->header.parent_timestamp = params->timestamp_unix - (uint32_t)VHD_EPOCH_UNIX;
		vhd_parent_put(&l->header, &l->parent, params->parent_uuid,
			       VHD_OWN_LOCATORS_OFFSET);
	}
	vhd_header_seal(&l->header);
	return 0;
}

int
vhd_layout(const struct smd_create *params, const struct smd_io *io, struct vhd_layout *ret,
	   struct smd_error *err)
{
	bool tap = strcmp(option(params, "creator", "tap"), "tap") == 0;
	bool fixed = strcmp(option(params, "subformat", "dynamic"), "fixed") == 0;
	const char *name = io ? io->name : "vhd";
	struct vhd_layout *l = ret;

	memset(l, 0, sizeof *l);
	if (size_check(params, fixed && !tap, name, err) < 0)
		return -1;
	if (fixed && params->parent_name)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, name,
				"a fixed VHD can have no parent: subformat=dynamic");
	l->subformat = fixed ? VHD_FIXED : VHD_DYNAMIC;
	footer_make(params, tap, fixed ? VHD_TYPE_FIXED :
		    params->parent_name ? VHD_TYPE_DIFFERENCING : VHD_TYPE_DYNAMIC, &l->footer);
	if (fixed)
		return 0;
	l->batmap = tap;
	l->n_entries = (uint32_t)smd_div_round_up_u64(params->virtual_size, VHD_BLOCK_SIZE);
	l->batmap_offset = vhd_batmap_offset(VHD_OWN_BAT_OFFSET, l->n_entries);
	l->bat_size = l->batmap_offset - VHD_OWN_BAT_OFFSET;
	l->meta_end = l->batmap_offset;
	if (l->batmap)
		l->meta_end += VHD_SECTOR + (uint64_t)vhd_batmap_room(l->n_entries) * VHD_SECTOR;
	return header_make(params, io, l, err);
}

void
vhd_layout_fill(const struct vhd_layout *l, const uint8_t *bat, const uint8_t *map, uint8_t *buf)
{
	uint64_t map_offset = l->batmap_offset + VHD_SECTOR;

	memset(buf, 0, l->meta_end);
	memcpy(buf, l->footer.raw, VHD_FOOTER_SIZE);
	memcpy(buf + VHD_OWN_HEADER_OFFSET, l->header.raw, VHD_HEADER_SIZE);
	if (l->footer.type == VHD_TYPE_DIFFERENCING) {
		memcpy(buf + VHD_OWN_LOCATORS_OFFSET, l->parent.macx, VHD_SECTOR);
		memcpy(buf + VHD_OWN_LOCATORS_OFFSET + VHD_SECTOR, l->parent.w2ku, VHD_SECTOR);
		memcpy(buf + VHD_OWN_LOCATORS_OFFSET + 2 * VHD_SECTOR, l->parent.w2ru, VHD_SECTOR);
	}
	if (bat)
		memcpy(buf + VHD_OWN_BAT_OFFSET, bat, (size_t)l->n_entries * 4);
	else
		memset(buf + VHD_OWN_BAT_OFFSET, 0xff, (size_t)l->n_entries * 4);
	if (!l->batmap)
		return;
	if (map)
		memcpy(buf + map_offset, map,
		       (size_t)vhd_batmap_sectors(l->footer.current_size) * VHD_SECTOR);
	vhd_batmap_header_make(buf + l->batmap_offset, map_offset, l->n_entries, buf + map_offset,
			       vhd_batmap_sectors(l->footer.current_size));
}

/* Make the store hold data and a footer; *ret_tail: the footer's offset. */
static int
store_size(struct smd_io *io, uint64_t data_end, uint64_t *ret_tail, struct smd_error *err)
{
	if (io->flags & SMD_IO_CAN_GROW) {
		*ret_tail = data_end;
		return io->ops->truncate(io, data_end + VHD_FOOTER_SIZE, err);
	}
	if (io->size < data_end + VHD_FOOTER_SIZE)
		return smd_fail(err, SMD_REASON_IO, io->name,
				"the store has %" PRIu64 " bytes, the image needs %" PRIu64 ": make the "
				"store larger",
				io->size, data_end + VHD_FOOTER_SIZE);
	*ret_tail = io->size / VHD_SECTOR * VHD_SECTOR - VHD_FOOTER_SIZE;
	return 0;
}

int
vhd_create(struct smd_io *io, const struct smd_create *params, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *meta = NULL;
	struct vhd_layout l;
	uint64_t tail;

	if (vhd_layout(params, io, &l, err) < 0)
		return -1;
	if (l.subformat == VHD_FIXED) {
		if (store_size(io, params->virtual_size, &tail, err) < 0)
			return -1;
		if (!(io->flags & SMD_IO_CAN_GROW) &&
		    io->ops->zero(io, 0, params->virtual_size, err) < 0)
			return -1;
		return vhd_pwrite(io, l.footer.raw, VHD_FOOTER_SIZE, tail, err);
	}
	meta = malloc(l.meta_end);
	if (!meta)
		return vhd_no_memory(io, err);
	vhd_layout_fill(&l, NULL, NULL, meta);
	if (store_size(io, l.meta_end, &tail, err) < 0 ||
	    vhd_pwrite(io, meta, l.meta_end, 0, err) < 0)
		return -1;
	return vhd_pwrite(io, l.footer.raw, VHD_FOOTER_SIZE, tail, err);
}

int
vhd_measure(const struct smd_create *params, uint64_t data_size, uint64_t n_extents,
	    struct smd_measure *ret, struct smd_error *err)
{
	uint64_t each = VHD_BLOCK_SIZE + VHD_PAGE, blocks, fixed_part;
	struct vhd_layout l;

	if (vhd_layout(params, NULL, &l, err) < 0)
		return -1;
	if (l.subformat == VHD_FIXED) {
		ret->required = ret->fully_allocated = params->virtual_size + VHD_FOOTER_SIZE;
		return 0;
	}
	/* A run touches up to two blocks more than it fills. */
	blocks = l.n_entries;
	if (n_extents < blocks)
		blocks = smd_min_u64(blocks, data_size / VHD_BLOCK_SIZE + 2 * n_extents);
	fixed_part = l.meta_end + VHD_PAGE + VHD_FOOTER_SIZE;
	ret->required = fixed_part + blocks * each;
	ret->fully_allocated = fixed_part + l.n_entries * each;
	return 0;
}

int
vhd_usage(const struct smd_create *params, struct smd_usage *ret, struct smd_error *err)
{
	(void)err;
	*ret = (struct smd_usage){
		.write_unit = VHD_SECTOR, .alloc_unit = VHD_BLOCK_SIZE,
		.zero_takes_unit = params->parent_name != NULL,
	};
	return 0;
}

/* Whole pages: the tables up to the first block's data, its bitmap among them; the data
 * that is not zero; the other blocks' bitmaps, each in a page before its data; the
 * footer, behind the last. */
int
vhd_taken(const struct smd_create *params, const struct smd_usage *usage, struct smd_taken *ret,
	  struct smd_error *err)
{
	struct vhd_layout l;
	uint64_t first;

	if (vhd_layout(params, NULL, &l, err) < 0)
		return -1;
	if (l.subformat == VHD_FIXED) {
		ret->size = params->virtual_size + VHD_FOOTER_SIZE;
		ret->allocated = usage->pages * SMD_PAGE + VHD_PAGE;
		return 0;
	}
	if (usage->units == 0) {
		ret->size = l.meta_end + VHD_FOOTER_SIZE;
		ret->allocated = smd_div_round_up_u64(ret->size, SMD_PAGE) * SMD_PAGE;
		return 0;
	}
	first = smd_div_round_up_u64(l.meta_end + VHD_SECTOR, VHD_PAGE) * VHD_PAGE;
	ret->size = first + usage->units * (VHD_BLOCK_SIZE + VHD_PAGE) - VHD_PAGE + VHD_FOOTER_SIZE;
	ret->allocated = first + (usage->units - 1) * VHD_PAGE + usage->pages * SMD_PAGE + VHD_PAGE;
	return 0;
}
