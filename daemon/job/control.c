/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/control.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/checked.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/queue.h"

/* What was said of a task. */
struct wish {
	LIST_ENTRY(wish) link;
	char *task_ref;
	bool paused, stopped;
	bool has_speed;			/* in the place of what the job began with */
	uint64_t bytes_per_second;	/* 0: any */
};

/* What an SR may bear, as it was read last. */
struct limit {
	LIST_ENTRY(limit) link;
	char *sr_ref;
	uint64_t bytes_per_second;	/* 0: anything */
	uint64_t left;			/* while shares are worked out */
};

/* Guards all below and what control_enter was given. The database is not asked with it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, wish) wishes = LIST_HEAD_INITIALIZER(wishes);
static LIST_HEAD(, limit) limits = LIST_HEAD_INITIALIZER(limits);
static LIST_HEAD(, control) running = LIST_HEAD_INITIALIZER(running);

/* ---- With the lock ---- */

static struct wish *
wish_find(const char *task_ref)
{
	struct wish *w;

	LIST_FOREACH(w, &wishes, link) {
		if (task_ref && strcmp(w->task_ref, task_ref) == 0)
			break;
	}
	return w;
}

static struct wish *
wish_get(const char *task_ref)
{
	struct wish *w = wish_find(task_ref);

	if (w)
		return w;
	w = smd_calloc(1, sizeof *w);
	w->task_ref = smd_strdup(task_ref);
	LIST_INSERT_HEAD(&wishes, w, link);
	return w;
}

static void
wish_free(struct wish *w)
{
	LIST_REMOVE(w, link);
	free(w->task_ref);
	free(w);
}

static struct limit *
limit_find(const char *sr_ref)
{
	struct limit *l;

	LIST_FOREACH(l, &limits, link) {
		if (strcmp(l->sr_ref, sr_ref) == 0)
			break;
	}
	return l;
}

/* A worker that reads none of it (its job is a short one) loses it: its end is near. */
static void
tell(struct control *c, const char *line)
{
	if (c->fd >= 0)
		(void)!send(c->fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void
tell_task(const char *task_ref, const char *line)
{
	struct control *c;

	LIST_FOREACH(c, &running, link) {
		if (c->task_ref && strcmp(c->task_ref, task_ref) == 0)
			tell(c, line);
	}
}

/* ---- Dividing ---- */

static bool
loads(const struct control *c, const char *sr_ref)
{
	const struct wish *w = wish_find(c->task_ref);

	if (w && w->paused)
		return false;
	for (size_t i = 0; i < CONTROL_SRS; i++) {
		if (c->srs[i] && strcmp(c->srs[i], sr_ref) == 0)
			return true;
	}
	return false;
}

static uint64_t
own_limit(const struct control *c)
{
	const struct wish *w = wish_find(c->task_ref);
	uint64_t limit = w && w->has_speed ? w->bytes_per_second : c->bytes_per_second;

	return limit ? limit : UINT64_MAX;
}

/* The equal part of what is left of an SR; UINT64_MAX: nothing divides it. */
static uint64_t
part_of(const struct limit *l)
{
	uint64_t n = 0;
	struct control *c;

	LIST_FOREACH(c, &running, link)
		n += !c->settled && loads(c, l->sr_ref);
	return n > 0 ? smd_max_u64(l->left / n, 1) : UINT64_MAX;
}

static void
settle(struct control *c, uint64_t share)
{
	struct limit *l;

	c->share = share;
	LIST_FOREACH(l, &limits, link) {
		if (loads(c, l->sr_ref))
			l->left -= smd_min_u64(share, l->left);
	}
	c->settled = true;
}

/* Those that load the SR and can use no more than a part have what they can use. False:
 * there are none. */
static bool
settle_modest(const struct limit *tightest, uint64_t part)
{
	struct control *c;
	bool any = false;

	LIST_FOREACH(c, &running, link) {
		if (c->settled || !loads(c, tightest->sr_ref) || c->share > part)
			continue;
		settle(c, c->share);
		any = true;
	}
	return any;
}

/* Always the tightest SR next: its workers are held back by nothing else, and what they
 * leave of other SRs is for the others there. */
static void
share_out(void)
{
	for (;;) {
		struct limit *l, *tightest = NULL;
		uint64_t part = UINT64_MAX;
		struct control *c;

		LIST_FOREACH(l, &limits, link) {
			uint64_t p = l->bytes_per_second > 0 ? part_of(l) : UINT64_MAX;

			if (p < part) {
				part = p;
				tightest = l;
			}
		}
		if (!tightest)
			return;
		if (settle_modest(tightest, part))
			continue;
		LIST_FOREACH(c, &running, link) {
			if (!c->settled && loads(c, tightest->sr_ref))
				settle(c, part);
		}
	}
}

/* As it is told. */
static uint64_t
speed_of(const struct control *c)
{
	return c->share == UINT64_MAX ? 0 : c->share;
}

static void
divide(void)
{
	struct control *c;
	struct limit *l;

	LIST_FOREACH(c, &running, link) {
		c->share = own_limit(c);
		c->settled = false;
	}
	LIST_FOREACH(l, &limits, link)
		l->left = l->bytes_per_second;
	share_out();
	LIST_FOREACH(c, &running, link) {
		CLEANUP_FREE char *line = NULL;
		uint64_t speed = speed_of(c);
		const struct wish *w = wish_find(c->task_ref);

		c->held_back |= speed > 0 || (w && w->paused);
		if (speed == c->told || c->fd < 0)
			continue;
		c->told = speed;
		line = smd_asprintf("{\"bytes_per_second\":%" PRIu64 "}\n", speed);
		tell(c, line);
	}
}

/* ---- What is said of tasks ---- */

void
control_pause(struct daemon *daemon, const char *task_ref, bool paused)
{
	(void)daemon;
	{
		LOCK_SCOPE(&lock);
		wish_get(task_ref)->paused = paused;
		tell_task(task_ref, paused ? "{\"pause\":true}\n" : "{\"pause\":false}\n");
		divide();
	}
	queue_kick();
}

void
control_stop(struct daemon *daemon, const char *task_ref)
{
	(void)daemon;
	{
		LOCK_SCOPE(&lock);
		wish_get(task_ref)->stopped = true;
		tell_task(task_ref, "{\"stop\":true}\n");
	}
	queue_kick();
}

void
control_set_speed(struct daemon *daemon, const char *task_ref, uint64_t bytes_per_second)
{
	(void)daemon;
	LOCK_SCOPE(&lock);
	wish_get(task_ref)->has_speed = true;
	wish_get(task_ref)->bytes_per_second = bytes_per_second;
	divide();
}

bool
control_paused(const char *task_ref)
{
	const struct wish *w;

	LOCK_SCOPE(&lock);
	w = wish_find(task_ref);
	return w && w->paused;
}

bool
control_stopped(const char *task_ref)
{
	const struct wish *w;

	LOCK_SCOPE(&lock);
	w = wish_find(task_ref);
	return w && w->stopped;
}

/* ---- What SRs may bear ---- */

static uint64_t
read_limit(struct daemon *daemon, const char *sr_ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *text = NULL;
	uint64_t limit = (uint64_t)config_int(daemon->config, "sr_bytes_per_second");

	if (db_map_get(daemon->db, "SR", sr_ref, "other_config", "bytes-per-second", &text,
		       &err) == 0 && text)
		limit = strtoull(text, NULL, 10);
	return limit;
}

static void
set_limit(struct daemon *daemon, const char *sr_ref)
{
	uint64_t value = read_limit(daemon, sr_ref);
	struct limit *l;

	LOCK_SCOPE(&lock);
	l = limit_find(sr_ref);
	if (!l) {
		l = smd_calloc(1, sizeof *l);
		l->sr_ref = smd_strdup(sr_ref);
		LIST_INSERT_HEAD(&limits, l, link);
	}
	l->bytes_per_second = value;
}

/* Limits of SRs that no worker loads are read when the next one does. */
static json *
loaded_srs(void)
{
	json *srs = json_object_new_object();
	struct control *c;

	LOCK_SCOPE(&lock);
	LIST_FOREACH(c, &running, link) {
		for (size_t i = 0; i < CONTROL_SRS; i++) {
			if (c->srs[i])
				smd_json_set_bool(srs, c->srs[i], true);
		}
	}
	for (struct limit *l = LIST_FIRST(&limits), *next; l; l = next) {
		next = LIST_NEXT(l, link);
		if (smd_json_member(srs, l->sr_ref))
			continue;
		LIST_REMOVE(l, link);
		free(l->sr_ref);
		free(l);
	}
	return srs;
}

static void
forget_ended(struct daemon *daemon)
{
	CLEANUP_JSON json *tasks = json_object_new_object();
	struct wish *w;

	{
		LOCK_SCOPE(&lock);
		LIST_FOREACH(w, &wishes, link)
			smd_json_set_bool(tasks, w->task_ref, true);
	}
	json_object_object_foreach(tasks, ref, unused) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		CLEANUP_FREE char *status = NULL;

		(void)unused;
		if (db_get_str(daemon->db, "task", ref, "status", &status, &err) == 0 &&
		    (strcmp(status, "pending") == 0 || strcmp(status, "cancelling") == 0))
			continue;
		LOCK_SCOPE(&lock);
		if ((w = wish_find(ref)))
			wish_free(w);
	}
}

void
control_tick(struct daemon *daemon)
{
	CLEANUP_JSON json *srs = loaded_srs();

	json_object_object_foreach(srs, ref, unused) {
		(void)unused;
		set_limit(daemon, ref);
	}
	forget_ended(daemon);
	LOCK_SCOPE(&lock);
	divide();
}

/* ---- Workers ---- */

void
control_enter(struct daemon *daemon, struct control *c)
{
	for (size_t i = 0; i < CONTROL_SRS; i++) {
		if (c->srs[i])
			set_limit(daemon, c->srs[i]);
	}
	LOCK_SCOPE(&lock);
	c->fd = -1;
	LIST_INSERT_HEAD(&running, c, link);
	divide();
	c->told = speed_of(c);
}

void
control_open(struct control *c, int fd)
{
	const struct wish *w;

	LOCK_SCOPE(&lock);
	c->fd = fd;
	w = wish_find(c->task_ref);
	if (w && w->paused)
		tell(c, "{\"pause\":true}\n");
	if (w && w->stopped)
		tell(c, "{\"stop\":true}\n");
	divide();
}

void
control_leave(struct control *c)
{
	LOCK_SCOPE(&lock);
	LIST_REMOVE(c, link);
	divide();
}
