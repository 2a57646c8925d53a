/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/control.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/worker/protocol.h"

#define READ_SIZE 4096u
#define LISTEN_STACK (64u << 10)

/* What has come on standard input and is not a line yet. Not stdio's: a thread that
 * waits in it would hold its lock when the process ends. */
static char *pending;
static size_t n_pending, room;

static struct smd_copy_control the_control;
static bool running;

/* Read more; false at the end, and where a line would be too long. */
static bool
read_more(void)
{
	ssize_t n;

	if (n_pending > WORKER_LINE_MAX)
		return false;
	if (room - n_pending < READ_SIZE) {
		room = 2 * room + READ_SIZE;
		pending = smd_reallocarray(pending, room, 1);
	}
	do
		n = read(STDIN_FILENO, pending + n_pending, READ_SIZE);
	while (n < 0 && errno == EINTR);
	n_pending += n > 0 ? (size_t)n : 0;
	return n > 0;
}

char *
control_line(size_t *ret_len)
{
	char *end, *line;

	while (!(end = n_pending ? memchr(pending, '\n', n_pending) : NULL)) {
		if (!read_more())
			return NULL;
	}
	*ret_len = (size_t)(end - pending);
	if (*ret_len > WORKER_LINE_MAX)
		return NULL;
	line = smd_malloc(*ret_len + 1);
	memcpy(line, pending, *ret_len);
	line[*ret_len] = '\0';
	n_pending -= *ret_len + 1;
	memmove(pending, end + 1, n_pending);
	return line;
}

int
control_wait_bool(const char *member, bool *ret)
{
	for (;;) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		CLEANUP_JSON json *line = NULL;
		CLEANUP_FREE char *text = NULL;
		size_t len;

		text = control_line(&len);
		if (!text)
			return -1;
		line = smd_json_parse(text, len, 4, &err);
		if (!smd_json_member(line, member))
			continue;
		*ret = smd_json_bool(line, member, false);
		return 0;
	}
}

static void
obey(const char *text, size_t len)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *line = smd_json_parse(text, len, 4, &err);
	int64_t rate;

	if (!line) {
		smd_log(SMD_LOG_WARNING, "a line that is no JSON: %s", err.message);
		return;
	}
	rate = smd_json_int(line, "bytes_per_second", -1);
	if (rate >= 0)
		smd_copy_control_rate(&the_control, (uint64_t)rate);
	if (smd_json_member(line, "pause"))
		smd_copy_control_pause(&the_control, smd_json_bool(line, "pause", false));
	if (smd_json_bool(line, "stop", false))
		smd_copy_control_stop(&the_control);
}

static void *
listen_to_lines(void *opaque)
{
	size_t len;

	(void)opaque;
	for (;;) {
		CLEANUP_FREE char *line = control_line(&len);

		if (!line)
			return NULL;
		obey(line, len);
	}
}

void
control_start(uint64_t bytes_per_second)
{
	pthread_attr_t attr;
	pthread_t thread;

	smd_copy_control_init(&the_control);
	the_control.bytes_per_second = bytes_per_second;
	running = true;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, LISTEN_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* Without it the work goes on as it was asked for. */
	if (pthread_create(&thread, &attr, listen_to_lines, NULL) != 0)
		smd_log(SMD_LOG_WARNING, "no thread to listen to the daemon with");
	pthread_attr_destroy(&attr);
}

struct smd_copy_control *
control_get(void)
{
	return running ? &the_control : NULL;
}
