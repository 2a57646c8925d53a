/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The merged view. Each layer is asked in batches of bounded size, which are
 * then passed on without its lock: what a layer leaves to its parent is asked
 * of the next one, and the answers come out in order with neighbours joined.
 */
#include "common/image/chain-impl.h"

#include <inttypes.h>
#include <string.h>

#define BATCH_MAX 256

struct batch {
	const struct chain_layer *layer;
	uint64_t next, end;		/* what is still to come */
	bool full;
	size_t n;
	struct smd_extent list[BATCH_MAX];
};

static int
batch_add(void *opaque, const struct smd_extent *extent, struct smd_error *err)
{
	struct batch *b = opaque;
	struct smd_extent e = *extent;
	uint64_t end;

	if (b->n == BATCH_MAX) {
		b->full = true;
		return smd_fail_INTERNAL_ERROR(err, "full", "the batch is full");
	}
	if (!smd_add_u64(e.offset, e.count, &end) || e.offset > b->next || end <= b->next ||
	    b->next == b->end)
		return smd_fail_INTERNAL_ERROR(err, b->layer->format->name,
				"%s: the module left a gap or went back at %" PRIu64,
				b->layer->io->name, b->next);
	/* A module may round outward to its units: cut at what was asked. */
	if (e.kind == SMD_EXTENT_DATA)
		e.host_offset += b->next - e.offset;
	e.offset = b->next;
	e.count = smd_min_u64(end, b->end) - e.offset;
	b->next += e.count;
	b->list[b->n++] = e;
	return 0;
}

/* Ask a layer about [b->next, b->end), as far as the batch holds. */
static int
batch_fill(struct chain_layer *l, struct batch *b, struct smd_error *err)
{
	int r;

	b->n = 0;
	b->full = false;
	b->layer = l;
	pthread_mutex_lock(&l->lock);
	r = l->format->extents(l->img, b->next, b->end - b->next, batch_add, b, err);
	pthread_mutex_unlock(&l->lock);
	if (b->full) {
		smd_error_clear(err);
		return 0;
	}
	if (r == 0 && b->next != b->end)
		return smd_fail_INTERNAL_ERROR(err, l->format->name,
				"%s: the module stopped at %" PRIu64, l->io->name, b->next);
	return r;
}

struct map {
	struct smd_chain *chain;
	size_t n;			/* layers asked */
	bool by_layer;			/* runs of zeroes say whose they are */
	smd_run_fn *add;
	void *opaque;
	struct smd_run pending;		/* count 0: none */
};

static bool
run_continues(const struct map *m, const struct smd_run *a, const struct smd_run *b)
{
	if (a->kind != b->kind || a->offset + a->count != b->offset)
		return false;
	if (a->kind == SMD_EXTENT_ZERO && !m->by_layer)
		return true;
	return a->layer == b->layer &&
	       (a->kind != SMD_EXTENT_DATA || a->host_offset + a->count == b->host_offset);
}

static int
map_emit(struct map *m, enum smd_extent_kind kind, size_t layer, uint64_t offset, uint64_t count,
	 uint64_t host_offset, struct smd_error *err)
{
	const struct smd_run run = {
		.kind = kind,
		.offset = offset,
		.count = count,
		.layer = layer,
		.io = kind == SMD_EXTENT_DATA ? m->chain->layers[layer].io : NULL,
		.host_offset = host_offset,
	};

	if (count == 0)
		return 0;
	if (m->pending.count && run_continues(m, &m->pending, &run)) {
		m->pending.count += count;
		return 0;
	}
	if (m->pending.count && m->add(m->opaque, &m->pending, err) < 0)
		return -1;
	m->pending = run;
	return 0;
}

static int map_layer(struct map *m, size_t layer, uint64_t offset, uint64_t end,
		     struct smd_error *err);

static int
map_batch(struct map *m, size_t layer, const struct batch *b, uint64_t offset, uint64_t end,
	  struct smd_error *err)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct smd_extent *e = &b->list[i];
		uint64_t from = smd_max_u64(e->offset, offset);
		uint64_t to = smd_min_u64(e->offset + e->count, end);

		if (from >= to)
			continue;
		if (e->kind == SMD_EXTENT_PARENT) {
			if (map_layer(m, layer + 1, from, to, err) < 0)
				return -1;
		} else if (map_emit(m, e->kind, layer, from, to - from,
				    e->host_offset + (from - e->offset), err) < 0) {
			return -1;
		}
	}
	return 0;
}

/* [offset, end) as this layer and those below it show it. */
static int
map_layer(struct map *m, size_t layer, uint64_t offset, uint64_t end, struct smd_error *err)
{
	struct batch b;
	uint64_t limit;

	if (layer == m->n)
		return map_emit(m, m->n == m->chain->n ? SMD_EXTENT_ZERO : SMD_EXTENT_PARENT,
				m->by_layer ? layer : 0, offset, end - offset, 0, err);
	limit = smd_min_u64(end, m->chain->layers[layer].info.virtual_size);
	if (offset < limit) {
		b.next = smd_round_down_u64(offset, SMD_SECTOR);
		b.end = (limit + SMD_SECTOR - 1) & ~(uint64_t)(SMD_SECTOR - 1);
		while (b.next < b.end) {
			if (batch_fill(&m->chain->layers[layer], &b, err) < 0 ||
			    map_batch(m, layer, &b, offset, limit, err) < 0)
				return -1;
		}
		offset = limit;
	}
	/* Past this layer's end there is nothing, whatever lies below it. */
	return map_emit(m, SMD_EXTENT_ZERO, m->by_layer ? layer : 0, offset, end - offset, 0, err);
}

static int
map_run(struct map *m, size_t first, uint64_t offset, uint64_t end, struct smd_error *err)
{
	if (map_layer(m, first, offset, end, err) < 0)
		return -1;
	return m->pending.count ? m->add(m->opaque, &m->pending, err) : 0;
}

int
smd_chain_extents(struct smd_chain *chain, uint64_t offset, uint64_t count, smd_run_fn *add,
		  void *opaque, struct smd_error *err)
{
	struct map m = { .chain = chain, .n = chain->n, .add = add, .opaque = opaque };

	if (!smd_range_ok(offset, count, smd_chain_size(chain)))
		return smd_fail_INVALID_VALUE(err, "offset", SMD_U64(offset),
				"%" PRIu64 " bytes at %" PRIu64 " pass the end of the disk, %" PRIu64,
				count, offset, smd_chain_size(chain));
	return map_run(&m, 0, offset, offset + count, err);
}

int
chain_extents_of(struct smd_chain *chain, size_t first, size_t n, uint64_t offset, uint64_t end,
		 smd_run_fn *add, void *opaque, struct smd_error *err)
{
	struct map m = { .chain = chain, .n = first + n, .by_layer = true,
			 .add = add, .opaque = opaque };

	return map_run(&m, first, offset, end, err);
}

static int
run_shows(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	(void)err;
	if (run->kind != SMD_EXTENT_ZERO)
		*(bool *)opaque = true;
	return 0;
}

int
chain_below_shows(struct smd_chain *chain, uint64_t offset, uint64_t end, bool *ret,
		  struct smd_error *err)
{
	bool shows = false;

	if (chain_extents_of(chain, 1, chain->n - 1, offset, end, run_shows, &shows, err) < 0)
		return -1;
	*ret = shows;
	return 0;
}
