/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/api/watch.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/rpc/session.h"

#define LOOK_MS 2000	/* how often the keeper looks whether clients are still there */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* All below: lock. */
static struct watch *watches;
static size_t n_watches;
static bool keeper_runs, stopping;
static pthread_t keeper;
static bool pending;		/* a call was parked that can be answered already */
static uint64_t sleeps_until_ms;	/* the keeper, unless somebody is concerned */
static struct {
	uint64_t at_ms;		/* when it was; 0: there was none */
	uint64_t generation;	/* what it told of */
	size_t n;		/* calls */
} last_round;

int
watch_begin(struct call *call, struct watch **ret, struct smd_error *err)
{
	struct watch *w;
	const bool *gone;

	if (session_hold(call->daemon->sessions, call->session_ref, &gone, err) < 0)
		return -1;
	w = *ret = smd_calloc(1, sizeof *w);
	w->daemon = call->daemon;
	w->park = call->peer->park;
	w->fd = call->peer->fd;
	w->session_ref = smd_strdup(call->session_ref);
	w->gone = gone;
	return 0;
}

void
watch_end(void *opaque)
{
	struct watch *w = opaque;

	if (!w)
		return;
	session_release(w->daemon->sessions, w->session_ref);
	for (size_t i = 0; i < w->n_interests; i++)
		free((char *)w->interests[i].ref);
	free(w->interests);
	free(w->spec);
	free(w->session_ref);
	free(w);
}

/* ---- Rounds, under lock ---- */

static uint64_t
next_round_ms(void)
{
	return last_round.at_ms + WATCH_PAUSE_MS + last_round.n * WATCH_PAUSE_US_EACH / 1000;
}

bool
watch_must_pause(uint64_t since)
{
	LOCK_SCOPE(&lock);
	return last_round.at_ms != 0 && since >= last_round.generation &&
	       smd_now_ms() < next_round_ms();
}

static bool
is_concerned(const struct watch *w)
{
	return db_concerned(w->daemon->db, w->since, w->interests, w->n_interests);
}

static void
move(struct watch *w, struct watch **list)
{
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	n_watches--;
	w->needs = db_generation(w->daemon->db);
	w->n_followed = 0;
	w->next = *list;
	*list = w;
}

/* Those who are to be told now, for whatever reason. */
static struct watch *
take_due(struct db *db, bool changed)
{
	uint64_t now = smd_now_ms(), generation = db_generation(db);
	struct watch *due = NULL, *next;
	size_t n = 0;

	for (struct watch *w = watches; w; w = next) {
		next = w->next;
		if (changed && is_concerned(w)) {
			n++;
			move(w, &due);
		} else if (now >= w->deadline_ms || __atomic_load_n(w->gone, __ATOMIC_ACQUIRE)) {
			move(w, &due);
		}
	}
	if (n > 0) {
		last_round.at_ms = now;
		last_round.generation = generation;
		last_round.n = n;
	}
	return due;
}

/* Those whose clients have hung up. */
static struct watch *
take_abandoned(void)
{
	CLEANUP_FREE struct pollfd *fds = smd_calloc(n_watches + 1, sizeof *fds);
	struct watch *due = NULL, *next;
	size_t n = 0;

	for (const struct watch *w = watches; w; w = w->next)
		fds[n++] = (struct pollfd){ .fd = w->fd, .events = POLLRDHUP };
	if (poll(fds, n, 0) <= 0)
		return NULL;
	n = 0;
	for (struct watch *w = watches; w; w = next) {
		next = w->next;
		if (fds[n++].revents != 0)
			move(w, &due);
	}
	return due;
}

void
watch_unpark_all(struct watch *list)
{
	while (list) {
		struct watch *w = list;

		list = w->next;
		w->park->unpark(w->park);	/* which may end it */
	}
}

/* A session that ended is told so by the call itself. */
static bool
can_be_told(const struct watch *w)
{
	return w->look && !__atomic_load_n(w->gone, __ATOMIC_ACQUIRE);
}

/* As watch_unpark_all, but what several of them wait for is looked up here, once. */
static void
tell_all(struct watch *list)
{
	CLEANUP_SHARED struct shared *shared = NULL;
	CLEANUP_FREE char *spec = NULL;
	uint64_t since = 0;

	while (list) {
		struct watch *w = list;

		list = w->next;
		if (can_be_told(w) && (!spec || since != w->since || strcmp(spec, w->spec) != 0)) {
			shared_unref(shared);
			shared = w->look(w);
			free(spec);
			spec = smd_strdup(w->spec);
			since = w->since;
		}
		if (can_be_told(w) && shared)
			w->park->answer(w->park, shared);	/* which ends it soon */
		else
			w->park->unpark(w->park);
	}
}

/* ---- The keeper ---- */

static uint64_t
wait_ms(uint64_t look_ms)
{
	uint64_t until = look_ms, now = smd_now_ms();

	LOCK_SCOPE(&lock);
	for (const struct watch *w = watches; w; w = w->next)
		until = w->deadline_ms < until ? w->deadline_ms : until;
	sleeps_until_ms = pending || stopping ? now : until;
	return sleeps_until_ms > now ? sleeps_until_ms - now : 0;
}

/* Let what follows the first change come, and the round before be digested. */
static void
gather(uint64_t since_ms)
{
	uint64_t until = since_ms + WATCH_GATHER_MS, now = smd_now_ms();
	struct timespec pause;

	{
		LOCK_SCOPE(&lock);
		if (pending)
			until = now;
		if (last_round.at_ms != 0 && next_round_ms() > until)
			until = next_round_ms();
	}
	if (until <= now)
		return;
	pause.tv_sec = (time_t)((until - now) / 1000);
	pause.tv_nsec = (long)((until - now) % 1000) * 1000000;
	nanosleep(&pause, NULL);
}

static bool
anybody_concerned(void)
{
	LOCK_SCOPE(&lock);
	for (const struct watch *w = watches; w; w = w->next) {
		if (is_concerned(w))
			return true;
	}
	return false;
}

static bool
must_stop(void)
{
	LOCK_SCOPE(&lock);
	return stopping;
}

static void *
keeper_main(void *opaque)
{
	const struct db_interest all = { NULL, NULL };
	uint64_t look_ms = smd_now_ms() + LOOK_MS, wakes = 0, seen = 0;
	struct daemon *daemon = opaque;
	struct watch *due, *left;

	while (!must_stop()) {
		bool changed, look;

		db_wait(daemon->db, seen, &all, 1, wait_ms(look_ms), &wakes);
		seen = db_generation(daemon->db);
		changed = anybody_concerned();
		if (changed)
			gather(smd_now_ms());
		look = smd_now_ms() >= look_ms;
		{
			LOCK_SCOPE(&lock);
			pending = false;
			due = take_due(daemon->db, changed);
			left = look ? take_abandoned() : NULL;
		}
		if (look)
			look_ms = smd_now_ms() + LOOK_MS;
		tell_all(due);
		watch_unpark_all(left);
	}
	return NULL;
}

void
watch_park(struct watch *w)
{
	struct daemon *daemon = w->daemon;
	bool wake;

	{
		LOCK_SCOPE(&lock);
		wake = w->deadline_ms < sleeps_until_ms || (!pending && is_concerned(w));
		pending = pending || is_concerned(w);
		w->next = watches;
		w->prev = &watches;
		if (w->next)
			w->next->prev = &w->next;
		watches = w;
		n_watches++;
		if (!keeper_runs)
			keeper_runs = pthread_create(&keeper, NULL, keeper_main, daemon) == 0;
		if (!keeper_runs)
			smd_log(SMD_LOG_ERR, "no thread for those who wait for events");
	}
	if (wake)
		db_wake(daemon->db);
}

void
watch_stop(struct daemon *daemon)
{
	{
		LOCK_SCOPE(&lock);
		stopping = true;
	}
	if (!keeper_runs)
		return;
	db_wake(daemon->db);
	pthread_join(keeper, NULL);
	keeper_runs = stopping = false;
}
