/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP by libmicrohttpd: an MHD daemon per listening socket, a thread per
 * connection. MHD calls serve() with the headers, with each piece of the body,
 * and at its end; a reply can only be queued at the first or the last of these.
 */
#include "daemon/rpc/http.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include <microhttpd.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/rpc/listen.h"
#include "daemon/rpc/session.h"
#include "daemon/rpc/tls.h"

#define RPC_BODY_MAX (300 * 1024)	/* xapi's */
#define DRAIN_MAX (16 * 1024 * 1024)	/* of a refused body read before the answer */
#define DRAIN_MS 1000
#define IDLE_TIMEOUT_S 300
#define FIRST_TIMEOUT_S 15	/* for the head of the first request */
#define CONNECTION_MEMORY (256 * 1024)	/* a piece of an upload is up to half of it */
#define MEMORY_STEP (64 * 1024)
#define READ_BLOCK (256 * 1024)
#define REPLY_HEADERS_MAX 16
#define UNKNOWN_LENGTH UINT64_MAX
/* Clients that do not know the length of an upload declare this, and hang up at its
 * end (npm xen-api). They send only once they have read the head of an answer. */
#define ENDLESS_LENGTH (UINT64_C(1) << 50)

struct http {
	struct daemon *daemon;
	const struct http_route *routes;
	struct listen_sockets sockets;
	size_t first_tls, end_tls;	/* of sockets: those with TLS */
	char *certificate, *key;	/* PEM, while there are such */
	struct MHD_Daemon *servers[LISTEN_MAX];	/* beside sockets.fds */
	pthread_mutex_t lock;		/* n_active */
	pthread_cond_t idle;
	unsigned n_active;		/* requests */
};

struct http_request {
	struct http *http;
	struct MHD_Connection *connection;
	const struct http_route *route;
	const char *method;
	const struct peer *peer;
	/* RPC: the body so far. */
	char *body;
	size_t n_body, body_size;
	/* Stream. */
	void *state;
	bool begun, ended, broken;
	bool answered;		/* before the body */
	uint64_t reply_size;
	unsigned reply_status;
	struct {
		char *name, *value;
	} headers[REPLY_HEADERS_MAX];
	size_t n_headers;
	char *own_session;	/* of HTTP Basic, ends with the request */
	/* An answer that waits for the end of a body nobody wants. */
	unsigned refused;	/* status; 0: none */
	char *refusal;
};

static int
connection_fd(struct http_request *request)
{
	return MHD_get_connection_info(request->connection,
				       MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

/* ---- What streams ask ---- */

struct daemon *
http_daemon(struct http_request *request)
{
	return request->http->daemon;
}

const struct peer *
http_peer(struct http_request *request)
{
	return request->peer;
}

const char *
http_query(struct http_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, name);
}

const char *
http_header(struct http_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *
http_cookie(struct http_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_COOKIE_KIND, name);
}

uint64_t
http_content_length(struct http_request *request)
{
	const char *text = http_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
	uint64_t n = 0;
	char *end;

	if (!text || text[0] < '0' || text[0] > '9')
		return UNKNOWN_LENGTH;
	errno = 0;
	n = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' ? n : UNKNOWN_LENGTH;
}

void
http_reply_header(struct http_request *request, const char *name, const char *value)
{
	if (request->n_headers == REPLY_HEADERS_MAX)
		return;
	request->headers[request->n_headers].name = smd_strdup(name);
	request->headers[request->n_headers++].value = smd_strdup(value);
}

void
http_reply_size(struct http_request *request, uint64_t size)
{
	request->reply_size = size;
}

void
http_reply_status(struct http_request *request, unsigned status)
{
	request->reply_status = status;
}

/* The thread of the connection wakes up, whatever it waits for, and ends the stream. */
void
http_hang_up(struct http_request *request)
{
	shutdown(connection_fd(request), SHUT_RDWR);
}

static unsigned
unauthenticated(struct http_request *request)
{
	http_reply_header(request, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Basic realm=\"smd\"");
	return MHD_HTTP_UNAUTHORIZED;
}

static unsigned
basic_login(struct http_request *request, struct smd_error *err)
{
	char *password = NULL;
	char *user = MHD_basic_auth_get_username_password(request->connection, &password);
	unsigned status = 0;

	if (!user || !password) {
		smd_fail_SESSION_AUTHENTICATION_FAILED(err, "", "No session",
						       "neither a session nor a login was given");
		status = unauthenticated(request);
	} else if (session_login(request->http->daemon->sessions, request->peer, user, password,
				 "http", &request->own_session, err) < 0) {
		status = unauthenticated(request);
	}
	MHD_free(user);
	MHD_free(password);
	return status;
}

unsigned
http_authenticate(struct http_request *request, char **ret_session_ref, struct smd_error *err)
{
	struct sessions *sessions = request->http->daemon->sessions;
	const char *ref = http_query(request, "session_id");
	unsigned status;

	if (!ref)
		ref = http_cookie(request, "session_id");
	if (ref && session_use(sessions, ref, err) < 0)
		return unauthenticated(request);
	if (!ref) {
		status = basic_login(request, err);
		if (status != 0)
			return status;
		ref = request->own_session;
	}
	*ret_session_ref = smd_strdup(ref);
	return 0;
}

/* Time we spent is not time the client was idle: without this, MHD hangs up on one
 * that waited for a long call. Taking the limit away and setting it again is how
 * MHD is told of activity. */
static void
note_activity(struct http_request *request)
{
	MHD_set_connection_option(request->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
	MHD_set_connection_option(request->connection, MHD_CONNECTION_OPTION_TIMEOUT,
				  (unsigned)IDLE_TIMEOUT_S);
}

/* ---- Replies ---- */

/* Only reads from what it is given; the response owns a copy of body or body itself. */
static enum MHD_Result
queue(struct http_request *request, unsigned status, struct MHD_Response *response)
{
	enum MHD_Result r;

	for (size_t i = 0; i < request->n_headers; i++)
		MHD_add_response_header(response, request->headers[i].name,
					request->headers[i].value);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache, no-store");
	MHD_add_response_header(response, MHD_HTTP_HEADER_PRAGMA, "no-cache");
	r = MHD_queue_response(request->connection, status, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result
reply_text(struct http_request *request, unsigned status, const char *text)
{
	CLEANUP_FREE char *page = text ? smd_strdup(text) :
				  smd_asprintf("<html><body><h1>HTTP %u</h1></body></html>", status);
	size_t len = strlen(page);
	struct MHD_Response *response = MHD_create_response_from_buffer(len, page,
									MHD_RESPMEM_MUST_COPY);

	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
				text ? "text/plain; charset=utf-8" : "text/html");
	return queue(request, status, response);
}

static enum MHD_Result
reply_rpc(struct http_request *request, unsigned status, char *body, size_t len, const char *type)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(len, body,
									MHD_RESPMEM_MUST_FREE);

	MHD_set_response_options(response, MHD_RF_SEND_KEEP_ALIVE_HEADER, MHD_RO_END);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
	MHD_add_response_header(response, "Access-Control-Allow-Headers", "X-Requested-With");
	return queue(request, status, response);
}

/* A browser asks what it may do. */
static enum MHD_Result
reply_options(struct http_request *request)
{
	const char *asked = http_header(request, "Access-Control-Request-Headers");
	CLEANUP_FREE char *headers = smd_asprintf("%s%sX-Requested-With", asked ? asked : "",
						  asked ? ", " : "");

	http_reply_header(request, "Access-Control-Allow-Origin", "*");
	http_reply_header(request, "Access-Control-Allow-Headers", headers);
	http_reply_header(request, "Access-Control-Allow-Methods", "PUT");
	return reply_text(request, MHD_HTTP_OK, "");
}

/* Answer a request without its body. A small one is read first all the same, so
 * that a client that only listens when it has sent all hears the answer. */
static enum MHD_Result
refuse(struct http_request *request, unsigned status, char *text)
{
	uint64_t len = http_content_length(request);
	enum MHD_Result r;

	if (len > 0 && len <= DRAIN_MAX && !http_header(request, MHD_HTTP_HEADER_EXPECT)) {
		request->refused = status;
		request->refusal = text;
		return MHD_YES;
	}
	r = reply_text(request, status, text);
	free(text);
	return r;
}

static enum MHD_Result
refused_body(struct http_request *request, size_t *len)
{
	if (*len == 0)
		return reply_text(request, request->refused, request->refusal);
	*len = 0;
	return MHD_YES;
}

/* ---- RPC ---- */

static enum MHD_Result
rpc_headers(struct http_request *request)
{
	uint64_t len = http_content_length(request);

	if (len > RPC_BODY_MAX || http_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING))
		return refuse(request, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL);
	request->body_size = (size_t)len;
	request->body = smd_malloc((size_t)len + 1);
	return MHD_YES;
}

static enum MHD_Result
rpc_body(struct http_request *request, const char *data, size_t *len)
{
	if (*len > request->body_size - request->n_body)
		return MHD_NO;
	memcpy(request->body + request->n_body, data, *len);
	request->n_body += *len;
	*len = 0;
	return MHD_YES;
}

static enum MHD_Result
rpc_end(struct http_request *request)
{
	char *reply = NULL;
	size_t len = 0;
	const char *type = NULL;
	unsigned status;

	request->body[request->n_body] = '\0';
	status = request->route->rpc(request->http->daemon, request->peer, request->body,
				     request->n_body, &reply, &len, &type);
	note_activity(request);
	return reply_rpc(request, status, reply, len, type);
}

/* ---- Streams ---- */

static unsigned
stream_end(struct http_request *request, bool complete, char **ret_text)
{
	request->ended = true;
	return request->route->stream->end(request->state, complete, ret_text);
}

static ssize_t
stream_read(void *opaque, uint64_t pos, char *buf, size_t max)
{
	struct http_request *request = opaque;
	int64_t n = request->route->stream->read(request->state, buf, max);

	(void)pos;
	note_activity(request);
	if (n > 0)
		return n;
	request->broken = n < 0;
	return n == 0 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

/* Without a size the end of the connection is the end of the data, as xapi does it;
 * a client then tells a break only by a reset. */
static enum MHD_Result
stream_reply(struct http_request *request)
{
	bool sized = request->reply_size != UNKNOWN_LENGTH;
	struct MHD_Response *response = MHD_create_response_from_callback(
		sized ? request->reply_size : MHD_SIZE_UNKNOWN, READ_BLOCK, stream_read, request,
		NULL);

	if (!sized)
		MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
	return queue(request, request->reply_status, response);
}

/* NULL: the connection has no TLS. */
static void *
tls_session(struct http_request *request)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		request->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);

	return info ? info->tls_session : NULL;
}

static void
send_all(struct http_request *request, const char *text)
{
	void *tls = tls_session(request);
	int fd = connection_fd(request);
	size_t len = strlen(text);

	if (tls) {
		tls_send(tls, text, len);
		return;
	}

	while (len > 0) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && (errno != EAGAIN || poll(&p, 1, DRAIN_MS) <= 0))
			return;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
}

/* MHD answers after the body only; the socket is ours meanwhile. */
static void
answer_early(struct http_request *request)
{
	char *head = NULL;
	size_t len;
	FILE *out = open_memstream(&head, &len);

	if (!out)
		abort();
	fputs("HTTP/1.1 200 OK\r\nConnection: close\r\nCache-Control: no-cache, no-store\r\n", out);
	for (size_t i = 0; i < request->n_headers; i++)
		fprintf(out, "%s: %s\r\n", request->headers[i].name, request->headers[i].value);
	fputs("\r\n", out);
	fclose(out);
	send_all(request, head);
	free(head);
	request->answered = true;
}

static bool
is_endless(struct http_request *request)
{
	uint64_t len = http_content_length(request);

	return len != UNKNOWN_LENGTH && len >= ENDLESS_LENGTH;
}

static enum MHD_Result
stream_headers(struct http_request *request)
{
	char *text = NULL;
	unsigned status;

	/* When the other end of a unix socket closes, poll says POLLHUP at once, and MHD
	 * leaves what is still to be read: the end of the data would be lost unseen. */
	if (is_endless(request) && request->peer->uid != PEER_NOT_LOCAL)
		return reply_text(request, MHD_HTTP_LENGTH_REQUIRED,
				  "an upload over the unix socket declares its length\n");
	status = request->route->stream->begin(request, &request->state, &text);
	note_activity(request);
	if (status != 0)
		return refuse(request, status, text ? text : smd_strdup(""));
	request->begun = true;
	if (request->route->stream->read)
		return stream_reply(request);
	if (is_endless(request) && !http_header(request, MHD_HTTP_HEADER_EXPECT))
		answer_early(request);
	return MHD_YES;
}

/* Closing with unread data resets the connection, and the client may lose the
 * answer: give it a moment to read that and hang up. */
static void
drain(struct http_request *request)
{
	int fd = connection_fd(request);
	void *tls = tls_session(request);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char buf[65536];
	size_t left = 4 * DRAIN_MAX;
	struct timespec start, now;

	/* Without its farewell, TLS takes the end of a connection for an attack. */
	if (tls)
		tls_end(tls);
	else
		shutdown(fd, SHUT_WR);
	clock_gettime(CLOCK_MONOTONIC, &start);
	now = start;
	while (left > 0 && now.tv_sec - start.tv_sec < 2 && poll(&p, 1, DRAIN_MS) > 0) {
		ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return;
		left -= n > 0 && (size_t)n < left ? (size_t)n : left;
		clock_gettime(CLOCK_MONOTONIC, &now);
	}
}

/* Answer in the middle of a body, which MHD cannot, and hang up. */
static enum MHD_Result
stream_break(struct http_request *request)
{
	CLEANUP_FREE char *text = NULL, *reply = NULL;
	unsigned status = stream_end(request, false, &text);

	if (request->answered)
		return MHD_NO;
	if (status < 400)
		status = MHD_HTTP_INTERNAL_SERVER_ERROR;
	reply = smd_asprintf("HTTP/1.1 %u %s\r\nConnection: close\r\n"
			     "Content-Type: text/plain; charset=utf-8\r\n"
			     "Content-Length: %zu\r\n\r\n%s", status,
			     MHD_get_reason_phrase_for(status), text ? strlen(text) : 0,
			     text ? text : "");
	send_all(request, reply);
	drain(request);
	return MHD_NO;
}

static enum MHD_Result
stream_body(struct http_request *request, const char *data, size_t *len)
{
	if (request->route->stream->write(request->state, data, *len) != 0)
		return stream_break(request);
	note_activity(request);
	*len = 0;
	return MHD_YES;
}

static enum MHD_Result
stream_complete(struct http_request *request)
{
	CLEANUP_FREE char *text = NULL;
	unsigned status;

	status = stream_end(request, true, &text);
	note_activity(request);
	return reply_text(request, status, text ? text : "");
}

/* ---- MHD's callbacks ---- */

/* The longest prefix among the method's routes; *ret_any: it has any at all. */
static const struct http_route *
find_route(const struct http *http, const char *method, const char *path, bool *ret_any)
{
	const struct http_route *best = NULL;

	*ret_any = false;
	for (const struct http_route *r = http->routes; r->method; r++) {
		size_t len = strlen(r->prefix);

		if (strcmp(r->method, method) != 0)
			continue;
		*ret_any = true;
		if (strncmp(path, r->prefix, len) == 0 &&
		    (!best || len > strlen(best->prefix)))
			best = r;
	}
	return best;
}

static struct http_request *
request_new(struct http *http, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct http_request *request = smd_calloc(1, sizeof *request);

	request->http = http;
	request->connection = connection;
	request->peer = info->socket_context;
	request->reply_size = UNKNOWN_LENGTH;
	request->reply_status = MHD_HTTP_OK;
	LOCK_SCOPE(&http->lock);
	http->n_active++;
	return request;
}

static enum MHD_Result
serve_headers(struct http_request *request, const char *method, const char *path)
{
	bool any;

	if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0)
		return reply_options(request);
	request->route = find_route(request->http, method, path, &any);
	if (!request->route)
		return refuse(request, any ? MHD_HTTP_FORBIDDEN : MHD_HTTP_NOT_IMPLEMENTED, NULL);
	request->method = request->route->method;
	return request->route->rpc ? rpc_headers(request) : stream_headers(request);
}

static enum MHD_Result
serve(void *opaque, struct MHD_Connection *connection, const char *path, const char *method,
      const char *version, const char *data, size_t *len, void **con_cls)
{
	struct http_request *request = *con_cls;

	(void)version;
	if (!request) {
		request = *con_cls = request_new(opaque, connection);
		note_activity(request);
		return serve_headers(request, method, path);
	}
	if (request->refused != 0)
		return refused_body(request, len);
	if (*len > 0)
		return request->route->rpc ? rpc_body(request, data, len) :
		       stream_body(request, data, len);
	return request->route->rpc ? rpc_end(request) : stream_complete(request);
}

/* A reader that broke off resets the connection, so that the end is no end of data. */
static void
reset_connection(struct http_request *request)
{
	const struct linger none = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(connection_fd(request), SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

/* Hanging up in order is how an upload of unknown length ends; a reset, silence for
 * too long or our own stop leave it unfinished as they do any other. */
static bool
is_complete(struct http_request *request, enum MHD_RequestTerminationCode code)
{
	if (!request->route->stream->read && is_endless(request))
		return code == MHD_REQUEST_TERMINATED_CLIENT_ABORT;
	return code == MHD_REQUEST_TERMINATED_COMPLETED_OK && !request->broken;
}

static void
completed(void *opaque, struct MHD_Connection *connection, void **con_cls,
	  enum MHD_RequestTerminationCode code)
{
	struct http_request *request = *con_cls;
	struct http *http = opaque;
	CLEANUP_FREE char *text = NULL;
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)connection;
	if (!request)
		return;
	*con_cls = NULL;
	if (request->broken)
		reset_connection(request);
	if (request->begun && !request->ended)
		stream_end(request, is_complete(request, code), &text);
	if (request->own_session)
		session_logout(http->daemon->sessions, request->own_session, &ignored);
	for (size_t i = 0; i < request->n_headers; i++) {
		free(request->headers[i].name);
		free(request->headers[i].value);
	}
	free(request->body);
	free(request->refusal);
	free(request->own_session);
	free(request);

	LOCK_SCOPE(&http->lock);
	if (--http->n_active == 0)
		pthread_cond_broadcast(&http->idle);
}

static void
connected(void *opaque, struct MHD_Connection *connection, void **socket_context,
	  enum MHD_ConnectionNotificationCode code)
{
	struct http *http = opaque;
	const union MHD_ConnectionInfo *info;
	struct peer *peer;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		free(*socket_context);
		*socket_context = NULL;
		return;
	}
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	peer = *socket_context = smd_calloc(1, sizeof *peer);
	listen_peer(http->daemon->config, info->connect_fd, peer);
}

static void __attribute__((format(printf, 2, 0)))
log_line(void *opaque, const char *fmt, va_list ap)
{
	CLEANUP_FREE char *text = smd_vasprintf(fmt, ap);

	(void)opaque;
	text[strcspn(text, "\n")] = '\0';
	smd_log(SMD_LOG_DEBUG, "http: %s", text);
}

/* ---- Start and stop ---- */

static int
start_server(struct http *http, size_t i, struct smd_error *err)
{
	unsigned max = (unsigned)config_int(http->daemon->config, "max_connections");
	unsigned per_address = max - max / 4;	/* nobody shuts all others out */
	bool tls = i >= http->first_tls && i < http->end_tls;
	struct MHD_OptionItem tls_options[] = {
		{ MHD_OPTION_HTTPS_MEM_CERT, 0, http->certificate },
		{ MHD_OPTION_HTTPS_MEM_KEY, 0, http->key },
		{ MHD_OPTION_HTTPS_PRIORITIES, 0, TLS_PRIORITIES },
		{ MHD_OPTION_END, 0, NULL },
	};

	/* The socket is MHD's from here on. */
	http->servers[i] = MHD_start_daemon(
		MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
		MHD_USE_ITC | MHD_USE_ERROR_LOG | (tls ? MHD_USE_TLS : 0),
		0, NULL, NULL, serve, http,
		MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL,
		MHD_OPTION_LISTEN_SOCKET, http->sockets.fds[i],
		MHD_OPTION_NOTIFY_COMPLETED, completed, http,
		MHD_OPTION_NOTIFY_CONNECTION, connected, http,
		MHD_OPTION_CONNECTION_LIMIT, max,
		MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)FIRST_TIMEOUT_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)MEMORY_STEP,
		MHD_OPTION_ARRAY, tls ? tls_options : &tls_options[3],
		MHD_OPTION_END);
	if (!http->servers[i])
		return smd_fail_INTERNAL_ERROR(err, "http", "the HTTP server did not start: %s",
					       strerror(errno));
	http->sockets.fds[i] = -1;
	return 0;
}

static int
add_tls(struct http *http, const char *const *listeners, struct smd_error *err)
{
	http->first_tls = http->sockets.n;
	if (*listeners && tls_load(http->daemon->config, &http->certificate, &http->key, err) < 0)
		return -1;
	for (; *listeners; listeners++) {
		if (listen_add(&http->sockets, http->daemon->config, *listeners, err) < 0)
			return -1;
	}
	http->end_tls = http->sockets.n;
	return 0;
}

int
http_start(struct daemon *daemon, const struct http_route *routes, const char *const *listeners,
	   const char *const *tls_listeners, const int *fds, size_t n_fds, struct http **ret,
	   struct smd_error *err)
{
	struct http *http = smd_calloc(1, sizeof *http);
	int r = 0;

	/* A client that hangs up is an error of one write, not the end of us. */
	signal(SIGPIPE, SIG_IGN);
	http->daemon = daemon;
	http->routes = routes;
	pthread_mutex_init(&http->lock, NULL);
	pthread_cond_init(&http->idle, NULL);
	for (; listeners && *listeners && r == 0; listeners++)
		r = listen_add(&http->sockets, daemon->config, *listeners, err);
	if (r == 0)
		r = add_tls(http, tls_listeners, err);
	for (size_t i = 0; i < n_fds && r == 0; i++)
		r = listen_add_fd(&http->sockets, fds[i], err);
	for (size_t i = 0; i < http->sockets.n && r == 0; i++)
		r = start_server(http, i, err);
	if (r < 0)
		http_stop(http, 0);
	else
		*ret = http;
	return r;
}

static void
wait_idle(struct http *http, unsigned grace_ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += grace_ms / 1000;
	until.tv_nsec += (long)(grace_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	LOCK_SCOPE(&http->lock);
	while (http->n_active > 0 &&
	       pthread_cond_timedwait(&http->idle, &http->lock, &until) == 0)
		;
}

void
http_stop(struct http *http, unsigned grace_ms)
{
	if (!http)
		return;
	for (size_t i = 0; i < http->sockets.n; i++) {
		MHD_socket fd = http->servers[i] ? MHD_quiesce_daemon(http->servers[i]) :
				MHD_INVALID_SOCKET;

		if (fd != MHD_INVALID_SOCKET)
			close(fd);
	}
	/* Long polls end at once; what does work has its time. */
	if (http->daemon->sessions)
		sessions_end_all(http->daemon->sessions);
	wait_idle(http, grace_ms);
	for (size_t i = 0; i < http->sockets.n; i++) {
		if (http->servers[i])
			MHD_stop_daemon(http->servers[i]);
	}
	listen_done(&http->sockets);
	pthread_cond_destroy(&http->idle);
	pthread_mutex_destroy(&http->lock);
	free(http->certificate);
	if (http->key)
		explicit_bzero(http->key, strlen(http->key));
	free(http->key);
	free(http);
}
