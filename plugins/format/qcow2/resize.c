/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Another virtual size. The header's sector is the switch in both directions.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

static int
write_zeroes(void *opaque, const struct smd_place *place, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	CLEANUP_FREE uint8_t *zeroes = NULL;

	if (place->kind == SMD_PLACE_FRESH_ZEROED)
		return 0;
	zeroes = calloc(1, place->count);
	if (!zeroes)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	return img->io->ops->pwrite(img->io, zeroes, place->count, place->host_offset, err);
}

/* What the last cluster holds past the old end must read as zeroes. */
static int
zero_tail(struct qcow2_image *img, uint64_t old_size, uint64_t new_size, struct smd_error *err)
{
	uint64_t end = smd_min_u64(new_size, (old_size + img->g.cluster_size - 1) &
				   ~(img->g.cluster_size - 1));
	struct qcow2_reservation *res;
	struct qcow2_entry entry;

	if (end == old_size)
		return 0;
	if (qcow2_lookup(img, old_size >> img->g.cluster_bits, &entry, err) < 0)
		return -1;
	if (entry.alloc == 0 && entry.compressed_size == 0)
		return 0;
	if (qcow2_reserve(img, old_size, end - old_size, write_zeroes, img, &res, err) < 0)
		return -1;
	return qcow2_commit(img, res, err);
}

/* A longer L1 at a new place; the header's switch is the caller's. */
static int
l1_grow(struct qcow2_image *img, uint64_t n, struct qcow2_array *ret, struct smd_error *err)
{
	uint64_t clusters = smd_div_round_up_u64(n * 8, img->g.cluster_size);
	struct qcow2_array larger = { .n = n };

	if (n > QCOW2_MAX_L1_BYTES / 8)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, img->io->name,
				"the L1 table would be over %u bytes: clusters of %" PRIu64
				" are too small", QCOW2_MAX_L1_BYTES, img->g.cluster_size);
	if (qcow2_alloc_run(img, clusters, &larger.offset, err) < 0)
		return -1;
	larger.entries = calloc(clusters * img->g.cluster_size / 8, sizeof *larger.entries);
	if (!larger.entries)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	memcpy(larger.entries, img->l1.entries, img->l1.n * sizeof *larger.entries);
	if (qcow2_sync(img, err) < 0 ||
	    qcow2_array_write(&larger, img->io, 0, clusters * img->g.cluster_size / 8, err) < 0 ||
	    qcow2_flush_io(img, err) < 0) {
		free(larger.entries);
		return -1;
	}
	*ret = larger;
	return 0;
}

/* Switch to another size, and to another L1 if it has entries. */
static int
switch_header(struct qcow2_image *img, uint64_t size, struct qcow2_array *l1,
	      struct smd_error *err)
{
	struct qcow2_header h = img->h;

	img->h.size = size;
	if (l1->entries) {
		img->h.l1_offset = l1->offset;
		img->h.l1_size = (uint32_t)l1->n;
	}
	if (qcow2_header_write(img, err) < 0) {
		img->h = h;
		free(l1->entries);
		return -1;
	}
	if (!l1->entries)
		return 0;
	qcow2_free_later(img, h.l1_offset >> img->g.cluster_bits,
			 smd_div_round_up_u64(h.l1_size * 8ull, img->g.cluster_size));
	free(img->l1.entries);
	img->l1 = *l1;
	return 0;
}

/* Over a larger parent the new space would show the parent's. */
static int
hide_parent(struct qcow2_image *img, uint64_t old_size, struct smd_error *err)
{
	uint64_t start;

	if (!img->backing_name[0] || img->h.version == 2 ||
	    !smd_round_up_u64(old_size, img->g.cluster_size, &start) || start >= img->h.size)
		return 0;
	return qcow2_zero(img, start, img->h.size - start, 0, err) < 0 ? -1 : 0;
}

static int
grow(struct qcow2_image *img, uint64_t size, struct smd_error *err)
{
	uint64_t n = smd_div_round_up_u64(size, img->g.l2_span), old_size = img->h.size;
	struct qcow2_array l1 = { 0 }, same_l1 = { 0 };
	int r;

	if (size > QCOW2_MAX_VIRTUAL_SIZE)
		return smd_fail(err, SMD_REASON_SIZE_LIMIT, img->io->name,
				"virtual size %" PRIu64 " is over %" PRIu64, size,
				(uint64_t)QCOW2_MAX_VIRTUAL_SIZE);
	if (n > img->l1.n && (l1_grow(img, n, &l1, err) < 0 ||
			      switch_header(img, old_size, &l1, err) < 0))
		return -1;
	/* In memory only the disk is larger already, so that all is zeroes on disk
	 * before the switch. */
	img->held_size = old_size;
	img->h.size = size;
	r = zero_tail(img, old_size, size, err);
	if (r == 0)
		r = hide_parent(img, old_size, err);
	if (r == 0)
		r = qcow2_sync(img, err);
	img->h.size = old_size;
	img->held_size = 0;
	return r < 0 ? -1 : switch_header(img, size, &same_l1, err);
}

/* Unmap all clusters from the first on. */
static int
unmap_from(struct qcow2_image *img, uint64_t first, struct smd_error *err)
{
	static const struct qcow2_entry none;
	uint64_t end = smd_div_round_up_u64(img->h.size, img->g.cluster_size), old, n;
	struct qcow2_entry entry;

	for (uint64_t cluster = first; cluster < end; cluster++) {
		if (img->l1.entries[cluster / img->g.l2_entries] == 0) {
			cluster |= img->g.l2_entries - 1;
			continue;
		}
		if (qcow2_sync_if_full(img, err) < 0 || qcow2_lookup(img, cluster, &entry, err) < 0)
			return -1;
		if (entry.host == 0 && entry.zero == 0)
			continue;
		if (qcow2_entry_set(img, cluster, &none, err) < 0)
			return -1;
		qcow2_entry_clusters(img, &entry, &old, &n);
		qcow2_free_later(img, old, n);
	}
	return 0;
}

static int
shrink(struct qcow2_image *img, uint64_t size, struct smd_error *err)
{
	struct qcow2_array same_l1 = { 0 };

	if (unmap_from(img, smd_div_round_up_u64(size, img->g.cluster_size), err) < 0 ||
	    qcow2_sync(img, err) < 0)
		return -1;
	return switch_header(img, size, &same_l1, err);
}

int
qcow2_resize(struct qcow2_image *img, uint64_t size, uint32_t flags, struct smd_error *err)
{
	uint64_t old_size = img->h.size;

	if (size % SMD_SECTOR != 0)
		return smd_fail(err, SMD_REASON_BAD_SIZE, img->io->name,
				"virtual size %" PRIu64 " is no multiple of %u", size, SMD_SECTOR);
	if (size < old_size && !(flags & SMD_RESIZE_SHRINK))
		return smd_fail(err, SMD_REASON_BAD_SIZE, img->io->name,
				"virtual size %" PRIu64 " is below the present one, %" PRIu64, size,
				old_size);
	if (img->h.version == 2 && img->h.n_snapshots != 0)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, img->io->name,
				"version 2 cannot record the size of its snapshots");
	if (size == old_size)
		return 0;
	if (qcow2_write_begin(img, err) < 0)
		return -1;
	if (size < old_size ? shrink(img, size, err) < 0 : grow(img, size, err) < 0)
		return -1;
	return qcow2_sync(img, err) < 0 ? -1 : qcow2_flush_io(img, err);
}
