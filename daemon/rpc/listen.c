/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/listen.h"

#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "common/log.h"
#include "common/mem.h"

#define BACKLOG 4096	/* who finds it full tries again seconds later, many times as long */
#define GROUPS_MAX 1024

static int
failed(const char *where, const char *what, struct smd_error *err)
{
	int errnum = errno;

	smd_fail_INVALID_VALUE(err, "listen", where, "%s: %s: %s", where, what, strerror(errnum));
	err->errnum = errnum;
	return -1;
}

int
listen_add_fd(struct listen_sockets *sockets, int fd, struct smd_error *err)
{
	if (sockets->n == LISTEN_MAX)
		return smd_fail_INVALID_VALUE(err, "listen", "", "more than %d sockets", LISTEN_MAX);
	sockets->fds[sockets->n++] = fd;
	return 0;
}

void
listen_hide(struct listen_sockets *sockets)
{
	for (size_t i = 0; i < sockets->n; i++) {
		if (sockets->paths[i])
			unlink(sockets->paths[i]);
		free(TAKE_PTR(sockets->paths[i]));
	}
}

void
listen_done(struct listen_sockets *sockets)
{
	listen_hide(sockets);
	for (size_t i = 0; i < sockets->n; i++) {
		if (sockets->fds[i] >= 0)
			close(sockets->fds[i]);
	}
	sockets->n = 0;
}

static gid_t
trusted_group(const struct config *config)
{
	CLEANUP_FREE char *name = config_str(config, "group");
	struct group group, *found = NULL;
	char buf[16384];

	if (getgrnam_r(name, &group, buf, sizeof buf, &found) != 0 || !found)
		return (gid_t)-1;
	return group.gr_gid;
}

/* A socket file nobody serves any more is in the way; one that is served stays. */
static int
remove_stale(const char *path, const struct sockaddr_un *address, struct smd_error *err)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : failed(path, "stat", err);
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return failed(path, "not a socket", err);
	}
	if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0) {
		errno = EADDRINUSE;
		return failed(path, "connect", err);
	}
	return unlink(path) == 0 ? 0 : failed(path, "unlink", err);
}

static int
add_unix(struct listen_sockets *sockets, const struct config *config, const char *path,
	 struct smd_error *err)
{
	CLEANUP_CLOSE int fd = -1;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	gid_t group = trusted_group(config);

	if (strlen(path) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		return failed(path, "bind", err);
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return failed(path, "socket", err);
	if (remove_stale(path, &address, err) < 0)
		return -1;
	/* Nobody's until it is ours and the group's. */
	fchmod(fd, 0600);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return failed(path, "bind", err);
	if (group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0)
		smd_log(SMD_LOG_DEBUG, "%s: chown: %s", path, strerror(errno));
	else if (chmod(path, group == (gid_t)-1 ? 0600 : 0660) < 0)
		return failed(path, "chmod", err);
	if (listen(fd, BACKLOG) < 0)
		return failed(path, "listen", err);
	if (listen_add_fd(sockets, fd, err) < 0)
		return -1;
	(void)TAKE_FD(fd);
	sockets->paths[sockets->n - 1] = smd_strdup(path);
	return 0;
}

static int
add_address(struct listen_sockets *sockets, const struct addrinfo *ai, const char *where,
	    struct smd_error *err)
{
	CLEANUP_CLOSE int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int on = 1;

	if (fd < 0)
		return failed(where, "socket", err);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0)
		return failed(where, "bind", err);
	if (listen(fd, BACKLOG) < 0)
		return failed(where, "listen", err);
	if (listen_add_fd(sockets, fd, err) < 0)
		return -1;
	(void)TAKE_FD(fd);
	return 0;
}

/* "[::1]:80" and "127.0.0.1:80" into address and port. */
static bool
split_address(char *where, char **ret_host, char **ret_port)
{
	char *colon = strrchr(where, ':');

	if (!colon || colon == where || colon[1] == '\0')
		return false;
	*colon = '\0';
	*ret_port = colon + 1;
	*ret_host = where;
	if (where[0] == '[') {
		if (colon[-1] != ']')
			return false;
		colon[-1] = '\0';
		*ret_host = where + 1;
	}
	return true;
}

int
listen_add(struct listen_sockets *sockets, const struct config *config, const char *where,
	   struct smd_error *err)
{
	CLEANUP_FREE char *copy = smd_strdup(where);
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *found = NULL;
	char *host, *port;
	int r;

	if (strncmp(where, "unix:", 5) == 0)
		return add_unix(sockets, config, where + 5, err);
	if (!split_address(copy, &host, &port))
		return smd_fail_INVALID_VALUE(err, "listen", where, "%s is not ADDR:PORT", where);
	r = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints, &found);
	if (r != 0)
		return smd_fail_INVALID_VALUE(err, "listen", where, "%s: %s", where,
					      gai_strerror(r));
	r = 0;
	for (const struct addrinfo *ai = found; ai && r == 0; ai = ai->ai_next)
		r = add_address(sockets, ai, where, err);
	freeaddrinfo(found);
	return r;
}

static bool
in_group(uid_t uid, gid_t gid, gid_t group)
{
	struct passwd user, *found = NULL;
	gid_t groups[GROUPS_MAX];
	int n = GROUPS_MAX;
	char buf[16384];

	if (group == (gid_t)-1 || gid == group)
		return group != (gid_t)-1;
	if (getpwuid_r(uid, &user, buf, sizeof buf, &found) != 0 || !found ||
	    getgrouplist(user.pw_name, user.pw_gid, groups, &n) < 0)
		return false;
	for (int i = 0; i < n; i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

void
listen_peer(const struct config *config, int fd, struct peer *ret)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof address, cred_len = sizeof(struct ucred);
	struct ucred cred;

	*ret = (struct peer){ .uid = PEER_NOT_LOCAL, .fd = fd };
	if (getsockname(fd, (struct sockaddr *)&address, &len) == 0 &&
	    address.ss_family == AF_UNIX &&
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) == 0) {
		ret->uid = cred.uid;
		ret->local = cred.uid == 0 || cred.uid == geteuid() ||
			     in_group(cred.uid, cred.gid, trusted_group(config));
		snprintf(ret->address, sizeof ret->address, "uid %u", (unsigned)cred.uid);
		return;
	}
	len = sizeof address;
	if (getpeername(fd, (struct sockaddr *)&address, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&address, len, ret->address, sizeof ret->address, NULL, 0,
			NI_NUMERICHOST) != 0)
		strcpy(ret->address, "unknown");
}
