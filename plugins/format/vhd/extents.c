/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the guest's ranges lie. */
#include "plugins/format/vhd/vhd.h"

/* Merges runs on their way to the host's function. */
struct run {
	struct smd_extent extent;	/* count 0: none yet */
	smd_extent_fn *add;
	void *opaque;
};

static int
run_end(struct run *r, struct smd_error *err)
{
	struct smd_extent e = r->extent;

	r->extent.count = 0;
	return e.count ? r->add(r->opaque, &e, err) : 0;
}

static int
run_add(struct run *r, enum smd_extent_kind kind, uint64_t offset, uint64_t count,
	uint64_t host_offset, struct smd_error *err)
{
	struct smd_extent *e = &r->extent;

	if (e->count && e->kind == kind &&
	    (kind != SMD_EXTENT_DATA || e->host_offset + e->count == host_offset)) {
		e->count += count;
		return 0;
	}
	if (run_end(r, err) < 0)
		return -1;
	*e = (struct smd_extent){ kind, offset, count, host_offset };
	return 0;
}

/* [offset, offset + count) of an allocated block; offset within the disk. */
static int
block_extents(struct vhd *v, struct run *r, uint32_t block, uint64_t offset, uint64_t count,
	      enum smd_extent_kind hole, struct smd_error *err)
{
	uint64_t base = (uint64_t)block * v->header.block_size;
	uint64_t host = vhd_data_offset(v, v->bat[block]) - base;
	uint64_t i = (offset - base) / VHD_SECTOR, end = i + count / VHD_SECTOR;
	struct vhd_bitmap *m;

	if (v->trust_batmap && vhd_batmap_test(&v->batmap, block))
		return run_add(r, SMD_EXTENT_DATA, offset, count, host + offset, err);
	if (vhd_bitmap_get(v, block, v->bat[block], false, &m, err) < 0)
		return -1;
	while (i < end) {
		bool here = vhd_bit(m->bits, i);
		uint64_t stop = vhd_bits_run(m->bits, i, end, here);
		uint64_t at = base + i * VHD_SECTOR;

		if (run_add(r, here ? SMD_EXTENT_DATA : hole, at, (stop - i) * VHD_SECTOR,
			    here ? host + at : 0, err) < 0)
			return -1;
		i = stop;
	}
	return 0;
}

int
vhd_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
	    struct smd_error *err)
{
	struct vhd *v = img;
	struct run r = { .add = add, .opaque = opaque };
	enum smd_extent_kind hole = v->footer.type == VHD_TYPE_DIFFERENCING ? SMD_EXTENT_PARENT
									    : SMD_EXTENT_ZERO;

	if (vhd_is_fixed(v)) {
		struct smd_extent e = { SMD_EXTENT_DATA, offset, count, offset };

		return count ? add(opaque, &e, err) : 0;
	}
	while (count > 0) {
		uint32_t block = (uint32_t)(offset / v->header.block_size);
		uint64_t n = smd_min_u64(count, v->header.block_size -
						offset % v->header.block_size);
		int ret = v->bat[block] == VHD_BAT_UNUSED
				  ? run_add(&r, hole, offset, n, 0, err)
				  : block_extents(v, &r, block, offset, n, hole, err);

		if (ret < 0)
			return -1;
		offset += n;
		count -= n;
	}
	return run_end(&r, err);
}
