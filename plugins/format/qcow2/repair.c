/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Repairs: refcounts and copied flags are made to agree with the tables, which
 * are not touched. Raised counts are on the disk before any is lowered. Where the
 * refcount structures are broken, new ones are written behind everything and the
 * header is switched to them.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/check.h"

/* ---- In place ----------------------------------------------------------------- */

struct adjusting {
	struct qcow2_image *img;
	bool raise;
};

static int
adjust_count(void *opaque, uint64_t cluster, uint64_t count, uint64_t used, struct smd_error *err)
{
	const struct adjusting *a = opaque;

	if (a->raise ? count >= used : count <= used)
		return 0;
	return qcow2_refcount_set(a->img, cluster, used, err);
}

/* Raise what is too low, or lower what is too high. */
static int
adjust(struct qcow2_checker *c, bool raise, struct smd_error *err)
{
	struct adjusting a = { c->img, raise };

	for (uint64_t block = 0; block < c->img->rt.n; block++) {
		if (c->img->rt.entries[block] == 0)
			continue;
		if (qcow2_sync_if_full(c->img, err) < 0 ||
		    qcow2_compare_block(c, block, adjust_count, &a, err) < 0)
			return -1;
	}
	return qcow2_sync(c->img, err);
}

/* ---- Anew ----------------------------------------------------------------------- */

struct rebuild {
	struct qcow2_checker *c;
	uint8_t *needed;	/* per block: it counts something */
	uint64_t n_blocks;	/* that the new table can name */
	uint64_t start;		/* first cluster of the new structures */
	uint64_t rt_clusters, rb_clusters;
};

static bool
is_old_refcounts(enum qcow2_use use)
{
	return use == QCOW2_USE_RT || use == QCOW2_USE_RB;
}

static int
find_end(void *opaque, uint64_t cluster, uint64_t count, enum qcow2_use use,
	 struct smd_error *err)
{
	struct rebuild *r = opaque;

	(void)count;
	(void)use;
	(void)err;
	r->start = smd_max_u64(r->start, cluster + 1);
	return 0;
}

static int
mark_needed(void *opaque, uint64_t cluster, uint64_t count, enum qcow2_use use,
	    struct smd_error *err)
{
	struct rebuild *r = opaque;

	(void)count;
	(void)err;
	if (!is_old_refcounts(use))
		r->needed[cluster / r->c->img->g.rb_entries] = 1;
	return 0;
}

/* How many blocks are needed, those for the new structures included. */
static uint64_t
count_needed(struct rebuild *r)
{
	uint64_t per_block = r->c->img->g.rb_entries, n = 0;
	uint64_t end = r->start + r->rt_clusters + r->rb_clusters;

	for (uint64_t b = r->start / per_block; b <= (end - 1) / per_block && b < r->n_blocks; b++)
		r->needed[b] = 1;
	for (uint64_t b = 0; b < r->n_blocks; b++)
		n += r->needed[b];
	return n;
}

static int
plan(struct rebuild *r, struct smd_error *err)
{
	const struct qcow2_image *img = r->c->img;
	uint64_t max = QCOW2_MAX_RT_BYTES / 8, covered, blocks;

	r->start = smd_div_round_up_u64(img->io->size, img->g.cluster_size);
	if (qcow2_counts_each(&r->c->counts, find_end, r, err) < 0)
		return -1;
	/* Room for the table and blocks of a file of this length, twice. */
	covered = smd_min_u64(max, (r->start / img->g.rb_entries + 2) * 2);
	r->rt_clusters = smd_div_round_up_u64(covered * 8, img->g.cluster_size);
	r->n_blocks = r->rt_clusters * img->g.cluster_size / 8;
	if (r->n_blocks > max || r->start / img->g.rb_entries >= r->n_blocks)
		return smd_fail(err, SMD_REASON_TABLE_TOO_LARGE, img->io->name,
				"new refcounts would need a table over %u bytes",
				QCOW2_MAX_RT_BYTES);
	r->needed = calloc(1, r->n_blocks);
	if (!r->needed)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	if (qcow2_counts_each(&r->c->counts, mark_needed, r, err) < 0)
		return -1;
	while ((blocks = count_needed(r)) != r->rb_clusters)
		r->rb_clusters = blocks;
	if ((r->start + r->rt_clusters + r->rb_clusters - 1) / img->g.rb_entries >= r->n_blocks)
		return smd_fail(err, SMD_REASON_TABLE_TOO_LARGE, img->io->name,
				"new refcounts do not fit their table");
	return 0;
}

static void
fill_block(const struct rebuild *r, uint64_t block, uint8_t *buf)
{
	const struct qcow2_geometry *g = &r->c->img->g;
	uint64_t end = r->start + r->rt_clusters + r->rb_clusters;

	memset(buf, 0, g->cluster_size);
	for (uint64_t i = 0; i < g->rb_entries; i++) {
		uint64_t cluster = block * g->rb_entries + i;
		struct qcow2_page *page = qcow2_counts_page(&r->c->counts,
							    cluster / QCOW2_PAGE_CLUSTERS);
		uint32_t word = page ? page->counts[cluster % QCOW2_PAGE_CLUSTERS] : 0;

		if (cluster >= r->start && cluster < end)
			qcow2_refcount_store(buf, g->refcount_order, i, 1);
		else if (!is_old_refcounts(qcow2_use_of(word)))
			qcow2_refcount_store(buf, g->refcount_order, i, qcow2_count_of(word));
	}
}

static int
write_blocks(const struct rebuild *r, struct qcow2_array *rt, struct smd_error *err)
{
	struct qcow2_image *img = r->c->img;
	CLEANUP_FREE uint8_t *buf = malloc(img->g.cluster_size);
	uint64_t cluster = r->start + r->rt_clusters;

	if (!buf)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	for (uint64_t block = 0; block < r->n_blocks; block++) {
		if (!r->needed[block])
			continue;
		rt->entries[block] = cluster++ << img->g.cluster_bits;
		fill_block(r, block, buf);
		if (img->io->ops->pwrite(img->io, buf, img->g.cluster_size, rt->entries[block],
					 err) < 0)
			return -1;
	}
	return 0;
}

static int
switch_to(struct qcow2_image *img, const struct rebuild *r, struct qcow2_array *rt,
	  struct smd_error *err)
{
	if (qcow2_array_write(rt, img->io, 0, rt->n, err) < 0 || qcow2_flush_io(img, err) < 0)
		return -1;
	img->h.rt_offset = rt->offset;
	img->h.rt_clusters = (uint32_t)r->rt_clusters;
	if (qcow2_header_write(img, err) < 0)
		return -1;
	free(img->rt.entries);
	img->rt = *rt;
	rt->entries = NULL;
	for (uint64_t block = 0; block < img->rt.n; block++)
		if (img->rt.entries[block] != 0)
			qcow2_cache_drop(&img->rb_cache, img->rt.entries[block]);
	return 0;
}

static int
rebuild(struct qcow2_checker *c, struct smd_error *err)
{
	struct qcow2_image *img = c->img;
	struct rebuild r = { .c = c };
	struct qcow2_array rt = { 0 };
	int result = -1;

	if (plan(&r, err) < 0)
		goto out;
	rt.n = r.n_blocks;
	rt.offset = r.start << img->g.cluster_bits;
	rt.entries = calloc(rt.n, sizeof *rt.entries);
	if (!rt.entries) {
		smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
		goto out;
	}
	if (write_blocks(&r, &rt, err) == 0)
		result = switch_to(img, &r, &rt, err);
out:
	free(r.needed);
	free(rt.entries);
	return result;
}

/* ---- Both ------------------------------------------------------------------------ */

static int
check_writable(const struct qcow2_checker *c, struct smd_error *err)
{
	if (c->io->flags & SMD_IO_WRITABLE)
		return 0;
	return smd_fail(err, SMD_REASON_IO, c->io->name, "not opened for writing");
}

int
qcow2_repair(struct qcow2_checker *c, bool leaks_only, struct smd_error *err)
{
	struct qcow2_image *img = c->img;
	const uint64_t marks = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT;

	if (check_writable(c, err) < 0)
		return -1;
	if (c->rebuild ? rebuild(c, err) < 0 :
	    adjust(c, true, err) < 0 || adjust(c, false, err) < 0)
		return -1;
	if (qcow2_copied_refresh(img, &img->l1, err) < 0 || qcow2_sync(img, err) < 0)
		return -1;
	if (!leaks_only && (img->h.incompatible & marks)) {
		img->h.incompatible &= ~marks;
		if (qcow2_header_write(img, err) < 0)
			return -1;
	}
	return qcow2_flush_io(img, err);
}

int
qcow2_repair_drop_bitmaps(struct qcow2_checker *c, struct smd_error *err)
{
	if (check_writable(c, err) < 0)
		return -1;
	c->img->h.autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_BITMAPS;
	return qcow2_header_write(c->img, err);
}
