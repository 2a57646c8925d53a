/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/worker/protocol.h"

#define FDS_MAX 253		/* unix(7): SCM_MAX_FD */
#define STACK (8u << 20)	/* of a child's first thread; mapped as it is used */

struct job {
	int (*run)(void *opaque);
	void *opaque;
	int fds[FDS_MAX];
	size_t n_fds;
};

/* Each at its number, the first three in the place of the standard ones; none is in
 * another's way. */
static bool
place(struct job *job)
{
	for (size_t i = 0; i < job->n_fds; i++) {
		int up = fcntl(job->fds[i], F_DUPFD, (int)job->n_fds);

		if (up < 0)
			return false;
		close(job->fds[i]);
		job->fds[i] = up;
	}
	for (size_t i = 0; i < job->n_fds; i++) {
		if (dup2(job->fds[i], (int)i) < 0)
			return false;
		close(job->fds[i]);
	}
	return true;
}

static int
child(void *opaque)
{
	struct job *job = opaque;

	prctl(PR_SET_NAME, "smd-worker");
	/* Of the process, whatever threads it has; not of what the parent may have left. */
	_exit(place(job) ? job->run(job->opaque) : 1);
}

/* The next job's descriptors. False: there will be none. */
static bool
receive(struct job *job)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof control,
	};
	ssize_t n;

	do
		n = recvmsg(STDIN_FILENO, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	job->n_fds = 0;
	if (n != 1 || msg.msg_flags & MSG_CTRUNC)
		return false;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
			job->n_fds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(job->fds, CMSG_DATA(h), job->n_fds * sizeof(int));
		}
	}
	return job->n_fds >= WORKER_FD_FIRST;
}

void
fork_for_jobs(int (*run)(void *opaque), void *opaque)
{
	struct job job = { .run = run, .opaque = opaque };
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

#if defined(__SANITIZE_ADDRESS__)
	return;		/* which knows no other stack than the one it gave */
#endif
	prctl(PR_SET_NAME, WORKER_FORK_NAME);
	if (stack == MAP_FAILED ||
	    send(STDIN_FILENO, WORKER_READY, sizeof WORKER_READY - 1, MSG_NOSIGNAL) < 0)
		return;
	while (receive(&job)) {
		/* The daemon is to wait for it, and its end is to be the child's, too. */
		int32_t pid = clone(child, stack + STACK, CLONE_PARENT | SIGCHLD, &job);

		if (pid < 0)
			pid = -errno;
		for (size_t i = 0; i < job.n_fds; i++)
			close(job.fds[i]);
		if (send(STDIN_FILENO, &pid, sizeof pid, MSG_NOSIGNAL) < 0)
			return;
	}
}
