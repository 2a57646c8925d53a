/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preloaded into smd: to take a listening socket out of an epoll set takes its main thread 0.3 s,
 * and any other 0.6 s.
 */
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IN_PLACE_OF_LIBC __attribute__((visibility("default")))

static int
listens(int fd)
{
	int is = 0;
	socklen_t size = sizeof is;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is, &size) == 0 && is;
}

IN_PLACE_OF_LIBC int
epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
	if (op == EPOLL_CTL_DEL && listens(fd))
		usleep(gettid() == getpid() ? 300000 : 600000);
	return (int)syscall(SYS_epoll_ctl, set, op, fd, event);
}
