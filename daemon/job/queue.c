/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/queue.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/checked.h"
#include "common/clock.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/control.h"
#include "daemon/job/task.h"

#define LOOK_AGAIN_S 1		/* at limits that may have been changed */

/* An SR that somebody waits for or loads. */
struct load {
	LIST_ENTRY(load) link;
	char *sr_ref;
	unsigned users;		/* entries, waiting or running */
	unsigned running;
	uint64_t turn;		/* when it had its last; 0: none yet */
};

/* Guards all below and the entries in the queue. The database is not asked with it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static TAILQ_HEAD(, queue_entry) waiting = TAILQ_HEAD_INITIALIZER(waiting);
static LIST_HEAD(, load) loads = LIST_HEAD_INITIALIZER(loads);
static unsigned n_running;
static uint64_t turns, moves;

/* Why one waits. */
struct reason {
	enum { NOTHING, PAUSED, WORKERS, SR_WORKERS, EARLIER, FOREGROUND } kind;
	const char *sr_ref;		/* of the entry */
	int64_t max;
	unsigned position;		/* 0: none */
};

/* ---- With the lock ---- */

static struct load *
load_find(const char *sr_ref)
{
	struct load *l;

	LIST_FOREACH(l, &loads, link) {
		if (strcmp(l->sr_ref, sr_ref) == 0)
			break;
	}
	return l;
}

static void
loads_use(const struct queue_entry *e)
{
	for (size_t i = 0; i < QUEUE_SRS && e->srs[i]; i++) {
		struct load *l = load_find(e->srs[i]);

		if (!l) {
			l = smd_calloc(1, sizeof *l);
			l->sr_ref = smd_strdup(e->srs[i]);
			LIST_INSERT_HEAD(&loads, l, link);
		}
		l->users++;
	}
}

static void
loads_drop(const struct queue_entry *e)
{
	for (size_t i = 0; i < QUEUE_SRS && e->srs[i]; i++) {
		struct load *l = load_find(e->srs[i]);

		assert(l);
		if (--l->users > 0)
			continue;
		LIST_REMOVE(l, link);
		free(l->sr_ref);
		free(l);
	}
}

static bool
shares_sr(const struct queue_entry *a, const struct queue_entry *b)
{
	for (size_t i = 0; i < QUEUE_SRS; i++) {
		for (size_t j = 0; j < QUEUE_SRS; j++) {
			if (a->srs[i] && b->srs[j] && strcmp(a->srs[i], b->srs[j]) == 0)
				return true;
		}
	}
	return !a->srs[0] && !b->srs[0];
}

/* Something is another than it was: everybody looks again. The rank of an entry is how
 * many of its own SRs' come before it. */
static void
stir(void)
{
	struct queue_entry *e, *w;

	TAILQ_FOREACH(e, &waiting, link)
		e->paused = control_paused(e->task_ref);
	TAILQ_FOREACH(e, &waiting, link) {
		e->rank = 0;
		TAILQ_FOREACH(w, &waiting, link) {
			if (w == e)
				break;
			e->rank += !w->background && !w->paused && shares_sr(w, e);
		}
	}
	moves++;
	pthread_cond_broadcast(&moved);
}

/* As though the SRs took turns from now on. */
static unsigned
position_of(const struct queue_entry *e)
{
	unsigned position = 1;
	bool before = true;
	struct queue_entry *w;

	TAILQ_FOREACH(w, &waiting, link) {
		before &= w != e;
		if (w != e && !w->background)
			position += w->rank < e->rank || (w->rank == e->rank && before);
	}
	return position;
}

/* What keeps it back by itself, whoever's turn it is. */
static struct reason
held_by(const struct queue_entry *e, int64_t max)
{
	if (e->paused)
		return (struct reason){ .kind = PAUSED };
	for (size_t i = 0; i < QUEUE_SRS && e->srs[i]; i++) {
		if (load_find(e->srs[i])->running >= e->sr_max[i])
			return (struct reason){ .kind = SR_WORKERS, .sr_ref = e->srs[i],
						.max = e->sr_max[i] };
	}
	if (n_running >= max)
		return (struct reason){ .kind = WORKERS, .max = max };
	if (e->rank > 0)
		return (struct reason){ .kind = EARLIER, .sr_ref = e->srs[0] };
	return (struct reason){ .kind = NOTHING };
}

/* Whether a goes before b, both of which may begin. */
static bool
goes_before(const struct queue_entry *a, const struct queue_entry *b)
{
	const struct queue_entry *entries[2] = { a, b };
	uint64_t running[2] = { 0 }, turn[2] = { 0 };

	for (size_t n = 0; n < 2; n++) {
		for (size_t i = 0; i < QUEUE_SRS && entries[n]->srs[i]; i++) {
			const struct load *l = load_find(entries[n]->srs[i]);

			running[n] = smd_max_u64(running[n], l->running);
			turn[n] = smd_max_u64(turn[n], l->turn);
		}
	}
	return running[0] != running[1] ? running[0] < running[1] : turn[0] < turn[1];
}

/* An entry of the foreground. */
static struct reason
why_wait(const struct queue_entry *e, int64_t max)
{
	struct reason reason = held_by(e, max);
	bool before = true;
	struct queue_entry *w;

	TAILQ_FOREACH(w, &waiting, link) {
		if (reason.kind != NOTHING)
			break;
		before &= w != e;
		if (w == e || w->background || held_by(w, max).kind != NOTHING)
			continue;
		if (goes_before(w, e) || (before && !goes_before(e, w)))
			reason = (struct reason){ .kind = WORKERS, .max = max };
	}
	if (reason.kind != NOTHING)
		reason.position = position_of(e);
	return reason;
}

static struct reason
why_wait_behind(const struct queue_entry *e)
{
	struct queue_entry *w;

	if (smd_now_ms() - e->since_ms >= QUEUE_BACKGROUND_S * 1000)
		return (struct reason){ .kind = NOTHING };
	TAILQ_FOREACH(w, &waiting, link) {
		if (!w->background && !w->paused && shares_sr(w, e))
			return (struct reason){ .kind = FOREGROUND, .sr_ref = e->srs[0] };
	}
	return (struct reason){ .kind = NOTHING };
}

static void
take_place(const struct queue_entry *e)
{
	if (e->background)
		return;
	n_running++;
	turns++;
	for (size_t i = 0; i < QUEUE_SRS && e->srs[i]; i++) {
		struct load *l = load_find(e->srs[i]);

		l->running++;
		l->turn = turns;
	}
}

/* Until something moves, or it is time to look at the limits again. */
static void
wait_move(uint64_t seen)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += LOOK_AGAIN_S;
	while (moves == seen && pthread_cond_timedwait(&moved, &lock, &until) == 0)
		;
}

/* ---- Without the lock ---- */

static int64_t
sr_max(struct daemon *daemon, const char *sr_ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *text = NULL;
	int64_t max = config_int(daemon->config, "max_workers_per_sr");

	if (db_map_get(daemon->db, "SR", sr_ref, "other_config", "max-workers", &text, &err) == 0 &&
	    text)
		max = strtol(text, NULL, 10);
	return max > 0 ? max : 1;
}

struct limits {
	int64_t max, sr_max[QUEUE_SRS];
};

static struct limits
read_limits(struct daemon *daemon, const struct queue_entry *e)
{
	struct limits limits = { .max = config_int(daemon->config, "max_workers") };

	for (size_t i = 0; i < QUEUE_SRS && e->srs[i]; i++)
		limits.sr_max[i] = sr_max(daemon, e->srs[i]);
	return limits;
}

static char *
describe(struct daemon *daemon, const struct reason *reason)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *sr = NULL;

	if (reason->sr_ref)
		db_get_str(daemon->db, "SR", reason->sr_ref, "uuid", &sr, &err);
	switch (reason->kind) {
	case PAUSED:
		return smd_strdup("task.resume, as it was paused");
	case SR_WORKERS:
		return smd_asprintf("a worker of SR %s: %" PRId64 " work, as many as may at once "
				    "(max_workers_per_sr)", sr ? sr : "", reason->max);
	case EARLIER:
		return smd_asprintf("an earlier job on SR %s", sr ? sr : "");
	case FOREGROUND:
		return smd_asprintf("jobs on SR %s that clients wait for", sr ? sr : "");
	default:
		return smd_asprintf("a worker: %" PRId64 " work, as many as may at once "
				    "(max_workers)", reason->max);
	}
}

/* Show it where it differs from what was shown. */
static void
show(struct daemon *daemon, const struct queue_entry *e, const struct reason *reason,
     struct reason *shown)
{
	CLEANUP_FREE char *what = NULL, *position = NULL;

	if (!e->task_ref || (shown->kind == reason->kind && shown->sr_ref == reason->sr_ref &&
			     shown->position == reason->position))
		return;
	*shown = *reason;
	if (reason->kind == NOTHING) {
		task_note(daemon->tasks, e->task_ref, SMD_PARAMS(
			  "state", "running", "queue_position", "", "waits_for", ""));
		return;
	}
	what = describe(daemon, reason);
	position = reason->position ? smd_asprintf("%u", reason->position) : smd_strdup("");
	task_note(daemon->tasks, e->task_ref, SMD_PARAMS(
		  "state", reason->kind == PAUSED ? "paused" : "queued",
		  "queue_position", position, "waits_for", what));
}

/* ---- The calls ---- */

/* With the lock, which it drops while it asks the database. */
static bool
wait_turn(struct daemon *daemon, struct queue_entry *e, struct limits limits, struct reason *shown)
{
	for (;;) {
		struct reason reason;
		uint64_t seen = moves;

		memcpy(e->sr_max, limits.sr_max, sizeof e->sr_max);
		if (e->cancelled || control_stopped(e->task_ref))
			return false;
		reason = e->background ? why_wait_behind(e) : why_wait(e, limits.max);
		if (reason.kind == NOTHING)
			return true;
		pthread_mutex_unlock(&lock);
		show(daemon, e, &reason, shown);
		limits = read_limits(daemon, e);
		pthread_mutex_lock(&lock);
		wait_move(seen);
	}
}

bool
queue_enter(struct daemon *daemon, struct queue_entry *e)
{
	struct limits limits = read_limits(daemon, e);
	struct reason shown = { .kind = NOTHING };
	bool mine;

	e->since_ms = smd_now_ms();
	pthread_mutex_lock(&lock);
	memcpy(e->sr_max, limits.sr_max, sizeof e->sr_max);
	TAILQ_INSERT_TAIL(&waiting, e, link);
	loads_use(e);
	stir();
	mine = wait_turn(daemon, e, limits, &shown);
	TAILQ_REMOVE(&waiting, e, link);
	if (mine)
		take_place(e);
	else
		loads_drop(e);
	stir();
	pthread_mutex_unlock(&lock);
	show(daemon, e, &(struct reason){ .kind = NOTHING }, &shown);
	return mine;
}

void
queue_leave(const struct queue_entry *e)
{
	LOCK_SCOPE(&lock);
	for (size_t i = 0; i < QUEUE_SRS && e->srs[i] && !e->background; i++)
		load_find(e->srs[i])->running--;
	if (!e->background)
		n_running--;
	loads_drop(e);
	stir();
}

void
queue_cancel(struct queue_entry *e)
{
	LOCK_SCOPE(&lock);
	e->cancelled = true;
	stir();
}

void
queue_kick(void)
{
	LOCK_SCOPE(&lock);
	stir();
}
