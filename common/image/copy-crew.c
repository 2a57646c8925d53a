/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/copy-impl.h"

#include <sched.h>
#include <string.h>

#include "common/mem.h"

#define CREW_STACK (1u << 20)
#define PROGRESS_MS 100
#define PROGRESS_STEPS 50	/* or sooner, when so much of the whole is done */
#define NS_PER_S INT64_C(1000000000)
#define NAP_NS (NS_PER_S / 10)
#define UNDER_WAY_BYTES (32u << 20)

unsigned
crew_size(const struct smd_copy_options *options, uint64_t total, unsigned each)
{
	uint64_t n = options->n_threads;
	cpu_set_t cores;

	if (n == 0)	/* two where there is but one processor: one may wait */
		n = sched_getaffinity(0, sizeof cores, &cores) == 0 ?
		    smd_max_u64(each * (uint64_t)CPU_COUNT(&cores), 2) : 4;
	n = smd_min_u64(n, COPY_THREADS_MAX);
	return (unsigned)smd_min_u64(n, total / COPY_WINDOW + 1);	/* no thread without work */
}

void
crew_fail(struct crew *crew, struct smd_error *err)
{
	LOCK_SCOPE(&crew->lock);
	if (!crew->err.code)
		smd_error_move(&crew->err, err);
	else
		smd_error_clear(err);
	atomic_store(&crew->stop, true);
}

static void *
crew_thread(void *opaque)
{
	struct crew *crew = opaque;
	struct smd_error err = SMD_ERROR_INIT;

	if (crew->work(crew, crew->opaque, &err) < 0)
		crew_fail(crew, &err);
	return NULL;
}

unsigned
crew_under_way(unsigned n_threads, uint64_t bytes)
{
	uint64_t n = UNDER_WAY_BYTES / (n_threads * bytes);

	return (unsigned)smd_min_u64(smd_max_u64(n, 1), COPY_UNDER_WAY);
}

int
crew_run(struct crew *crew, unsigned n, struct smd_error *err)
{
	pthread_t threads[COPY_THREADS_MAX];
	pthread_attr_t attr;
	unsigned started = 0;

	pthread_mutex_init(&crew->lock, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, CREW_STACK);
	/* Fewer threads than wanted are slower and nothing else. */
	while (started + 1 < n &&
	       pthread_create(&threads[started], &attr, crew_thread, crew) == 0)
		started++;
	pthread_attr_destroy(&attr);
	crew_thread(crew);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	pthread_mutex_destroy(&crew->lock);
	if (!crew->err.code)
		return 0;
	smd_error_move(err, &crew->err);
	return -1;
}

static int64_t
ns_between(const struct timespec *from, const struct timespec *to)
{
	return (to->tv_sec - from->tv_sec) * NS_PER_S + (to->tv_nsec - from->tv_nsec);
}

static bool
is_stopped(struct smd_copy_control *control)
{
	if (!control)
		return false;
	LOCK_SCOPE(&control->lock);
	return control->stopped;
}

int
crew_done(struct crew *crew, uint64_t bytes, struct smd_error *err)
{
	const struct smd_copy_options *o = crew->options;
	struct timespec now;

	if (is_stopped(o->control))
		return smd_fail_JOB_STOPPED(err, "stopped as asked");
	LOCK_SCOPE(&crew->lock);
	crew->done += bytes;
	if (!o->progress)
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (crew->done < crew->total && bytes > 0 &&
	    crew->done - crew->told < crew->total / PROGRESS_STEPS &&
	    ns_between(&crew->last_progress, &now) < PROGRESS_MS * INT64_C(1000000))
		return 0;
	crew->last_progress = now;
	crew->told = crew->done;
	if (o->progress(o->opaque, crew->done, crew->total) != 0)
		return smd_fail_TASK_CANCELLED(err, "", "cancelled after %llu of %llu bytes",
				(unsigned long long)crew->done, (unsigned long long)crew->total);
	return 0;
}

uint64_t
crew_left(struct crew *crew)
{
	LOCK_SCOPE(&crew->lock);
	return crew->total - smd_min_u64(crew->done, crew->total);
}

bool
crew_is_paused(struct crew *crew)
{
	struct smd_copy_control *control = crew->options->control;

	if (!control)
		return false;
	LOCK_SCOPE(&control->lock);
	return control->paused;
}

bool
crew_is_slowed(struct crew *crew)
{
	struct smd_copy_control *control = crew->options->control;

	if (!control)
		return crew->options->bytes_per_second > 0;
	LOCK_SCOPE(&control->lock);
	return control->paused || control->bytes_per_second > 0;
}

/* Wait for the end of a pause; then the rate, and how often things were changed. */
static uint64_t
rate_now(struct crew *crew, unsigned *ret_changes)
{
	struct smd_copy_control *control = crew->options->control;

	*ret_changes = 0;
	if (!control)
		return crew->options->bytes_per_second;
	LOCK_SCOPE(&control->lock);
	while (control->paused && !control->stopped && !atomic_load(&crew->stop)) {
		/* Not for ever: another thread may fail meanwhile. */
		struct timespec until = smd_copy_control_until(NAP_NS);

		pthread_cond_timedwait(&control->changed, &control->lock, &until);
	}
	*ret_changes = control->changes;
	return control->stopped ? 0 : control->bytes_per_second;
}

/* When these bytes may go: after those before them, at the same rate. */
static struct timespec
throttle_slot(struct crew *crew, uint64_t bytes, uint64_t rate, unsigned changes)
{
	uint64_t ns = (uint64_t)((double)bytes * 1e9 / (double)rate);
	struct timespec now, slot;

	clock_gettime(CLOCK_MONOTONIC, &now);
	LOCK_SCOPE(&crew->lock);
	if (ns_between(&crew->free_at, &now) > 0 || crew->changes != changes)
		crew->free_at = now;
	crew->changes = changes;
	slot = crew->free_at;
	ns += (uint64_t)slot.tv_nsec;
	crew->free_at.tv_sec = slot.tv_sec + (time_t)(ns / (uint64_t)NS_PER_S);
	crew->free_at.tv_nsec = (long)(ns % (uint64_t)NS_PER_S);
	return slot;
}

/* Whether the slot came; else things were changed meanwhile. */
static bool
throttle_sleep(struct crew *crew, const struct timespec *slot, unsigned changes)
{
	while (!atomic_load(&crew->stop)) {
		struct timespec now, nap;
		unsigned changes_now;
		int64_t left;

		clock_gettime(CLOCK_MONOTONIC, &now);
		left = ns_between(&now, slot);
		if (left <= 0)
			return true;
		nap = (struct timespec){ 0, (long)(left < NAP_NS ? left : NAP_NS) };
		nanosleep(&nap, NULL);
		rate_now(crew, &changes_now);
		if (changes_now != changes)
			return false;
	}
	return true;
}

void
crew_throttle(struct crew *crew, uint64_t bytes)
{
	for (;;) {
		unsigned changes;
		uint64_t rate = rate_now(crew, &changes);
		struct timespec slot;

		if (rate == 0)
			return;
		slot = throttle_slot(crew, bytes, rate, changes);
		if (throttle_sleep(crew, &slot, changes))
			return;
	}
}

/* ---- Bytes ---- */

uint64_t
copy_window(const struct smd_chain *chain)
{
	uint64_t window = COPY_WINDOW;

	for (size_t i = 0; i < chain->n; i++) {
		if (chain->layers[i].info.flags & SMD_INFO_COMPRESSED)
			window = smd_max_u64(window, chain->layers[i].info.alloc_unit);
	}
	return window;
}

bool
copy_is_zero(const uint8_t *p, size_t n)
{
	uint64_t first;

	if (n < sizeof first)
		return n == 0 || (*p == 0 && memcmp(p, p + 1, n - 1) == 0);
	memcpy(&first, p, sizeof first);
	/* The C library compares with the widest vectors that there are. */
	return first == 0 && memcmp(p, p + sizeof first, n - sizeof first) == 0;
}

int
copy_read_padded(struct smd_chain *chain, uint8_t *buf, uint64_t offset, uint64_t count,
		 struct smd_error *err)
{
	uint64_t size = smd_chain_size(chain);
	uint64_t have = offset < size ? smd_min_u64(count, size - offset) : 0;

	memset(buf + have, 0, count - have);
	return have ? smd_chain_pread(chain, buf, have, offset, err) : 0;
}

static int
read_between(const struct plan *plan, uint8_t *buf, uint64_t offset, uint64_t count,
	     struct smd_error *err)
{
	if (plan_is_delta(plan) && count > 0)
		return copy_read_padded(plan->chain, buf, offset, count, err);
	memset(buf, 0, count);
	return 0;
}

int
copy_read_item(const struct plan *plan, const struct plan_item *item, uint8_t *buf,
	       uint64_t offset, uint64_t count, struct smd_error *err)
{
	uint64_t at = offset, end = offset + count;

	for (size_t i = 0; i < item->n_pieces; i++) {
		struct smd_run piece = item->pieces[i];
		uint64_t from = smd_max_u64(piece.offset, at);
		uint64_t to = smd_min_u64(piece.offset + piece.count, end);

		if (from >= to)
			continue;
		if (read_between(plan, buf + (at - offset), at, from - at, err) < 0)
			return -1;
		piece.host_offset += from - piece.offset;
		piece.offset = from;
		piece.count = to - from;
		if (chain_read_run(plan->chain, &piece, buf + (from - offset), err) < 0)
			return -1;
		at = to;
	}
	return read_between(plan, buf + (at - offset), at, end - at, err);
}
