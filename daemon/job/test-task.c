/* SPDX-License-Identifier: BSD-2-Clause */
/* Tasks whose clients ask for several things at once. */
#include "daemon/config.h"
#include "daemon/db/test-db.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include "daemon/job/job.h"
#include "daemon/job/stall.h"
#include "daemon/job/task.h"

static struct daemon daemon_;

/* ---- What task.c needs of the daemon ---- */

int64_t
config_int(const struct config *config, const char *key)
{
	(void)config;
	return strcmp(key, "max_tasks") == 0 ? 100 : 86400;
}

bool
jobs_left_task(struct jobs *jobs, const char *task_ref)
{
	(void)jobs;
	(void)task_ref;
	return false;
}

void
stall_watch(const char *task_ref)
{
	(void)task_ref;
}

void
stall_forget(const char *task_ref)
{
	(void)task_ref;
}

void
stall_moved(const char *task_ref)
{
	(void)task_ref;
}

void
stall_explained(const char *task_ref, const char *waits_for)
{
	(void)task_ref;
	(void)waits_for;
}

void
stall_says_anew(const char *task_ref, const char *what)
{
	(void)task_ref;
	(void)what;
}

/* ---- The tests ---- */

static int
setup(void **state)
{
	if (test_db_setup(state) != 0)
		return -1;
	daemon_.db = ((struct test_db *)*state)->db;
	daemon_.host_ref = (char *)"OpaqueRef:host";
	daemon_.tasks = tasks_new(&daemon_);
	return 0;
}

static int
teardown(void **state)
{
	tasks_free(daemon_.tasks);
	return test_db_teardown(state);
}

static char *
task_new(bool taken)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	char *ref;

	assert_ok(task_create(daemon_.tasks, "a task", "", NULL, &ref, &err), &err);
	if (taken)
		assert_ok(task_take(daemon_.tasks, ref, &err), &err);
	return ref;
}

/* A hook that takes its time. */
struct slow {
	const char *ref;
	sem_t in_pause, go_on, done;
	unsigned n_cancelled;
};

static void
slow_pause(void *opaque, bool on)
{
	struct slow *slow = opaque;

	(void)on;
	sem_post(&slow->in_pause);
	sem_wait(&slow->go_on);
}

static void
count_cancel(void *opaque)
{
	((struct slow *)opaque)->n_cancelled++;
}

static void *
pause_thread(void *opaque)
{
	struct slow *slow = opaque;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	assert_ok(task_pause(daemon_.tasks, slow->ref, true, &err), &err);
	return NULL;
}

static void *
cancel_thread(void *opaque)
{
	struct slow *slow = opaque;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	assert_ok(task_cancel(daemon_.tasks, slow->ref, &err), &err);
	sem_post(&slow->done);
	return NULL;
}

static void
test_cancel_while_it_pauses(void **state)
{
	CLEANUP_FREE char *ref = task_new(true);
	struct slow slow = { .ref = ref };
	pthread_t pauses, cancels;
	struct timespec until;

	(void)state;
	sem_init(&slow.in_pause, 0, 0);
	sem_init(&slow.go_on, 0, 0);
	sem_init(&slow.done, 0, 0);
	task_set_pause(daemon_.tasks, ref, slow_pause, &slow);
	task_set_cancel(daemon_.tasks, ref, count_cancel, &slow);
	assert_int_equal(pthread_create(&pauses, NULL, pause_thread, &slow), 0);
	sem_wait(&slow.in_pause);
	assert_int_equal(pthread_create(&cancels, NULL, cancel_thread, &slow), 0);
	/* Time enough to be forgotten in. */
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	sem_timedwait(&slow.done, &until);
	sem_post(&slow.go_on);
	pthread_join(pauses, NULL);
	pthread_join(cancels, NULL);
	assert_int_equal(slow.n_cancelled, 1);
	task_set_cancel(daemon_.tasks, ref, NULL, NULL);
	task_set_pause(daemon_.tasks, ref, NULL, NULL);
}

/* Two who end a task while it pauses: one of them finds it gone. */
static void *
forget_thread(void *opaque)
{
	task_forget(daemon_.tasks, ((struct slow *)opaque)->ref);
	return NULL;
}

static void
test_ended_twice_while_it_pauses(void **state)
{
	CLEANUP_FREE char *ref = task_new(true);
	struct timespec pause = { 0, 100000000 };
	struct slow slow = { .ref = ref };
	pthread_t pauses, ends[2];

	(void)state;
	sem_init(&slow.in_pause, 0, 0);
	sem_init(&slow.go_on, 0, 0);
	task_set_pause(daemon_.tasks, ref, slow_pause, &slow);
	assert_int_equal(pthread_create(&pauses, NULL, pause_thread, &slow), 0);
	sem_wait(&slow.in_pause);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&ends[i], NULL, forget_thread, &slow), 0);
	nanosleep(&pause, NULL);
	sem_post(&slow.go_on);
	pthread_join(pauses, NULL);
	for (size_t i = 0; i < 2; i++)
		pthread_join(ends[i], NULL);
}

/* What smd works for is ended by that work, however long it waits before it begins. */
static void
test_collected(void **state)
{
	CLEANUP_FREE char *queued = task_new(true), *left = task_new(false);
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct db *db = daemon_.db;

	(void)state;
	assert_ok(db_set_str(db, "task", queued, "created", "20010101T00:00:00Z", &err), &err);
	assert_ok(db_set_str(db, "task", left, "created", "20010101T00:00:00Z", &err), &err);
	tasks_collect(daemon_.tasks);
	assert_false(db_exists(db, "task", left));
	assert_true(db_exists(db, "task", queued));
	assert_ok(task_cancel(daemon_.tasks, queued, &err), &err);
	assert_true(task_cancelled(daemon_.tasks, queued));
	/* task.set_status ends none that is taken. */
	assert_true(task_is_taken(daemon_.tasks, queued));
	task_succeed(daemon_.tasks, queued, "");
	assert_false(task_is_taken(daemon_.tasks, queued));
}

/* One that works and has nothing to be stopped by yet goes when it ends. */
static void
test_destroyed_early(void **state)
{
	CLEANUP_FREE char *ref = task_new(true);
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct slow slow = { .n_cancelled = 0 };

	(void)state;
	assert_ok(task_destroy(daemon_.tasks, ref, &err), &err);
	assert_true(db_exists(daemon_.db, "task", ref));
	task_set_cancel(daemon_.tasks, ref, count_cancel, &slow);
	assert_ok(task_cancel(daemon_.tasks, ref, &err), &err);
	assert_int_equal(slow.n_cancelled, 1);
	task_set_cancel(daemon_.tasks, ref, NULL, NULL);
	task_succeed(daemon_.tasks, ref, "");
	assert_false(db_exists(daemon_.db, "task", ref));
}

/* One whose caller waits has a row once it has lasted, with what may be asked of it then. */
static void
test_shown_when_it_lasts(void **state)
{
	CLEANUP_FREE char *ref = task_begin(daemon_.tasks, "VDI.create");
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct slow slow = { .n_cancelled = 0 };
	CLEANUP_JSON json *allowed = NULL;

	(void)state;
	tasks_show(daemon_.tasks, 0);
	assert_false(db_exists(daemon_.db, "task", ref));	/* nothing can be asked of it */
	task_set_cancel(daemon_.tasks, ref, count_cancel, &slow);
	tasks_show(daemon_.tasks, 10000);
	assert_false(db_exists(daemon_.db, "task", ref));
	tasks_show(daemon_.tasks, 0);
	assert_ok(db_get(daemon_.db, "task", ref, "allowed_operations", &allowed, &err), &err);
	assert_json(allowed, "[\"cancel\"]");
	assert_ok(task_cancel(daemon_.tasks, ref, &err), &err);
	assert_int_equal(slow.n_cancelled, 1);
	task_set_cancel(daemon_.tasks, ref, NULL, NULL);
	task_end(daemon_.tasks, ref);
	assert_false(db_exists(daemon_.db, "task", ref));
	/* One that has ended is not shown any more. */
	assert_ok(task_show(daemon_.tasks, ref, &err), &err);
	assert_false(db_exists(daemon_.db, "task", ref));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_cancel_while_it_pauses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ended_twice_while_it_pauses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_collected, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destroyed_early, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shown_when_it_lasts, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
