/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who uses each host cluster: the refcount table, its blocks, and taking and
 * giving back clusters. Counts change in memory; sync.c writes them.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

/* "Refcount block entry": widths below 8 bits count from the least significant
 * bit of their byte. */
uint64_t
qcow2_refcount_load(const uint8_t *rb, unsigned order, uint64_t index)
{
	switch (order) {
	case 3:
		return rb[index];
	case 4:
		return smd_load_be16(rb + index * 2);
	case 5:
		return smd_load_be32(rb + index * 4);
	case 6:
		return smd_load_be64(rb + index * 8);
	default:
		return rb[index << order >> 3] >> (index << order & 7) &
			((1u << (1u << order)) - 1);
	}
}

void
qcow2_refcount_store(uint8_t *rb, unsigned order, uint64_t index, uint64_t value)
{
	unsigned shift, mask;

	switch (order) {
	case 3:
		rb[index] = (uint8_t)value;
		return;
	case 4:
		smd_store_be16(rb + index * 2, (uint16_t)value);
		return;
	case 5:
		smd_store_be32(rb + index * 4, (uint32_t)value);
		return;
	case 6:
		smd_store_be64(rb + index * 8, value);
		return;
	default:
		shift = index << order & 7;
		mask = ((1u << (1u << order)) - 1) << shift;
		rb += index << order >> 3;
		*rb = (uint8_t)((*rb & ~mask) | value << shift);
		return;
	}
}

bool
qcow2_rb_is_zero(const uint8_t *rb, unsigned order, uint64_t index, uint64_t n)
{
	const uint8_t *p = rb + (index << order >> 3);
	size_t size = n << order >> 3;

	return size == 0 || (p[0] == 0 && memcmp(p, p + 1, size - 1) == 0);
}

int
qcow2_rt_load(struct qcow2_image *img, struct smd_error *err)
{
	if (img->rt.entries)
		return 0;
	return qcow2_array_load(&img->rt, img->io, img->h.rt_offset,
				img->h.rt_clusters * img->g.cluster_size / 8, err);
}

int
qcow2_rb_get(struct qcow2_image *img, uint64_t block, struct qcow2_table **ret,
	     struct smd_error *err)
{
	uint64_t offset = block < img->rt.n ? img->rt.entries[block] : 0;

	*ret = NULL;
	if (offset == 0)
		return 0;
	*ret = qcow2_cache_find(&img->rb_cache, offset);
	if (*ret)
		return 0;
	if (offset % img->g.cluster_size != 0)
		return smd_fail(err, offset & QCOW2_RT_RESERVED ? SMD_REASON_RESERVED_BITS :
				SMD_REASON_TABLE_MISALIGNED, img->io->name,
				"refcount block offset %" PRIu64 " is no multiple of %" PRIu64,
				offset, img->g.cluster_size);
	if (!smd_range_ok(offset, img->g.cluster_size, img->io->size))
		return smd_fail(err, SMD_REASON_TABLE_BOUNDS, img->io->name,
				"refcount block at %" PRIu64 " passes the end, %" PRIu64, offset,
				img->io->size);
	return qcow2_cache_get(&img->rb_cache, img->io, offset, ret, err);
}

int
qcow2_refcount_get(struct qcow2_image *img, uint64_t cluster, uint64_t *ret,
		   struct smd_error *err)
{
	struct qcow2_table *rb;

	if (qcow2_rb_get(img, cluster / img->g.rb_entries, &rb, err) < 0)
		return -1;
	*ret = rb ? qcow2_refcount_load(rb->data, img->g.refcount_order,
					cluster % img->g.rb_entries) : 0;
	return 0;
}

static void
rb_set(struct qcow2_image *img, struct qcow2_table *rb, uint64_t cluster, uint64_t value)
{
	uint64_t index = cluster % img->g.rb_entries;

	qcow2_refcount_store(rb->data, img->g.refcount_order, index, value);
	qcow2_cache_dirty(&img->rb_cache, rb, index << img->g.refcount_order >> 3,
			  img->g.refcount_order > 3 ? UINT64_C(1) << (img->g.refcount_order - 3) : 1);
}

int
qcow2_refcount_set(struct qcow2_image *img, uint64_t cluster, uint64_t value,
		   struct smd_error *err)
{
	struct qcow2_table *rb;

	if (qcow2_rb_get(img, cluster / img->g.rb_entries, &rb, err) < 0)
		return -1;
	if (!rb)
		return smd_fail(err, SMD_REASON_REFCOUNT_LOW, img->io->name,
				"no refcount block counts host cluster %" PRIu64, cluster);
	rb_set(img, rb, cluster, value);
	return 0;
}

static int
add_one(struct qcow2_image *img, uint64_t cluster, int delta, struct smd_error *err)
{
	struct qcow2_table *rb;
	uint64_t count = 0;

	if (qcow2_rb_get(img, cluster / img->g.rb_entries, &rb, err) < 0)
		return -1;
	if (rb)
		count = qcow2_refcount_load(rb->data, img->g.refcount_order,
					    cluster % img->g.rb_entries);
	if (count == 0)
		return smd_fail(err, SMD_REASON_REFCOUNT_LOW, img->io->name,
				"host cluster %" PRIu64 " is in use with refcount 0", cluster);
	if (delta > 0 && count == img->g.refcount_max)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, img->io->name,
				"refcounts of %u bits cannot count another use of host cluster %"
				PRIu64, 1u << img->g.refcount_order, cluster);
	count += (uint64_t)(int64_t)delta;
	rb_set(img, rb, cluster, count);
	if (count == 0) {
		img->alloc_hint = smd_min_u64(img->alloc_hint, cluster);
		if (img->pack_at >> img->g.cluster_bits == cluster)
			img->pack_at = 0;
		qcow2_cache_drop(&img->l2_cache, cluster << img->g.cluster_bits);
	}
	return 0;
}

int
qcow2_refcount_add(struct qcow2_image *img, uint64_t cluster, uint64_t n, int delta,
		   struct smd_error *err)
{
	for (uint64_t i = 0; i < n; i++)
		if (add_one(img, cluster + i, delta, err) < 0) {
			while (i-- > 0)
				add_one(img, cluster + i, -delta, err);
			return -1;
		}
	return 0;
}

static int
overlap(struct qcow2_image *img, uint64_t host, const char *what, struct smd_error *err)
{
	smd_fail(err, SMD_REASON_TABLE_OVERLAP, img->io->name,
		 "a write at %" PRIu64 " would hit the %s: the image is corrupt", host, what);
	qcow2_mark_corrupt(img, err);
	return -1;
}

static bool
touches(uint64_t host, uint64_t count, uint64_t table, uint64_t table_bytes)
{
	return host < table + table_bytes && table < host + count;
}

/* It is asked for each new run, and most of a refcount table, of a cluster at least, is empty. */
static bool
array_names(const struct qcow2_array *array, uint64_t host, uint64_t count)
{
	uint64_t end = array->empty_from ? array->empty_from : array->n;

	for (uint64_t i = 0; i < end; i++) {
		if ((array->entries[i] & QCOW2_OFFSET_MASK) - host < count)
			return true;
	}
	return false;
}

int
qcow2_overlap_check(struct qcow2_image *img, uint64_t host, uint64_t count,
		    struct smd_error *err)
{
	if (host < img->g.cluster_size)
		return overlap(img, host, "header", err);
	if (touches(host, count, img->l1.offset, img->l1.n * 8))
		return overlap(img, host, "L1 table", err);
	if (touches(host, count, img->rt.offset, img->rt.n * 8))
		return overlap(img, host, "refcount table", err);
	if (img->h.n_snapshots != 0 && touches(host, count, img->h.snapshots_offset, 1))
		return overlap(img, host, "snapshot table", err);
	if (array_names(&img->rt, host, count))
		return overlap(img, host, "refcount blocks", err);
	if (array_names(&img->l1, host, count))
		return overlap(img, host, "L2 tables", err);
	return 0;
}

/* Whether clusters up to end can be had: a fixed store does not grow. */
static int
check_room(const struct qcow2_image *img, uint64_t end, struct smd_error *err)
{
	uint64_t bytes = end << img->g.cluster_bits;

	if (end > QCOW2_OFFSET_MASK >> img->g.cluster_bits ||
	    (!(img->io->flags & SMD_IO_CAN_GROW) && bytes > img->io->size))
		return smd_fail(err, SMD_REASON_IO, img->io->name,
				"no room: the image would pass %" PRIu64 " bytes",
				img->io->size);
	return 0;
}

/*
 * A larger refcount table, right behind all that the present one covers, and
 * the blocks that count it and themselves: blocks and table, flush, then the
 * header's switch.
 */
static int
rt_write_larger(struct qcow2_image *img, uint64_t start, uint64_t n_entries, uint64_t n_blocks,
		struct smd_error *err)
{
	uint64_t rt_clusters = n_entries * 8 >> img->g.cluster_bits;
	uint64_t end = start + rt_clusters + n_blocks;
	struct qcow2_array larger = { .n = n_entries, .offset = start << img->g.cluster_bits };
	struct qcow2_header h = img->h;

	larger.empty_from = img->rt.n + n_blocks;
	larger.entries = calloc(n_entries, sizeof *larger.entries);
	if (!larger.entries)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	memcpy(larger.entries, img->rt.entries, img->rt.n * sizeof *larger.entries);
	for (uint64_t i = 0; i < n_blocks; i++) {
		uint64_t offset = (start + rt_clusters + i) << img->g.cluster_bits;
		uint64_t first = start + i * img->g.rb_entries;
		struct qcow2_table *rb;

		larger.entries[img->rt.n + i] = offset;
		if (qcow2_cache_new(&img->rb_cache, img->io, offset, NULL, &rb, err) < 0)
			goto out;
		for (uint64_t c = first; c < first + img->g.rb_entries && c < end; c++)
			rb_set(img, rb, c, 1);
	}
	img->h.rt_offset = larger.offset;
	img->h.rt_clusters = (uint32_t)rt_clusters;
	if (qcow2_cache_write(&img->rb_cache, img->io, err) < 0 ||
	    qcow2_array_write(&larger, img->io, 0, n_entries, err) < 0 ||
	    qcow2_flush_io(img, err) < 0 || qcow2_header_write(img, err) < 0)
		goto out;
	qcow2_cache_clean(&img->rb_cache);
	free(img->rt.entries);
	img->rt = larger;
	return qcow2_refcount_add(img, h.rt_offset >> img->g.cluster_bits, h.rt_clusters, -1, err);
out:
	img->h = h;
	for (uint64_t i = 0; i < n_blocks; i++)
		qcow2_cache_drop(&img->rb_cache,
				 (start + rt_clusters + i) << img->g.cluster_bits);
	free(larger.entries);
	return -1;
}

static int
rt_grow(struct qcow2_image *img, uint64_t block, struct smd_error *err)
{
	uint64_t per_cluster = img->g.cluster_size / 8;
	uint64_t start = img->rt.n * img->g.rb_entries;
	uint64_t n_entries = smd_max_u64(block + 1, img->rt.n * 2), n_blocks = 0, needed;

	do {
		n_entries = smd_div_round_up_u64(smd_max_u64(n_entries, img->rt.n + n_blocks),
						 per_cluster) * per_cluster;
		needed = n_blocks;
		n_blocks = smd_div_round_up_u64(n_entries / per_cluster + n_blocks,
						img->g.rb_entries);
	} while (n_blocks != needed || img->rt.n + n_blocks > n_entries);
	if (n_entries > QCOW2_MAX_RT_BYTES / 8)
		return smd_fail(err, SMD_REASON_IO, img->io->name,
				"the refcount table would be over %u bytes", QCOW2_MAX_RT_BYTES);
	if (check_room(img, start + n_entries / per_cluster + n_blocks, err) < 0 ||
	    qcow2_sync(img, err) < 0)
		return -1;
	return rt_write_larger(img, start, n_entries, n_blocks, err);
}

/* A block for [block * rb_entries, …) in the first cluster it counts. */
static int
rb_make(struct qcow2_image *img, uint64_t block, struct qcow2_table **ret, struct smd_error *err)
{
	uint64_t cluster = block * img->g.rb_entries, host = cluster << img->g.cluster_bits;

	if (check_room(img, cluster + 1, err) < 0 ||
	    qcow2_overlap_check(img, host, img->g.cluster_size, err) < 0 ||
	    qcow2_cache_new(&img->rb_cache, img->io, host, NULL, ret, err) < 0)
		return -1;
	rb_set(img, *ret, cluster, 1);
	qcow2_array_set(&img->rt, block, host);
	return 0;
}

/* The first free cluster of the block from cluster on, or its end. */
static uint64_t
rb_find_free(const struct qcow2_image *img, const struct qcow2_table *rb, uint64_t cluster)
{
	uint64_t end = (cluster / img->g.rb_entries + 1) * img->g.rb_entries;

	while (cluster < end && qcow2_refcount_load(rb->data, img->g.refcount_order,
						    cluster % img->g.rb_entries) != 0)
		cluster++;
	return cluster;
}

/* The block where the first free cluster from *cluster on is. */
static int
find_free(struct qcow2_image *img, uint64_t *cluster, struct qcow2_table **ret,
	  struct smd_error *err)
{
	for (;;) {
		uint64_t block = *cluster / img->g.rb_entries, free_cluster;

		if (block >= img->rt.n && rt_grow(img, block, err) < 0)
			return -1;
		if (qcow2_rb_get(img, block, ret, err) < 0 ||
		    (!*ret && rb_make(img, block, ret, err) < 0))
			return -1;
		free_cluster = rb_find_free(img, *ret, *cluster);
		*cluster = free_cluster;
		if (free_cluster < (block + 1) * img->g.rb_entries)
			return 0;
	}
}

/* Up to want free clusters from *cluster on in one block. */
static int
find_run(struct qcow2_image *img, uint64_t *cluster, uint64_t want, uint64_t *ret_n,
	 struct smd_error *err)
{
	struct qcow2_table *rb;
	uint64_t n = 1;

	if (find_free(img, cluster, &rb, err) < 0)
		return -1;
	while (n < want && (*cluster + n) % img->g.rb_entries != 0 &&
	       qcow2_refcount_load(rb->data, img->g.refcount_order,
				   (*cluster + n) % img->g.rb_entries) == 0)
		n++;
	*ret_n = n;
	return check_room(img, *cluster + n, err);
}

/* Count [cluster, + n), which is free, as used once. */
static int
take(struct qcow2_image *img, uint64_t cluster, uint64_t n, struct smd_error *err)
{
	struct qcow2_table *rb;

	if (qcow2_overlap_check(img, cluster << img->g.cluster_bits, n << img->g.cluster_bits,
				err) < 0)
		return -1;
	for (uint64_t i = 0; i < n; i++) {
		if (qcow2_rb_get(img, (cluster + i) / img->g.rb_entries, &rb, err) < 0)
			return -1;
		rb_set(img, rb, cluster + i, 1);
	}
	return 0;
}

int
qcow2_alloc(struct qcow2_image *img, uint64_t want, uint64_t *ret_host, uint64_t *ret_n,
	    struct smd_error *err)
{
	uint64_t cluster = img->alloc_hint, n;

	if (find_run(img, &cluster, want, &n, err) < 0 || take(img, cluster, n, err) < 0)
		return -1;
	img->alloc_hint = cluster + n;
	*ret_host = cluster << img->g.cluster_bits;
	*ret_n = n;
	return 0;
}

int
qcow2_alloc_run(struct qcow2_image *img, uint64_t n, uint64_t *ret_host, struct smd_error *err)
{
	uint64_t start = img->alloc_hint, have = 0, more;

	while (have < n) {
		uint64_t cluster = start + have;

		if (find_run(img, &cluster, n - have, &more, err) < 0)
			return -1;
		if (cluster != start + have) {
			start = cluster;
			have = 0;
		}
		have += more;
	}
	if (take(img, start, n, err) < 0)
		return -1;
	if (start == img->alloc_hint)
		img->alloc_hint = start + n;
	*ret_host = start << img->g.cluster_bits;
	return 0;
}
