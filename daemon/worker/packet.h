/* SPDX-License-Identifier: BSD-2-Clause */
/* What comes to a worker that stays: packets of words and, perhaps, of descriptors. */
#ifndef SMD_DAEMON_WORKER_PACKET_H
#define SMD_DAEMON_WORKER_PACKET_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/worker/protocol.h"

struct packet {
	char text[PACKET_TEXT_MAX];
	size_t len;
	int fds[PACKET_FDS_MAX];	/* the receiver's */
	size_t n_fds;
};

/* The next, from WORKER_FD_FIRST. False: no more will come. */
bool packet_receive(struct packet *ret);

#endif
