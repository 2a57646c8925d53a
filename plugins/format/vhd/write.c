/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing. A block is placed past the last one; the order is
 *
 *   data, tail footer, batmap without bits that go | BAT, bitmaps | batmap
 *
 * where | is a flush of the io. A new block's space reads as zeroes and is
 * durably so before the BAT points at it; a sector's bit follows its data.
 */
#include <stdlib.h>

#include "plugins/format/vhd/vhd.h"

struct reservation {
	uint64_t offset, count;
};

/* A part of one block. */
struct part {
	uint32_t block;
	uint64_t first, end;	/* sectors within the block */
};

static struct part
part_at(const struct vhd *v, const struct reservation *r, uint64_t at)
{
	uint64_t size = v->header.block_size, base = at - at % size;
	uint64_t end = smd_min_u64(base + size, r->offset + r->count);

	return (struct part){ (uint32_t)(at / size), (at - base) / VHD_SECTOR,
			      (end - base + VHD_SECTOR - 1) / VHD_SECTOR };
}

static uint64_t
part_end(const struct vhd *v, const struct part *p)
{
	return (uint64_t)p->block * v->header.block_size + p->end * VHD_SECTOR;
}

/* ---- Places ---- */

static struct vhd_pending *
pending_find(const struct vhd *v, uint32_t block)
{
	for (size_t i = v->n_pending; i-- > 0;)
		if (v->pending[i].block == block)
			return &v->pending[i];
	return NULL;
}

static void
pending_remove(struct vhd *v, struct vhd_pending *p)
{
	*p = v->pending[--v->n_pending];
}

/* Grow p, an array of room elements of size bytes, for one more than n. */
static bool
make_room(void **p, size_t size, size_t n, size_t *room)
{
	void *more;

	if (n < *room)
		return true;
	more = realloc(*p, (*room * 2 + 8) * size);
	if (!more)
		return false;
	*p = more;
	*room = *room * 2 + 8;
	return true;
}

/* Without memory for the list the place is leaked. */
static void
place_give_back(struct vhd *v, uint32_t bat_sector)
{
	if (make_room((void **)&v->spare, sizeof *v->spare, v->n_spare, &v->spare_room))
		v->spare[v->n_spare++] = bat_sector;
}

uint64_t
vhd_align_block(uint64_t offset, uint64_t bitmap_size)
{
	return ((offset + bitmap_size + VHD_PAGE - 1) & ~(uint64_t)(VHD_PAGE - 1)) - bitmap_size;
}

static int
grow_to(struct vhd *v, uint64_t end, struct smd_error *err)
{
	if (end <= v->tail_offset)
		return 0;
	if (!(v->io->flags & SMD_IO_CAN_GROW))
		return smd_fail(err, SMD_REASON_IO, v->io->name,
				"no room for a block that ends at %" PRIu64
				": the store ends with the footer at %" PRIu64 ": make it larger",
				end, v->tail_offset);
	/* From here to the next flush the footer's copy stands in for the tail. */
	if (v->io->ops->truncate(v->io, end + VHD_FOOTER_SIZE, err) < 0)
		return -1;
	v->tail_offset = end;
	v->footer_dirty = true;
	return 0;
}

int
vhd_block_place(struct vhd *v, uint32_t *ret_bat_sector, struct smd_error *err)
{
	uint64_t size = vhd_block_file_size(v), old_size = v->io->size, start, end;

	if (v->n_spare > 0) {
		uint32_t sector = v->spare[v->n_spare - 1];

		if (v->io->ops->zero(v->io, (uint64_t)sector * VHD_SECTOR, size, err) < 0)
			return -1;
		v->n_spare--;
		*ret_bat_sector = sector;
		return 0;
	}
	start = vhd_align_block(v->data_end, v->bitmap_size);
	end = start + size;
	if (end / VHD_SECTOR >= VHD_BAT_UNUSED)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, v->io->name,
				"a block at %" PRIu64 " is past the 2 TiB a VHD file may have: converted "
				"it takes less, or another format holds it",
				start);
	if (grow_to(v, end, err) < 0)
		return -1;
	/* What was slack, or the old footer. */
	if (start < old_size &&
	    v->io->ops->zero(v->io, start, smd_min_u64(old_size, end) - start, err) < 0)
		return -1;
	v->data_end = end;
	*ret_bat_sector = (uint32_t)(start / VHD_SECTOR);
	return 0;
}

/* ---- Reserve ---- */

static int
place_add(struct vhd *v, const struct part *p, uint64_t from, uint64_t to, uint32_t bat_sector,
	  enum smd_place_kind kind, smd_place_fn *add, void *opaque, struct smd_error *err)
{
	struct smd_place place = {
		.kind = kind,
		.offset = (uint64_t)p->block * v->header.block_size + from * VHD_SECTOR,
		.count = (to - from) * VHD_SECTOR,
		.host_offset = vhd_data_offset(v, bat_sector) + from * VHD_SECTOR,
	};

	return add(opaque, &place, err);
}

static int
reserve_existing(struct vhd *v, const struct part *p, smd_place_fn *add, void *opaque,
		 struct smd_error *err)
{
	uint32_t sector = v->bat[p->block];
	struct vhd_bitmap *m;

	if (vhd_bitmap_get(v, p->block, sector, false, &m, err) < 0)
		return -1;
	for (uint64_t i = p->first; i < p->end;) {
		bool here = vhd_bit(m->bits, i);
		uint64_t stop = vhd_bits_run(m->bits, i, p->end, here);

		/* Bit 0: other writers leave what they like in such a sector. */
		if (place_add(v, p, i, stop, sector, here ? SMD_PLACE_IN_PLACE : SMD_PLACE_FRESH,
			      add, opaque, err) < 0)
			return -1;
		i = stop;
	}
	return 0;
}

static int
pending_take(struct vhd *v, uint32_t block, uint32_t *ret_sector, struct smd_error *err)
{
	struct vhd_pending *p = pending_find(v, block);

	if (!p) {
		uint32_t sector;

		if (!make_room((void **)&v->pending, sizeof *v->pending, v->n_pending,
			       &v->pending_room))
			return vhd_no_memory(v->io, err);
		if (vhd_block_place(v, &sector, err) < 0)
			return -1;
		p = &v->pending[v->n_pending++];
		*p = (struct vhd_pending){ .block = block, .bat_sector = sector };
	}
	p->n_reservations++;
	*ret_sector = p->bat_sector;
	return 0;
}

static void
pending_drop(struct vhd *v, uint32_t block)
{
	struct vhd_pending *p = pending_find(v, block);

	if (!p || --p->n_reservations > 0)
		return;
	place_give_back(v, p->bat_sector);
	pending_remove(v, p);
}

/* Give up the part of a reservation up to end. */
static void
reservation_drop(struct vhd *v, const struct reservation *r, uint64_t at, uint64_t end)
{
	while (!vhd_is_fixed(v) && at < end) {
		struct part p = part_at(v, r, at);

		if (v->bat[p.block] == VHD_BAT_UNUSED)
			pending_drop(v, p.block);
		at = part_end(v, &p);
	}
}

static int
reserve_blocks(struct vhd *v, const struct reservation *r, smd_place_fn *add, void *opaque,
	       struct smd_error *err)
{
	for (uint64_t at = r->offset; at < r->offset + r->count;) {
		struct part p = part_at(v, r, at);
		uint64_t next = part_end(v, &p);
		uint32_t sector = 0;

		if (v->bat[p.block] != VHD_BAT_UNUSED) {
			if (reserve_existing(v, &p, add, opaque, err) == 0) {
				at = next;
				continue;
			}
			reservation_drop(v, r, r->offset, at);
			return -1;
		}
		if (pending_take(v, p.block, &sector, err) < 0) {
			reservation_drop(v, r, r->offset, at);
			return -1;
		}
		at = next;
		if (place_add(v, &p, p.first, p.end, sector, SMD_PLACE_FRESH_ZEROED, add, opaque,
			      err) < 0) {
			reservation_drop(v, r, r->offset, at);
			return -1;
		}
	}
	return 0;
}

int
vhd_reserve(void *img, uint64_t offset, uint64_t count, smd_place_fn *add, void *opaque,
	    void **ret_res, struct smd_error *err)
{
	struct smd_place in_place = { SMD_PLACE_IN_PLACE, offset, count, offset };
	struct reservation *r;
	struct vhd *v = img;
	int ret;

	if (vhd_write_begin(v, err) < 0)
		return -1;
	r = malloc(sizeof *r);
	if (!r)
		return vhd_no_memory(v->io, err);
	*r = (struct reservation){ offset, count };
	ret = vhd_is_fixed(v) ? add(opaque, &in_place, err)
			      : reserve_blocks(v, r, add, opaque, err);
	if (ret < 0) {
		free(r);
		return -1;
	}
	*ret_res = r;
	return 0;
}

void
vhd_abandon(void *img, void *res)
{
	struct reservation *r = res;

	reservation_drop(img, r, r->offset, r->offset + r->count);
	free(r);
}

/* ---- Commit ---- */

/* Before another bitmap gets dirty: there is always a clean half to evict. */
static int
bitmaps_make_room(struct vhd *v, struct smd_error *err)
{
	return v->bitmaps.n_dirty >= v->bitmaps.n_slots / 2 ? vhd_flush(v, err) : 0;
}

static void
bitmap_dirty(struct vhd *v, struct vhd_bitmap *m)
{
	v->bitmaps.n_dirty += !m->dirty;
	m->dirty = true;
}

static int
commit_bits(struct vhd *v, const struct part *p, uint32_t sector, bool fresh,
	    struct smd_error *err)
{
	struct vhd_bitmap *m;

	if (bitmaps_make_room(v, err) < 0 ||
	    vhd_bitmap_get(v, p->block, sector, fresh, &m, err) < 0)
		return -1;
	if (vhd_bits_run(m->bits, p->first, p->end, true) == p->end)
		return 0;
	vhd_bits_assign(m->bits, p->first, p->end, true);
	bitmap_dirty(v, m);
	return 0;
}

/* A whole new block's bitmap goes out at once: nothing points at it yet, and
 * its data is zeroes where it is not what was written. */
static int
commit_new(struct vhd *v, const struct part *p, struct vhd_pending *pending,
	   struct smd_error *err)
{
	uint32_t sector = pending->bat_sector;

	if (p->first == 0 && p->end == v->header.block_size / VHD_SECTOR) {
		if (vhd_pwrite(v->io, v->ones, v->bitmap_size, (uint64_t)sector * VHD_SECTOR,
			       err) < 0)
			return -1;
		vhd_batmap_set(&v->batmap, p->block);
	} else if (commit_bits(v, p, sector, true, err) < 0) {
		return -1;
	}
	pending_remove(v, pending);
	vhd_bat_set(v, p->block, sector);
	v->n_allocated++;
	return 0;
}

int
vhd_commit(void *img, void *res, struct smd_error *err)
{
	CLEANUP_FREE struct reservation *r = res;
	struct vhd *v = img;

	for (uint64_t at = r->offset; !vhd_is_fixed(v) && at < r->offset + r->count;) {
		struct part p = part_at(v, r, at);
		struct vhd_pending *pending = v->bat[p.block] == VHD_BAT_UNUSED
						      ? pending_find(v, p.block) : NULL;
		int ret = pending ? commit_new(v, &p, pending, err)
				  : commit_bits(v, &p, v->bat[p.block], false, err);

		if (ret < 0) {
			reservation_drop(v, r, at, r->offset + r->count);
			return -1;
		}
		at = part_end(v, &p);
	}
	return 0;
}

/* ---- Zero ---- */

/* A smaller hole costs more than the bytes do: ext4 puts what lies around it on the disk first,
 * meanwhile nobody may write to the file, and the image lies in more pieces from then on. */
#define HOLE_MIN 65536u

static int
zero_data(struct vhd *v, uint64_t offset, uint64_t count, struct smd_error *err)
{
	static const uint8_t zeroes[HOLE_MIN];

	return count < HOLE_MIN ? vhd_pwrite(v->io, zeroes, count, offset, err)
				: v->io->ops->zero(v->io, offset, count, err);
}

/* The data is zeroed first: whether the bits then go or stay, it reads so. Other
 * readers that ignore bitmaps see zeroes too. */
static int
zero_part(struct vhd *v, const struct part *p, struct smd_error *err)
{
	uint64_t host = vhd_data_offset(v, v->bat[p->block]);
	struct vhd_bitmap *m;
	bool any = false;

	if (bitmaps_make_room(v, err) < 0 ||
	    vhd_bitmap_get(v, p->block, v->bat[p->block], false, &m, err) < 0)
		return -1;
	for (uint64_t i = p->first; i < p->end;) {
		bool here = vhd_bit(m->bits, i);
		uint64_t stop = vhd_bits_run(m->bits, i, p->end, here);

		if (here && zero_data(v, host + i * VHD_SECTOR, (stop - i) * VHD_SECTOR, err) < 0)
			return -1;
		any = any || here;
		i = stop;
	}
	if (!any)
		return 0;
	vhd_bits_assign(m->bits, p->first, p->end, false);
	bitmap_dirty(v, m);
	vhd_batmap_clear(&v->batmap, p->block);
	return 0;
}

int
vhd_zero(void *img, uint64_t offset, uint64_t count, uint32_t flags, struct smd_error *err)
{
	struct reservation range = { offset, count };
	struct vhd *v = img;

	(void)flags;
	if (vhd_write_begin(v, err) < 0)
		return -1;
	if (vhd_is_fixed(v))
		return v->io->ops->zero(v->io, offset, count, err);
	/* A cleared bit would show the parent: zeroes have to be written. */
	if (v->footer.type == VHD_TYPE_DIFFERENCING)
		return 1;
	for (uint64_t at = offset; at < offset + count;) {
		struct part p = part_at(v, &range, at);

		if (v->bat[p.block] != VHD_BAT_UNUSED && zero_part(v, &p, err) < 0)
			return -1;
		at = part_end(v, &p);
	}
	return 0;
}

/* ---- Flush ---- */

int
vhd_write_begin(const struct vhd *v, struct smd_error *err)
{
	if (!v->write)
		return smd_fail(err, SMD_REASON_IO, v->io->name,
				"the image is open for reading only: open it for writing");
	if (v->failed)
		return smd_fail(err, SMD_REASON_IO, v->io->name,
				"an earlier flush or change of metadata failed: reopen and "
				"check the image");
	return 0;
}

int
vhd_flush_io(struct vhd *v, struct smd_error *err)
{
	if (vhd_io_flush(v->io, err) == 0)
		return 0;
	v->failed = true;
	return -1;
}

int
vhd_flush(void *img, struct smd_error *err)
{
	struct vhd *v = img;

	if (!v->write)
		return 0;
	if (vhd_write_begin(v, err) < 0)
		return -1;
	if (v->footer_dirty) {
		if (vhd_pwrite(v->io, v->footer.raw, VHD_FOOTER_SIZE, v->tail_offset, err) < 0)
			return -1;
		v->footer_dirty = false;
	}
	if (vhd_batmap_write_cleared(&v->batmap, v->io, err) < 0 || vhd_flush_io(v, err) < 0)
		return -1;
	if (!v->any_bat_dirty && v->bitmaps.n_dirty == 0)
		return 0;
	if (vhd_bitmaps_write(v, err) < 0 || vhd_bat_write(v, err) < 0 ||
	    vhd_flush_io(v, err) < 0)
		return -1;
	return vhd_batmap_write_set(&v->batmap, v->io, err);
}
