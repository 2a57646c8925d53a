/* SPDX-License-Identifier: BSD-2-Clause */
/* Running a worker, which here is a shell script: descriptors, answers, odd ends,
 * cancelling, the queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/control.h"
#include "daemon/job/queue.h"
#include "daemon/job/stall.h"
#include "daemon/job/task.h"
#include "daemon/job/worker.h"
#include "daemon/sr/sr.h"

static char script[64];
static struct daemon daemon_ = { 0 };
static int64_t at_once = 1, per_sr = 1;
static uint64_t seen_done, seen_total, seen_begin;

/* ---- What worker.c needs of the daemon ---- */

char *
config_str(const struct config *config, const char *key)
{
	(void)config;
	assert_string_equal(key, "worker");
	return smd_strdup(script);
}

int64_t
config_int(const struct config *config, const char *key)
{
	(void)config;
	if (strcmp(key, "sr_bytes_per_second") == 0)
		return 1000;
	if (strcmp(key, "worker_memory") == 0 || strcmp(key, "worker_cpu_seconds") == 0)
		return 1;
	if (strcmp(key, "max_workers_per_sr") == 0)
		return per_sr;
	assert_string_equal(key, "max_workers");
	return at_once;
}

int
db_map_get(struct db *db, const char *cls, const char *ref, const char *field, const char *key,
	   char **ret, struct smd_error *err)
{
	(void)db;
	(void)err;
	assert_string_equal(cls, "SR");
	assert_string_equal(field, "other_config");
	if (strcmp(key, "bytes-per-second") != 0)
		assert_string_equal(key, "max-workers");
	*ret = strcmp(ref, "sr with its own") == 0 ? smd_strdup("77") : NULL;
	return 0;
}

int
db_get_str(struct db *db, const char *cls, const char *ref, const char *field, char **ret,
	   struct smd_error *err)
{
	(void)db;
	(void)err;
	if (strcmp(cls, "SR") == 0) {
		assert_string_equal(field, "uuid");
		*ret = smd_strdup("<uuid>");
		return 0;
	}
	assert_string_equal(cls, "task");
	assert_string_equal(field, "status");
	*ret = smd_strdup(strcmp(ref, "the task") == 0 ? "pending" : "success");
	return 0;
}

const char *
storage_format_dirs(struct daemon *daemon)
{
	(void)daemon;
	return "/nowhere";
}

static pthread_mutex_t cancel_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*cancel_hook)(void *opaque);
static void *cancel_opaque;
static bool cancel_asked;

void
task_set_stop(struct tasks *tasks, const char *ref, void (*cancel)(void *opaque),
	      void (*stop)(void *opaque), void *opaque)
{
	LOCK_SCOPE(&cancel_lock);
	(void)tasks;
	(void)stop;
	assert_string_equal(ref, "the task");
	cancel_hook = cancel;
	cancel_opaque = opaque;
	if (cancel && cancel_asked)
		cancel(opaque);
}

bool
task_cancelled(struct tasks *tasks, const char *ref)
{
	LOCK_SCOPE(&cancel_lock);
	(void)tasks;
	(void)ref;
	return cancel_asked;
}

bool
task_stopped(struct tasks *tasks, const char *ref)
{
	(void)tasks;
	(void)ref;
	return false;
}

void
task_transfer(struct tasks *tasks, const char *ref, double from, double to, uint64_t done,
	      uint64_t total)
{
	(void)tasks;
	(void)ref;
	(void)from;
	(void)to;
	seen_done = done;
	seen_total = total;
}

const char *
stall_thread_task(void)
{
	return NULL;
}

struct stall_said *
stall_says(const char *ref, pid_t pid, const char *fmt, ...)
{
	(void)ref;
	(void)pid;
	(void)fmt;
	return NULL;
}

void
stall_back(const char *ref, struct stall_said *before)
{
	(void)ref;
	assert_null(before);
}

/* What the task "watched" says that it waits for; "": nothing. */
static char waits_for[200];
static pthread_mutex_t noted_lock = PTHREAD_MUTEX_INITIALIZER;

void
task_note(struct tasks *tasks, const char *ref, const char *const *pairs)
{
	(void)tasks;
	if (strcmp(ref, "watched") != 0)
		return;
	LOCK_SCOPE(&noted_lock);
	for (; pairs[0]; pairs += 2) {
		if (strcmp(pairs[0], "waits_for") == 0)
			snprintf(waits_for, sizeof waits_for, "%s", pairs[1]);
	}
}

static void
wait_noted(const char *what)
{
	const struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };

	for (bool found = false; !found;) {
		nanosleep(&pause, NULL);
		LOCK_SCOPE(&noted_lock);
		found = *what ? strstr(waits_for, what) != NULL : !*waits_for;
	}
}

static void
begin(void *opaque, uint64_t size)
{
	(void)opaque;
	seen_begin = size;
}

/* ---- The tests ---- */

static void
write_script(const char *text)
{
	FILE *f = fopen(script, "w");

	assert_non_null(f);
	fprintf(f, "#!/bin/sh\nread request\n%s\n", text);
	assert_int_equal(fchmod(fileno(f), 0700), 0);
	fclose(f);
}

static int
run(struct worker_job *job, json **ret, struct smd_error *err)
{
	json *request = json_object_new_object();
	int r;

	smd_json_set_str(request, "op", "test");
	job->request = request;
	r = worker_run(&daemon_, job, ret, err);
	json_object_put(request);
	return r;
}

static int
setup(void **state)
{
	int fd;

	(void)state;
	strcpy(script, "/tmp/smd-test-worker-XXXXXX");
	fd = mkstemp(script);
	close(fd);
	cancel_asked = false;
	return fd < 0;
}

static int
teardown(void **state)
{
	(void)state;
	return unlink(script);
}

static void
test_answer(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = { .task_ref = "the task", .begin = begin };
	CLEANUP_JSON json *result = NULL;

	(void)state;
	write_script("echo '{\"progress\":{\"done\":5,\"total\":10}}'\n"
		     "echo '{\"begin\":{\"size\":77}}'\n"
		     "echo '{\"result\":{\"a\":1}}'");
	assert_int_equal(run(&job, &result, &err), 0);
	assert_int_equal(smd_json_int(result, "a", 0), 1);
	assert_int_equal(seen_done, 5);
	assert_int_equal(seen_total, 10);
	assert_int_equal(seen_begin, 77);
	assert_null(cancel_hook);
}

static void
test_error(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = { .urgent = true };
	json *result = NULL;

	(void)state;
	write_script("echo '{\"error\":{\"code\":\"IMAGE_CORRUPT\",\"params\":[\"x\",\"BAD_MAGIC\"],"
		     "\"message\":\"why\",\"errno\":0}}'");
	assert_int_equal(run(&job, &result, &err), -1);
	assert_true(smd_error_is(&err, SMD_E_IMAGE_CORRUPT));
	assert_string_equal(err.params[1], "BAD_MAGIC");
	assert_null(result);
}

/* The worker has the descriptors it was given, from 3 up, and no others. */
static void
test_descriptors(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = { .urgent = true };
	CLEANUP_JSON json *result = NULL;
	int pair[2], stray = open("/dev/null", O_RDONLY);

	(void)state;
	assert_int_equal(pipe(pair), 0);
	assert_int_equal(write(pair[1], "7\n", 2), 2);
	assert_int_equal(worker_fd(&job, pair[1]), 3);
	assert_int_equal(worker_fd(&job, pair[0]), 4);
	write_script("read n <&4\n"
		     "set -- /proc/$$/fd/*\n"
		     "for f; do case $(readlink $f) in /dev/null) n=stray ;; esac; done\n"
		     "echo \"{\\\"result\\\":{\\\"n\\\":\\\"$n\\\"}}\"");
	assert_int_equal(run(&job, &result, &err), 0);
	assert_string_equal(smd_json_str(result, "n", ""), "7");
	assert_int_equal(job.n_fds, 0);
	close(stray);
}

static void
expect_odd_end(const char *text, const char *how, const char *said)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = { .urgent = true };
	json *result = NULL;

	write_script(text);
	assert_int_equal(run(&job, &result, &err), -1);
	assert_true(smd_error_is(&err, SMD_E_JOB_WORKER_FAILED));
	assert_non_null(strstr(err.params[1], how));
	assert_non_null(strstr(err.message, said));
}

static void
test_odd_ends(void **state)
{
	(void)state;
	expect_odd_end("echo some last words >&2; kill -SEGV $$", "signal 11", "last words");
	expect_odd_end("echo oops >&2; exit 3", "status 3", "oops");
	expect_odd_end("exit 0", "status 0", "");
	expect_odd_end("exec >&- 2>&-; exec sleep 1000", "signal 9", "");
	/* An answer does not count where the end is odd. */
	expect_odd_end("echo '{\"result\":{}}'; kill -9 $$", "signal 9", "");
	expect_odd_end("head -c 3000000 /dev/zero | tr '\\0' x", "signal 9", "too long");
}

static void *
cancel_soon(void *opaque)
{
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };

	for (;;) {
		nanosleep(&pause, NULL);
		LOCK_SCOPE(&cancel_lock);
		if (cancel_hook) {
			cancel_hook(cancel_opaque);
			return opaque;
		}
	}
}

static void
test_cancel(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = { .task_ref = "the task", .urgent = true };
	json *result = NULL;
	pthread_t thread;

	(void)state;
	write_script("exec sleep 1000");
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, NULL), 0);
	assert_int_equal(run(&job, &result, &err), -1);
	assert_true(smd_error_is(&err, SMD_E_TASK_CANCELLED));
	assert_string_equal(err.params[0], "the task");
	pthread_join(thread, NULL);
}

static void *
stop_soon(void *opaque)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };

	nanosleep(&pause, NULL);
	worker_stop(opaque);
	return NULL;
}

/* By somebody else than the task's owner: one that runs, and the next before it does. */
static void
test_stop(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_stop stop;
	struct worker_job job = { .urgent = true, .stop = &stop };
	json *result = NULL;
	pthread_t thread;

	(void)state;
	worker_stop_init(&stop);
	write_script("exec sleep 1000");
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, &stop), 0);
	assert_int_equal(run(&job, &result, &err), -1);
	assert_true(smd_error_is(&err, SMD_E_TASK_CANCELLED));
	pthread_join(thread, NULL);
	smd_error_clear(&err);
	job.urgent = false;
	assert_int_equal(run(&job, &result, &err), -1);
	assert_true(smd_error_is(&err, SMD_E_TASK_CANCELLED));
	worker_stop_done(&stop);
}

/* Bytes are counted with those of the task's other workers. */
static void
test_shares(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = {
		.task_ref = "the task", .urgent = true, .bytes_before = 100, .bytes_after = 1000,
	};
	CLEANUP_JSON json *result = NULL;

	(void)state;
	write_script("echo '{\"progress\":{\"done\":5,\"total\":10}}'\n"
		     "echo '{\"result\":{}}'");
	assert_int_equal(run(&job, &result, &err), 0);
	assert_int_equal(seen_done, 105);
	assert_int_equal(seen_total, 1110);
}

static void *
run_long(void *opaque)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = { .urgent = false };
	CLEANUP_JSON json *result = NULL;

	assert_int_equal(worker_fd(&job, *(int *)opaque), 3);
	run(&job, &result, &err);
	return NULL;
}

/* One at a time: the second is cancelled while it waits for the first. */
static void
test_queue(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = { .task_ref = "the task" };
	json *result = NULL;
	pthread_t thread;
	int release[2];

	(void)state;
	assert_int_equal(pipe(release), 0);
	write_script("read go <&3; echo '{\"result\":{}}'");
	assert_int_equal(pthread_create(&thread, NULL, run_long, &release[0]), 0);
	cancel_asked = true;
	/* Whether it waited or came first, it must not run to an answer. */
	assert_int_equal(run(&job, &result, &err), -1);
	assert_true(smd_error_is(&err, SMD_E_TASK_CANCELLED));
	assert_int_equal(write(release[1], "\n", 1), 1);
	pthread_join(thread, NULL);
	close(release[1]);
}

/* Whatever holds its output open besides. */
static void
test_hangs(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = { .urgent = true, .seconds = 1 };
	json *result = NULL;

	(void)state;
	write_script("sleep 20 & sleep 20");
	assert_int_equal(run(&job, &result, &err), -1);
	assert_string_equal(err.code, "JOB_WORKER_FAILED");
	assert_non_null(strstr(err.message, "gave no answer within 1 s"));
	assert_null(result);
}

/* ---- Whose turn it is ---- */

struct queued {
	struct queue_entry entry;
	pthread_t thread;
	sem_t in;
	bool mine;
};

static void *
queue_thread(void *opaque)
{
	struct queued *q = opaque;

	q->mine = queue_enter(&daemon_, &q->entry);
	sem_post(&q->in);
	return NULL;
}

/* It waits when this returns, or has its place. */
static void
queue_up(struct queued *q, const char *task_ref, const char *sr, const char *other_sr)
{
	static const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };

	*q = (struct queued){ .entry = { .task_ref = task_ref, .srs = { sr, other_sr } } };
	sem_init(&q->in, 0, 0);
	assert_int_equal(pthread_create(&q->thread, NULL, queue_thread, q), 0);
	nanosleep(&pause, NULL);
}

static bool
is_in(struct queued *q)
{
	return sem_trywait(&q->in) == 0;
}

/* The one whose turn it is now. */
static void
assert_next(struct queued *q)
{
	sem_wait(&q->in);
	pthread_join(q->thread, NULL);
	assert_true(q->mine);
}

static void
test_turns(void **state)
{
	struct queued a1, a2, a3, b1, ab;

	(void)state;
	at_once = 1;
	queue_up(&a1, NULL, "a", NULL);
	assert_next(&a1);
	queue_up(&a2, NULL, "a", NULL);
	queue_up(&a3, NULL, "a", NULL);
	queue_up(&b1, "watched", "b", NULL);
	wait_noted("a worker: 1 work");
	queue_leave(&a1.entry);
	assert_next(&b1);	/* b has waited for longer than a */
	wait_noted("");
	assert_false(is_in(&a2));
	queue_leave(&b1.entry);
	assert_next(&a2);
	queue_up(&ab, NULL, "a", "b");
	queue_leave(&a2.entry);
	assert_next(&a3);	/* came before it */
	queue_leave(&a3.entry);
	assert_next(&ab);
	queue_leave(&ab.entry);
}

static void
test_per_sr(void **state)
{
	struct queued a1, a2, b1, own[3];

	(void)state;
	at_once = 10;
	queue_up(&a1, NULL, "a", NULL);
	queue_up(&a2, "watched", "a", NULL);
	assert_next(&a1);
	wait_noted("a worker of SR <uuid>: 1 work");
	queue_up(&b1, NULL, "b", NULL);
	assert_next(&b1);
	for (int i = 0; i < 3; i++) {
		queue_up(&own[i], NULL, "sr with its own", NULL);
		assert_next(&own[i]);
		queue_leave(&own[i].entry);
	}
	queue_leave(&a1.entry);
	assert_next(&a2);
	queue_leave(&a2.entry);
	queue_leave(&b1.entry);
	at_once = 1;
}

/* It takes nobody's place and waits for nobody but those that wait. */
static void
test_background(void **state)
{
	struct queued a1, a2, merge;

	(void)state;
	queue_up(&a1, NULL, "a", NULL);
	assert_next(&a1);
	merge.entry = (struct queue_entry){ .srs = { "a" }, .background = true };
	assert_true(queue_enter(&daemon_, &merge.entry));
	queue_leave(&merge.entry);
	queue_up(&a2, NULL, "a", NULL);
	merge = (struct queued){ .entry = { .task_ref = "watched", .srs = { "a" },
					    .background = true } };
	sem_init(&merge.in, 0, 0);
	assert_int_equal(pthread_create(&merge.thread, NULL, queue_thread, &merge), 0);
	wait_noted("that clients wait for");
	queue_leave(&a1.entry);
	assert_next(&a2);
	assert_next(&merge);
	wait_noted("");
	queue_leave(&merge.entry);
	queue_leave(&a2.entry);
}

/* Who is paused lets the others go before. */
static void
test_paused(void **state)
{
	struct queued a1, b1;

	(void)state;
	control_pause(&daemon_, "watched", true);
	queue_up(&a1, "watched", "a", NULL);
	wait_noted("task.resume");
	queue_up(&b1, NULL, "a", NULL);
	assert_next(&b1);
	queue_leave(&b1.entry);
	assert_false(is_in(&a1));
	control_pause(&daemon_, "watched", false);
	assert_next(&a1);
	queue_leave(&a1.entry);
	queue_up(&b1, NULL, "b", NULL);
	assert_next(&b1);
	queue_up(&a1, "watched", "a", NULL);
	control_stop(&daemon_, "watched");
	sem_wait(&a1.in);
	pthread_join(a1.thread, NULL);
	assert_false(a1.mine);
	queue_leave(&b1.entry);
	control_tick(&daemon_);
}

/* What a worker was told; "": nothing. */
static const char *
told(int from)
{
	static char buf[256];
	ssize_t n = recv(from, buf, sizeof buf - 1, MSG_DONTWAIT);

	buf[n > 0 ? n : 0] = '\0';
	return buf;
}

struct tube {
	struct control control;
	uint64_t first;		/* the speed in its request */
	int end;
};

static void
tube_open(struct tube *t, const char *task_ref, const char *sr, const char *other_sr)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	t->control = (struct control){ .task_ref = task_ref, .srs = { sr, other_sr } };
	t->end = pair[1];
	control_enter(&daemon_, &t->control);
	t->first = t->control.told;
	control_open(&t->control, pair[0]);
}

static void
tube_close(struct tube *t)
{
	control_leave(&t->control);
	close(t->control.fd);
	close(t->end);
}

#define assert_told(t, line) assert_string_equal(told((t)->end), line)
#define SPEED(n) "{\"bytes_per_second\":" n "}\n"

/* An SR bears 1000, "sr with its own" 77. */
static void
test_speed(void **state)
{
	struct tube a, b, c;

	(void)state;
	tube_open(&a, "the task", "sr", NULL);
	assert_int_equal(a.first, 1000);
	tube_open(&b, "another task", "sr", NULL);
	assert_told(&a, SPEED("500"));
	assert_int_equal(b.first, 500);
	assert_told(&b, "");
	control_set_speed(&daemon_, "the task", 100);
	assert_told(&a, SPEED("100"));
	assert_told(&b, SPEED("900"));
	/* What another SR holds it back by is free for the rest. */
	tube_open(&c, NULL, "sr", "sr with its own");
	assert_int_equal(c.first, 77);
	assert_told(&b, SPEED("823"));
	assert_told(&a, "");
	tube_close(&c);
	assert_told(&b, SPEED("900"));
	control_set_speed(&daemon_, "the task", 0);
	assert_told(&a, SPEED("500"));
	assert_told(&b, SPEED("500"));
	/* One that stands leaves all to the other. */
	control_pause(&daemon_, "another task", true);
	assert_told(&a, SPEED("1000"));
	tube_close(&b);
	tube_close(&a);
	control_tick(&daemon_);
	assert_false(control_paused("another task"));
}

/* Also a worker that begins later. */
static void
test_pause(void **state)
{
	struct tube a;

	(void)state;
	control_pause(&daemon_, "the task", true);
	tube_open(&a, "the task", NULL, NULL);
	assert_told(&a, "{\"pause\":true}\n");
	control_tick(&daemon_);
	assert_true(control_paused("the task"));
	control_pause(&daemon_, "the task", false);
	assert_told(&a, "{\"pause\":false}\n");
	control_stop(&daemon_, "another task");
	assert_told(&a, "");
	control_stop(&daemon_, "the task");
	assert_told(&a, "{\"stop\":true}\n");
	tube_close(&a);
}

/* Between its request and the first line that follows, others come and go. */
static void
test_opened(void **state)
{
	struct control a = { .srs = { "sr" } };
	struct tube b;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	control_enter(&daemon_, &a);
	assert_int_equal(a.told, 1000);
	tube_open(&b, NULL, "sr", NULL);
	assert_int_equal(b.first, 500);
	control_open(&a, pair[0]);
	assert_string_equal(told(pair[1]), SPEED("500"));
	tube_close(&b);
	assert_string_equal(told(pair[1]), SPEED("1000"));
	control_leave(&a);
	close(pair[0]);
	close(pair[1]);
}

/* Its request says how fast it may be; what it has done before it hears more is within that. */
static void
test_told(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct worker_job job = { .urgent = true, .srs = { "sr with its own" } };
	CLEANUP_JSON json *result = NULL;

	(void)state;
	write_script("case $request in *'\"bytes_per_second\":77'*) echo '{\"result\":{}}';; esac");
	assert_int_equal(run(&job, &result, &err), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shares, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hangs, setup, teardown),
		cmocka_unit_test(test_turns),
		cmocka_unit_test(test_per_sr),
		cmocka_unit_test(test_background),
		cmocka_unit_test(test_paused),
		cmocka_unit_test(test_speed),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_opened),
		cmocka_unit_test_setup_teardown(test_told, setup, teardown),
	};

	return cmocka_run_group_tests_name("worker", tests, NULL, NULL);
}
