/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

uint64_t
vhd_meta_end(const struct vhd *v)
{
	struct vhd_area areas[VHD_AREAS_MAX];
	unsigned n = vhd_metadata_areas(&v->footer, &v->header, areas);
	uint64_t end = 0;

	for (unsigned i = 0; i < n; i++)
		end = smd_max_u64(end, areas[i].end);
	if (v->batmap.valid)
		end = smd_max_u64(end, vhd_batmap_end(&v->batmap));
	return (end + VHD_SECTOR - 1) / VHD_SECTOR * VHD_SECTOR;
}

/* Where the header is, and the header. */
static int
header_load(struct vhd *v, uint64_t end, struct vhd_fault *fault, struct smd_error *err)
{
	uint64_t offset = v->footer.data_offset;
	uint8_t raw[VHD_HEADER_SIZE];
	int ret;

	if (offset % VHD_SECTOR || offset < VHD_FOOTER_SIZE)
		return vhd_fault(fault, SMD_REASON_TABLE_MISALIGNED,
				 "the dynamic disk header cannot be at %" PRIu64, offset);
	if (!smd_range_ok(offset, VHD_HEADER_SIZE, end))
		return vhd_fault(fault, SMD_REASON_TABLE_BOUNDS,
				 "the dynamic disk header at %" PRIu64 " passes the end, %" PRIu64,
				 offset, end);
	if (vhd_meta_pread(v->io, &v->journal, raw, sizeof raw, offset, err) < 0)
		return -1;
	ret = vhd_header_parse(raw, &v->header, fault);
	return ret ? ret : vhd_header_check(&v->header, &v->footer, end, fault);
}

static bool
blocks_aligned(const struct vhd *v)
{
	for (uint32_t i = 0; i < v->n_blocks; i++)
		if (v->bat[i] != VHD_BAT_UNUSED && vhd_data_offset(v, v->bat[i]) % VHD_PAGE)
			return false;
	return true;
}

static int
blocks_load(struct vhd *v, uint64_t end, struct vhd_fault *fault, struct smd_error *err)
{
	struct vhd_area areas[VHD_AREAS_MAX];
	unsigned n_areas = vhd_metadata_areas(&v->footer, &v->header, areas);
	int ret;

	v->bitmap_size = vhd_bitmap_size(v->header.block_size);
	v->n_blocks = (uint32_t)smd_div_round_up_u64(v->footer.current_size, v->header.block_size);
	if (vhd_bat_read(v->io, &v->journal, v->header.bat_offset, v->n_blocks, &v->bat, err) < 0)
		return -1;
	ret = vhd_bat_check(v->bat, v->n_blocks, v->header.block_size, areas, n_areas, end,
			    &v->data_end, fault);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < v->n_blocks; i++)
		v->n_allocated += v->bat[i] != VHD_BAT_UNUSED;
	v->aligned = blocks_aligned(v);
	return 0;
}

/* A batmap that lies over a block, or that a journal moves, is none. */
static int
batmap_load(struct vhd *v, uint64_t end, const char **ret_text, struct smd_error *err)
{
	uint64_t batmap_end;

	if (v->journal.size != 0) {
		*ret_text = "the batmap is not there before the journal is carried out";
		return 0;
	}
	if (vhd_batmap_read(v->io, &v->footer, &v->header, end, &v->batmap, ret_text, err) < 0)
		return -1;
	if (!v->batmap.valid)
		return 0;
	batmap_end = v->batmap.map_offset + (uint64_t)v->batmap.n_sectors * VHD_SECTOR;
	for (uint32_t i = 0; i < v->n_blocks; i++) {
		uint64_t start = (uint64_t)v->bat[i] * VHD_SECTOR;

		if (v->bat[i] != VHD_BAT_UNUSED && start < batmap_end &&
		    v->batmap.header_offset < start + vhd_block_file_size(v)) {
			*ret_text = "the batmap lies over a block";
			v->batmap.valid = false;
			return 0;
		}
	}
	return 0;
}

static int
footer_load(struct vhd *v, struct vhd_footers *f, struct vhd_fault *fault, struct smd_error *err)
{
	bool tail_fixed = f->tail_state == -1 && f->tail.type == VHD_TYPE_FIXED;
	int ret = 0;

	if (f->head_state == -1 && f->head.type != VHD_TYPE_FIXED && !tail_fixed)
		ret = vhd_journal_read(v->io, &f->head, &v->journal, fault, err);
	if (ret)
		return ret;
	if (v->journal.size != 0) {
		v->footer = v->journal.footer;
		v->degraded = true;
		/* What is moved out of the way lies before the journal. */
		f->end = v->journal.offset;
	} else {
		ret = vhd_footers_choose(f, v->io->size, &v->footer, &v->degraded, fault);
		if (ret)
			return ret;
	}
	v->tail_offset = f->tail_offset;
	return vhd_footer_check(&v->footer, f->end, fault);
}

int
vhd_load(struct vhd *v, struct vhd_footers *ret_footers, const char **ret_batmap,
	 struct vhd_fault *fault, struct smd_error *err)
{
	struct vhd_footers *f = ret_footers;
	int ret;

	*ret_batmap = NULL;
	if (vhd_footers_read(v->io, f, err) < 0)
		return -1;
	ret = footer_load(v, f, fault, err);
	if (ret || vhd_is_fixed(v))
		return ret;
	ret = header_load(v, f->end, fault, err);
	if (ret == 0)
		ret = blocks_load(v, f->end, fault, err);
	if (ret == 0 && v->footer.type == VHD_TYPE_DIFFERENCING)
		ret = vhd_parent_name_read(v->io, &v->journal, &v->header, v->parent_name, err);
	if (ret == 0 && !v->look)
		ret = batmap_load(v, f->end, ret_batmap, err);
	if (ret == 0) {
		v->meta_end = vhd_meta_end(v);
		v->data_end = smd_max_u64(v->data_end, v->meta_end);
	}
	return ret;
}

void
vhd_unload(struct vhd *v)
{
	vhd_bitmaps_done(&v->bitmaps);
	vhd_batmap_done(&v->batmap);
	vhd_journal_done(&v->journal);
	free(v->bat);
	free(v->bat_dirty);
	free(v->ones);
	free(v->pending);
	free(v->spare);
}

static int
caches_init(struct vhd *v, struct smd_error *err)
{
	v->bat_dirty = calloc(1, v->n_blocks / 1024 + 1);
	v->ones = malloc(v->bitmap_size);
	if (!v->bat_dirty || !v->ones || vhd_bitmaps_init(&v->bitmaps, v->bitmap_size) < 0)
		return vhd_no_memory(v->io, err);
	memset(v->ones, 0, v->bitmap_size);
	vhd_bits_assign(v->ones, 0, v->header.block_size / VHD_SECTOR, true);
	return 0;
}

static int
write_check(const struct vhd *v, struct smd_error *err)
{
	if (!(v->io->flags & SMD_IO_WRITABLE))
		return smd_fail(err, SMD_REASON_IO, v->io->name,
				"the file is open for reading only: open it for writing");
	if (v->degraded)
		return smd_fail(err, SMD_REASON_NEEDS_REPAIR, v->io->name,
				"a copy of the footer is damaged or a journal was not carried "
				"out: repair before writing");
	if (!vhd_is_fixed(v) && v->header.block_size != VHD_BLOCK_SIZE)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, v->io->name,
				"blocks of %" PRIu32 " bytes are read only; writing needs 2 MiB: converted to "
				"VHD again it has them",
				v->header.block_size);
	return 0;
}

static int
image_open(struct vhd *v, uint32_t flags, struct smd_error *err)
{
	struct vhd_footers footers;
	struct vhd_fault fault;
	const char *batmap;
	int ret;

	v->look = flags & SMD_OPEN_LOOK;
	ret = vhd_load(v, &footers, &batmap, &fault, err);
	if (ret)
		return vhd_fault_fail(ret, &fault, v->io, err);
	if (v->footer.type == VHD_TYPE_DIFFERENCING && v->parent_name[0] == '\0')
		return smd_fail(err, SMD_REASON_EXTERNAL_REF, v->io->name,
				"a differencing disk that names no parent: smd-img rebase -u gives it one");
	v->write = flags & SMD_OPEN_WRITE;
	v->trust_batmap = !(flags & SMD_OPEN_FOREIGN);
	if (v->write && write_check(v, err) < 0)
		return -1;
	return vhd_is_fixed(v) || v->look ? 0 : caches_init(v, err);
}

int
vhd_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	struct vhd *v = calloc(1, sizeof *v);

	if (!v)
		return vhd_no_memory(io, err);
	v->io = io;
	if (image_open(v, flags, err) < 0) {
		vhd_close(v);
		return -1;
	}
	*ret_img = v;
	return 0;
}

void
vhd_close(void *img)
{
	struct vhd *v = img;

	vhd_unload(v);
	free(v);
}
