/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/maker.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "common/mem.h"
#include "daemon/job/process.h"
#include "daemon/job/stayer.h"

#define MAKERS_MAX 4u		/* at once; who comes then has a worker of its own */
#define ANSWER_MS 5000		/* an empty image takes less than one */

struct maker {
	SLIST_ENTRY(maker) link;
	struct stayer *stayer;
	unsigned era;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards what follows; no
								 * other is taken with it */
static SLIST_HEAD(, maker) idle = SLIST_HEAD_INITIALIZER(idle);
static unsigned n_makers;
static unsigned era;		/* those of an earlier one end */

static void
maker_drop(struct maker *m)
{
	stayer_end(m->stayer);
	free(m);
	LOCK_SCOPE(&lock);
	n_makers--;
}

/* NULL: it cannot be now. */
static struct maker *
maker_new(struct daemon *daemon, unsigned its_era)
{
	struct stayer *stayer = stayer_start(daemon, "make", true, -1);
	struct maker *m;

	if (!stayer)
		return NULL;
	m = smd_calloc(1, sizeof *m);
	m->stayer = stayer;
	m->era = its_era;
	return m;
}

/* ---- Taking and giving ---- */

/* One that is idle, or leave to make one: *ret_era. False: there are enough. */
static bool
reserve(struct maker **ret, unsigned *ret_era)
{
	LOCK_SCOPE(&lock);
	*ret = SLIST_FIRST(&idle);
	*ret_era = era;
	if (*ret)
		SLIST_REMOVE_HEAD(&idle, link);
	else if (n_makers < MAKERS_MAX)
		n_makers++;
	else
		return false;
	return true;
}

static struct maker *
take(struct daemon *daemon)
{
	struct maker *m;
	unsigned its_era;

	if (!reserve(&m, &its_era))
		return NULL;
	if (m) {
		process_warm_used();
		return m;
	}
	m = maker_new(daemon, its_era);
	if (m)
		return m;
	LOCK_SCOPE(&lock);
	n_makers--;
	return NULL;
}

static void
give(struct maker *m)
{
	bool stays;

	{
		LOCK_SCOPE(&lock);
		stays = m->era == era;
		if (stays)
			SLIST_INSERT_HEAD(&idle, m, link);
	}
	if (!stays)
		maker_drop(m);
}

void
makers_end(void)
{
	for (;;) {
		struct maker *m;

		{
			LOCK_SCOPE(&lock);
			m = SLIST_FIRST(&idle);
			if (m)
				SLIST_REMOVE_HEAD(&idle, link);
			else
				era++;
		}
		if (!m)
			return;
		maker_drop(m);
	}
}

/* ---- One image ---- */

int
maker_make(struct daemon *daemon, int fd, json *target, void (*meanwhile)(void *opaque),
	   void *opaque, struct smd_error *err)
{
	struct maker *m = take(daemon);
	CLEANUP_JSON json *answer = NULL;
	json *error;

	if (!m)
		return 1;
	answer = stayer_ask(m->stayer, &fd, 1, target, ANSWER_MS, meanwhile, opaque);
	error = smd_json_member(answer, "error");
	if (!error && !smd_json_member(answer, "result")) {
		maker_drop(m);
		return 1;
	}
	give(m);
	if (!error)
		return 0;
	smd_json_to_error(error, err);
	return -1;
}
