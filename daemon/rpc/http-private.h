/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside the HTTP server. A loop of libmicrohttpd's for each listening socket reads
 * requests and writes replies, and never waits for anything but sockets. It answers a
 * short call that cannot wait (daemon/rpc/call.h) by itself, on a connection whose peer
 * is known. All else is done in steps, each on a thread of the pool (daemon/rpc/pool.h):
 *
 *   RPC       call (again after each time it was parked)
 *   upload    begin, write for as much of the body as has come, finish, end
 *   download  begin, fill for each block of the reply, end
 *
 * Around a step the connection is suspended: the loop hands it over with the step and
 * leaves it alone, so the step may use the connection; when the step is done, the
 * connection is resumed and the loop comes back to serve() where it left. So a client is
 * read from no faster than its upload is written. Only fill may run while the loop sends the block before.
 *
 * A parked call and a client that sends or reads slowly cost their connection and no
 * thread. The end of a request may come while it fills; then the fill ends it.
 */
#ifndef SMD_DAEMON_RPC_HTTP_PRIVATE_H
#define SMD_DAEMON_RPC_HTTP_PRIVATE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>

#include "daemon/rpc/http.h"
#include "daemon/rpc/listen.h"

#define HTTP_REPLY_HEADERS_MAX 16
#define HTTP_MESSAGE_HEADER "Smd-Message"
#define HTTP_MESSAGE_MAX 2000u
#define HTTP_CONNECTION_MEMORY (32 * 1024)	/* cleared after each request */
#define HTTP_UNKNOWN_LENGTH UINT64_MAX

struct http_connection {
	struct MHD_Connection *mhd;
	struct peer peer;
	bool peer_known;		/* by the steps of its requests, one at a time */
	/* All below: http->lock. */
	uint64_t until_ms;		/* hang up then: it is to send something. 0: it is not */
	bool ended;			/* and will not, as it looks */
	unsigned n_ending;		/* of its streams: have been answered, and still end */
	bool waits;			/* the next request, for these */
	bool closed;			/* goes with the last of them */
	struct http_connection *next, **prev;
};

struct http {
	struct daemon *daemon;
	const struct http_route *routes;
	struct listen_sockets sockets;
	size_t first_tls, end_tls;	/* of sockets: those with TLS */
	char *certificate, *key;	/* PEM, while there are such */
	struct MHD_Daemon *servers[LISTEN_MAX];	/* beside sockets.fds */
	pthread_mutex_t lock;		/* all below; taken before that of a request */
	pthread_cond_t idle;
	bool stopping;
	struct http_request *requests;
	struct http_connection *connections;
};

/* What a client said about a stream, kept to its end. */
struct http_value {
	enum MHD_ValueKind kind;
	char *key, *value;
	struct http_value *next;
};

struct http_request {
	struct http *http;
	struct http_connection *at;
	struct MHD_Connection *connection;
	const struct http_route *route;
	struct peer peer;
	struct http_request *next, **prev;	/* http->lock */

	pthread_mutex_t lock;		/* down to the next blank line */
	bool working;			/* a step is given to the pool */
	bool suspended;			/* and the loop comes back after it */
	bool gone;			/* the loop is done with the request */
	bool parked, unparked;		/* the call is; it may be made again already */

	bool begun;			/* the call, or the first step of a stream, was handed over */
	/* RPC: the body so far, and the reply. */
	struct call_park park;
	char *body;
	size_t n_body, body_size;
	char *reply;
	size_t n_reply;
	const char *reply_type;
	char *message;			/* of an error: the reply's Smd-Message; NULL: none */
	/* Stream. */
	struct http_value *values;
	void *state;
	bool accepted;			/* begin has answered */
	bool open;			/* begin took it, and end was not called yet */
	bool finished;			/* the whole body was given to it */
	bool complete;
	bool broken;			/* read failed */
	bool hung_up;			/* write failed */
	bool answered;			/* before the end of the body */
	char *block;			/* of the body or the reply, as much as goes at once */
	size_t n_block, block_at;	/* of a download: lock; filled, sent */
	bool filled, at_end;		/* lock; the block was, and is the last (or broken) */
	uint64_t n_read, reply_size;
	unsigned reply_status;
	struct {
		char *name, *value;
	} headers[HTTP_REPLY_HEADERS_MAX];
	size_t n_headers;
	char *own_session;		/* of HTTP Basic, ends with the request */
	/* The answer of a step, or one that waits for the end of a body nobody wants. */
	unsigned status;
	char *text;
	bool refused;
};

/* http.c ----------------------------------------------------------------------- */

/* From the loop: suspend the connection and give step to the pool; it ends with
 * http_step_done. */
void http_hand_over(struct http_request *request, void (*step)(void *opaque));
void http_step_done(struct http_request *request);
/* The same in two parts, for who holds the request's lock: when over says that the loop is
 * done with the request, end it, without the lock. */
bool http_step_over(struct http_request *request);
void http_request_end(struct http_request *request);
int http_fd(struct http_request *request);
void *http_tls(struct http_request *request);	/* NULL: the connection has no TLS */
/* Whether the client is to send what nobody wants. */
void http_due(struct http_request *request, bool due);
/* In a step: fill in request->peer. */
void http_know_peer(struct http_request *request);

/* http-reply.c ----------------------------------------------------------------- */

enum MHD_Result http_queue(struct http_request *request, unsigned status,
			   struct MHD_Response *response);
/* NULL: a page that says the number. */
enum MHD_Result http_reply_text(struct http_request *request, unsigned status, const char *text);
/* body is taken over. */
enum MHD_Result http_reply_rpc(struct http_request *request, unsigned status, char *body,
			       size_t len, const char *type);
enum MHD_Result http_reply_options(struct http_request *request);
/* Answer without the body; text is taken over. */
enum MHD_Result http_refuse(struct http_request *request, unsigned status, char *text);
enum MHD_Result http_refused_body(struct http_request *request, size_t *len);
/* Behind libmicrohttpd's back, in a step. */
void http_answer_early(struct http_request *request);
void http_answer_and_hang_up(struct http_request *request, unsigned status, const char *text);
/* Keep what http_query and the like may be asked for. */
void http_keep_values(struct http_request *request);
void http_free_values(struct http_request *request);

/* http-stream.c ---------------------------------------------------------------- */

/* What serve() does with a stream: its headers (twice: before and after begin), a piece
 * of its body, the end of it (twice). */
enum MHD_Result http_stream_headers(struct http_request *request);
enum MHD_Result http_stream_body(struct http_request *request, const char *data, size_t *len);
enum MHD_Result http_stream_complete(struct http_request *request);
bool http_stream_endless(struct http_request *request);
void http_stream_end(struct http_request *request);	/* may block */

#endif
