/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A second set of tables, for changes of many counts and copied flags that must
 * show all at once: the active L1, its L2 tables and everything about refcounts
 * are copied, and changed as copies, which nothing on the disk names. The header
 * names L1 and refcount table in one sector, and so is the switch. Until it is
 * written a crash leaks the copies; afterwards it leaks the originals.
 */
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

static int
copy_cluster(struct qcow2_image *img, uint64_t from, uint64_t to, uint8_t *buf,
	     struct smd_error *err)
{
	if (img->io->ops->pread(img->io, buf, img->g.cluster_size, from, err) < 0)
		return -1;
	return img->io->ops->pwrite(img->io, buf, img->g.cluster_size, to, err);
}

static uint64_t
table_clusters(const struct qcow2_image *img, const struct qcow2_array *table)
{
	return smd_div_round_up_u64(table->n * 8, img->g.cluster_size);
}

int
qcow2_table_free(struct qcow2_image *img, const struct qcow2_array *table, struct smd_error *err)
{
	for (uint64_t i = 0; i < table->n; i++) {
		uint64_t offset = table->entries[i] & QCOW2_OFFSET_MASK;

		if (offset != 0)
			qcow2_free_later(img, offset >> img->g.cluster_bits, 1);
		if (qcow2_sync_if_full(img, err) < 0)
			return -1;
	}
	qcow2_free_later(img, table->offset >> img->g.cluster_bits, table_clusters(img, table));
	return 0;
}

/* ---- L1 and L2 ------------------------------------------------------------------- */

static int
copy_l2_tables(struct qcow2_image *img, struct qcow2_array *l1, uint8_t *buf,
	       struct smd_error *err)
{
	uint64_t offset, host, n;

	for (uint64_t i = 0; i < img->l1.n; i++) {
		if (qcow2_sync_if_full(img, err) < 0 ||
		    qcow2_l1_decode(img, img->l1.entries[i], &offset, err) < 0)
			return -1;
		if (offset == 0)
			continue;
		if (qcow2_alloc(img, 1, &host, &n, err) < 0)
			return -1;
		l1->entries[i] = host | QCOW2_COPIED;
		/* A table that was freed there may have been read since. */
		qcow2_cache_drop(&img->l2_cache, host);
		if (copy_cluster(img, offset, host, buf, err) < 0)
			return -1;
	}
	return 0;
}

static int
copy_l1(struct qcow2_image *img, struct qcow2_array *l1, uint8_t *buf, struct smd_error *err)
{
	*l1 = (struct qcow2_array){ .n = img->l1.n };
	l1->entries = calloc(l1->n ? l1->n : 1, sizeof *l1->entries);
	if (!l1->entries)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	if (l1->n == 0)
		return 0;
	if (qcow2_alloc_run(img, table_clusters(img, l1), &l1->offset, err) < 0 ||
	    copy_l2_tables(img, l1, buf, err) < 0)
		return -1;
	return qcow2_array_write(l1, img->io, 0, l1->n, err);
}

/* ---- Refcounts --------------------------------------------------------------------- */

static uint64_t
count_blocks(const struct qcow2_array *rt)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < rt->n; i++)
		n += rt->entries[i] != 0;
	return n;
}

/* A place for the table, and one for each block: in its entry there, for the time
 * being in no order. Taking them may make more blocks, or a larger table. */
static int
alloc_refcounts(struct qcow2_image *img, struct qcow2_array *rt, struct smd_error *err)
{
	uint64_t n_hosts = 0, n;

	while (rt->n != img->rt.n || n_hosts < count_blocks(&img->rt)) {
		if (rt->n != img->rt.n) {
			uint64_t *entries = realloc(rt->entries, img->rt.n * sizeof *entries);

			if (!entries)
				return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
			memset(entries + rt->n, 0, (img->rt.n - rt->n) * sizeof *entries);
			rt->entries = entries;
			if (rt->offset)
				qcow2_free_later(img, rt->offset >> img->g.cluster_bits,
						 table_clusters(img, rt));
			rt->n = img->rt.n;
			if (qcow2_alloc_run(img, table_clusters(img, rt), &rt->offset, err) < 0)
				return -1;
		} else if (qcow2_alloc(img, 1, &rt->entries[n_hosts], &n, err) < 0) {
			return -1;
		} else {
			n_hosts++;
		}
	}
	return 0;
}

/* Each block's copy, and where it is into the entry that the block has. */
static int
copy_refcounts(struct qcow2_image *img, struct qcow2_array *rt, uint8_t *buf,
	       struct smd_error *err)
{
	uint64_t next = count_blocks(&img->rt);

	/* From the end, an entry's own place is read before it is written over. */
	for (uint64_t i = img->rt.n; i-- > 0;) {
		uint64_t host = 0;

		if (img->rt.entries[i] != 0) {
			host = rt->entries[--next];
			if (copy_cluster(img, img->rt.entries[i], host, buf, err) < 0)
				return -1;
		}
		rt->entries[i] = host;
	}
	return qcow2_array_write(rt, img->io, 0, rt->n, err);
}

/* ---- The pair ------------------------------------------------------------------------ */

static void
swap_arrays(struct qcow2_array *a, struct qcow2_array *b)
{
	struct qcow2_array c = *a;

	*a = *b;
	*b = c;
}

int
qcow2_shadow_begin(struct qcow2_image *img, struct qcow2_shadow *shadow, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = malloc(img->g.cluster_size);

	memset(shadow, 0, sizeof *shadow);
	if (!buf)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	if (copy_l1(img, &shadow->l1, buf, err) < 0 ||
	    alloc_refcounts(img, &shadow->rt, err) < 0 || qcow2_sync(img, err) < 0 ||
	    copy_refcounts(img, &shadow->rt, buf, err) < 0) {
		/* What they took is leaked. */
		qcow2_shadow_done(shadow);
		return -1;
	}
	/* Else a copy might later lie where the cache has an original. */
	qcow2_cache_drop_all(&img->rb_cache);
	shadow->h = img->h;
	swap_arrays(&img->l1, &shadow->l1);
	swap_arrays(&img->rt, &shadow->rt);
	img->h.l1_offset = img->l1.offset;
	img->h.rt_offset = img->rt.offset;
	return 0;
}

void
qcow2_shadow_undo(struct qcow2_image *img, struct qcow2_shadow *shadow)
{
	img->h = shadow->h;
	swap_arrays(&img->l1, &shadow->l1);
	swap_arrays(&img->rt, &shadow->rt);
	qcow2_array_clean(&img->l1);
	qcow2_array_clean(&img->rt);
	img->n_frees = 0;
	qcow2_cache_drop_all(&img->l2_cache);
	qcow2_cache_drop_all(&img->rb_cache);
}

int
qcow2_shadow_switch(struct qcow2_image *img, struct qcow2_shadow *shadow, struct smd_error *err)
{
	if (qcow2_sync(img, err) == 0 && qcow2_header_write(img, err) == 0)
		return 0;
	qcow2_shadow_undo(img, shadow);
	return -1;
}

void
qcow2_shadow_done(struct qcow2_shadow *shadow)
{
	free(shadow->l1.entries);
	free(shadow->rt.entries);
	shadow->l1.entries = shadow->rt.entries = NULL;
}
