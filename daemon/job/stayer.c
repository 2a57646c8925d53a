/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/stayer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/job/process.h"
#include "daemon/job/stall.h"
#include "daemon/worker/protocol.h"

struct stayer {
	struct process process;
	int socket;
	char *op;
	char *line;		/* of its output, so far */
	size_t len, size;
};

void
stayer_end(struct stayer *stayer)
{
	if (!stayer)
		return;
	if (stayer->process.pid > 0) {
		process_end(stayer->process.pid);
		close(stayer->process.in);
		close(stayer->process.out);
		close(stayer->process.errs);
	}
	close(stayer->socket);
	free(stayer->op);
	free(stayer->line);
	free(stayer);
}

static void
cleanup_stayer(struct stayer **stayer)
{
	stayer_end(*stayer);
}

static bool
send_request(const struct stayer *stayer, const struct config *config)
{
	CLEANUP_JSON json *request = json_object_new_object();
	CLEANUP_FREE char *text = NULL, *line = NULL;
	json *limits = json_object_new_object();

	smd_json_set_str(request, "op", stayer->op);
	smd_json_set_int(request, "fd", WORKER_FD_FIRST);
	smd_json_set_int(limits, "memory", config_int(config, "worker_memory"));
	smd_json_set_int(limits, "cpu_seconds", config_int(config, "worker_cpu_seconds"));
	smd_json_set(request, "limits", limits);
	text = smd_json_print(request);
	line = smd_asprintf("%s\n", text);
	return send(stayer->process.in, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line);
}

struct stayer *
stayer_start(struct daemon *daemon, const char *op, bool forked, int fd)
{
	CLEANUP(cleanup_stayer) struct stayer *stayer = NULL;
	int pair[2], theirs[2];
	size_t n = fd < 0 ? 1 : 2;
	int r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return NULL;
	stayer = smd_calloc(1, sizeof *stayer);
	stayer->socket = pair[0];
	stayer->op = smd_strdup(op);
	theirs[0] = pair[1];
	theirs[1] = fd;
	r = forked ? process_fork(daemon, theirs, n, &stayer->process)
		   : process_start(daemon, theirs, n, &stayer->process);
	close(pair[1]);
	if (r != 0 || !send_request(stayer, daemon->config))
		return NULL;
	return TAKE_PTR(stayer);
}

static bool
send_packet(const struct stayer *stayer, const int *fds, size_t n, json *packet)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(PACKET_FDS_MAX * sizeof(int))] = { 0 };
	CLEANUP_FREE char *text = smd_json_print(packet);
	struct iovec iov = { text, strlen(text) };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = n > 0 ? control : NULL,
		.msg_controllen = n > 0 ? CMSG_SPACE(n * sizeof *fds) : 0,
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&msg);

	if (iov.iov_len > PACKET_TEXT_MAX || n > PACKET_FDS_MAX)
		return false;
	if (header) {
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(n * sizeof *fds);
		memcpy(CMSG_DATA(header), fds, n * sizeof *fds);
	}
	return sendmsg(stayer->socket, &msg, MSG_NOSIGNAL) == (ssize_t)iov.iov_len;
}

/* False: it is late or gone, or has words for somebody. */
static bool
wait_readable(const struct stayer *stayer, uint64_t until_ms)
{
	struct pollfd p[2] = { { .fd = stayer->process.out, .events = POLLIN },
			       { .fd = stayer->process.errs, .events = POLLIN } };
	uint64_t now_ms = smd_now_ms();
	int n;

	do
		n = poll(p, 2, now_ms < until_ms ? (int)(until_ms - now_ms) : 0);
	while (n < 0 && errno == EINTR);
	return n > 0 && p[0].revents && !p[1].revents;
}

static bool
read_some(struct stayer *stayer)
{
	ssize_t n;

	if (stayer->len == stayer->size) {
		if (stayer->size >= WORKER_LINE_MAX)
			return false;
		stayer->size = stayer->size ? 2 * stayer->size : 16384;
		stayer->line = smd_reallocarray(stayer->line, stayer->size, 1);
	}
	n = read(stayer->process.out, stayer->line + stayer->len, stayer->size - stayer->len);
	if (n > 0)
		stayer->len += (size_t)n;
	return n > 0 || (n < 0 && errno == EINTR);
}

/* One line, and nothing behind it. */
static json *
receive(struct stayer *stayer, unsigned timeout_ms)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t until_ms = smd_now_ms() + timeout_ms;
	const char *end;

	stayer->len = 0;
	do {
		if (!wait_readable(stayer, until_ms) || !read_some(stayer))
			return NULL;
		end = memchr(stayer->line, '\n', stayer->len);
	} while (!end);
	if (end != stayer->line + stayer->len - 1)
		return NULL;
	return smd_json_parse(stayer->line, stayer->len, 8, &ignored);
}

json *
stayer_ask(struct stayer *stayer, const int *fds, size_t n, json *packet, unsigned timeout_ms,
	   void (*meanwhile)(void *opaque), void *opaque)
{
	struct stall_said *before = stall_says(stall_thread_task(), stayer->process.pid,
					       "smd-worker, process %d, at \"%s\"",
					       (int)stayer->process.pid, stayer->op);
	bool asked = send_packet(stayer, fds, n, packet);
	json *answer = NULL;

	if (meanwhile)
		meanwhile(opaque);
	if (asked)
		answer = receive(stayer, timeout_ms);
	stall_back(stall_thread_task(), before);
	if (!answer)
		smd_log(SMD_LOG_DEBUG, "smd-worker, process %d, gave no answer at \"%s\"",
			(int)stayer->process.pid, stayer->op);
	return answer;
}
