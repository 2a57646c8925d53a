/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The checker's own header. It works in three passes: count every cluster's
 * uses from all roots (check-refs.c), compare with the refcounts, then compare
 * the copied flags (check.c). Repairs (repair.c) only ever make refcounts and
 * flags agree with the tables, and only when the tables are beyond doubt.
 */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include "plugins/format/qcow2/qcow2.h"

/* What a host cluster is. */
enum qcow2_use {
	QCOW2_USE_NONE,
	QCOW2_USE_DATA,
	QCOW2_USE_COMPRESSED,
	QCOW2_USE_L2,		/* up to here: snapshots may share it */
	QCOW2_USE_HEADER,
	QCOW2_USE_RT,
	QCOW2_USE_RB,
	QCOW2_USE_L1,
	QCOW2_USE_SNAPSHOT_TABLE,
	QCOW2_USE_SNAPSHOT_L1,
	QCOW2_USE_BITMAP,
};

/* ---- counts.c: a counter per cluster in use --------------------------------- */

#define QCOW2_PAGE_CLUSTERS 1024u

struct qcow2_page {
	uint64_t index;		/* of its first cluster / QCOW2_PAGE_CLUSTERS */
	uint32_t counts[QCOW2_PAGE_CLUSTERS];	/* use << 28 | count */
	uint64_t seen[QCOW2_PAGE_CLUSTERS / 64];	/* within tree seen_tree */
	uint32_t seen_tree;
	struct qcow2_page *next;
};

struct qcow2_counts {
	struct qcow2_page **buckets;
	size_t n_buckets;
	size_t n_pages;
};

void qcow2_counts_done(struct qcow2_counts *counts);
struct qcow2_page *qcow2_counts_page(const struct qcow2_counts *counts, uint64_t index);
/* Make it. NULL: out of memory, or over the limit. */
struct qcow2_page *qcow2_counts_make(struct qcow2_counts *counts, uint64_t index);
uint64_t qcow2_counts_get(const struct qcow2_counts *counts, uint64_t cluster);
/* Call for each cluster in use, in no order; stops at the first non-zero. */
typedef int qcow2_count_fn(void *opaque, uint64_t cluster, uint64_t count, enum qcow2_use use,
			   struct smd_error *err);
int qcow2_counts_each(const struct qcow2_counts *counts, qcow2_count_fn *fn, void *opaque,
		      struct smd_error *err);

static inline uint32_t
qcow2_count_of(uint32_t word)
{
	return word & 0x0fffffffu;
}

static inline enum qcow2_use
qcow2_use_of(uint32_t word)
{
	return (enum qcow2_use)(word >> 28);
}

/* ---- One run of the checker ---------------------------------------------------- */

struct qcow2_finding {
	enum smd_finding_kind kind;
	enum smd_reason reason;
	bool repairable;
	char *text;
};

struct qcow2_checker {
	struct smd_io *io;
	struct qcow2_image *img;
	struct qcow2_counts counts;
	uint32_t tree;		/* number of the L1 tree being walked */
	struct qcow2_finding *findings;
	size_t n_findings;
	uint64_t n_silent;	/* found, but not kept: too many */
	bool silent_corruption;	/* and they were more than leaks */
	struct smd_check stats;
	uint64_t last_host;	/* of the active disk's clusters, for fragmented_units */

	bool unsafe;		/* something that no one may guess about */
	bool low, leaks, copied, bitmaps;	/* what a repair would mend */
	bool rebuild;		/* the refcount structures themselves are broken */
};

/* Keep a finding. repairable is false for whatever makes the image unsafe. */
__attribute__((format(printf, 5, 6)))
void qcow2_found(struct qcow2_checker *c, enum smd_finding_kind kind, enum smd_reason reason,
		 bool repairable, const char *fmt, ...);
void qcow2_found_fault(struct qcow2_checker *c, const char *where,
		       const struct qcow2_fault *fault);

/* ---- check.c --------------------------------------------------------------------- */

typedef int qcow2_compare_fn(void *opaque, uint64_t cluster, uint64_t count, uint64_t used,
			     struct smd_error *err);
/* Call for each cluster that the block counts, but for stretches of which none is
 * counted and none is used. */
int qcow2_compare_block(struct qcow2_checker *c, uint64_t block, qcow2_compare_fn *fn,
			void *opaque, struct smd_error *err);

/* ---- check-refs.c ---------------------------------------------------------------- */

/* Count every use of every cluster. */
int qcow2_check_refs(struct qcow2_checker *c, struct smd_error *err);
/* Compare the copied flags of the active tables with the refcounts. */
int qcow2_check_copied(struct qcow2_checker *c, struct smd_error *err);

/* ---- repair.c ---------------------------------------------------------------------- */

/* Mend what the checker found, which is not unsafe. */
int qcow2_repair(struct qcow2_checker *c, bool leaks_only, struct smd_error *err);
int qcow2_repair_drop_bitmaps(struct qcow2_checker *c, struct smd_error *err);

#endif
