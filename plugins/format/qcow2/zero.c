/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Zeroes without data: an entry that says so, or none at all where nothing lies
 * below. What an entry held is given back once it is gone from the disk.
 */
#include <string.h>

#include "common/checked.h"
#include "plugins/format/qcow2/qcow2.h"

/* The subclusters of a cluster that [offset, offset + count) covers whole; the
 * disk's last one ends with the disk. */
static uint32_t
whole_subs(const struct qcow2_image *img, uint64_t at, uint64_t offset, uint64_t count)
{
	uint32_t mask = 0;

	for (unsigned i = 0; i < img->g.n_sub; i++) {
		uint64_t start = at + i * img->g.sub_size;
		uint64_t end = smd_min_u64(start + img->g.sub_size, img->h.size);

		if (start >= end || (start >= offset && end <= offset + count))
			mask |= UINT32_C(1) << i;
	}
	return mask;
}

static bool
same_entry(const struct qcow2_entry *a, const struct qcow2_entry *b)
{
	return a->host == b->host && a->compressed_size == b->compressed_size &&
		a->alloc == b->alloc && a->zero == b->zero;
}

/* Returns 1 where only a write of zeroes can help. */
static int
zero_cluster(struct qcow2_image *img, uint64_t cluster, uint32_t subs, bool unmap,
	     struct smd_error *err)
{
	struct qcow2_entry old, entry;
	uint64_t first, n;
	bool below = img->backing_name[0], all = subs == qcow2_sub_all(img);
	bool ours;

	if (qcow2_lookup(img, cluster, &old, err) < 0)
		return -1;
	entry = old;
	ours = old.host != 0 && old.copied;
	if (!all && old.host != 0 && !ours)
		return 1;
	entry.alloc &= ~subs;
	entry.zero |= below || ours ? subs : 0;
	if (all && (!ours || unmap || img->h.version == 2))
		entry = (struct qcow2_entry){ .zero = below ? subs : 0 };
	if (same_entry(&old, &entry))
		return 0;
	if (qcow2_entry_set(img, cluster, &entry, err) < 0)
		return -1;
	qcow2_entry_clusters(img, &old, &first, &n);
	if (entry.host == 0)
		qcow2_free_later(img, first, n);
	return 0;
}

int
qcow2_zero(struct qcow2_image *img, uint64_t offset, uint64_t count, uint32_t flags,
	   struct smd_error *err)
{
	uint64_t cluster = offset >> img->g.cluster_bits;
	bool below = img->backing_name[0];

	if (img->h.version == 2 && below)
		return 1;	/* no zero flag */
	if (qcow2_write_begin(img, err) < 0)
		return -1;
	while (cluster << img->g.cluster_bits < offset + count) {
		uint64_t at = cluster << img->g.cluster_bits;
		uint64_t l1_index = cluster / img->g.l2_entries;
		uint32_t subs = whole_subs(img, at, offset, count);
		int r = 0;

		if (!below && l1_index < img->l1.n && img->l1.entries[l1_index] == 0) {
			cluster = (l1_index + 1) * img->g.l2_entries;
			continue;
		}
		if (qcow2_sync_if_full(img, err) < 0)
			return -1;
		if (subs != 0)
			r = zero_cluster(img, cluster, subs, flags & SMD_ZERO_UNMAP, err);
		if (r != 0)
			return r;
		cluster++;
	}
	return 0;
}
