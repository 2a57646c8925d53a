/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * event-watchers SOCKET WATCHERS SESSION CLASS TOKEN LAST
 *
 * Connections that ask event.from for a class from TOKEN on, each again as soon as it is
 * answered. "waiting" is printed when all have asked, then for each answer the last
 * name_label in it and when it was there, in seconds of CLOCK_MONOTONIC. It ends when
 * every watcher has heard of the name_label LAST, and fails when nobody hears anything
 * for a minute. It takes answers apart no further: what it costs must not be measured.
 */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/mem.h"

#define ANSWER_MAX (256 * 1024)
#define SILENCE_MS 60000

struct watcher {
	int fd;
	char *answer;		/* so far; len bytes and a NUL */
	size_t len;
	bool done;
};

static const char *session, *cls;

static int
connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof address.sun_path)
		errx(1, "%s: longer than a socket's name can be", path);
	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
		err(1, "%s", path);
	return fd;
}

static void
ask(const struct watcher *w, const char *token)
{
	char body[1024], request[1280];
	int n = snprintf(body, sizeof body, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"event.from\","
			 "\"params\":[\"%s\",[\"%s\"],\"%s\",60.0]}", session, cls, token);
	int len = snprintf(request, sizeof request, "POST /jsonrpc HTTP/1.1\r\nHost: x\r\n"
			   "Content-Length: %d\r\n\r\n%s", n, body);

	if ((size_t)n >= sizeof body || (size_t)len >= sizeof request)
		errx(1, "too long a request");
	if (send(w->fd, request, (size_t)len, MSG_NOSIGNAL) != len)
		err(1, "send");
}

/* The text after the last key, to the next quote; it is cut off there. NULL: no such key. */
static char *
last_text(char *answer, const char *key)
{
	char *found = NULL;

	for (char *at = answer; (at = strstr(at, key)); )
		found = at += strlen(key);
	if (found)
		found[strcspn(found, "\"")] = '\0';
	return found;
}

/* Of the whole answer; 0: its length is not there yet. */
static size_t
answer_length(const struct watcher *w)
{
	const char *end = strstr(w->answer, "\r\n\r\n");
	const char *length = strcasestr(w->answer, "\r\ncontent-length:");

	if (!end || !length || length > end)
		return 0;
	return (size_t)(end + 4 - w->answer) + strtoul(length + 17, NULL, 10);
}

/* Whether it is the first time that this watcher hears of the last label. */
static bool
hear(struct watcher *w, const char *last)
{
	ssize_t n = recv(w->fd, w->answer + w->len, ANSWER_MAX - w->len, 0);
	char *token, *label;
	struct timespec now;
	size_t length;

	if (n <= 0)
		errx(1, "the daemon hung up on a watcher");
	w->len += (size_t)n;
	w->answer[w->len] = '\0';
	length = answer_length(w);
	if (length > ANSWER_MAX)
		errx(1, "an answer of %zu bytes", length);
	if (length == 0 || w->len < length)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	w->len = 0;
	/* The label comes first: last_text cuts the answer off behind what it found. */
	token = strstr(w->answer, "\"token\":\"");
	label = token ? last_text(w->answer, "\"name_label\":\"") : NULL;
	token = token ? last_text(token, "\"token\":\"") : NULL;
	if (!token)
		errx(1, "no token in %s", w->answer);
	ask(w, token);
	if (!label)
		return false;
	printf("%s\t%ld.%09ld\n", label, (long)now.tv_sec, now.tv_nsec);
	if (w->done || strcmp(label, last) != 0)
		return false;
	w->done = true;
	return true;
}

int
main(int argc, char **argv)
{
	struct epoll_event events[64];
	struct watcher *watchers;
	size_t n, n_done = 0;
	int epoll = epoll_create1(EPOLL_CLOEXEC), ready;

	if (argc != 7)
		errx(2, "usage: event-watchers SOCKET WATCHERS SESSION CLASS TOKEN LAST");
	n = strtoul(argv[2], NULL, 10);
	session = argv[3];
	cls = argv[4];
	watchers = smd_calloc(n, sizeof *watchers);
	for (size_t i = 0; i < n; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &watchers[i] };

		watchers[i].fd = connect_to(argv[1]);
		watchers[i].answer = smd_malloc(ANSWER_MAX + 1);
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, watchers[i].fd, &event) != 0)
			err(1, "epoll_ctl");
		ask(&watchers[i], argv[5]);
	}
	puts("waiting");
	fflush(stdout);
	while (n_done < n) {
		ready = epoll_wait(epoll, events, 64, SILENCE_MS);
		if (ready <= 0)
			errx(1, "nobody hears anything; %zu of %zu heard of %s", n_done, n, argv[6]);
		for (int i = 0; i < ready; i++)
			n_done += hear(events[i].data.ptr, argv[6]);
	}
	for (size_t i = 0; i < n; i++) {
		close(watchers[i].fd);
		free(watchers[i].answer);
	}
	free(watchers);
	close(epoll);
	return 0;
}
