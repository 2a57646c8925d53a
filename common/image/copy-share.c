/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An item's extents: shared by both files where they can be, and copied where not.
 */
#include "common/image/copy-thread.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

uint64_t
copy_share_block(struct smd_io *from, struct smd_io *to)
{
	int to_fd = smd_io_fd(to), from_fd = smd_io_fd(from);
	struct stat a, b;
	struct statfs fs;

	if (to_fd < 0 || from_fd < 0 || fstat(to_fd, &a) < 0 || fstat(from_fd, &b) < 0 ||
	    a.st_dev != b.st_dev || !S_ISREG(a.st_mode) || fstatfs(to_fd, &fs) < 0)
		return 0;
	if ((fs.f_type != XFS_SUPER_MAGIC && fs.f_type != BTRFS_SUPER_MAGIC) || !smd_io_can_share(to))
		return 0;
	return smd_is_pow2_u64((uint64_t)fs.f_bsize) ? (uint64_t)fs.f_bsize : 0;
}

/* [from, to) of a piece, through the buffer. */
static int
share_by_copy(struct copy_item *w, const struct smd_place *p, uint64_t from, uint64_t to,
	      struct smd_error *err)
{
	while (from < to) {
		uint64_t stop = smd_min_u64(to, from + w->copy->window);

		if (copy_read_item(&w->copy->plan, &w->item, w->buf, from, stop - from, err) < 0 ||
		    copy_write_place(w, p, w->buf, from, stop, err) < 0)
			return -1;
		from = stop;
	}
	return 0;
}

/* An item's pieces from first to last: what is shared in one call, which costs as much as
 * copying many pages does, with the holes between them. */
struct share {
	size_t first, last;
	struct smd_run run;		/* all of it */
};

static struct share
share_take(const struct copy_item *w, size_t first)
{
	const struct plan_item *item = &w->item;
	struct share s = { first, first, item->pieces[first] };

	while (!w->copy->delta && s.last + 1 < item->n_pieces &&
	       runs_join(&s.run, &item->pieces[s.last + 1])) {
		const struct smd_run *next = &item->pieces[++s.last];

		s.run.count = next->offset + next->count - s.run.offset;
	}
	return s;
}

/* What of [from, to) was shared is data, but for the holes. */
static void
share_count(struct copy_item *w, const struct share *s, uint64_t from, uint64_t to)
{
	uint64_t data = 0;

	for (size_t i = s->first; i <= s->last; i++) {
		const struct smd_run *piece = &w->item.pieces[i];
		uint64_t start = smd_max_u64(piece->offset, from);
		uint64_t end = smd_min_u64(piece->offset + piece->count, to);

		data += start < end ? end - start : 0;
	}
	atomic_fetch_add_explicit(&w->copy->shared, data, memory_order_relaxed);
}

/* The part of it that lies in a place. What the block size does not allow to be shared is
 * copied. */
static int
share_part(struct copy_item *w, const struct smd_place *p, const struct share *s,
	   struct smd_error *err)
{
	struct copy *c = w->copy;
	const struct smd_run *run = &s->run;
	uint64_t from = smd_max_u64(p->offset, run->offset);
	uint64_t to = smd_min_u64(p->offset + p->count, run->offset + run->count);
	uint64_t src = run->host_offset + (from - run->offset);
	uint64_t dst = p->host_offset + (from - p->offset);
	uint64_t head = -src & (c->share_block - 1);
	uint64_t middle;

	if (from >= to)
		return 0;
	if (run->kind != SMD_EXTENT_DATA || ((src ^ dst) & (c->share_block - 1)) ||
	    to - from < head + c->share_block)
		return share_by_copy(w, p, from, to, err);
	middle = smd_round_down_u64(to - from - head, c->share_block);
	if (smd_io_share(chain_leaf(c->dst)->io, dst + head, run->io, src + head, middle) != 0)
		return share_by_copy(w, p, from, to, err);
	share_count(w, s, from + head, from + head + middle);
	if (share_by_copy(w, p, from, from + head, err) < 0)
		return -1;
	return share_by_copy(w, p, from + head + middle, to, err);
}

/* What of a place no piece covers: zeroes, unless it is zero already; of a delta
 * what lies below. */
static int
share_place(struct copy_item *w, const struct smd_place *p, struct smd_error *err)
{
	uint64_t end = smd_min_u64(p->offset + p->count, w->item.offset + w->item.count);
	uint64_t at = p->offset;

	for (size_t i = 0; i <= w->item.n_pieces; i++) {
		bool last = i == w->item.n_pieces;
		uint64_t to = last ? end : smd_min_u64(end, w->item.pieces[i].offset);
		struct share s;

		if (at < to && (w->copy->delta || !copy_place_is_zero(w->copy, p)) &&
		    share_by_copy(w, p, at, to, err) < 0)
			return -1;
		if (last)
			break;
		s = share_take(w, i);
		if (share_part(w, p, &s, err) < 0)
			return -1;
		at = smd_max_u64(at, s.run.offset + s.run.count);
		i = s.last;
	}
	return 0;
}

/* The data do not pass by: only for their digest are they read. */
int
copy_sharing(struct copy_item *w, struct smd_error *err)
{
	int r = w->copy->options->verify || w->copy->digest ? copy_item_hash(w, err) : 0;

	if (r == 0)
		r = copy_turn_take(w, err);
	if (r == 0)
		r = copy_reserve(w, w->item.offset, w->item.count, err);
	if (r == 0)
		copy_turn_pass(w);
	for (size_t i = 0; r == 0 && i < w->segments[0].n; i++)
		r = share_place(w, &w->segments[0].list[i], err);
	return copy_segments_end(w, r, err);
}
