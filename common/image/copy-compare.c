/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/copy-impl.h"

#include <string.h>

#include "common/mem.h"

/* Windows in which either disk has data, in order. */
struct side {
	struct plan plan;
	struct plan_item item;
	bool has;
};

struct compare {
	struct crew crew;
	struct side sides[2];
	pthread_mutex_t lock;		/* guards sides and differs */
	uint64_t end;			/* bytes looked at from here on matter not */
	uint64_t differs;		/* UINT64_MAX: nowhere yet */
};

static int
side_advance(struct side *s, struct smd_error *err)
{
	int r = plan_next(&s->plan, &s->item, err);

	s->has = r > 0;
	return r < 0 ? -1 : 0;
}

/* 1: the next window is at *ret_offset; 0: none. */
static int
compare_next(struct compare *c, uint64_t *ret_offset, uint64_t *ret_data, struct smd_error *err)
{
	uint64_t at = UINT64_MAX;

	LOCK_SCOPE(&c->lock);
	*ret_data = 0;
	for (int i = 0; i < 2; i++) {
		if (c->sides[i].has)
			at = smd_min_u64(at, c->sides[i].item.offset);
	}
	if (at >= c->end || at > c->differs)
		return 0;
	for (int i = 0; i < 2; i++) {
		struct side *s = &c->sides[i];

		if (!s->has || s->item.offset != at)
			continue;
		*ret_data += s->item.data;
		if (side_advance(s, err) < 0)
			return -1;
	}
	*ret_offset = at;
	return 1;
}

static void
compare_note(struct compare *c, const uint8_t *a, const uint8_t *b, uint64_t offset, uint64_t n)
{
	uint64_t i = 0;

	while (i < n && a[i] == b[i])
		i++;
	LOCK_SCOPE(&c->lock);
	c->differs = smd_min_u64(c->differs, offset + i);
}

static int
compare_work(struct crew *crew, void *opaque, struct smd_error *err)
{
	struct compare *c = opaque;
	CLEANUP_FREE uint8_t *a = smd_malloc_pages(COPY_WINDOW);
	CLEANUP_FREE uint8_t *b = smd_malloc_pages(COPY_WINDOW);
	uint64_t at, data;
	int r = 0;

	while (!atomic_load(&crew->stop) && (r = compare_next(c, &at, &data, err)) > 0) {
		uint64_t n = smd_min_u64(COPY_WINDOW, c->end - at);

		crew_throttle(crew, data);
		if (copy_read_padded(c->sides[0].plan.chain, a, at, n, err) < 0 ||
		    copy_read_padded(c->sides[1].plan.chain, b, at, n, err) < 0)
			return -1;
		if (memcmp(a, b, n) != 0)
			compare_note(c, a, b, at, n);
		if (crew_done(crew, data, err) < 0)
			return -1;
	}
	return r < 0 ? -1 : 0;
}

static void
cleanup_compare(struct compare *c)
{
	for (int i = 0; i < 2; i++) {
		plan_free(&c->sides[i].plan);
		plan_item_free(&c->sides[i].item);
	}
	pthread_mutex_destroy(&c->lock);
}

static int
compare_run(struct compare *c, struct smd_chain *a, struct smd_chain *b, struct smd_error *err)
{
	const struct smd_copy_options *o = c->crew.options;
	struct smd_chain *chains[2] = { a, b };

	for (int i = 0; i < 2; i++) {
		if (plan_init(&c->sides[i].plan, chains[i], COPY_WINDOW, COPY_WINDOW, UINT64_MAX,
			      err) < 0)
			return -1;
		c->crew.total += c->sides[i].plan.total;
		if (side_advance(&c->sides[i], err) < 0)
			return -1;
	}
	if (o->progress && o->progress(o->opaque, 0, c->crew.total))
		return smd_fail_TASK_CANCELLED(err, "", "cancelled before the first byte");
	return crew_run(&c->crew, crew_size(o, c->crew.total, CREW_WAITS), err);
}

int
smd_compare(struct smd_chain *a, struct smd_chain *b, bool strict,
	    const struct smd_copy_options *options, uint64_t *ret_offset, struct smd_error *err)
{
	uint64_t smaller = smd_min_u64(smd_chain_size(a), smd_chain_size(b));
	uint64_t larger = smd_max_u64(smd_chain_size(a), smd_chain_size(b));
	CLEANUP(cleanup_compare) struct compare c = {
		.crew = { .options = options, .work = compare_work, .opaque = &c },
		.differs = UINT64_MAX, .end = strict ? smaller : larger,
	};

	pthread_mutex_init(&c.lock, NULL);
	if (compare_run(&c, a, b, err) < 0)
		return -1;
	if (strict && larger != smaller)
		c.differs = smd_min_u64(c.differs, smaller);
	*ret_offset = c.differs;
	return 0;
}
