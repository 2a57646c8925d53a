/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copying. Threads take items in the order of the disk, read them window by
 * window, leave out what is zero, and have the destination say where the rest
 * goes; those questions too are asked in the order of the disk (turns), so that
 * the destination's file lies in that order. Where the result is compressed they
 * encode before their turn, and write what is encoded during it.
 *
 * A file has one writer at a time (its inode's lock). A thread that finds another
 * writing reads its next item meanwhile, and writes all that it has once the pen is
 * free; only when it has COPY_BEHIND of them does it wait. Past the page cache its
 * writes are under way while it reads, for COPY_UNDER_WAY items at a time.
 */
#include "common/image/copy-thread.h"

#include <sched.h>
#include <string.h>

#include "common/mem.h"

#define PEN_TRIES 500u

/* One thread's own: its items, of which n from the first on are read and have their places, and
 * wait to be written, or until they are. */
struct copy_thread {
	struct copy *copy;
	struct copy_item items[COPY_ITEMS_MAX];
	unsigned first, n;
	struct smd_queue *queue;	/* NULL: none */
	uint8_t *base_buf;
};

/* ---- Turns ---- */

static pthread_cond_t *
turn_cond(struct copy *c, uint64_t seq)
{
	return &c->turns[seq % COPY_THREADS_MAX];
}

int
copy_turn_take(struct copy_item *w, struct smd_error *err)
{
	struct copy *c = w->copy;

	if (w->had_turn)
		return 0;
	LOCK_SCOPE(&c->turn_lock);
	while (c->turn != w->item.seq && !atomic_load(&c->crew.stop))
		pthread_cond_wait(turn_cond(c, w->item.seq), &c->turn_lock);
	if (atomic_load(&c->crew.stop))
		return smd_fail_TASK_CANCELLED(err, "", "another thread stopped the copy");
	return 0;
}

void
copy_turn_pass(struct copy_item *w)
{
	struct copy *c = w->copy;

	if (w->had_turn)
		return;
	w->had_turn = true;
	pthread_mutex_lock(&c->turn_lock);
	while (c->turn < w->item.seq && !atomic_load(&c->crew.stop))
		pthread_cond_wait(turn_cond(c, w->item.seq), &c->turn_lock);
	c->turn = w->item.seq + 1;
	pthread_cond_broadcast(turn_cond(c, c->turn));
	pthread_mutex_unlock(&c->turn_lock);
}

/* A thread that fails wakes those who wait for its turn. */
static void
turns_end(struct copy *c, struct smd_error *err)
{
	crew_fail(&c->crew, err);
	pthread_mutex_lock(&c->turn_lock);
	for (unsigned i = 0; i < COPY_THREADS_MAX; i++)
		pthread_cond_broadcast(&c->turns[i]);
	pthread_mutex_unlock(&c->turn_lock);
}

/* ---- Segments: parts of a window with places of their own ---- */

int
copy_reserve(struct copy_item *w, uint64_t offset, uint64_t count, struct smd_error *err)
{
	if (w->n_segments == w->room) {
		size_t room = w->room ? 2 * w->room : 4;

		w->segments = smd_reallocarray(w->segments, room, sizeof *w->segments);
		memset(w->segments + w->room, 0, (room - w->room) * sizeof *w->segments);
		w->room = room;
	}
	count = (count + SMD_SECTOR - 1) & ~(uint64_t)(SMD_SECTOR - 1);
	if (chain_reserve(w->copy->dst, offset, count, &w->segments[w->n_segments], err) < 0)
		return -1;
	w->n_segments++;
	return 0;
}

int
copy_segments_end(struct copy_item *w, int r, struct smd_error *err)
{
	for (size_t i = 0; i < w->n_segments; i++) {
		if (r < 0)
			chain_abandon(w->copy->dst, &w->segments[i]);
		else
			r = chain_commit(w->copy->dst, &w->segments[i], err);
	}
	w->n_segments = 0;
	return r;
}

/* ---- Items ---- */

/* A delta's units of zeroes, whole ones. */
static int
item_zero(struct copy_item *w, struct smd_error *err)
{
	struct copy *c = w->copy;

	if (copy_turn_take(w, err) < 0 ||
	    smd_chain_zero(c->dst, w->item.offset, w->item.count, true, err) < 0)
		return -1;
	atomic_fetch_add_explicit(&c->zero, w->item.count, memory_order_relaxed);
	return 0;
}

static int
item_move(struct copy_item *w, struct smd_error *err)
{
	struct copy *c = w->copy;
	uint64_t gap = w->item.offset - w->item.gap_start;

	/* An earlier run has copied it, and its hash is not known. */
	if (w->item.offset + w->item.count <= c->reread)
		return copy_item_hash(w, err);
	if (w->item.zero)
		return item_zero(w, err);
	if (gap > 0 && !c->delta && copy_zero(c, w->item.gap_start, gap, err) < 0)
		return -1;
	if (c->share_block)
		return copy_sharing(w, err);
	if (w->waits)
		return copy_small_read(w, err);
	return c->plan.unit <= c->window ? copy_small(w, err) : copy_large(w, err);
}

/* Whether it may be read now and written later: its bytes are in one buffer until then, and
 * nobody wants to be slow. */
static bool
item_can_wait(const struct copy_item *w)
{
	struct copy *c = w->copy;
	uint64_t end = w->item.offset + w->item.count;

	return c->behind > 1 && !w->item.zero && end > c->reread &&
	       end <= smd_round_down_u64(w->item.offset, c->window) + c->window &&
	       !crew_is_slowed(&c->crew);
}

/* It is where it belongs. */
static int
item_done(struct copy_item *w, struct smd_error *err)
{
	struct copy *c = w->copy;

	/* Between the items of a whole disk there are zeroes, which count nothing. */
	if (c->options->verify)
		copy_hashes_add(&c->hashes, &(struct copy_hash){
				.offset = c->delta ? w->item.offset : w->item.gap_start,
				.end = w->item.offset + w->item.count, .sum = w->digest });
	if (c->delta && c->digest &&
	    delta_digest(&c->plan, &w->item, w->buf, c->window, &w->digest, err) < 0)
		return -1;
	copy_marks_item(&c->marks, &w->item, &w->digest);
	return w->item.data > 0 ? crew_done(&c->crew, w->item.data, err) : 0;
}

/* ---- Threads ---- */

static struct copy_item *
thread_item(struct copy_thread *t, unsigned i)
{
	return &t->items[(t->first + i) % t->copy->behind];
}

/* The first n that wait are written, or are soon; r < 0 if they are not: then their places go
 * back. */
static int
thread_end(struct copy_thread *t, unsigned n, int r, struct smd_error *err)
{
	struct copy *c = t->copy;
	uint64_t seq = 0;

	for (unsigned i = 0; i < n; i++) {
		struct copy_item *w = thread_item(t, 0);

		seq = w->item.seq;
		r = copy_small_end(w, r, err);
		if (r == 0)
			r = item_done(w, err);
		t->first = (t->first + 1) % c->behind;
		t->n--;
	}
	/* Whoever waits for others to end what lies before has nothing of that itself. */
	return r == 0 && n > 0 ? copy_mark_if_due(&c->marks, seq + 1, err) : r;
}

/* It is free again within a window or two, some 100 us: to sleep and be woken would take as
 * long. Only where others have the processors is there somebody to yield to. */
static void
pen_take(struct copy *c)
{
	for (unsigned i = 0; i < PEN_TRIES; i++) {
		if (pthread_mutex_trylock(&c->pen) == 0)
			return;
		sched_yield();
	}
	pthread_mutex_lock(&c->pen);
}

/* Write what waits; unless all of it must be, only where nobody is writing. */
static int
thread_write(struct copy_thread *t, bool must, struct smd_error *err)
{
	struct copy *c = t->copy;
	int r = 0;

	if (t->n == 0)
		return 0;
	if (t->queue)
		return must ? thread_end(t, t->n, 0, err) : 0;
	if (must)
		pen_take(c);
	else if (pthread_mutex_trylock(&c->pen) != 0)
		return 0;
	for (unsigned i = 0; i < t->n && r == 0; i++)
		r = copy_small_write(thread_item(t, i), err);
	pthread_mutex_unlock(&c->pen);
	return thread_end(t, t->n, r, err);
}

/* It is on its way; of what is, the first has to end before there is room for another. */
static int
thread_send(struct copy_thread *t, struct copy_item *w, struct smd_error *err)
{
	t->n++;
	if (copy_small_write(w, err) < 0)
		return -1;
	return t->n == t->copy->behind ? thread_end(t, 1, 0, err) : 0;
}

/* 1: *ret is the next, 0: there is none. Before a pause all that is done is marked, by
 * whoever comes to it last. */
static int
thread_next(struct copy_thread *t, struct copy_item **ret, struct smd_error *err)
{
	struct copy *c = t->copy;
	struct copy_item *w;

	if (crew_is_paused(&c->crew) &&
	    (thread_write(t, true, err) < 0 || copy_mark(&c->marks, err) < 0))
		return -1;
	w = *ret = thread_item(t, t->n);
	LOCK_SCOPE(&c->plan_lock);
	if (atomic_load(&c->crew.stop))
		return 0;
	w->had_turn = false;
	w->digest = (struct smd_digest){ 0, 0 };
	return plan_next(&c->plan, &w->item, err);
}

static int
thread_copy(struct copy_thread *t, struct copy_item *w, struct smd_error *err)
{
	struct copy *c = t->copy;

	w->waits = item_can_wait(w);
	if (!w->waits && thread_write(t, true, err) < 0)
		return -1;
	crew_throttle(&c->crew, w->item.data);
	if (item_move(w, err) < 0)
		return -1;
	copy_turn_pass(w);
	if (w->waits && t->queue)
		return thread_send(t, w, err);
	if (w->waits)
		return thread_write(t, ++t->n == c->behind, err);
	if (item_done(w, err) < 0)
		return -1;
	return copy_mark_if_due(&c->marks, w->item.seq + 1, err);
}

static int
thread_init(struct copy_thread *t, struct copy *c, struct smd_error *err)
{
	t->copy = c;
	if (c->options->base)
		t->base_buf = smd_try_malloc_pages(c->window);
	if (c->options->base && !t->base_buf)
		return smd_fail_INTERNAL_ERROR(err, "memory", "no memory for a window");
	if (c->queued)
		t->queue = smd_queue_new(chain_leaf(c->dst)->io);
	for (unsigned i = 0; i < c->behind; i++) {
		t->items[i].copy = c;
		t->items[i].queue = t->queue;
		t->items[i].buf = c->windows + atomic_fetch_add(&c->n_windows, 1) * c->window;
		t->items[i].base_buf = t->base_buf;
	}
	if (c->options->compress) {
		t->items[0].encoded = smd_malloc_pages(c->window);
		t->items[0].encoded_len = smd_calloc(c->window / c->unit, sizeof(size_t));
	}
	return 0;
}

static void
thread_done(struct copy_thread *t)
{
	smd_queue_free(t->queue);
	for (unsigned i = 0; i < COPY_ITEMS_MAX; i++) {
		struct copy_item *w = &t->items[i];

		for (size_t j = 0; j < w->room; j++)
			chain_places_free(&w->segments[j]);
		free(w->segments);
		plan_item_free(&w->item);
		free(w->encoded);
		free(w->encoded_len);
	}
	free(t->base_buf);
}

int
copy_work(struct crew *crew, void *opaque, struct smd_error *err)
{
	CLEANUP(thread_done) struct copy_thread t = { .copy = NULL };
	struct copy *c = opaque;
	struct copy_item *w;
	int r;

	(void)crew;
	if (thread_init(&t, c, err) < 0)
		return -1;
	while ((r = thread_next(&t, &w, err)) > 0) {
		r = thread_copy(&t, w, err);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = thread_write(&t, true, err);
	if (r < 0) {
		thread_end(&t, t.n, -1, err);
		turns_end(c, err);
	}
	return 0;
}
