/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HTTP server: one table of routes for all listeners (unix socket, TCP,
 * sockets handed over by systemd), longest prefix wins within a method.
 * libmicrohttpd is met in http*.c only.
 *
 * Threads: a loop for each socket; handlers run on threads of the pool, the callbacks of
 * one stream one after the other, and may block.
 */
#ifndef SMD_DAEMON_RPC_HTTP_H
#define SMD_DAEMON_RPC_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "daemon/daemon.h"
#include "daemon/rpc/call.h"

struct http;
struct http_request;

/* An RPC: the whole body, bounded, in; the whole reply out. *ret_body is freed by the
 * server, and so is *ret_message: what an error says for a person, where the reply has
 * only xapi's code and parameters; left as it is without one. Returns the status, or 0:
 * nothing is answered yet. The peer's park keeps the call then, or, where the peer was
 * on_loop, it is to be made again on a thread. */
typedef unsigned http_rpc_fn(struct daemon *daemon, const struct peer *peer, const char *body,
			     size_t len, char **ret_body, size_t *ret_len, const char **ret_type,
			     char **ret_message);

/* A transfer: streams in or out through a descriptor. */
struct http_stream {
	/* Before the body: look at the request, and either answer at once with a
	 * status and text (return it) or return 0 to go on. */
	unsigned (*begin)(struct http_request *request, void **ret_state, char **ret_text);
	/* PUT: the body in pieces; non-zero stops reading. One that declares 1 PiB or more
	 * has been answered 200 by then, and is complete when the client hangs up. */
	int (*write)(void *state, const void *data, size_t len);
	/* GET: the next piece, 0 at the end, -1 to break the connection. HEAD: never called,
	 * but there. */
	int64_t (*read)(void *state, void *buf, size_t len);
	/* Always last, also when the client went away (complete = false). A PUT
	 * answers with the status returned and *ret_text. */
	unsigned (*end)(void *state, bool complete, char **ret_text);
};

struct http_route {
	const char *method;	/* "GET", "POST", "PUT" */
	const char *prefix;
	http_rpc_fn *rpc;
	const struct http_stream *stream;
};

/* Listeners: "unix:/path" or "ADDR:PORT"; tls_listeners: "ADDR:PORT" with TLS. Both are
 * NULL-terminated. fds from systemd are served too. */
int http_start(struct daemon *daemon, const struct http_route *routes,
	       const char *const *listeners, const char *const *tls_listeners, const int *fds,
	       size_t n_fds, struct http **ret, struct smd_error *err);
/* Once a second: hang up on those who are too slow to say what they want. NULL is fine. */
void http_tick(struct http *http);
/* Stop accepting, let running requests end for at most grace_ms, close: who connects meanwhile,
 * to a socket without a path, waits for that. */
void http_stop(struct http *http, unsigned grace_ms);

/* For streams. Strings are borrowed until end(). NULL: absent. */
struct daemon *http_daemon(struct http_request *request);
const struct peer *http_peer(struct http_request *request);
const char *http_query(struct http_request *request, const char *name);
const char *http_header(struct http_request *request, const char *name);
const char *http_cookie(struct http_request *request, const char *name);
/* UINT64_MAX: none declared. */
uint64_t http_content_length(struct http_request *request);
/* Headers of the reply to come; size UINT64_MAX: until the connection closes. */
void http_reply_header(struct http_request *request, const char *name, const char *value);
void http_reply_size(struct http_request *request, uint64_t size);
void http_reply_status(struct http_request *request, unsigned status);	/* instead of 200 */
/* From any thread, before end() returns: answer an upload that brings nothing just now. What
 * comes after it is nobody's; hang up soon. False: it is answered, or what came is at work. */
bool http_answer_idle(struct http_request *request, unsigned status, const char *text);
/* From any thread, before end() returns: as if the client had gone away. */
void http_hang_up(struct http_request *request);
/* The session of a request: session_id in query or cookie, else HTTP Basic (a
 * session for this request, ended with it). 0, or the status to answer with. */
unsigned http_authenticate(struct http_request *request, char **ret_session_ref,
			   struct smd_error *err);

#endif
