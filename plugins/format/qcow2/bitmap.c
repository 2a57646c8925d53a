/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Persistent bitmaps ("Bitmaps extension", "Bitmap directory", "Bitmap table").
 * We keep none up to date, so they are only checked, and switched off by the
 * first write (qcow2_write_begin).
 */
#include <inttypes.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

struct walk {
	struct qcow2_image *img;
	qcow2_range_fn *range;
	void *opaque;
	struct qcow2_fault *fault;
	uint64_t dir_offset, dir_size;
	uint64_t *name_hashes;
	uint32_t n_names;
};

static int
bad(struct walk *w, const char *what, uint64_t value)
{
	qcow2_fault(w->fault, SMD_REASON_BITMAP_DIR, "bitmaps: %s (%" PRIu64 ")", what, value);
	return 1;
}

/* FNV-1a: equal names have equal hashes, and that is all that is asked. */
static uint64_t
name_hash(const uint8_t *name, size_t size)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ name[i]) * 0x100000001b3ull;
	return hash;
}

static int
compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int
walk_table_entry(struct walk *w, uint64_t entry, struct smd_error *err)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK, size = w->img->g.cluster_size;

	if ((entry & QCOW2_BITMAP_ENTRY_RESERVED) || (offset != 0 && (entry & 1)))
		return bad(w, "reserved bits in a table entry", entry);
	if (offset == 0)
		return 0;
	if (offset % size != 0 || !smd_range_ok(offset, size, w->img->io->size))
		return bad(w, "data misaligned or outside the file", offset);
	return w->range(w->opaque, offset, size, err);
}

static int
walk_table(struct walk *w, uint64_t offset, uint32_t n, struct smd_error *err)
{
	struct smd_io *io = w->img->io;
	uint8_t buf[4096];
	int r = 0;

	if (offset == 0 || offset % w->img->g.cluster_size != 0 ||
	    !smd_range_ok(offset, n * 8ull, io->size))
		return bad(w, "table misaligned or outside the file", offset);
	r = w->range(w->opaque, offset, n * 8ull, err);
	for (uint32_t done = 0, now; r == 0 && done < n; done += now) {
		now = (uint32_t)smd_min_u64(sizeof buf / 8, n - done);
		if (io->ops->pread(io, buf, now * 8, offset + done * 8ull, err) < 0)
			return -1;
		for (uint32_t i = 0; r == 0 && i < now; i++)
			r = walk_table_entry(w, smd_load_be64(buf + i * 8), err);
	}
	return r;
}

/* Entries of a table for a bitmap of this granularity over the whole disk. */
static uint64_t
table_entries(const struct qcow2_image *img, unsigned granularity)
{
	uint64_t bits = smd_div_round_up_u64(img->h.size, UINT64_C(1) << granularity);

	return smd_div_round_up_u64(smd_div_round_up_u64(bits, 8), img->g.cluster_size);
}

static int
check_numbers(struct walk *w, const uint8_t *b)
{
	uint32_t n = smd_load_be32(b + QCOW2_BITMAP_TABLE_SIZE);
	uint32_t flags = smd_load_be32(b + QCOW2_BITMAP_FLAGS);
	uint32_t extra = smd_load_be32(b + QCOW2_BITMAP_EXTRA_SIZE);
	uint16_t name_size = smd_load_be16(b + QCOW2_BITMAP_NAME_SIZE);
	uint8_t granularity = b[QCOW2_BITMAP_GRANULARITY];

	if (flags & ~QCOW2_BITMAP_FLAGS_KNOWN)
		return bad(w, "unknown flags", flags);
	if (b[QCOW2_BITMAP_TYPE] != 1)
		return bad(w, "unknown type", b[QCOW2_BITMAP_TYPE]);
	if (granularity < QCOW2_MIN_BITMAP_GRANULARITY ||
	    granularity > QCOW2_MAX_BITMAP_GRANULARITY)
		return bad(w, "granularity bits not within 9..31", granularity);
	if (name_size == 0 || name_size > QCOW2_MAX_BITMAP_NAME)
		return bad(w, "name size not within 1..1023", name_size);
	if (extra != 0 && !(flags & QCOW2_BITMAP_FLAG_EXTRA_COMPATIBLE))
		return bad(w, "extra data of unknown meaning", extra);
	if (n != table_entries(w->img, granularity) ||
	    n * w->img->g.cluster_size > QCOW2_MAX_BITMAP_BYTES)
		return bad(w, "table size does not fit the disk", n);
	return 0;
}

/* The directory entry at *pos, which moves to the next. */
static int
walk_entry(struct walk *w, uint64_t *pos, struct smd_error *err)
{
	struct smd_io *io = w->img->io;
	uint8_t b[QCOW2_BITMAP_FIXED], name[QCOW2_MAX_BITMAP_NAME];
	uint64_t size;
	uint16_t name_size;
	uint32_t extra;

	if (!smd_range_ok(*pos, sizeof b, w->dir_size))
		return bad(w, "the directory ends amid an entry", *pos);
	if (io->ops->pread(io, b, sizeof b, w->dir_offset + *pos, err) < 0)
		return -1;
	if (check_numbers(w, b) != 0)
		return 1;
	name_size = smd_load_be16(b + QCOW2_BITMAP_NAME_SIZE);
	extra = smd_load_be32(b + QCOW2_BITMAP_EXTRA_SIZE);
	size = (sizeof b + (uint64_t)extra + name_size + 7) & ~7ull;
	if (!smd_range_ok(*pos, size, w->dir_size))
		return bad(w, "the directory ends amid an entry", *pos);
	if (io->ops->pread(io, name, name_size, w->dir_offset + *pos + sizeof b + extra, err) < 0)
		return -1;
	w->name_hashes[w->n_names++] = name_hash(name, name_size);
	*pos += size;
	return walk_table(w, smd_load_be64(b + QCOW2_BITMAP_TABLE_OFFSET),
			  smd_load_be32(b + QCOW2_BITMAP_TABLE_SIZE), err);
}

static int
walk_directory(struct walk *w, uint32_t n, struct smd_error *err)
{
	uint64_t pos = 0;
	int r = w->range(w->opaque, w->dir_offset, w->dir_size, err);

	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = walk_entry(w, &pos, err);
	if (r == 0 && pos != w->dir_size)
		r = bad(w, "the directory is longer than its entries", w->dir_size);
	qsort(w->name_hashes, w->n_names, sizeof *w->name_hashes, compare_u64);
	for (uint32_t i = 1; r == 0 && i < w->n_names; i++)
		if (w->name_hashes[i - 1] == w->name_hashes[i])
			r = bad(w, "two have one name", i);
	return r;
}

int
qcow2_bitmaps_walk(struct qcow2_image *img, qcow2_range_fn *range, void *opaque,
		   struct qcow2_fault *fault, struct smd_error *err)
{
	struct walk w = { .img = img, .range = range, .opaque = opaque, .fault = fault };
	const struct qcow2_ext *ext = qcow2_ext_find(img, QCOW2_EXT_BITMAPS);
	const uint8_t *b = ext ? img->head + ext->offset : NULL;
	uint32_t n;
	int r;

	if (!(img->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS) || !ext)
		return 0;
	if (ext->length != QCOW2_BITMAPS_EXT_LENGTH ||
	    smd_load_be32(b + QCOW2_BITMAPS_EXT_RESERVED) != 0)
		return bad(&w, "malformed extension", ext->length);
	n = smd_load_be32(b + QCOW2_BITMAPS_EXT_COUNT);
	w.dir_size = smd_load_be64(b + QCOW2_BITMAPS_EXT_DIR_SIZE);
	w.dir_offset = smd_load_be64(b + QCOW2_BITMAPS_EXT_DIR_OFFSET);
	if (n == 0 || n > QCOW2_MAX_BITMAPS)
		return bad(&w, "count not within 1..65535", n);
	if (w.dir_size > QCOW2_MAX_BITMAP_DIR || w.dir_offset == 0 ||
	    w.dir_offset % img->g.cluster_size != 0 ||
	    !smd_range_ok(w.dir_offset, w.dir_size, img->io->size))
		return bad(&w, "directory misaligned or outside the file", w.dir_offset);
	w.name_hashes = calloc(n, sizeof *w.name_hashes);
	if (!w.name_hashes)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	r = walk_directory(&w, n, err);
	free(w.name_hashes);
	return r;
}
