/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/job/maker.h"
#include "daemon/sr/sr.h"
#include "daemon/worker/protocol.h"

#define ANSWER_MS 60000		/* a fork takes a millisecond */
#define LEFT_MAX 64u		/* that nobody has waited for yet */

/* The worker that forks, and others' ends. A thread starts and ends it: all workers die with the
 * thread that has started them or their parent (PR_SET_PDEATHSIG), so that must be one that
 * stays. */
static struct {
	pthread_mutex_t lock;	/* guards the rest; held while it forks */
	pthread_cond_t changed, gone;
	pthread_t thread;
	struct daemon *daemon;	/* NULL: not started */
	bool stopping;
	bool ready;		/* it has forked once, and has loaded all by that */
	pid_t pid;		/* 0: there is none */
	int fd;			/* our end of its standard input */
	pid_t next_pid;		/* its child that waits for a job; 0: we have not heard of it */
	int next_fd;		/* our end of its socket */
	uint64_t used_ms;	/* the last job; 0: none yet */
	pid_t left[LEFT_MAX];	/* killed, and to be waited for */
	size_t n_left;
	bool waits;		/* for some that were left */
} warm = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER,
	   .gone = PTHREAD_COND_INITIALIZER, .fd = -1, .next_fd = -1 };

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void
process_end(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* ---- Starting the program ---- */

_Static_assert(WORKER_FD_FIRST == 3, "what follows the three standard descriptors");

/* theirs are its descriptors from 0 up; none of them is below n. */
static int
spawn(struct daemon *daemon, const int *theirs, size_t n, bool forks, pid_t *ret)
{
	CLEANUP_FREE char *program = config_str(daemon->config, "worker");
	char *const argv[] = { (char *)"smd-worker", (char *)"--formats",
			       (char *)storage_format_dirs(daemon),
			       forks ? (char *)"--fork" : NULL, NULL };
	/* What forks finds its functions once, in place of each of its children. */
	char *const envp[] = { forks ? (char *)"LD_BIND_NOW=1" : NULL, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	for (size_t i = 0; i < n; i++)
		posix_spawn_file_actions_adddup2(&actions, theirs[i], (int)i);
	posix_spawn_file_actions_addclosefrom_np(&actions, (int)n);
	r = posix_spawn(ret, program, &actions, &attr, argv, envp);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	errno = r;
	return r ? -1 : 0;
}

/* A copy above all numbers that a worker gets, so that none is overwritten by another's
 * dup2. */
static int
copy_up(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, WORKER_FD_FIRST + PROCESS_FDS_MAX);
}

static int
start_program(struct daemon *daemon, const int *theirs, size_t n, bool forks, pid_t *ret)
{
	int up[WORKER_FD_FIRST + PROCESS_FDS_MAX];
	size_t n_up = 0;
	int r = 0, errnum;

	while (r == 0 && n_up < n) {
		up[n_up] = copy_up(theirs[n_up]);
		r = up[n_up++] < 0 ? -1 : 0;
	}
	if (r == 0)
		r = spawn(daemon, up, n, forks, ret);
	errnum = errno;
	for (size_t i = 0; i < n_up; i++)
		close_fd(&up[i]);
	errno = errnum;
	return r;
}

/* ---- The one that forks ---- */

/* lock */
static void
drop_next(void)
{
	close_fd(&warm.next_fd);
	if (warm.next_pid > 0)
		process_end(warm.next_pid);
	warm.next_pid = 0;
}

/* What it says of its next child. False: it has not said it, or is gone. lock */
static bool
hear_of_next(void)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	int32_t pid = 0;
	struct iovec iov = { &pid, sizeof pid };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof control,
	};
	struct cmsghdr *header;

	if (recvmsg(warm.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != (ssize_t)sizeof pid)
		return false;
	header = CMSG_FIRSTHDR(&msg);
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(&warm.next_fd, CMSG_DATA(header), sizeof warm.next_fd);
	warm.next_pid = pid;
	return true;
}

/* It is gone, or shall be; lock. */
static void
drop_warm(void)
{
	if (warm.pid == 0)
		return;
	process_end(warm.pid);
	if (warm.next_pid == 0)
		hear_of_next();
	drop_next();
	close_fd(&warm.fd);
	warm.pid = 0;
	warm.ready = false;
}

/* Whether a child of its waits for a job. It makes the next one while the last is at work, in
 * less than a millisecond; before the first it loads, and nobody waits for that. lock */
static bool
has_next(void)
{
	struct pollfd p = { .fd = warm.fd, .events = POLLIN };

	if (warm.pid == 0)
		return false;
	if (warm.next_pid == 0 && poll(&p, 1, warm.ready ? ANSWER_MS : 0) == 0 && !warm.ready)
		return false;
	if (warm.next_pid == 0 && !hear_of_next()) {
		drop_warm();
		return false;
	}
	warm.ready = true;
	return warm.next_fd >= 0;
}

/* lock */
static void
ask_for_next(void)
{
	drop_next();
	if (send(warm.fd, "\n", 1, MSG_NOSIGNAL) != 1)
		drop_warm();
}

static bool
send_fds(int socket, const int *fds, size_t n)
{
	_Alignas(struct cmsghdr)
	char control[CMSG_SPACE((WORKER_FD_FIRST + PROCESS_FDS_MAX) * sizeof(int))] = { 0 };
	char byte = '\n';
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = CMSG_SPACE(n * sizeof(int)),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(header), fds, n * sizeof(int));
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == 1;
}

/* Whether one that was forked has them; else nobody has. */
static bool
give_to_forked(const int *theirs, size_t n, pid_t *ret)
{
	bool has, given;

	LOCK_SCOPE(&warm.lock);
	if (!warm.daemon || warm.stopping)
		return false;
	warm.used_ms = smd_now_ms();
	has = has_next();
	given = has && send_fds(warm.next_fd, theirs, n);
	if (given) {
		*ret = warm.next_pid;
		warm.next_pid = 0;	/* the job's */
	}
	if (warm.ready)
		ask_for_next();
	if (warm.pid == 0)
		pthread_cond_signal(&warm.changed);
	return given;
}

/* No lock: it takes a while. */
static void
start_warm(void)
{
	CLEANUP_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	CLEANUP_CLOSE int ours = -1, its = -1;
	int pair[2];
	pid_t pid;

	if (null < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	ours = pair[0];
	its = pair[1];
	if (start_program(warm.daemon, (int[]){ its, null, STDERR_FILENO }, 3, true, &pid) < 0)
		return;
	LOCK_SCOPE(&warm.lock);
	warm.pid = pid;
	warm.fd = TAKE_FD(ours);
}

/* lock */
static bool
is_wanted(void)
{
	uint64_t keep = (uint64_t)config_int(warm.daemon->config, "warm_worker_seconds");

	return warm.used_ms != 0 && smd_now_ms() - warm.used_ms < keep * 1000;
}

/* They were killed: none takes long, but an image's disk may have it. lock, which is let go
 * meanwhile */
static void
wait_for_left(void)
{
	pid_t left[LEFT_MAX];
	size_t n = warm.n_left;

	memcpy(left, warm.left, n * sizeof *left);
	warm.n_left = 0;
	warm.waits = true;
	pthread_mutex_unlock(&warm.lock);
	while (n > 0)
		process_end(left[--n]);
	pthread_mutex_lock(&warm.lock);
	warm.waits = false;
	pthread_cond_broadcast(&warm.gone);
}

void
process_leave(pid_t pid)
{
	kill(pid, SIGKILL);
	{
		LOCK_SCOPE(&warm.lock);
		if (warm.daemon && !warm.stopping && warm.n_left < LEFT_MAX) {
			warm.left[warm.n_left++] = pid;
			pthread_cond_signal(&warm.changed);
			return;
		}
	}
	process_end(pid);
}

void
process_left_are_gone(void)
{
	LOCK_SCOPE(&warm.lock);
	while (warm.waits || warm.n_left > 0)
		pthread_cond_wait(&warm.gone, &warm.lock);
}

static void *
warm_main(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&warm.lock);
	while (!warm.stopping || warm.n_left > 0) {
		struct timespec until;

		if (warm.n_left > 0) {
			wait_for_left();
			continue;
		}
		if (!is_wanted()) {
			makers_end();
			drop_warm();
			pthread_cond_wait(&warm.changed, &warm.lock);
			continue;
		}
		if (warm.pid == 0) {
			pthread_mutex_unlock(&warm.lock);
			start_warm();
			pthread_mutex_lock(&warm.lock);
		}
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&warm.changed, &warm.lock, &until);
	}
	makers_end();
	drop_warm();
	pthread_mutex_unlock(&warm.lock);
	return NULL;
}

void
process_warm_used(void)
{
	LOCK_SCOPE(&warm.lock);

	warm.used_ms = smd_now_ms();
}

void
process_warm_start(struct daemon *daemon)
{
	LOCK_SCOPE(&warm.lock);
	int r;

	warm.stopping = false;
	warm.used_ms = 0;
	warm.daemon = daemon;
	r = pthread_create(&warm.thread, NULL, warm_main, NULL);
	if (r != 0) {
		warm.daemon = NULL;
		smd_log(SMD_LOG_WARNING, "each job starts a worker of its own: %s", strerror(r));
	}
}

void
process_warm_stop(void)
{
	pthread_mutex_lock(&warm.lock);
	if (!warm.daemon) {
		pthread_mutex_unlock(&warm.lock);
		return;
	}
	warm.stopping = true;
	pthread_cond_signal(&warm.changed);
	pthread_mutex_unlock(&warm.lock);
	pthread_join(warm.thread, NULL);
	warm.daemon = NULL;
}

/* ---- One for a job ---- */

/* Its three standard descriptors: theirs and ours. */
static int
make_pipes(struct process *process, int theirs[WORKER_FD_FIRST])
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	process->in = pair[0];
	theirs[0] = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return -1;
	process->out = pair[0];
	theirs[1] = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return -1;
	process->errs = pair[0];
	theirs[2] = pair[1];
	return 0;
}

/* 1: by_fork, and there is none. */
static int
start_job(struct daemon *daemon, const int *fds, size_t n_fds, bool by_fork, struct process *ret)
{
	int theirs[WORKER_FD_FIRST + PROCESS_FDS_MAX] = { -1, -1, -1 };
	struct process process = { 0, -1, -1, -1 };
	int r = make_pipes(&process, theirs), errnum;

	memcpy(theirs + WORKER_FD_FIRST, fds, n_fds * sizeof *fds);
	n_fds += WORKER_FD_FIRST;
	if (r == 0 && !give_to_forked(theirs, n_fds, &process.pid))
		r = by_fork ? 1 : start_program(daemon, theirs, n_fds, false, &process.pid);
	errnum = errno;
	for (size_t i = 0; i < WORKER_FD_FIRST; i++)
		close_fd(&theirs[i]);
	if (r == 0) {
		*ret = process;
		return 0;
	}
	close_fd(&process.in);
	close_fd(&process.out);
	close_fd(&process.errs);
	errno = errnum;
	return r;
}

int
process_start(struct daemon *daemon, const int *fds, size_t n_fds, struct process *ret)
{
	return start_job(daemon, fds, n_fds, false, ret);
}

int
process_fork(struct daemon *daemon, const int *fds, size_t n_fds, struct process *ret)
{
	return start_job(daemon, fds, n_fds, true, ret);
}
