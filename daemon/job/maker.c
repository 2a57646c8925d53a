/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/maker.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/job/process.h"
#include "daemon/worker/protocol.h"

#define MAKERS_MAX 4u		/* at once; who comes then has a worker of its own */
#define ANSWER_MS 5000		/* an empty image takes less than one */
#define ANSWER_MAX 8192u

struct maker {
	SLIST_ENTRY(maker) link;
	struct process process;
	int socket;
	unsigned era;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* guards what follows; no
								 * other is taken with it */
static SLIST_HEAD(, maker) idle = SLIST_HEAD_INITIALIZER(idle);
static unsigned n_makers;
static unsigned era;		/* those of an earlier one end */

/* ---- The processes ---- */

static void
maker_free(struct maker *m)
{
	close(m->socket);
	process_end(m->process.pid);
	close(m->process.in);
	close(m->process.out);
	close(m->process.errs);
	free(m);
}

static void
maker_drop(struct maker *m)
{
	maker_free(m);
	LOCK_SCOPE(&lock);
	n_makers--;
}

static bool
send_all(int fd, const char *text)
{
	size_t len = strlen(text);

	return send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* Its one request. */
static bool
begin(struct daemon *daemon, struct maker *m)
{
	CLEANUP_JSON json *request = json_object_new_object(), *limits = json_object_new_object();
	CLEANUP_FREE char *text = NULL, *line = NULL;

	smd_json_set_str(request, "op", "make");
	smd_json_set_int(request, "fd", WORKER_FD_FIRST);
	smd_json_set_int(limits, "memory", config_int(daemon->config, "worker_memory"));
	smd_json_set(request, "limits", json_object_get(limits));
	text = smd_json_print(request);
	line = smd_asprintf("%s\n", text);
	return send_all(m->process.in, line);
}

/* NULL: it cannot be now. */
static struct maker *
maker_new(struct daemon *daemon, unsigned its_era)
{
	struct maker *m;
	int pair[2];
	int r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return NULL;
	m = smd_calloc(1, sizeof *m);
	m->era = its_era;
	m->socket = pair[0];
	r = process_fork(daemon, &pair[1], 1, &m->process);
	close(pair[1]);
	if (r != 0) {
		close(m->socket);
		free(m);
		return NULL;
	}
	if (begin(daemon, m))
		return m;
	maker_free(m);
	return NULL;
}

/* ---- Taking and giving ---- */

/* One that is idle, or leave to make one: *ret_era. False: there are enough. */
static bool
reserve(struct maker **ret, unsigned *ret_era)
{
	LOCK_SCOPE(&lock);
	*ret = SLIST_FIRST(&idle);
	*ret_era = era;
	if (*ret)
		SLIST_REMOVE_HEAD(&idle, link);
	else if (n_makers < MAKERS_MAX)
		n_makers++;
	else
		return false;
	return true;
}

static struct maker *
take(struct daemon *daemon)
{
	struct maker *m;
	unsigned its_era;

	if (!reserve(&m, &its_era))
		return NULL;
	if (m) {
		process_warm_used();
		return m;
	}
	m = maker_new(daemon, its_era);
	if (m)
		return m;
	LOCK_SCOPE(&lock);
	n_makers--;
	return NULL;
}

static void
give(struct maker *m)
{
	bool stays;

	{
		LOCK_SCOPE(&lock);
		stays = m->era == era;
		if (stays)
			SLIST_INSERT_HEAD(&idle, m, link);
	}
	if (!stays)
		maker_drop(m);
}

void
makers_end(void)
{
	for (;;) {
		struct maker *m;

		{
			LOCK_SCOPE(&lock);
			m = SLIST_FIRST(&idle);
			if (m)
				SLIST_REMOVE_HEAD(&idle, link);
			else
				era++;
		}
		if (!m)
			return;
		maker_drop(m);
	}
}

/* ---- One image ---- */

static bool
ask(struct maker *m, int fd, json *target)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	CLEANUP_FREE char *text = smd_json_print(target);
	struct iovec iov = { text, strlen(text) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof control,
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

	if (iov.iov_len >= MAKE_LINE_MAX)
		return false;
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	return sendmsg(m->socket, &msg, MSG_NOSIGNAL) == (ssize_t)iov.iov_len;
}

/* Its answer, which is a line; NULL: there is none. */
static json *
answer_of(struct maker *m)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	struct pollfd p = { .fd = m->process.out, .events = POLLIN };
	char line[ANSWER_MAX];
	size_t len = 0;
	ssize_t n;

	while (len == 0 || line[len - 1] != '\n') {
		if (len == sizeof line || poll(&p, 1, ANSWER_MS) != 1)
			return NULL;
		n = read(m->process.out, line + len, sizeof line - len);
		if (n <= 0)
			return NULL;
		len += (size_t)n;
	}
	return smd_json_parse(line, len, 8, &ignored);
}

int
maker_make(struct daemon *daemon, int fd, json *target, struct smd_error *err)
{
	struct maker *m = take(daemon);
	CLEANUP_JSON json *answer = NULL;
	json *error;

	if (!m)
		return 1;
	if (ask(m, fd, target))
		answer = answer_of(m);
	error = smd_json_member(answer, "error");
	if (!error && !smd_json_member(answer, "result")) {
		smd_log(SMD_LOG_DEBUG, "smd-worker, process %d, made no image and is ended",
			(int)m->process.pid);
		maker_drop(m);
		return 1;
	}
	give(m);
	if (!error)
		return 0;
	smd_json_to_error(error, err);
	return -1;
}
