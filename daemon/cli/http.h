/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP to one server, over its unix socket or TCP. libcurl is met here only.
 *
 * Threads: one.
 */
#ifndef SMD_DAEMON_CLI_HTTP_H
#define SMD_DAEMON_CLI_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

struct http_client;

/* socket_path, or host and port; strings are borrowed for the call. */
struct http_client *http_client_new(const char *socket_path, const char *host, const char *port);
/* From the first request on; ca: a file of certificates to trust, NULL: the system's. */
void http_client_tls(struct http_client *client, const char *ca);
void http_client_free(struct http_client *client);

/* Asked at least once a second while a request runs: non-zero ends it, and the
 * request then fails. moved: bytes of the body so far, either way. */
typedef int http_tick_fn(void *opaque, uint64_t moved);
void http_client_tick(struct http_client *client, http_tick_fn *tick, void *opaque);

/* POST a JSON body; the whole reply, bounded, NUL-terminated, the caller's. *ret_message:
 * what the server says of an error besides, the caller's; NULL: nothing. */
int http_post_json(struct http_client *client, const char *path, const char *body,
		   char **ret_reply, size_t *ret_len, char **ret_message, struct smd_error *err);

/* One name=value of a query, escaped; the caller frees. */
char *http_escape(struct http_client *client, const char *text);

/* The body of a transfer: write returns 0 or -1, read the bytes put in buf, 0 at the
 * end or -1. */
struct http_body {
	int (*write)(void *opaque, const void *data, size_t len);
	ssize_t (*read)(void *opaque, void *buf, size_t len);
	void *opaque;
	uint64_t size;		/* of what read gives; UINT64_MAX: unknown */
};

/* GET into a body, PUT from one. A status other than 2xx is an error whose
 * message has the beginning of what the server said. */
int http_get(struct http_client *client, const char *path, const struct http_body *body,
	     struct smd_error *err);
int http_put(struct http_client *client, const char *path, const struct http_body *body,
	     struct smd_error *err);

#endif
