/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"

#define LINGER_S 5		/* a thread too many leaves after having nothing to do */
#define GROWTH 2		/* replace at least one in so many at a time */

struct work {
	void (*fn)(void *opaque);
	void *opaque;
	struct work *next;
};

struct worker {
	uint64_t since_ms;	/* lock; of the work it is in, 0: none */
	struct worker *next, **prev;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_came = PTHREAD_COND_INITIALIZER;
static pthread_cond_t keeper_wanted = PTHREAD_COND_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
/* All below: lock. */
static struct work *first, **last = &first;
static size_t n_waiting;		/* pieces of work */
static struct worker *workers;
static unsigned n_workers, n_idle;
static bool keeper_runs, stopping;
static bool waking;			/* an idle thread was called, and does not run yet */

static bool
start_thread(void *(*main)(void *), void *opaque)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, main, opaque);
	pthread_attr_destroy(&attr);
	if (r != 0)
		smd_log(SMD_LOG_WARNING, "no thread for a call: %s", strerror(r));
	return r == 0;
}

/* One thread is called at a time, and calls the next when it runs: one that works comes
 * for more by itself, mostly before the one that was called. */
static void
wake_one(void)
{
	if (waking || n_idle == 0)
		return;
	waking = true;
	pthread_cond_signal(&work_came);
}

static struct work
take(void)
{
	struct work *mine = first, work = *mine;

	first = mine->next;
	if (!first)
		last = &first;
	else
		wake_one();
	n_waiting--;
	free(mine);
	return work;
}

/* Whether there is work. */
static bool
wait_for_work(void)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LINGER_S;
	n_idle++;
	while (!first && !stopping && r == 0) {
		if (n_workers > POOL_THREADS)
			r = pthread_cond_timedwait(&work_came, &lock, &until);
		else
			pthread_cond_wait(&work_came, &lock);
		waking = false;
	}
	n_idle--;
	return first != NULL;
}

static void
leave(struct worker *w)
{
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	n_workers--;
	free(w);
	pthread_cond_broadcast(&ended);
}

static void *
work_main(void *opaque)
{
	struct worker *w = opaque;

	pthread_mutex_lock(&lock);
	while (first || wait_for_work()) {
		struct work work = take();

		w->since_ms = smd_now_ms();
		pthread_mutex_unlock(&lock);
		work.fn(work.opaque);
		pthread_mutex_lock(&lock);
		w->since_ms = 0;
	}
	leave(w);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static bool
add_worker(void)
{
	struct worker *w = smd_calloc(1, sizeof *w);

	w->next = workers;
	w->prev = &workers;
	if (w->next)
		w->next->prev = &w->next;
	workers = w;
	n_workers++;
	if (start_thread(work_main, w))
		return true;
	leave(w);
	return false;
}

/* ---- The keeper: it looks now and then whether work waits because others block ---- */

static unsigned
count_blocked(void)
{
	uint64_t before = smd_now_ms() - POOL_LONG_MS;
	unsigned n = 0;

	for (const struct worker *w = workers; w; w = w->next)
		n += w->since_ms != 0 && w->since_ms < before;
	return n;
}

/* More at a time the more of them block: a thousand calls that all do have their threads
 * in a quarter of a second. */
static void
replace_blocked(void)
{
	unsigned blocked = count_blocked(), moving = n_workers - blocked;
	size_t want = 0;

	if (n_waiting > n_idle && moving < POOL_THREADS) {
		want = POOL_THREADS - moving;
		if (want < blocked / GROWTH)
			want = blocked / GROWTH;
		if (want > n_waiting - n_idle)
			want = n_waiting - n_idle;
	}
	while (want > 0 && add_worker())
		want--;
}

static void *
keeper_main(void *opaque)
{
	const struct timespec pause = { 0, POOL_LONG_MS * 1000000L };

	(void)opaque;
	pthread_mutex_lock(&lock);
	while (!stopping || n_waiting > 0) {
		if (n_waiting <= n_idle) {
			pthread_cond_wait(&keeper_wanted, &lock);
			continue;
		}
		pthread_mutex_unlock(&lock);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&lock);
		replace_blocked();
	}
	keeper_runs = false;
	pthread_cond_broadcast(&ended);
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* ---- Giving work ---- */

void
pool_run(void (*fn)(void *opaque), void *opaque)
{
	struct work *work = smd_malloc(sizeof *work);

	*work = (struct work){ fn, opaque, NULL };
	LOCK_SCOPE(&lock);
	*last = work;
	last = &work->next;
	n_waiting++;
	if (!keeper_runs)
		keeper_runs = start_thread(keeper_main, NULL);
	if (n_waiting > n_idle && n_workers < POOL_THREADS)
		add_worker();
	else if (n_waiting > n_idle)
		pthread_cond_signal(&keeper_wanted);
	wake_one();
}

void
pool_stop(void)
{
	LOCK_SCOPE(&lock);
	stopping = true;
	pthread_cond_broadcast(&work_came);
	pthread_cond_broadcast(&keeper_wanted);
	while (n_workers > 0 || keeper_runs)
		pthread_cond_wait(&ended, &lock);
	stopping = false;
}
