/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The checker's walks: from all roots to every cluster, counting; and over the
 * active tables once more, for their copied flags. A table that is met where it
 * must not be is reported and not entered, so the work is bounded by the file's
 * size times the number of snapshots.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/check.h"

static const char *const use_names[] = {
	[QCOW2_USE_NONE] = "nothing",
	[QCOW2_USE_DATA] = "guest data",
	[QCOW2_USE_COMPRESSED] = "compressed data",
	[QCOW2_USE_L2] = "an L2 table",
	[QCOW2_USE_HEADER] = "the header",
	[QCOW2_USE_RT] = "the refcount table",
	[QCOW2_USE_RB] = "a refcount block",
	[QCOW2_USE_L1] = "the L1 table",
	[QCOW2_USE_SNAPSHOT_TABLE] = "the snapshot table",
	[QCOW2_USE_SNAPSHOT_L1] = "a snapshot's L1 table",
	[QCOW2_USE_BITMAP] = "a bitmap",
};

/* Whether the cluster was met before in this tree; it then is marked. */
static bool
seen_before(struct qcow2_checker *c, struct qcow2_page *page, uint32_t i)
{
	uint64_t bit = UINT64_C(1) << i % 64;
	bool seen;

	if (page->seen_tree != c->tree) {
		memset(page->seen, 0, sizeof page->seen);
		page->seen_tree = c->tree;
	}
	seen = page->seen[i / 64] & bit;
	page->seen[i / 64] |= bit;
	return seen;
}

static void
found_shared(struct qcow2_checker *c, uint64_t cluster, enum qcow2_use was, enum qcow2_use use)
{
	bool data = was <= QCOW2_USE_COMPRESSED && use <= QCOW2_USE_COMPRESSED;
	enum smd_reason reason = data ? SMD_REASON_DATA_OVERLAP : SMD_REASON_TABLE_OVERLAP;

	if (was == use && was <= QCOW2_USE_L2)
		reason = SMD_REASON_DUP_REF;
	qcow2_found(c, SMD_FINDING_CORRUPTION, reason, false,
		    "host cluster %" PRIu64 " is both %s and %s", cluster, use_names[was],
		    use_names[use]);
}

/* Count one use. Returns 1 for one that must not be. */
static int
claim(struct qcow2_checker *c, uint64_t cluster, enum qcow2_use use, struct smd_error *err)
{
	struct qcow2_page *page = qcow2_counts_make(&c->counts, cluster / QCOW2_PAGE_CLUSTERS);
	uint32_t i = cluster % QCOW2_PAGE_CLUSTERS;
	enum qcow2_use was;
	bool seen, good;

	if (!page)
		return smd_fail(err, SMD_REASON_UNSUPPORTED, c->io->name,
				"more clusters in use than memory can count");
	was = qcow2_use_of(page->counts[i]);
	seen = use != QCOW2_USE_COMPRESSED && seen_before(c, page, i);
	good = was == QCOW2_USE_NONE ||
		(was == use && use <= QCOW2_USE_L2 && !seen);
	if (!good)
		found_shared(c, cluster, was, use);
	if (was == QCOW2_USE_NONE)
		page->counts[i] = (uint32_t)use << 28;
	if (qcow2_count_of(page->counts[i]) != 0x0fffffffu)
		page->counts[i]++;
	c->stats.image_end_offset = smd_max_u64(c->stats.image_end_offset,
						(cluster + 1) << c->img->g.cluster_bits);
	return !good;
}

/* Count the clusters that count bytes at offset touch. */
static int
claim_bytes(struct qcow2_checker *c, uint64_t offset, uint64_t count, enum qcow2_use use,
	    struct smd_error *err)
{
	uint64_t cluster = offset >> c->img->g.cluster_bits;
	uint64_t end = (offset + count + c->img->g.cluster_size - 1) >> c->img->g.cluster_bits;
	int bad = 0;

	for (; cluster < end; cluster++) {
		int r = claim(c, cluster, use, err);

		if (r < 0)
			return -1;
		bad |= r;
	}
	return bad;
}

/* ---- One L2 table ------------------------------------------------------------------ */

static void
count_stats(struct qcow2_checker *c, const struct qcow2_entry *entry)
{
	uint64_t host = entry->host & ~(c->img->g.cluster_size - 1);

	if (entry->compressed_size == 0 && entry->alloc == 0)
		return;
	c->stats.allocated_units++;
	c->stats.compressed_units += entry->compressed_size != 0;
	if (c->last_host != 0 && host != c->last_host + c->img->g.cluster_size)
		c->stats.fragmented_units++;
	c->last_host = host;
}

static int
walk_entry(struct qcow2_checker *c, const uint8_t *p, bool active, const char *where,
	   struct smd_error *err)
{
	struct qcow2_entry entry;
	struct qcow2_fault fault;
	uint64_t first, n;

	if (qcow2_entry_parse(c->img, p, &entry, &fault) < 0) {
		qcow2_found_fault(c, where, &fault);
		return 0;
	}
	if (entry.host != 0 && entry.host >= c->io->size) {
		qcow2_found(c, SMD_FINDING_CORRUPTION, SMD_REASON_DATA_BOUNDS, false,
			    "%s: preallocated cluster at %" PRIu64 " is past the end", where,
			    entry.host);
		return 0;
	}
	if (active)
		count_stats(c, &entry);
	qcow2_entry_clusters(c->img, &entry, &first, &n);
	for (uint64_t i = 0; i < n; i++)
		if (claim(c, first + i, entry.compressed_size ? QCOW2_USE_COMPRESSED :
			  QCOW2_USE_DATA, err) < 0)
			return -1;
	return 0;
}

static int
walk_l2(struct qcow2_checker *c, uint64_t offset, bool active, uint8_t *buf, const char *where,
	struct smd_error *err)
{
	const struct qcow2_geometry *g = &c->img->g;
	int r = 0;

	if (!smd_range_ok(offset, g->cluster_size, c->io->size)) {
		qcow2_found(c, SMD_FINDING_CORRUPTION, SMD_REASON_TABLE_BOUNDS, false,
			    "%s: L2 table at %" PRIu64 " passes the end, %" PRIu64, where, offset,
			    c->io->size);
		return 0;
	}
	r = claim(c, offset >> g->cluster_bits, QCOW2_USE_L2, err);
	if (r != 0)
		return r < 0 ? -1 : 0;
	if (c->io->ops->pread(c->io, buf, g->cluster_size, offset, err) < 0)
		return -1;
	for (uint64_t i = 0; r == 0 && i < g->l2_entries; i++) {
		const uint8_t *p = buf + i * g->l2_entry_size;

		if (smd_load_be64(p) != 0 || (g->n_sub > 1 && smd_load_be64(p + 8) != 0))
			r = walk_entry(c, p, active, where, err);
	}
	return r;
}

static int
walk_tree(struct qcow2_checker *c, const struct qcow2_array *l1, bool active, const char *where,
	  struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = malloc(c->img->g.cluster_size);
	struct qcow2_fault fault;
	uint64_t offset;

	if (!buf)
		return smd_fail(err, SMD_REASON_IO, c->io->name, "out of memory");
	c->tree++;
	for (uint64_t i = 0; i < l1->n; i++) {
		if (qcow2_l1_parse(c->img, l1->entries[i], &offset, &fault) < 0)
			qcow2_found_fault(c, where, &fault);
		else if (offset == 0 && l1->entries[i] != 0)
			qcow2_found(c, SMD_FINDING_CORRUPTION, SMD_REASON_BAD_L2_ENTRY, false,
				    "%s: entry %" PRIu64 " has the copied flag and no offset",
				    where, i);
		else if (offset != 0 && walk_l2(c, offset, active, buf, where, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- Roots ---------------------------------------------------------------------------- */

static int
walk_snapshot(struct qcow2_checker *c, const struct qcow2_snapshot *s, struct smd_error *err)
{
	struct qcow2_array l1 = { 0 };
	uint64_t needed = smd_div_round_up_u64(s->virtual_size, c->img->g.l2_span);
	int r;

	if (s->l1_size < needed)
		qcow2_found(c, SMD_FINDING_CORRUPTION, SMD_REASON_L1_TOO_SMALL, false,
			    "a snapshot's L1 table has %" PRIu32 " entries, its size needs %" PRIu64,
			    s->l1_size, needed);
	r = claim_bytes(c, s->l1_offset, s->l1_size * 8ull, QCOW2_USE_SNAPSHOT_L1, err);
	if (r != 0)
		return r < 0 ? -1 : 0;
	if (qcow2_array_load(&l1, c->io, s->l1_offset, s->l1_size, err) < 0)
		return -1;
	r = walk_tree(c, &l1, false, "snapshot", err);
	free(l1.entries);
	return r;
}

static int
walk_snapshots(struct qcow2_checker *c, struct smd_error *err)
{
	struct qcow2_snapshot s;
	uint64_t pos = 0;

	for (uint32_t i = 0; i < c->img->h.n_snapshots; i++) {
		int r;

		if (qcow2_snapshot_read(c->img, &pos, &s, err) < 0)
			return -1;
		r = walk_snapshot(c, &s, err);
		qcow2_snapshot_done(&s);
		if (r < 0)
			return -1;
	}
	return 0;
}

static int
walk_refcount_blocks(struct qcow2_checker *c, struct smd_error *err)
{
	const struct qcow2_array *rt = &c->img->rt;

	for (uint64_t i = 0; i < rt->n; i++) {
		uint64_t offset = rt->entries[i];
		enum smd_reason reason = offset & QCOW2_RT_RESERVED ?
			SMD_REASON_RESERVED_BITS : SMD_REASON_TABLE_MISALIGNED;
		int r;

		if (offset == 0)
			continue;
		if (offset % c->img->g.cluster_size == 0)
			reason = SMD_REASON_TABLE_BOUNDS;
		if (offset % c->img->g.cluster_size != 0 ||
		    !smd_range_ok(offset, c->img->g.cluster_size, c->io->size)) {
			qcow2_found(c, SMD_FINDING_CORRUPTION, reason, true,
				    "refcount block %" PRIu64 " at %" PRIu64
				    " is misaligned or outside the file", i, offset);
			c->rebuild = true;
			c->img->rt.entries[i] = 0;
			continue;
		}
		r = claim(c, offset >> c->img->g.cluster_bits, QCOW2_USE_RB, err);
		if (r < 0)
			return -1;
		/* Something else, too: no need to read it, again and again. */
		if (r > 0)
			c->img->rt.entries[i] = 0;
	}
	return 0;
}

static int
claim_bitmap(void *opaque, uint64_t offset, uint64_t count, struct smd_error *err)
{
	return claim_bytes(opaque, offset, count, QCOW2_USE_BITMAP, err) < 0 ? -1 : 0;
}

static int
walk_bitmaps(struct qcow2_checker *c, struct smd_error *err)
{
	struct qcow2_fault fault;
	int r = qcow2_bitmaps_walk(c->img, claim_bitmap, c, &fault, err);

	if (r != 1)
		return r;
	qcow2_found(c, SMD_FINDING_CORRUPTION, fault.reason, true, "%s", fault.text);
	c->bitmaps = true;
	return 0;
}

int
qcow2_check_refs(struct qcow2_checker *c, struct smd_error *err)
{
	struct qcow2_image *img = c->img;
	uint64_t table_size;

	c->stats.total_units = smd_div_round_up_u64(img->h.size, img->g.cluster_size);
	if (qcow2_snapshots_check(img, &table_size, err) < 0 || qcow2_rt_load(img, err) < 0 ||
	    claim(c, 0, QCOW2_USE_HEADER, err) < 0 ||
	    claim_bytes(c, img->rt.offset, img->rt.n * 8, QCOW2_USE_RT, err) < 0 ||
	    walk_refcount_blocks(c, err) < 0 ||
	    claim_bytes(c, img->l1.offset, img->l1.n * 8, QCOW2_USE_L1, err) < 0 ||
	    claim_bytes(c, img->h.snapshots_offset, table_size, QCOW2_USE_SNAPSHOT_TABLE,
			err) < 0 ||
	    walk_bitmaps(c, err) < 0 || walk_tree(c, &img->l1, true, "active tables", err) < 0)
		return -1;
	return walk_snapshots(c, err);
}

/* ---- Copied flags ------------------------------------------------------------------------ */

static int
check_flag(struct qcow2_checker *c, uint64_t host, bool copied, const char *what,
	   struct smd_error *err)
{
	uint64_t count;

	if (qcow2_refcount_get(c->img, host >> c->img->g.cluster_bits, &count, err) < 0)
		return -1;
	if (copied == (count == 1))
		return 0;
	c->copied = true;
	qcow2_found(c, SMD_FINDING_CORRUPTION, SMD_REASON_COPIED_FLAG, true,
		    "%s at %" PRIu64 " has refcount %" PRIu64 ", its copied flag is %s", what, host,
		    count, copied ? "set" : "clear");
	return 0;
}

static int
check_l2_flags(struct qcow2_checker *c, uint64_t offset, uint8_t *buf, struct smd_error *err)
{
	const struct qcow2_geometry *g = &c->img->g;
	struct qcow2_entry entry;
	struct qcow2_fault fault;

	if (!smd_range_ok(offset, g->cluster_size, c->io->size))
		return 0;
	if (c->io->ops->pread(c->io, buf, g->cluster_size, offset, err) < 0)
		return -1;
	for (uint64_t i = 0; i < g->l2_entries; i++)
		if (smd_load_be64(buf + i * g->l2_entry_size) != 0 &&
		    qcow2_entry_parse(c->img, buf + i * g->l2_entry_size, &entry, &fault) == 0 &&
		    entry.host != 0 && entry.compressed_size == 0 &&
		    check_flag(c, entry.host, entry.copied, "data cluster", err) < 0)
			return -1;
	return 0;
}

int
qcow2_check_copied(struct qcow2_checker *c, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *buf = malloc(c->img->g.cluster_size);
	const struct qcow2_array *l1 = &c->img->l1;
	struct qcow2_fault fault;
	uint64_t offset;

	if (!buf)
		return smd_fail(err, SMD_REASON_IO, c->io->name, "out of memory");
	c->tree++;
	for (uint64_t i = 0; i < l1->n; i++) {
		struct qcow2_page *page;

		if (qcow2_l1_parse(c->img, l1->entries[i], &offset, &fault) < 0 || offset == 0)
			continue;
		if (check_flag(c, offset, l1->entries[i] & QCOW2_COPIED, "L2 table", err) < 0)
			return -1;
		page = qcow2_counts_page(&c->counts, (offset >> c->img->g.cluster_bits) /
					 QCOW2_PAGE_CLUSTERS);
		if (page && !seen_before(c, page, (offset >> c->img->g.cluster_bits) %
					 QCOW2_PAGE_CLUSTERS) &&
		    check_l2_flags(c, offset, buf, err) < 0)
			return -1;
	}
	return 0;
}
