/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/stall.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/task.h"
#include "daemon/sr/sr.h"

#define LOOK_MS 400
#define SHOW_MS 100		/* what ends before is not seen at all */
#define STANDS_MS 1000
#define REWRITE_MS 5000		/* a reason that changes is not written more often */

struct stall_said {
	char *what;		/* NULL: nothing */
	pid_t pid;
};

struct watched {
	LIST_ENTRY(watched) link;
	char *ref;
	uint64_t moved_ms;
	struct stall_said said;
	bool explained;		/* by somebody else */
	char *shown;		/* waits_for that is ours; NULL: none */
	uint64_t shown_ms;
	bool warned;
	bool busy, over;	/* its row is being written; it ended meanwhile */
};

/* Guards all below. The database is not asked with it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static LIST_HEAD(, watched) all = LIST_HEAD_INITIALIZER(all);
static bool stopping, started;
static bool asleep;			/* the thread that looks: until there is something */
static pthread_t thread;

static __thread const char *thread_task;

/* ---- With the lock ---- */

static struct watched *
find(const char *ref)
{
	struct watched *w;

	LIST_FOREACH(w, &all, link) {
		if (ref && strcmp(w->ref, ref) == 0)
			break;
	}
	return w;
}

static void
watched_free(struct watched *w)
{
	free(w->ref);
	free(w->said.what);
	free(w->shown);
	free(w);
}

/* ---- What is said ---- */

void
stall_watch(const char *ref)
{
	struct watched *w = smd_calloc(1, sizeof *w);

	w->ref = smd_strdup(ref);
	w->moved_ms = smd_now_ms();
	LOCK_SCOPE(&lock);
	LIST_INSERT_HEAD(&all, w, link);
	if (asleep)
		pthread_cond_broadcast(&wake);
}

void
stall_forget(const char *ref)
{
	struct watched *w;

	LOCK_SCOPE(&lock);
	w = find(ref);
	if (!w)
		return;
	LIST_REMOVE(w, link);
	if (w->busy)
		w->over = true;
	else
		watched_free(w);
}

void
stall_moved(const char *ref)
{
	struct watched *w;

	LOCK_SCOPE(&lock);
	w = find(ref);
	if (w)
		w->moved_ms = smd_now_ms();
}

void
stall_explained(const char *ref, const char *waits_for)
{
	struct watched *w;

	LOCK_SCOPE(&lock);
	w = find(ref);
	if (!w)
		return;
	w->explained = waits_for && *waits_for;
	w->moved_ms = smd_now_ms();
	/* Either way the row's is not ours any more. */
	free(w->shown);
	w->shown = NULL;
}

struct stall_said *
stall_says(const char *ref, pid_t pid, const char *fmt, ...)
{
	struct stall_said *before = NULL;
	struct watched *w;
	va_list ap;
	char *what;

	if (!ref)
		return NULL;
	va_start(ap, fmt);
	what = smd_vasprintf(fmt, ap);
	va_end(ap);
	{
		LOCK_SCOPE(&lock);
		w = find(ref);
		if (w) {
			before = smd_calloc(1, sizeof *before);
			*before = w->said;
			w->said = (struct stall_said){ what, pid };
			return before;
		}
	}
	free(what);
	return NULL;
}

void
stall_says_anew(const char *ref, const char *what)
{
	struct stall_said *before = stall_says(ref, 0, "%s", what);

	if (before)
		free(before->what);
	free(before);
}

void
stall_back(const char *ref, struct stall_said *before)
{
	struct watched *w;

	if (!before)
		return;
	LOCK_SCOPE(&lock);
	w = find(ref);
	if (w) {
		free(w->said.what);
		w->said = *before;
	} else {
		free(before->what);
	}
	free(before);
}

void
stall_thread(const char *ref)
{
	thread_task = ref;
}

const char *
stall_thread_task(void)
{
	return thread_task;
}

/* ---- What a process does ---- */

/* The state of one of its threads, as proc(5) has it; 0: not known. */
static char
thread_state(const char *dir, const char *name)
{
	CLEANUP_FREE char *path = smd_asprintf("%s/%s/stat", dir, name);
	FILE *f = fopen(path, "re");
	char line[512], *end;
	char state = 0;

	if (f && fgets(line, sizeof line, f) && (end = strrchr(line, ')')) && end[1] == ' ')
		state = end[2];
	if (f)
		fclose(f);
	return state;
}

/* The most telling of its threads. */
static const char *
process_does(pid_t pid)
{
	static const struct {
		char state;
		const char *does;
	} states[] = {
		{ 'T', ", which was stopped by a signal" }, { 't', ", which is being traced" },
		{ 'D', ", which waits for the storage" }, { 'R', ", which computes" },
		{ 'S', ", which sleeps" }, { 'Z', ", which has ended" },
	};
	CLEANUP_FREE char *path = smd_asprintf("/proc/%d/task", (int)pid);
	const size_t n = sizeof states / sizeof states[0];
	DIR *dir = opendir(path);
	const struct dirent *entry;
	size_t best = n;

	while (dir && (entry = readdir(dir))) {
		char state = *entry->d_name == '.' ? 0 : thread_state(path, entry->d_name);

		for (size_t i = 0; i < best; i++) {
			if (states[i].state == state)
				best = i;
		}
	}
	if (dir)
		closedir(dir);
	return best < n ? states[best].does : "";
}

/* ---- Looking ---- */

/* Rows that are to be written, in one transaction: where many tasks stand still, the last
 * of them is not to wait for the others'. */
struct round {
	struct watched **w;
	struct task_stall *rows;
	size_t n;
};

static void
round_add(struct round *round, struct watched *w, const char *waits_for, uint64_t stood_ms)
{
	round->w = smd_reallocarray(round->w, round->n + 1, sizeof *round->w);
	round->rows = smd_reallocarray(round->rows, round->n + 1, sizeof *round->rows);
	round->w[round->n] = w;
	round->rows[round->n++] = (struct task_stall){
		smd_strdup(w->ref), smd_strdup(waits_for), (int64_t)(stood_ms / 1000),
	};
	w->busy = true;
}

static void
round_done(struct round *round)
{
	for (size_t i = 0; i < round->n; i++) {
		free(round->rows[i].ref);
		free(round->rows[i].waits_for);
	}
	free(round->rows);
	free(round->w);
	*round = (struct round){ .n = 0 };
}

/* With the lock, which is dropped while rows are written. */
static void
round_write(struct daemon *daemon, struct round *round)
{
	size_t n_over = 0;

	if (round->n == 0)
		return;
	pthread_mutex_unlock(&lock);
	task_stalled(daemon->tasks, round->rows, round->n);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < round->n; i++) {
		struct task_stall row = round->rows[i];

		round->w[i]->busy = false;
		if (!round->w[i]->over)
			continue;
		/* Its last words are those of its end. */
		watched_free(round->w[i]);
		*row.waits_for = '\0';
		round->rows[i] = round->rows[n_over];
		round->rows[n_over++] = row;
	}
	pthread_mutex_unlock(&lock);
	task_stalled(daemon->tasks, round->rows, n_over);
	pthread_mutex_lock(&lock);
}

static char *
reason_of(const struct stall_said *said)
{
	if (!said->what)
		return smd_strdup("something that its work does not name");
	return smd_asprintf("%s%s", said->what, said->pid ? process_does(said->pid) : "");
}

/* late_ms: how late we are ourselves, which is the machine's doing. */
static void
warn(struct watched *w, uint64_t stood_ms, uint64_t late_ms)
{
	if (w->warned || (w->said.what && stood_ms <= STALL_LIMIT_MS + late_ms))
		return;
	w->warned = true;
	smd_log_fields(SMD_LOG_WARNING, SMD_FIELDS("TASK", w->ref),
		       "task %s stands still for %" PRIu64 " ms, and its work says %s", w->ref,
		       stood_ms, w->said.what ? w->said.what : "nothing");
}

/* With the lock. */
static void
look_at(struct watched *w, uint64_t late_ms, struct round *round)
{
	uint64_t now = smd_now_ms(), stood_ms = now - w->moved_ms;
	CLEANUP_FREE char *reason = NULL;

	if (w->explained || (stood_ms < STANDS_MS && !w->shown))
		return;
	if (stood_ms < STANDS_MS) {
		free(w->shown);
		w->shown = NULL;
		round_add(round, w, "", 0);
		return;
	}
	reason = reason_of(&w->said);
	if (w->shown && (strcmp(w->shown, reason) == 0 || now - w->shown_ms < REWRITE_MS))
		return;
	if (!w->shown)
		warn(w, stood_ms, late_ms);
	free(w->shown);
	w->shown = smd_strdup(reason);
	w->shown_ms = now;
	round_add(round, w, reason, stood_ms);
}

/* With the lock. */
static void
look(struct daemon *daemon, uint64_t late_ms)
{
	CLEANUP(round_done) struct round round = { .n = 0 };
	struct watched *w;

	LIST_FOREACH(w, &all, link)
		look_at(w, late_ms, &round);
	round_write(daemon, &round);
}

/* With the lock, which is dropped meanwhile. */
static void
show_lasting(struct daemon *daemon)
{
	pthread_mutex_unlock(&lock);
	tasks_show(daemon->tasks, SHOW_MS);
	ops_show(daemon, SHOW_MS);
	pthread_mutex_lock(&lock);
}

static void *
stall_main(void *opaque)
{
	struct daemon *daemon = opaque;

	LOCK_SCOPE(&lock);
	while (!stopping) {
		struct timespec until;
		uint64_t expected, now;

		asleep = true;
		while (LIST_EMPTY(&all) && !stopping)
			pthread_cond_wait(&wake, &lock);
		asleep = false;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += LOOK_MS * 1000000L;
		until.tv_sec += until.tv_nsec / 1000000000L;
		until.tv_nsec %= 1000000000L;
		expected = smd_now_ms() + LOOK_MS;
		while (!stopping && pthread_cond_timedwait(&wake, &lock, &until) == 0)
			;
		now = smd_now_ms();
		if (!stopping)
			show_lasting(daemon);
		if (!stopping)
			look(daemon, now > expected ? now - expected : 0);
	}
	return NULL;
}

void
stall_start(struct daemon *daemon)
{
	stopping = false;
	started = pthread_create(&thread, NULL, stall_main, daemon) == 0;
	if (!started)
		smd_log(SMD_LOG_WARNING, "no thread left: tasks do not say what they wait for");
}

void
stall_stop(void)
{
	if (!started)
		return;
	pthread_mutex_lock(&lock);
	stopping = true;
	pthread_cond_broadcast(&wake);
	pthread_mutex_unlock(&lock);
	pthread_join(thread, NULL);
	started = false;
}
