/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whole L1 trees: all the clusters that one reaches, for snapshots to count, and
 * the copied flags that follow from the counts.
 */
#include "common/bytes.h"
#include "common/checked.h"
#include "plugins/format/qcow2/qcow2.h"

static int
l2_each(struct qcow2_image *img, uint64_t offset, qcow2_clusters_fn *fn, struct smd_error *err)
{
	struct qcow2_table *table;
	struct qcow2_entry entry;
	uint64_t first, n;

	for (uint64_t i = 0; i < img->g.l2_entries; i++) {
		if (qcow2_l2_get(img, offset, &table, err) < 0 ||
		    qcow2_entry_decode(img, table->data + i * img->g.l2_entry_size, &entry,
				       err) < 0)
			return -1;
		qcow2_entry_clusters(img, &entry, &first, &n);
		if (n != 0 && fn(img, first, n, err) < 0)
			return -1;
	}
	return 0;
}

int
qcow2_tree_each(struct qcow2_image *img, const struct qcow2_array *l1, bool tables,
		qcow2_clusters_fn *fn, struct smd_error *err)
{
	uint64_t offset;

	for (uint64_t i = 0; i < l1->n; i++) {
		if (qcow2_sync_if_full(img, err) < 0 ||
		    qcow2_l1_decode(img, l1->entries[i], &offset, err) < 0)
			return -1;
		if (offset == 0)
			continue;
		if (l2_each(img, offset, fn, err) < 0 ||
		    (tables && fn(img, offset >> img->g.cluster_bits, 1, err) < 0))
			return -1;
	}
	return 0;
}

/* The word with its copied flag as it should be. */
static int
refreshed(struct qcow2_image *img, uint64_t word, uint64_t *ret, struct smd_error *err)
{
	uint64_t count;

	if (qcow2_refcount_get(img, (word & QCOW2_OFFSET_MASK) >> img->g.cluster_bits, &count,
			       err) < 0)
		return -1;
	*ret = count == 1 ? word | QCOW2_COPIED : word & ~QCOW2_COPIED;
	return 0;
}

static int
refresh_l2(struct qcow2_image *img, uint64_t offset, struct smd_error *err)
{
	struct qcow2_table *table;
	struct qcow2_entry entry;
	uint64_t word;

	if (qcow2_l2_get(img, offset, &table, err) < 0)
		return -1;
	for (uint64_t i = 0; i < img->g.l2_entries; i++) {
		uint8_t *p = table->data + i * img->g.l2_entry_size;

		if (qcow2_entry_decode(img, p, &entry, err) < 0)
			return -1;
		if (entry.host == 0 || entry.compressed_size != 0)
			continue;
		if (refreshed(img, smd_load_be64(p), &word, err) < 0)
			return -1;
		if (word == smd_load_be64(p))
			continue;
		smd_store_be64(p, word);
		qcow2_cache_dirty(&img->l2_cache, table, i * img->g.l2_entry_size, 8);
	}
	return 0;
}

int
qcow2_copied_refresh(struct qcow2_image *img, struct qcow2_array *l1, struct smd_error *err)
{
	uint64_t offset, word;

	for (uint64_t i = 0; i < l1->n; i++) {
		if (qcow2_sync_if_full(img, err) < 0 ||
		    qcow2_l1_decode(img, l1->entries[i], &offset, err) < 0)
			return -1;
		if (offset == 0)
			continue;
		if (refresh_l2(img, offset, err) < 0 ||
		    refreshed(img, l1->entries[i], &word, err) < 0)
			return -1;
		if (word != l1->entries[i])
			qcow2_array_set(l1, i, word);
	}
	return 0;
}
