/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a copy of a delta moves. Either what the upper layers of a chain hold:
 * their data, and their zeroes where the layers below show something else. Or
 * what differs from another disk, as far as the extents tell: ranges that are
 * zeroes in both, or lie at the same place of the same file, are equal without
 * a look at them; the copier compares the rest.
 */
#include "common/image/copy-impl.h"

#include <string.h>
#include <sys/stat.h>

#include "common/mem.h"

/* ---- Zeroes over what shows below ---- */

static int
keep_zero(struct plan *plan, uint64_t start, uint64_t end, struct smd_error *err)
{
	const struct smd_run run = {
		.kind = SMD_EXTENT_ZERO, .offset = start, .count = end - start,
	};

	return start < end ? plan_keep(plan, &run, err) : 0;
}

/* In three: whole units need no reading, what shares a unit with others does. */
static int
delta_zero(void *opaque, const struct smd_run *below, struct smd_error *err)
{
	struct plan *plan = opaque;
	uint64_t start = below->offset, end = start + below->count;
	uint64_t first = (start + plan->unit - 1) & ~(plan->unit - 1);
	uint64_t last = end == smd_chain_size(plan->chain) ? end :
			smd_round_down_u64(end, plan->unit);

	if (below->kind == SMD_EXTENT_ZERO)
		return 0;
	if (first >= last)
		return keep_zero(plan, start, end, err);
	if (keep_zero(plan, start, first, err) < 0 || keep_zero(plan, first, last, err) < 0)
		return -1;
	return keep_zero(plan, last, end, err);
}

static int
delta_below(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct plan *plan = opaque;

	return plan_split_holes(&plan->below_holes, run, delta_zero, plan, err);
}

static int
upper_part(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct plan *plan = opaque;

	if (run->kind != SMD_EXTENT_ZERO)
		return plan_keep(plan, run, err);
	return chain_extents_of(plan->chain, plan->upper, plan->chain->n - plan->upper,
				run->offset, run->offset + run->count, delta_below, plan, err);
}

static int
upper_run(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct plan *plan = opaque;

	if (run->kind == SMD_EXTENT_PARENT)
		return 0;
	return plan_split_holes(&plan->holes, run, upper_part, plan, err);
}

/* ---- Two disks ---- */

struct pair {
	struct plan *plan;
	struct smd_run run;		/* of the chain */
};

static bool
same_place(const struct plan *plan, const struct smd_run *a, const struct smd_run *b)
{
	if (a->kind != b->kind || a->kind == SMD_EXTENT_ZERO)
		return a->kind == b->kind;
	if (!plan->same_file[a->layer * plan->base->n + b->layer])
		return false;
	/* One image maps a range of the disk to one encoded unit. */
	return a->kind == SMD_EXTENT_ENCODED ||
	       a->host_offset + (b->offset - a->offset) == b->host_offset;
}

static int
pair_part(void *opaque, const struct smd_run *b, struct smd_error *err)
{
	struct pair *pair = opaque;
	struct smd_run part = pair->run;

	if (same_place(pair->plan, &part, b))
		return 0;
	part.host_offset += b->offset - part.offset;
	part.offset = b->offset;
	part.count = b->count;
	return plan_keep(pair->plan, &part, err);
}

static int
pair_below(void *opaque, const struct smd_run *b, struct smd_error *err)
{
	struct pair *pair = opaque;

	return plan_split_holes(&pair->plan->below_holes, b, pair_part, pair, err);
}

static int
base_part(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct pair pair = { opaque, *run };

	return chain_extents_of(pair.plan->base, 0, pair.plan->base->n, run->offset,
				run->offset + run->count, pair_below, &pair, err);
}

static int
base_run(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct plan *plan = opaque;

	return plan_split_holes(&plan->holes, run, base_part, plan, err);
}

static bool
is_same_file(const struct smd_io *a, const struct smd_io *b)
{
	int fd_a = smd_io_fd((struct smd_io *)a), fd_b = smd_io_fd((struct smd_io *)b);
	struct stat x, y;

	if (fd_a < 0 || fd_b < 0 || fstat(fd_a, &x) < 0 || fstat(fd_b, &y) < 0)
		return false;
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino && x.st_rdev == y.st_rdev;
}

void
delta_init(struct plan *plan)
{
	if (!plan->base)
		return;
	plan->same_file = smd_calloc(plan->chain->n * plan->base->n, sizeof *plan->same_file);
	for (size_t i = 0; i < plan->chain->n; i++) {
		for (size_t j = 0; j < plan->base->n; j++)
			plan->same_file[i * plan->base->n + j] =
				is_same_file(plan->chain->layers[i].io, plan->base->layers[j].io);
	}
}

int
delta_fill(struct plan *plan, uint64_t from, struct smd_error *err)
{
	uint64_t count = smd_chain_size(plan->chain) - from;

	if (plan->base)
		return smd_chain_extents(plan->chain, from, count, base_run, plan, err);
	return chain_extents_of(plan->chain, 0, plan->upper, from, from + count, upper_run, plan,
				err);
}

/* ---- Its digest ---- */

struct below {
	struct smd_chain *chain;
	uint8_t *buf;
	uint64_t offset;
};

static int
below_run(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	const struct below *b = opaque;

	return chain_read_run(b->chain, run, b->buf + (run->offset - b->offset), err);
}

int
copy_read_below(struct smd_chain *chain, size_t first, uint8_t *buf, uint64_t offset,
		uint64_t count, struct smd_error *err)
{
	struct below b = { chain, buf, offset };

	if (first == chain->n) {
		memset(buf, 0, count);
		return 0;
	}
	return chain_extents_of(chain, first, chain->n - first, offset, offset + count, below_run,
				&b, err);
}

static uint64_t
page_up(uint64_t offset)
{
	return smd_round_down_u64(offset + SMD_DIGEST_PAGE - 1, SMD_DIGEST_PAGE);
}

int
delta_digest(const struct plan *plan, const struct plan_item *item, uint8_t *buf,
	     uint64_t window, struct smd_digest *digest, struct smd_error *err)
{
	uint64_t start = smd_max_u64(smd_round_down_u64(item->offset, SMD_DIGEST_PAGE),
				     page_up(item->gap_start));
	uint64_t end = page_up(item->offset + item->count);
	bool whole = start == item->offset && end == item->offset + item->count;
	struct smd_digest below = { 0, 0 };

	if (!whole)
		*digest = below;
	for (uint64_t at = start; at < end;) {
		uint64_t n = smd_min_u64(window, end - at);

		if (!whole) {
			if (copy_read_padded(plan->chain, buf, at, n, err) < 0)
				return -1;
			smd_digest_add(digest, buf, n, at);
		}
		if (copy_read_below(plan->chain, plan->upper, buf, at, n, err) < 0)
			return -1;
		smd_digest_add(&below, buf, n, at);
		at += n;
	}
	smd_digest_take(digest, &below);
	return 0;
}
