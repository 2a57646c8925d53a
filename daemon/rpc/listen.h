/* SPDX-License-Identifier: BSD-2-Clause */
/* Sockets to serve, and who is at the other end of a connection. */
#ifndef SMD_DAEMON_RPC_LISTEN_H
#define SMD_DAEMON_RPC_LISTEN_H

#include <stddef.h>

#include "daemon/config.h"
#include "daemon/rpc/call.h"

#define LISTEN_MAX 64

struct listen_sockets {
	int fds[LISTEN_MAX];
	size_t n;
	char *paths[LISTEN_MAX];	/* of our unix sockets, removed by us; else NULL */
};

/* Add the sockets of "unix:/path" or "ADDR:PORT". */
int listen_add(struct listen_sockets *sockets, const struct config *config, const char *where,
	       struct smd_error *err);
/* Add one that came from elsewhere. */
int listen_add_fd(struct listen_sockets *sockets, int fd, struct smd_error *err);
/* Remove the paths of our unix sockets: nobody new finds them. */
void listen_hide(struct listen_sockets *sockets);
/* That too, and close those still there (fd >= 0). */
void listen_done(struct listen_sockets *sockets);

/* Who is connected. Trusted on a unix socket: root, our own user, the group of the
 * configuration. */
void listen_peer(const struct config *config, int fd, struct peer *ret);

#endif
