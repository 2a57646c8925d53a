/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An image as a sequence of pieces, for pipes: header, refcount table and blocks,
 * L1, L2 tables, then the clusters with data in the guest's order. Each place
 * follows from the extents alone, so nothing is kept but one table.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

struct stream {
	struct qcow2_plan plan;
	const struct smd_extent *data;
	size_t n_data;
	uint64_t n_clusters;	/* with data */
	uint64_t n_l2;		/* tables with entries */
	smd_piece_fn *emit;
	void *opaque;
	uint8_t *buf;		/* one cluster */
};

/* Runs of clusters with data, in order: extents that share a cluster are one. */
struct runs {
	const struct stream *s;
	size_t next;
	uint64_t first, end;	/* clusters */
};

static bool
runs_next(struct runs *r)
{
	unsigned bits = r->s->plan.g.cluster_bits;

	if (r->next == r->s->n_data)
		return false;
	r->first = r->s->data[r->next].offset >> bits;
	if (r->first < r->end)
		r->first = r->end;	/* begun by the run before */
	do {
		const struct smd_extent *e = &r->s->data[r->next++];

		r->end = smd_max_u64(r->end, (e->offset + e->count +
					      r->s->plan.g.cluster_size - 1) >> bits);
	} while (r->next < r->s->n_data && r->s->data[r->next].offset >> bits <= r->end);
	return true;
}

static int
emit_bytes(struct stream *s, uint64_t count, struct smd_error *err)
{
	struct smd_piece piece = { .kind = SMD_PIECE_BYTES, .bytes = s->buf, .count = count };

	return s->emit(s->opaque, &piece, err);
}

static void
count(struct stream *s)
{
	struct runs r = { .s = s };
	uint64_t next_l2 = 0;	/* tables below it are counted */

	while (runs_next(&r)) {
		uint64_t first = r.first / s->plan.g.l2_entries;
		uint64_t last = (r.end - 1) / s->plan.g.l2_entries;

		s->n_clusters += r.end - r.first;
		s->n_l2 += last + 1 - smd_max_u64(first, smd_min_u64(next_l2, last + 1));
		next_l2 = last + 1;
	}
}

static int
emit_refcounts(struct stream *s, struct smd_error *err)
{
	const struct qcow2_geometry *g = &s->plan.g;
	uint64_t total = s->plan.end + s->n_l2 + s->n_clusters, per_cluster = g->cluster_size / 8;

	for (uint64_t i = 0; i < s->plan.rt_clusters; i++) {
		memset(s->buf, 0, g->cluster_size);
		for (uint64_t j = 0; j < per_cluster; j++) {
			uint64_t block = i * per_cluster + j;

			if (block < s->plan.rb_clusters)
				smd_store_be64(s->buf + j * 8, (1 + s->plan.rt_clusters + block) <<
					       g->cluster_bits);
		}
		if (emit_bytes(s, g->cluster_size, err) < 0)
			return -1;
	}
	for (uint64_t i = 0; i < s->plan.rb_clusters; i++) {
		memset(s->buf, 0, g->cluster_size);
		for (uint64_t j = 0; j < g->rb_entries && i * g->rb_entries + j < total; j++)
			qcow2_refcount_store(s->buf, g->refcount_order, j, 1);
		if (emit_bytes(s, g->cluster_size, err) < 0)
			return -1;
	}
	return 0;
}

static int
emit_l1(struct stream *s, struct smd_error *err)
{
	const struct qcow2_geometry *g = &s->plan.g;
	uint64_t per_cluster = g->cluster_size / 8, l2 = s->plan.end;
	struct runs r = { .s = s };
	bool more = runs_next(&r);

	for (uint64_t i = 0; i < s->plan.l1_clusters; i++) {
		memset(s->buf, 0, g->cluster_size);
		for (uint64_t j = 0; j < per_cluster; j++) {
			uint64_t start = (i * per_cluster + j) * g->l2_entries;

			while (more && r.end <= start)
				more = runs_next(&r);
			if (more && r.first < start + g->l2_entries)
				smd_store_be64(s->buf + j * 8,
					       l2++ << g->cluster_bits | QCOW2_COPIED);
		}
		if (emit_bytes(s, g->cluster_size, err) < 0)
			return -1;
	}
	return 0;
}

static void
put_entry(struct stream *s, uint64_t index, uint64_t host)
{
	uint8_t *p = s->buf + index * s->plan.g.l2_entry_size;

	smd_store_be64(p, host << s->plan.g.cluster_bits | QCOW2_COPIED);
	if (s->plan.g.n_sub > 1)
		smd_store_be64(p + 8, UINT32_MAX);
}

static int
emit_l2(struct stream *s, struct smd_error *err)
{
	const struct qcow2_geometry *g = &s->plan.g;
	uint64_t host = s->plan.end + s->n_l2, table = UINT64_MAX;
	struct runs r = { .s = s };

	while (runs_next(&r))
		for (uint64_t c = r.first; c < r.end; c++) {
			if (c / g->l2_entries != table) {
				if (table != UINT64_MAX && emit_bytes(s, g->cluster_size, err) < 0)
					return -1;
				table = c / g->l2_entries;
				memset(s->buf, 0, g->cluster_size);
			}
			put_entry(s, c % g->l2_entries, host++);
		}
	return table == UINT64_MAX ? 0 : emit_bytes(s, g->cluster_size, err);
}

static int
emit_data(struct stream *s, struct smd_error *err)
{
	struct runs r = { .s = s };

	while (runs_next(&r)) {
		struct smd_piece piece = {
			.kind = SMD_PIECE_GUEST,
			.count = (r.end - r.first) << s->plan.g.cluster_bits,
			.guest_offset = r.first << s->plan.g.cluster_bits,
		};

		if (s->emit(s->opaque, &piece, err) < 0)
			return -1;
	}
	return 0;
}

int
qcow2_stream(const struct smd_create *params, const struct smd_extent *data, size_t n_data,
	     smd_piece_fn *emit, void *opaque, struct smd_error *err)
{
	static const char name[] = "stream";
	struct stream s = { .data = data, .n_data = n_data, .emit = emit, .opaque = opaque };
	CLEANUP_FREE uint8_t *head = NULL;
	int r = -1;

	if (qcow2_plan_init(&s.plan, params, 0, name, err) < 0)
		return -1;
	count(&s);
	if (qcow2_plan_init(&s.plan, params, s.n_l2 + s.n_clusters, name, err) < 0 ||
	    qcow2_plan_header(&s.plan, params, name, &head, err) < 0)
		return -1;
	s.buf = TAKE_PTR(head);
	if (emit_bytes(&s, s.plan.g.cluster_size, err) == 0 && emit_refcounts(&s, err) == 0 &&
	    emit_l1(&s, err) == 0 && emit_l2(&s, err) == 0)
		r = emit_data(&s, err);
	free(s.buf);
	return r;
}
