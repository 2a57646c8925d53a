/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The check: findings, the comparison of what is used with what is counted, and
 * the order of passes and repairs. Findings are kept until the end, as only then
 * it is known whether they have been repaired.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/check.h"

#define FINDINGS_MAX 1000u

void
qcow2_found(struct qcow2_checker *c, enum smd_finding_kind kind, enum smd_reason reason,
	    bool repairable, const char *fmt, ...)
{
	struct qcow2_finding finding = { kind, reason, repairable, NULL };
	struct qcow2_finding *findings;
	va_list ap;

	if (!repairable)
		c->unsafe = true;
	if (c->n_findings == FINDINGS_MAX) {
		c->n_silent++;
		c->silent_corruption |= kind == SMD_FINDING_CORRUPTION;
		return;
	}
	va_start(ap, fmt);
	if (vasprintf(&finding.text, fmt, ap) < 0)
		finding.text = NULL;
	va_end(ap);
	findings = realloc(c->findings, (c->n_findings + 1) * sizeof *findings);
	if (!findings || !finding.text) {
		c->findings = findings ? findings : c->findings;
		free(finding.text);
		c->n_silent++;
		c->silent_corruption |= kind == SMD_FINDING_CORRUPTION;
		return;
	}
	findings[c->n_findings++] = finding;
	c->findings = findings;
}

void
qcow2_found_fault(struct qcow2_checker *c, const char *where, const struct qcow2_fault *fault)
{
	qcow2_found(c, SMD_FINDING_CORRUPTION, fault->reason, false, "%s: %s", where, fault->text);
}

/* ---- Counted against used -------------------------------------------------------- */

/* Neighbours with one fault are one finding. */
struct run {
	struct qcow2_checker *c;
	uint64_t first, n;	/* n 0: none */
	uint64_t count, used;
};

static void
run_end(struct run *r)
{
	struct qcow2_checker *c = r->c;

	if (r->n == 0)
		return;
	if (r->count > r->used) {
		c->leaks = true;
		qcow2_found(c, SMD_FINDING_LEAK, SMD_REASON_LEAK, true,
			    "%" PRIu64 " clusters from %" PRIu64 " on: refcount %" PRIu64
			    ", used %" PRIu64 " times", r->n, r->first, r->count, r->used);
	} else {
		c->low = true;
		qcow2_found(c, SMD_FINDING_CORRUPTION, SMD_REASON_REFCOUNT_LOW,
			    r->used <= c->img->g.refcount_max,
			    "%" PRIu64 " clusters from %" PRIu64 " on: refcount %" PRIu64
			    ", used %" PRIu64 " times", r->n, r->first, r->count, r->used);
	}
	r->n = 0;
}

static int
run_add(void *opaque, uint64_t cluster, uint64_t count, uint64_t used, struct smd_error *err)
{
	struct run *r = opaque;

	(void)err;
	if (count == used) {
		run_end(r);
		return 0;
	}
	if (r->n != 0 && (r->first + r->n != cluster || r->count != count || r->used != used))
		run_end(r);
	if (r->n == 0)
		*r = (struct run){ r->c, cluster, 0, count, used };
	r->n++;
	return 0;
}

/* Both a block and a page have a power of two of counts, 64 at least: the smaller
 * one lies inside the other. */
int
qcow2_compare_block(struct qcow2_checker *c, uint64_t block, qcow2_compare_fn *fn, void *opaque,
		    struct smd_error *err)
{
	const struct qcow2_geometry *g = &c->img->g;
	uint64_t first = block * g->rb_entries;
	uint64_t n = smd_min_u64(g->rb_entries, QCOW2_PAGE_CLUSTERS);
	struct qcow2_table *rb;

	if (qcow2_rb_get(c->img, block, &rb, err) < 0)
		return -1;
	for (uint64_t at = 0; rb && at < g->rb_entries; at += n) {
		struct qcow2_page *page =
			qcow2_counts_page(&c->counts, (first + at) / QCOW2_PAGE_CLUSTERS);

		if (!page && qcow2_rb_is_zero(rb->data, g->refcount_order, at, n))
			continue;
		for (uint64_t i = at; i < at + n; i++) {
			uint32_t word = page ? page->counts[(first + i) % QCOW2_PAGE_CLUSTERS] : 0;

			if (fn(opaque, first + i, qcow2_refcount_load(rb->data, g->refcount_order, i),
			       qcow2_count_of(word), err) < 0)
				return -1;
		}
	}
	return 0;
}

/* A cluster in use that no block counts. */
static int
compare_uncounted(void *opaque, uint64_t cluster, uint64_t used, enum qcow2_use use,
		  struct smd_error *err)
{
	struct run *run = opaque;
	struct qcow2_checker *c = run->c;
	uint64_t block = cluster / c->img->g.rb_entries;

	(void)use;
	if (block < c->img->rt.n && c->img->rt.entries[block] != 0)
		return 0;
	c->rebuild = true;
	return run_add(run, cluster, 0, used, err);
}

static int
compare_counts(struct qcow2_checker *c, struct smd_error *err)
{
	struct run run = { .c = c };

	for (uint64_t block = 0; block < c->img->rt.n; block++)
		if (c->img->rt.entries[block] != 0 &&
		    qcow2_compare_block(c, block, run_add, &run, err) < 0)
			return -1;
	run_end(&run);
	if (qcow2_counts_each(&c->counts, compare_uncounted, &run, err) < 0)
		return -1;
	run_end(&run);
	return 0;
}

/* ---- The whole -------------------------------------------------------------------------- */

static int
run_passes(struct qcow2_checker *c, struct smd_error *err)
{
	if (qcow2_check_refs(c, err) < 0 || compare_counts(c, err) < 0 ||
	    qcow2_check_copied(c, err) < 0)
		return -1;
	if (c->img->h.incompatible & QCOW2_INCOMPAT_CORRUPT)
		qcow2_found(c, SMD_FINDING_CORRUPTION, SMD_REASON_CORRUPT_BIT, true,
			    "marked corrupt by its last writer");
	return 0;
}

/* What the bitmaps held is now leaked: count anew, from what is on the disk. */
static int
drop_bitmaps(struct qcow2_checker *c, struct smd_error *err)
{
	if (qcow2_repair_drop_bitmaps(c, err) < 0)
		return -1;
	qcow2_counts_done(&c->counts);
	for (size_t i = 0; i < c->n_findings; i++)
		free(c->findings[i].text);
	c->n_findings = c->n_silent = 0;
	memset(&c->stats, 0, sizeof c->stats);
	c->last_host = 0;
	c->leaks = c->low = c->copied = c->unsafe = c->rebuild = false;
	free(c->img->rt.entries);
	c->img->rt.entries = NULL;
	if (run_passes(c, err) < 0)
		return -1;
	qcow2_found(c, SMD_FINDING_CORRUPTION, SMD_REASON_BITMAP_DIR, true,
		    "the bitmaps were malformed");
	return 0;
}

/* Whether there is work that was asked for and is safe. */
static bool
may_repair(const struct qcow2_checker *c, uint32_t repair)
{
	bool all = (repair & 3) == SMD_REPAIR_ALL;
	bool marked = c->img->h.incompatible &
		(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT);

	if (c->unsafe || (repair & 3) == SMD_REPAIR_NONE || (repair & SMD_REPAIR_DRY_RUN))
		return false;
	return all ? c->leaks || c->low || c->copied || c->rebuild || marked :
		c->leaks && !c->low && !c->rebuild;
}

static void
tell_kept(const struct qcow2_checker *c, bool leaks, bool repaired, smd_finding_fn *found,
	  void *opaque)
{
	for (size_t i = 0; i < c->n_findings; i++) {
		const struct qcow2_finding *kept = &c->findings[i];
		struct smd_finding f = { kept->kind, kept->reason, kept->repairable && !c->unsafe,
					 repaired, kept->text };

		if (leaks == (kept->kind == SMD_FINDING_LEAK))
			found(opaque, &f);
	}
}

/* What hurts first. */
static void
tell(const struct qcow2_checker *c, bool repaired, bool leaks_only, smd_finding_fn *found,
     void *opaque)
{
	char rest[80];
	struct smd_finding f = { SMD_FINDING_CORRUPTION, SMD_REASON_REFCOUNT_LOW, false, false,
				 rest };

	tell_kept(c, false, repaired && !leaks_only, found, opaque);
	tell_kept(c, true, repaired, found, opaque);
	if (c->n_silent == 0)
		return;
	snprintf(rest, sizeof rest, "and %" PRIu64 " more like these", c->n_silent);
	f.text = rest;
	f.repaired = repaired && !leaks_only;
	f.kind = c->silent_corruption ? SMD_FINDING_CORRUPTION : SMD_FINDING_LEAK;
	found(opaque, &f);
}

/* Unsafe to write: keep others from it, as the repair was asked for. */
static int
seal(struct qcow2_checker *c, uint32_t repair, struct smd_error *err)
{
	if (c->unsafe && (repair & 3) == SMD_REPAIR_ALL && !(repair & SMD_REPAIR_DRY_RUN) &&
	    (c->io->flags & SMD_IO_WRITABLE))
		qcow2_mark_corrupt(c->img, err);
	return c->img->failed ? -1 : 0;
}

static void
checker_done(struct qcow2_checker *c)
{
	for (size_t i = 0; i < c->n_findings; i++)
		free(c->findings[i].text);
	free(c->findings);
	qcow2_counts_done(&c->counts);
	qcow2_close(c->img);
}

int
qcow2_check(struct smd_io *io, uint32_t repair, smd_finding_fn *found, void *opaque,
	    struct smd_check *ret, struct smd_error *err)
{
	__attribute__((cleanup(checker_done))) struct qcow2_checker c = { .io = io };
	bool leaks_only = (repair & 3) == SMD_REPAIR_LEAKS, repaired = false;

	if (qcow2_open_for_check(io, &c.img, err) < 0 || run_passes(&c, err) < 0)
		return -1;
	if (c.bitmaps && repair == SMD_REPAIR_ALL && drop_bitmaps(&c, err) < 0)
		return -1;
	if (may_repair(&c, repair)) {
		if (qcow2_repair(&c, leaks_only, err) < 0)
			return -1;
		repaired = true;
	}
	if (seal(&c, repair, err) < 0)
		return -1;
	tell(&c, repaired || (c.bitmaps && repair == SMD_REPAIR_ALL && !c.unsafe), leaks_only,
	     found, opaque);
	*ret = c.stats;
	return 0;
}
