/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

bool
packet_receive(struct packet *ret)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(PACKET_FDS_MAX * sizeof(int))];
	struct iovec iov = { ret->text, sizeof ret->text };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof control,
	};
	struct cmsghdr *header;
	ssize_t n;

	do
		n = recvmsg(WORKER_FD_FIRST, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n <= 0 || msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return false;
	ret->len = (size_t)n;
	ret->n_fds = 0;
	header = CMSG_FIRSTHDR(&msg);
	if (!header)
		return true;
	if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
		return false;
	ret->n_fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(ret->fds, CMSG_DATA(header), ret->n_fds * sizeof(int));
	return true;
}
