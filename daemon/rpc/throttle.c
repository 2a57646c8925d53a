/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/throttle.h"

#include <string.h>
#include <time.h>

#include "common/cleanup.h"

#define WINDOW_S 60

void
throttle_init(struct throttle *throttle)
{
	memset(throttle, 0, sizeof *throttle);
	pthread_mutex_init(&throttle->lock, NULL);
	pthread_cond_init(&throttle->turned, NULL);
}

void
throttle_done(struct throttle *throttle)
{
	pthread_cond_destroy(&throttle->turned);
	pthread_mutex_destroy(&throttle->lock);
}

static int64_t
now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return t.tv_sec;
}

/* FNV-1a. Who makes two names meet on purpose locks himself out, or one guess more in. */
static uint64_t
hash(const char *address, const char *user)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *address; address++)
		h = (h ^ (unsigned char)*address) * UINT64_C(1099511628211);
	h = (h ^ '/') * UINT64_C(1099511628211);
	for (; *user; user++)
		h = (h ^ (unsigned char)*user) * UINT64_C(1099511628211);
	return h ? h : 1;
}

/* The entry, or the one to use for it: a free or an expired one, else the oldest. */
static struct throttle_entry *
find(struct throttle *throttle, uint64_t who)
{
	struct throttle_entry *oldest = &throttle->entries[0];

	for (size_t i = 0; i < THROTTLE_ENTRIES; i++) {
		struct throttle_entry *e = &throttle->entries[i];

		if (e->who == who)
			return e;
		if (e->since_s < oldest->since_s)
			oldest = e;
	}
	return oldest;
}

bool
throttle_allows(struct throttle *throttle, const char *address, const char *user, int64_t most)
{
	uint64_t who = hash(address, user);
	const struct throttle_entry *e;

	LOCK_SCOPE(&throttle->lock);
	e = find(throttle, who);
	return most == 0 || e->who != who || now_s() - e->since_s >= WINDOW_S ||
	       e->failures < (uint64_t)most;
}

void
throttle_failed(struct throttle *throttle, const char *address, const char *user)
{
	uint64_t who = hash(address, user);
	struct throttle_entry *e;

	LOCK_SCOPE(&throttle->lock);
	e = find(throttle, who);
	if (e->who != who || now_s() - e->since_s >= WINDOW_S)
		*e = (struct throttle_entry){ .who = who, .since_s = now_s() };
	e->failures++;
}

/* ---- Turns ---- */

struct throttle_turn {
	uint64_t who;
	bool has_come;
	struct throttle_turn *next;
};

void
throttle_enter(struct throttle *throttle, const char *address)
{
	struct throttle_turn turn = { .who = hash(address, "") };
	struct throttle_turn **last = &throttle->turns;

	LOCK_SCOPE(&throttle->lock);
	if (!throttle->busy) {
		throttle->busy = true;
		throttle->last = turn.who;
		return;
	}
	while (*last)
		last = &(*last)->next;
	*last = &turn;
	while (!turn.has_come)
		pthread_cond_wait(&throttle->turned, &throttle->lock);
}

void
throttle_leave(struct throttle *throttle)
{
	struct throttle_turn **next = &throttle->turns, *turn;

	LOCK_SCOPE(&throttle->lock);
	while (*next && (*next)->who == throttle->last)
		next = &(*next)->next;
	if (!*next)
		next = &throttle->turns;
	turn = *next;
	throttle->busy = turn != NULL;
	if (!turn)
		return;
	*next = turn->next;
	throttle->last = turn->who;
	turn->has_come = true;
	pthread_cond_broadcast(&throttle->turned);
}
