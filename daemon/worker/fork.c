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

/* A child that waits for its job. */
struct child {
	int (*run)(void *opaque);
	void *opaque;
	int daemons, own;	/* the two ends of the socket that brings its descriptors */
	int fds[FDS_MAX];
	size_t n_fds;
};

static bool
is_placed(const struct child *child)
{
	for (size_t i = 0; i < child->n_fds; i++) {
		if (child->fds[i] != (int)i)
			return false;
	}
	return true;
}

/* Each at its number, the first three in the place of the standard ones; none is in
 * another's way. */
static bool
place(struct child *child)
{
	if (is_placed(child))
		return true;
	for (size_t i = 0; i < child->n_fds; i++) {
		int up = fcntl(child->fds[i], F_DUPFD, (int)child->n_fds);

		if (up < 0)
			return false;
		close(child->fds[i]);
		child->fds[i] = up;
	}
	for (size_t i = 0; i < child->n_fds; i++) {
		if (dup2(child->fds[i], (int)i) < 0)
			return false;
		close(child->fds[i]);
	}
	return true;
}

/* Leave the numbers that its descriptors are to have: the kernel gives out the lowest. */
static void
make_way(struct child *child)
{
	int up = fcntl(child->own, F_DUPFD_CLOEXEC, FDS_MAX);

	if (up >= 0) {
		close(child->own);
		child->own = up;
	}
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
}

/* Its descriptors. False: there will be no job. */
static bool
receive(struct child *child)
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
		n = recvmsg(child->own, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != 1 || msg.msg_flags & MSG_CTRUNC)
		return false;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&msg); h; h = CMSG_NXTHDR(&msg, h)) {
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
			child->n_fds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(child->fds, CMSG_DATA(h), child->n_fds * sizeof(int));
		}
	}
	return child->n_fds >= WORKER_FD_FIRST;
}

static int
child_main(void *opaque)
{
	struct child *child = opaque;

	prctl(PR_SET_NAME, WORKER_NEXT_NAME);
	/* Who holds them besides would keep their ends from being seen. */
	close(STDIN_FILENO);
	close(child->daemons);
	make_way(child);
	if (!receive(child))
		_exit(1);
	close(child->own);
	prctl(PR_SET_NAME, WORKER_NAME);
	/* Of the process, whatever threads it has; not of what the parent may have left. */
	_exit(place(child) ? child->run(child->opaque) : 1);
}

/* Its pid, or a negative errno. child->daemons: to be closed. */
static int32_t
make_child(struct child *child, char *stack)
{
	int pair[2];
	int32_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	child->daemons = pair[0];
	child->own = pair[1];
	/* The daemon is to wait for it, and its end is to be the child's, too. */
	pid = clone(child_main, stack + STACK, CLONE_PARENT | SIGCHLD, child);
	if (pid < 0)
		pid = -errno;
	close(child->own);
	return pid;
}

/* Tell the daemon of it, and give it the socket. */
static bool
announce(int32_t pid, int socket)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof socket)] = { 0 };
	struct iovec iov = { &pid, sizeof pid };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (pid > 0) {
		struct cmsghdr *header = (struct cmsghdr *)control;

		msg.msg_control = control;
		msg.msg_controllen = sizeof control;
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof socket);
		memcpy(CMSG_DATA(header), &socket, sizeof socket);
	}
	return sendmsg(STDIN_FILENO, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof pid;
}

static bool
next_is_wanted(void)
{
	ssize_t n;
	char byte;

	do
		n = recv(STDIN_FILENO, &byte, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

void
fork_for_jobs(int (*run)(void *opaque), void *opaque)
{
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	bool goes_on = stack != MAP_FAILED;

#if defined(__SANITIZE_ADDRESS__)
	return;		/* which knows no other stack than the one it gave */
#endif
	prctl(PR_SET_NAME, WORKER_FORK_NAME);
	while (goes_on) {
		struct child child = { .run = run, .opaque = opaque, .daemons = -1 };
		int32_t pid = make_child(&child, stack);

		goes_on = announce(pid, child.daemons);
		if (child.daemons >= 0)
			close(child.daemons);
		goes_on = goes_on && next_is_wanted();
	}
}
