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

/* The worker that forks. A thread starts and ends it: all workers die with the thread
 * that has started them or their parent (PR_SET_PDEATHSIG), so that must be one that stays. */
static struct {
	pthread_mutex_t lock;	/* guards the rest; held while it forks */
	pthread_cond_t changed;
	pthread_t thread;
	struct daemon *daemon;	/* NULL: not started */
	bool stopping, ready;
	pid_t pid;		/* 0: there is none */
	int fd;			/* our end of its standard input */
	uint64_t used_ms;	/* the last job; 0: none yet */
} warm = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .fd = -1 };

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
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

/* It is gone, or shall be; lock. */
static void
drop_warm(void)
{
	if (warm.pid == 0)
		return;
	close_fd(&warm.fd);
	kill(warm.pid, SIGKILL);
	while (waitpid(warm.pid, NULL, 0) < 0 && errno == EINTR)
		;
	warm.pid = 0;
	warm.ready = false;
}

/* Whether it has said so by now; lock. */
static bool
is_ready(void)
{
	char said[sizeof WORKER_READY] = "";

	if (warm.pid == 0 || warm.ready)
		return warm.ready;
	warm.ready = recv(warm.fd, said, sizeof said - 1, MSG_DONTWAIT) > 0 &&
		     strcmp(said, WORKER_READY) == 0;
	return warm.ready;
}

static bool
send_fds(const int *fds, size_t n)
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
	return sendmsg(warm.fd, &msg, MSG_NOSIGNAL) == 1;
}

/* 1: a worker has them; 0: there is none that forks; -1: it failed, and whether a child of
 * its has them, nobody knows. */
static int
fork_worker(const int *theirs, size_t n, pid_t *ret)
{
	struct pollfd p;
	int32_t pid = 0;

	LOCK_SCOPE(&warm.lock);
	if (!warm.daemon || warm.stopping)
		return 0;
	warm.used_ms = smd_now_ms();
	if (!is_ready()) {
		pthread_cond_signal(&warm.changed);
		return 0;
	}
	p = (struct pollfd){ .fd = warm.fd, .events = POLLIN };
	if (!send_fds(theirs, n) || poll(&p, 1, ANSWER_MS) != 1 ||
	    recv(warm.fd, &pid, sizeof pid, MSG_DONTWAIT) != sizeof pid) {
		drop_warm();
		return -1;
	}
	*ret = pid;
	return pid > 0;
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

static void *
warm_main(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&warm.lock);
	while (!warm.stopping) {
		struct timespec until;

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

/* How a process comes to be. */
enum way { PROGRAM, EITHER, FORK };

/* 1: not so. */
static int
start_job(struct daemon *daemon, const int *fds, size_t n_fds, enum way way, struct process *ret)
{
	int theirs[WORKER_FD_FIRST + PROCESS_FDS_MAX] = { -1, -1, -1 };
	struct process process = { 0, -1, -1, -1 };
	int r = make_pipes(&process, theirs), forked = 0, errnum;

	memcpy(theirs + WORKER_FD_FIRST, fds, n_fds * sizeof *fds);
	n_fds += WORKER_FD_FIRST;
	if (r == 0 && way != PROGRAM)
		forked = fork_worker(theirs, n_fds, &process.pid);
	if (r == 0 && forked == 0 && way != FORK)
		r = start_program(daemon, theirs, n_fds, false, &process.pid);
	errnum = errno;
	for (size_t i = 0; i < WORKER_FD_FIRST; i++)
		close_fd(&theirs[i]);
	if (r == 0 && forked >= 0 && process.pid > 0) {
		*ret = process;
		return 0;
	}
	close_fd(&process.in);
	close_fd(&process.out);
	close_fd(&process.errs);
	errno = errnum;
	return r < 0 ? -1 : 1;
}

int
process_start(struct daemon *daemon, const int *fds, size_t n_fds, struct process *ret)
{
	int r = start_job(daemon, fds, n_fds, EITHER, ret);

	/* With other pipes: nobody may read this job's request but its worker. */
	return r == 1 ? start_job(daemon, fds, n_fds, PROGRAM, ret) : r;
}

int
process_fork(struct daemon *daemon, const int *fds, size_t n_fds, struct process *ret)
{
	return start_job(daemon, fds, n_fds, FORK, ret);
}
