/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/direct.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/job/control.h"
#include "daemon/job/process.h"
#include "daemon/job/queue.h"
#include "daemon/job/stall.h"
#include "daemon/job/task.h"
#include "daemon/sr/sr.h"
#include "daemon/worker/protocol.h"

#define STDERR_TAIL 2048u

/* One worker while it runs. */
struct run {
	struct daemon *daemon;
	struct worker_job *job;
	const char *op;
	struct process process;
	_Atomic bool cancelled;
	bool late;			/* killed at its deadline */
	bool left;			/* it has answered, and nobody waits for its end */
	bool moves;			/* it has told of its progress */
	char *line;			/* of its output, so far */
	size_t line_len, line_size;
	char tail[STDERR_TAIL + 1];	/* of its stderr */
	size_t tail_len;
	json *result;
	struct smd_error error;		/* what it answered */
	char *wall;			/* of its sandbox, that it ran into */
	char *denied;			/* what it was denied, and went on without */
	struct queue_entry entry;
	struct control control;
};

int
worker_fd(struct worker_job *job, int fd)
{
	assert(job->n_fds < PROCESS_FDS_MAX && fd >= 0);
	job->fds[job->n_fds] = fd;
	return WORKER_FD_FIRST + (int)job->n_fds++;
}

void
worker_direct(struct worker_job *job, json *side, int fd)
{
	int direct = smd_open_direct(fd);

	if (direct > 0)
		smd_json_set_int(side, "direct", worker_fd(job, direct));
}

void
worker_loads(struct worker_job *job, const char *sr_ref)
{
	size_t i = 0;

	while (job->srs[i] && strcmp(job->srs[i], sr_ref) != 0)
		i++;
	assert(i < sizeof job->srs / sizeof job->srs[0]);
	job->srs[i] = sr_ref;
}

void
worker_job_done(struct worker_job *job)
{
	for (size_t i = 0; i < job->n_fds; i++)
		close(job->fds[i]);
	job->n_fds = 0;
}

/* Whoever stopped it wants it given up, or to go on with it later. */
static int
fail_ended(const struct run *run, struct smd_error *err)
{
	const char *task_ref = run->job->task_ref;

	if (run->job->stoppable && !task_cancelled(run->daemon->tasks, task_ref))
		return smd_fail_JOB_STOPPED(err, "%s was stopped, to go on later", run->op);
	return smd_fail_TASK_CANCELLED(err, task_ref ? task_ref : "", task_stopped(run->daemon->tasks,
				       task_ref) ? "smd ends: ask for it again when it is back" :
				       "the task was cancelled");
}

/* ---- Being stopped ---- */

void
worker_stop_init(struct worker_stop *stop)
{
	*stop = (struct worker_stop){ .asked = false };
	pthread_mutex_init(&stop->lock, NULL);
}

void
worker_stop_done(struct worker_stop *stop)
{
	pthread_mutex_destroy(&stop->lock);
}

void
worker_stop(struct worker_stop *stop)
{
	LOCK_SCOPE(&stop->lock);
	if (!stop->asked && stop->hook)
		stop->hook(stop->opaque);
	stop->asked = true;
}

bool
worker_stopped(struct worker_stop *stop)
{
	LOCK_SCOPE(&stop->lock);
	return stop->asked;
}

/* What stops the job from now on: its task's owner and others. NULL: nothing, and
 * nobody is in the hook any more. */
static void
set_hooks(struct run *run, void (*hook)(void *opaque), void (*stop)(void *opaque), void *opaque)
{
	struct worker_job *job = run->job;

	if (job->task_ref)
		task_set_stop(run->daemon->tasks, job->task_ref, hook, job->stoppable ? stop : NULL,
			      opaque);
	if (!job->stop)
		return;
	LOCK_SCOPE(&job->stop->lock);
	job->stop->hook = hook;
	job->stop->opaque = opaque;
	if (hook && job->stop->asked)
		hook(opaque);
}

/* ---- The queue ---- */

static void
cancel_waiter(void *opaque)
{
	queue_cancel(opaque);
}

static int
wait_place(struct run *run, struct smd_error *err)
{
	bool ok;

	set_hooks(run, cancel_waiter, cancel_waiter, &run->entry);
	ok = queue_enter(run->daemon, &run->entry);
	set_hooks(run, NULL, NULL, NULL);
	return ok ? 0 : fail_ended(run, err);
}

/* ---- The process ---- */

static int
start(struct run *run, struct smd_error *err)
{
	if (process_start(run->daemon, run->job->fds, run->job->n_fds, &run->process) < 0)
		return smd_fail_JOB_WORKER_FAILED(err, run->op, "it could not be started",
						  "%s: smd-worker could not be started: %s: too many "
						  "processes or descriptors, or too little memory",
						  run->op, strerror(errno));
	worker_job_done(run->job);
	return 0;
}

/* Before it has a thread or a request: what moves data gives way to the daemon and to
 * short questions, and the collector to all. See ioprio_set(2), whose numbers no
 * header of the C library has. */
static void
set_priority(const struct run *run)
{
	enum { WHO_PROCESS = 1, CLASS_BEST_EFFORT = 2 << 13 };
	const struct worker_job *job = run->job;
	int level = job->background ? 7 : job->urgent ? 4 : 5;

	setpriority(PRIO_PROCESS, (id_t)run->process.pid, job->background ? 10 : job->urgent ? 0 : 5);
	syscall(SYS_ioprio_set, WHO_PROCESS, run->process.pid, CLASS_BEST_EFFORT | level);
}

static void
set_limits(const struct run *run)
{
	const struct config *config = run->daemon->config;
	json *limits = json_object_new_object();

	smd_json_set_int(limits, "memory", config_int(config, "worker_memory"));
	smd_json_set_int(limits, "cpu_seconds", config_int(config, "worker_cpu_seconds"));
	smd_json_set(run->job->request, "limits", limits);
}

/* A worker that is gone already says why by its end. */
static void
send_line(struct run *run, const char *line)
{
	size_t len = strlen(line);

	for (size_t done = 0; done < len; ) {
		ssize_t n = send(run->process.in, line + done, len - done, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		done += (size_t)n;
	}
}

static void
send_request(struct run *run)
{
	CLEANUP_FREE char *text = smd_json_print(run->job->request);
	CLEANUP_FREE char *line = smd_asprintf("%s\n", text);

	send_line(run, line);
}

/* The daemon is about to end. */
static void
stop_run(void *opaque)
{
	struct run *run = opaque;

	control_stop(run->daemon, run->job->task_ref);
}

static void
cancel_run(void *opaque)
{
	struct run *run = opaque;

	run->cancelled = true;
	kill(run->process.pid, SIGKILL);
}

/* ---- What it says ---- */

static void
take_progress(struct run *run, json *progress)
{
	struct worker_job *job = run->job;

	if (!run->moves && job->moves)
		job->moves(job->opaque, false);
	run->moves = true;
	task_transfer(run->daemon->tasks, job->task_ref, job->progress_from, job->progress_to,
		      job->bytes_before + (uint64_t)smd_json_int(progress, "done", 0),
		      job->bytes_before + (uint64_t)smd_json_int(progress, "total", 0) +
		      job->bytes_after);
}

static void
take_made(struct run *run)
{
	bool hide = run->job->made && run->job->made(run->job->opaque);

	send_line(run, hide ? "{\"hide\":true}\n" : "{\"hide\":false}\n");
}

static void
take_line(struct run *run, const char *text, size_t len)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *line = smd_json_parse(text, len, 32, &err);
	struct worker_job *job = run->job;
	json *member;

	if (!line) {
		smd_log(SMD_LOG_WARNING, "smd-worker wrote a line that is no JSON: %s", err.message);
		return;
	}
	if ((member = smd_json_member(line, "progress"))) {
		take_progress(run, member);
	} else if ((member = smd_json_member(line, "verify"))) {
		if (job->moves)
			job->moves(job->opaque, true);
	} else if (smd_json_member(line, "made")) {
		take_made(run);
	} else if ((member = smd_json_member(line, "mark"))) {
		job->marked = (uint64_t)smd_json_int(member, "done", 0);
	} else if ((member = smd_json_member(line, "begin"))) {
		if (job->begin)
			job->begin(job->opaque, (uint64_t)smd_json_int(member, "size", 0));
	} else if ((member = smd_json_member(line, "denied"))) {
		free(run->denied);
		run->denied = smd_strdup(json_object_get_string(member));
	} else if ((member = smd_json_member(line, "wall"))) {
		free(run->wall);
		run->wall = smd_strdup(json_object_get_string(member));
	} else if ((member = smd_json_member(line, "result"))) {
		json_object_put(run->result);
		run->result = json_object_get(member);
	} else if ((member = smd_json_member(line, "error")) && !run->error.code) {
		smd_json_to_error(member, &run->error);
	}
}

/* Cut what has come into lines. False: a line is too long. */
static bool
take_output(struct run *run, const char *buf, size_t n)
{
	if (run->line_len + n > run->line_size) {
		if (run->line_len + n > WORKER_LINE_MAX)
			return false;
		run->line_size = 2 * (run->line_len + n);
		run->line = smd_reallocarray(run->line, run->line_size, 1);
	}
	memcpy(run->line + run->line_len, buf, n);
	run->line_len += n;
	for (;;) {
		char *end = memchr(run->line, '\n', run->line_len);
		size_t len;

		if (!end)
			return true;
		len = (size_t)(end - run->line);
		if (len > 0)	/* a wall's line ends what came before it */
			take_line(run, run->line, len);
		run->line_len -= len + 1;
		memmove(run->line, end + 1, run->line_len);
	}
}

static void
take_errors(struct run *run, const char *buf, size_t n)
{
	if (n > STDERR_TAIL) {
		buf += n - STDERR_TAIL;
		n = STDERR_TAIL;
	}
	if (run->tail_len + n > STDERR_TAIL) {
		size_t drop = run->tail_len + n - STDERR_TAIL;

		memmove(run->tail, run->tail + drop, run->tail_len - drop);
		run->tail_len -= drop;
	}
	memcpy(run->tail + run->tail_len, buf, n);
	run->tail_len += n;
	run->tail[run->tail_len] = '\0';
}

/* One read of a descriptor that poll reported; closed at its end. */
static bool
drain(struct run *run, int *fd)
{
	char buf[16384];
	ssize_t n = read(*fd, buf, sizeof buf);

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0) {
		close(*fd);
		*fd = -1;
		return true;
	}
	if (fd == &run->process.out)
		return take_output(run, buf, (size_t)n);
	take_errors(run, buf, (size_t)n);
	return true;
}

/* Until the deadline, for poll: -1, there is none. */
static int
time_left(const struct run *run, uint64_t started_ms)
{
	uint64_t limit = run->job->seconds * 1000ull, spent = smd_now_ms() - started_ms;

	if (limit == 0)
		return -1;
	return spent < limit ? (int)(limit - spent) : 0;
}

/* What it said before it answered. */
static void
drain_errors(struct run *run)
{
	struct pollfd p = { .fd = run->process.errs, .events = POLLIN };

	while (run->process.errs >= 0 && poll(&p, 1, 0) > 0)
		drain(run, &run->process.errs);
}

/* Until it has closed its output, is late, or has answered and may leave. Whoever holds the
 * pipes besides is not waited for then. */
static void
listen_to(struct run *run)
{
	uint64_t started_ms = smd_now_ms();

	while (run->process.out >= 0 || run->process.errs >= 0) {
		struct pollfd p[2] = { { .fd = run->process.out, .events = POLLIN },
				       { .fd = run->process.errs, .events = POLLIN } };
		bool ok = true;
		int n = poll(p, 2, time_left(run, started_ms));

		if (n < 0)
			continue;
		if (n == 0) {
			run->late = true;
			return;
		}
		if (p[0].revents)
			ok = drain(run, &run->process.out);
		if (p[1].revents)
			drain(run, &run->process.errs);
		if (!ok) {
			take_errors(run, "(its answer is too long)", 24);
			kill(run->process.pid, SIGKILL);
			close(run->process.out);
			run->process.out = -1;
		}
		if (run->job->leaves && run->result) {
			run->left = true;
			drain_errors(run);
			return;
		}
	}
}

/* The image it is about, as the SR names it. */
static const char *
image_name(json *request)
{
	json *layers = smd_json_member(smd_json_member(request, "source"), "layers");
	json *leaf = json_object_is_type(layers, json_type_array) ?
		     json_object_array_get_idx(layers, 0) : NULL;

	return smd_json_str(leaf ? leaf : smd_json_member(request, "target"), "name", "images");
}

/* What it said on its standard error, however it ended; as any log and wire can have it. */
static void
keep_words(struct run *run)
{
	while (run->tail_len > 0 && run->tail[run->tail_len - 1] == '\n')
		run->tail[--run->tail_len] = '\0';
	/* What strings end with, too. */
	run->tail_len = strlen(run->tail);
	if (run->tail_len == 0)
		return;
	for (char *p = run->tail; *p; p++) {
		if (*p != '\n' && (*p < ' ' || *p > '~'))
			*p = '?';
	}
	smd_log(SMD_LOG_WARNING, "smd-worker, process %d, at \"%s\" of %s says: %s",
		(int)run->process.pid, run->op, image_name(run->job->request), run->tail);
	if (run->job->task_ref)
		task_note(run->daemon->tasks, run->job->task_ref,
			  SMD_PARAMS("last_words", run->tail));
}

static int
conclude(struct run *run, int status, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *how = NULL;

	run->job->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	if (run->cancelled)
		return fail_ended(run, err);
	keep_words(run);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		if (run->error.code) {
			smd_error_move(err, &run->error);
			if (run->wall)
				smd_error_prefix(err, "after %s", run->wall);
			if (run->denied)
				smd_error_prefix(err, "denied %s", run->denied);
			return -1;
		}
		if (run->result) {
			if (json_object_is_type(run->result, json_type_object))
				smd_json_set_bool(run->result, WORKER_HELD_BACK, run->control.held_back);
			*ret = TAKE_PTR(run->result);
			return 0;
		}
	}
	if (run->late)
		how = smd_asprintf("gave no answer within %u s", run->job->seconds);
	else if (run->wall)
		how = smd_strdup(run->wall);
	else if (WIFSIGNALED(status))
		how = smd_asprintf("killed by signal %d (%s)", WTERMSIG(status),
				   strsignal(WTERMSIG(status)));
	else
		how = smd_asprintf("ended with status %d", WEXITSTATUS(status));
	return smd_fail_JOB_WORKER_FAILED(err, run->op, how, "%s: smd-worker %s%s%s%s", run->op, how,
					  run->tail_len ? ": " : "", run->tail,
					  run->job->signal != SIGKILL || run->late ? "" :
					  " (by somebody, or by the kernel for want of memory)");
}

static struct control
control_of(const struct run *run)
{
	const struct worker_job *job = run->job;
	int64_t speed = smd_json_int(job->request, "bytes_per_second", 0);

	return (struct control){
		.task_ref = job->task_ref, .srs = { job->srs[0], job->srs[1] },
		.bytes_per_second = speed > 0 ? (uint64_t)speed : 0,
	};
}

static const char *
task_of(const struct run *run)
{
	if (run->job->streams)
		return NULL;
	return run->job->task_ref ? run->job->task_ref : stall_thread_task();
}

/* Its status, as waitpid says it. One that answered and may leave has done well. */
static int
end_of(struct run *run)
{
	struct rusage used = { .ru_maxrss = 0 };
	int status = 0;

	if (run->left) {
		process_leave(run->process.pid);
		return 0;
	}
	while (wait4(run->process.pid, &status, 0, &used) < 0 && errno == EINTR)
		;
	smd_log(SMD_LOG_DEBUG, "smd-worker, process %d: %s took %ld KiB of memory at most and %ld s "
		"of processor time", (int)run->process.pid, run->op, used.ru_maxrss,
		used.ru_utime.tv_sec + used.ru_stime.tv_sec);
	return status;
}

static int
run_process(struct run *run, json **ret, struct smd_error *err)
{
	struct stall_said *before;
	int status;

	if (start(run, err) < 0)
		return -1;
	set_priority(run);
	set_limits(run);
	run->control = control_of(run);
	control_enter(run->daemon, &run->control);
	/* Said later, a fast one would have done its work by that. */
	if (run->control.told != run->control.bytes_per_second)
		smd_json_set_int(run->job->request, "bytes_per_second",
				 (int64_t)run->control.told);
	send_request(run);
	/* It is at work: one that was stopped before is so now. */
	set_hooks(run, cancel_run, stop_run, run);
	control_open(&run->control, run->process.in);
	before = stall_says(task_of(run), run->process.pid, "smd-worker, process %d, at \"%s\" of %s",
			    (int)run->process.pid, run->op, image_name(run->job->request));
	listen_to(run);
	control_leave(&run->control);
	stall_back(task_of(run), before);
	/* One that ended has closed them by that; one that only pretends shall end too. */
	kill(run->process.pid, SIGKILL);
	/* The pid stays ours until it is reaped: cancel must not find another's. */
	set_hooks(run, NULL, NULL, NULL);
	status = end_of(run);
	return conclude(run, status, ret, err);
}

int
worker_run(struct daemon *daemon, struct worker_job *job, json **ret, struct smd_error *err)
{
	struct run run = {
		.daemon = daemon, .job = job, .process = { 0, -1, -1, -1 },
		.op = smd_json_str(job->request, "op", ""),
		.entry = { .task_ref = job->task_ref, .srs = { job->srs[0], job->srs[1] },
			   .background = job->background },
	};
	int r = -1;

	if (job->urgent || wait_place(&run, err) == 0) {
		r = run_process(&run, ret, err);
		if (!job->urgent)
			queue_leave(&run.entry);
	}
	worker_job_done(job);
	for (int *const *fd = (int *const []){ &run.process.in, &run.process.out,
							  &run.process.errs, NULL }; *fd; fd++) {
		if (**fd >= 0)
			close(**fd);
	}
	free(run.line);
	free(run.wall);
	free(run.denied);
	json_object_put(run.result);
	smd_error_clear(&run.error);
	return r;
}
