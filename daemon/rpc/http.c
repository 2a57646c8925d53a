/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * HTTP by libmicrohttpd: a server, with a loop of its own, for each listening socket.
 * MHD calls serve() with the headers, with each piece of the body, and at its end, and
 * again with the same after a suspension; a reply can only be queued at the first or the
 * last of these.
 */
#include "daemon/rpc/http-private.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/rpc/pool.h"
#include "daemon/rpc/record.h"
#include "daemon/rpc/session.h"
#include "daemon/rpc/tls.h"

#define RPC_BODY_MAX (300 * 1024)	/* xapi's */
#define IDLE_TIMEOUT_S 300
#define HEAD_TIMEOUT_S 15	/* for the head of the first request, or once one has begun */
#define BODY_TIMEOUT_S 60	/* for the body of a call */
#define MEMORY_STEP (16 * 1024)
#define AT_ONCE_MAX 1024	/* the longest body of a call that the loop may answer itself */

int
http_fd(struct http_request *request)
{
	return MHD_get_connection_info(request->connection,
				       MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
}

/* ---- Connections ---- */

/* What was due has come, or (seconds > 0) is due by then. */
static void
set_due(struct http *http, struct http_connection *at, unsigned seconds)
{
	LOCK_SCOPE(&http->lock);
	at->until_ms = seconds > 0 ? smd_now_ms() + seconds * UINT64_C(1000) : 0;
}

void
http_due(struct http_request *request, bool due)
{
	set_due(request->http, request->at, due ? IDLE_TIMEOUT_S : 0);
}

static void
opened(struct http *http, struct MHD_Connection *mhd, void **socket_context)
{
	struct http_connection *at = smd_calloc(1, sizeof *at);

	at->mhd = mhd;
	at->peer.fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	at->until_ms = smd_now_ms() + HEAD_TIMEOUT_S * 1000;
	*socket_context = at;
	LOCK_SCOPE(&http->lock);
	at->next = http->connections;
	at->prev = &http->connections;
	if (at->next)
		at->next->prev = &at->next;
	http->connections = at;
}

static void
closed(struct http *http, struct http_connection *at)
{
	LOCK_SCOPE(&http->lock);
	*at->prev = at->next;
	if (at->next)
		at->next->prev = at->prev;
	at->closed = true;
	if (at->n_ending == 0)
		free(at);
}

static void
connected(void *opaque, struct MHD_Connection *connection, void **socket_context,
	  enum MHD_ConnectionNotificationCode code)
{
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		opened(opaque, connection, socket_context);
	else if (*socket_context)
		closed(opaque, *socket_context);
}

static struct http_connection *
connection_of(struct MHD_Connection *mhd)
{
	return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* The first line of a request has come: the rest is due. */
static void *
request_begun(void *opaque, const char *uri, struct MHD_Connection *connection)
{
	(void)uri;
	set_due(opaque, connection_of(connection), HEAD_TIMEOUT_S);
	return NULL;
}

/* Whether all that a client will ever send has been read. MHD misses an end that comes
 * together with the last bytes: epoll tells of both at once, and it looks for one. */
static bool
sends_no_more(const struct http_connection *at)
{
	struct pollfd p = { .fd = at->peer.fd, .events = POLLRDHUP };
	int n = 0;

	return poll(&p, 1, 0) > 0 && ioctl(at->peer.fd, FIONREAD, &n) == 0 && n == 0;
}

/* Seen twice, so that the loop has had the time to act on what it read. */
void
http_tick(struct http *http)
{
	uint64_t now = smd_now_ms();

	if (!http)
		return;
	LOCK_SCOPE(&http->lock);
	for (struct http_connection *at = http->connections; at; at = at->next) {
		bool ended = at->until_ms != 0 && sends_no_more(at);

		if (at->until_ms != 0 && (now > at->until_ms || (ended && at->ended)))
			shutdown(at->peer.fd, SHUT_RDWR);
		at->ended = ended;
	}
}

/* ---- Requests and their steps ---- */

static struct http_request *
request_new(struct http *http, struct MHD_Connection *connection)
{
	struct http_request *request = smd_calloc(1, sizeof *request);

	request->http = http;
	request->connection = connection;
	request->at = connection_of(connection);
	request->reply_size = HTTP_UNKNOWN_LENGTH;
	request->reply_status = MHD_HTTP_OK;
	pthread_mutex_init(&request->lock, NULL);
	return request;
}

/* False: we are being stopped, and wait for no more. */
static bool
add_request(struct http *http, struct http_request *request)
{
	LOCK_SCOPE(&http->lock);
	if (http->stopping)
		return false;
	request->next = http->requests;
	request->prev = &http->requests;
	if (request->next)
		request->next->prev = &request->next;
	http->requests = request;
	return true;
}

static void
forget_request(struct http *http, struct http_request *request)
{
	LOCK_SCOPE(&http->lock);
	*request->prev = request->next;
	if (request->next)
		request->next->prev = request->prev;
	if (!http->requests)
		pthread_cond_broadcast(&http->idle);
}

static void
request_free(struct http_request *request)
{
	for (size_t i = 0; i < request->n_headers; i++) {
		free(request->headers[i].name);
		free(request->headers[i].value);
	}
	http_free_values(request);
	free(request->body);
	free(request->reply);
	free(request->message);
	free(request->block);
	free(request->text);
	free(request->own_session);
	shared_frame_done(&request->park.frame);
	pthread_mutex_destroy(&request->lock);
	free(request);
}

/* Whose connection is it: asking may take long, so it is not done by the loop. */
void
http_know_peer(struct http_request *request)
{
	struct http_connection *at = request->at;

	if (!at->peer_known)
		listen_peer(request->http->daemon->config, at->peer.fd, &at->peer);
	at->peer_known = true;
	request->peer = at->peer;
}

void
http_hand_over(struct http_request *request, void (*step)(void *opaque))
{
	MHD_suspend_connection(request->connection);
	{
		LOCK_SCOPE(&request->lock);
		request->suspended = true;
		request->working = true;
	}
	pool_run(step, request);
}

bool
http_step_over(struct http_request *request)
{
	request->working = false;
	if (!request->gone && request->suspended) {
		request->suspended = false;
		MHD_resume_connection(request->connection);
	}
	return request->gone;
}

void
http_step_done(struct http_request *request)
{
	bool gone;

	{
		LOCK_SCOPE(&request->lock);
		gone = http_step_over(request);
	}
	if (gone)
		http_request_end(request);
}

/* The last stream of a connection has ended: its next request may begin. */
static void
has_ended(struct http *http, struct http_connection *at)
{
	LOCK_SCOPE(&http->lock);
	if (--at->n_ending > 0)
		return;
	if (at->waits)
		MHD_resume_connection(at->mhd);
	at->waits = false;
	if (at->closed)
		free(at);
}

void
http_request_end(struct http_request *request)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	struct http *http = request->http;

	if (request->open)
		http_stream_end(request);
	if (request->park.state && request->park.drop)
		request->park.drop(request->park.state);
	if (request->own_session)
		session_logout(http->daemon->sessions, request->own_session, &ignored);
	has_ended(http, request->at);
	forget_request(http, request);
	request_free(request);
}

static void
end_stream(void *opaque)
{
	http_request_end(opaque);
}

/* ---- RPC ---- */

static enum MHD_Result
rpc_headers(struct http_request *request)
{
	uint64_t len = http_content_length(request);

	if (len > RPC_BODY_MAX || http_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING))
		return http_refuse(request, MHD_HTTP_INTERNAL_SERVER_ERROR, NULL);
	request->body_size = (size_t)len;
	request->body = smd_malloc((size_t)len + 1);
	set_due(request->http, request->at, BODY_TIMEOUT_S);
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

/* Whether the call is kept for later; else it is made again at once, or done. */
static bool
stays_parked(struct http_request *request)
{
	LOCK_SCOPE(&request->lock);
	request->parked = !request->unparked;
	request->unparked = false;
	request->working = !request->parked;
	return request->parked;
}

/* Whether it is answered. */
static bool
make_call(struct http_request *request)
{
	request->status = request->route->rpc(request->http->daemon, &request->peer, request->body,
					      request->n_body, &request->reply, &request->n_reply,
					      &request->reply_type, &request->message);
	return request->status != 0;
}

/* By the loop: calls that cannot wait, of a peer it knows. */
static bool
call_at_once(struct http_request *request)
{
	if (!request->at->peer_known || request->n_body > AT_ONCE_MAX)
		return false;
	request->peer = request->at->peer;
	request->peer.on_loop = true;
	return make_call(request);
}

static void
call(void *opaque)
{
	struct http_request *request = opaque;

	http_know_peer(request);
	request->peer.park = &request->park;
	for (;;) {
		if (make_call(request))
			break;
		if (stays_parked(request))
			return;
	}
	http_step_done(request);
}

static struct http_request *
request_of(struct call_park *park)
{
	return (void *)((char *)park - offsetof(struct http_request, park));
}

/* False: its handler is not back yet, and it will be made again as soon as it is. */
static bool
take_parked(struct http_request *request)
{
	LOCK_SCOPE(&request->lock);
	bool parked = request->parked;

	request->unparked = !parked;
	request->parked = false;
	request->working = true;
	return parked;
}

static void
unpark(struct call_park *park)
{
	struct http_request *request = request_of(park);

	if (take_parked(request))
		pool_run(call, request);
}

/* As a header may be. */
static const char *
one_line(char *text)
{
	if (strlen(text) > HTTP_MESSAGE_MAX)
		text[HTTP_MESSAGE_MAX] = '\0';
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	}
	return text;
}

static void
answer(struct call_park *park, struct shared *shared)
{
	struct http_request *request = request_of(park);
	const struct shared_frame *frame = &park->frame;
	bool is_json = frame->wire == WIRE_JSON;

	if (!take_parked(request))
		return;
	request->status = MHD_HTTP_OK;
	request->reply = shared_reply(frame, shared, &request->n_reply);
	request->reply_type = is_json ? "application/json" : "text/xml";
	record_call(request->http->daemon, is_json ? "json" : "xml", frame->method, NULL,
		    request->reply, request->n_reply);
	http_step_done(request);
}

static enum MHD_Result
rpc_end(struct http_request *request)
{
	if (!request->begun) {
		request->begun = true;
		request->body[request->n_body] = '\0';
		set_due(request->http, request->at, 0);
		if (!call_at_once(request)) {
			request->park.unpark = unpark;
			request->park.answer = answer;
			http_hand_over(request, call);
			return MHD_YES;
		}
	}
	if (request->message)
		http_reply_header(request, HTTP_MESSAGE_HEADER, one_line(request->message));
	return http_reply_rpc(request, request->status, TAKE_PTR(request->reply),
			      request->n_reply, request->reply_type);
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

static enum MHD_Result
serve_headers(struct http_request *request, const char *method, const char *path)
{
	bool any;

	set_due(request->http, request->at, 0);
	if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0)
		return http_reply_options(request);
	request->route = find_route(request->http, method, path, &any);
	if (!request->route)
		return http_refuse(request, any ? MHD_HTTP_FORBIDDEN : MHD_HTTP_NOT_IMPLEMENTED,
				   NULL);
	return request->route->rpc ? rpc_headers(request) : http_stream_headers(request);
}

/* Whether the one before it on its connection still ends. */
static bool
must_wait(struct http *http, struct MHD_Connection *connection)
{
	struct http_connection *at = connection_of(connection);

	LOCK_SCOPE(&http->lock);
	if (at->n_ending == 0)
		return false;
	at->waits = true;
	at->until_ms = 0;
	MHD_suspend_connection(connection);
	return true;
}

static enum MHD_Result
serve_new(struct http *http, struct MHD_Connection *connection, const char *method,
	  const char *path, void **con_cls)
{
	struct http_request *request;

	if (must_wait(http, connection))
		return MHD_YES;
	request = request_new(http, connection);
	if (!add_request(http, request)) {
		request_free(request);
		return MHD_NO;
	}
	*con_cls = request;
	return serve_headers(request, method, path);
}

static enum MHD_Result
serve(void *opaque, struct MHD_Connection *connection, const char *path, const char *method,
      const char *version, const char *data, size_t *len, void **con_cls)
{
	struct http_request *request = *con_cls;

	(void)version;
	if (!request)
		return serve_new(opaque, connection, method, path, con_cls);
	if (request->refused)
		return http_refused_body(request, len);
	if (request->route->rpc)
		return *len > 0 ? rpc_body(request, data, len) : rpc_end(request);
	if (!request->accepted)
		return http_stream_headers(request);
	return *len > 0 ? http_stream_body(request, data, len) : http_stream_complete(request);
}

/* A reader that broke off resets the connection, so that the end is no end of data. */
static void
reset_connection(struct http_request *request)
{
	const struct linger none = { .l_onoff = 1, .l_linger = 0 };

	setsockopt(http_fd(request), SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

/* Hanging up in order is how an upload of unknown length ends; a reset, silence for
 * too long or our own stop leave it unfinished as they do any other. With TLS clients
 * close the connection and not TLS (node's do), which MHD takes for a read error; a reset
 * is another one then. */
static bool
is_complete(struct http_request *request, enum MHD_RequestTerminationCode code)
{
	if (!request->route->stream->read && http_stream_endless(request))
		return code == MHD_REQUEST_TERMINATED_CLIENT_ABORT ||
		       (code == MHD_REQUEST_TERMINATED_READ_ERROR && http_tls(request));
	return code == MHD_REQUEST_TERMINATED_COMPLETED_OK && !request->broken;
}

/* Nothing of MHD's is there any more once this has returned. */
static void
completed(void *opaque, struct MHD_Connection *connection, void **con_cls,
	  enum MHD_RequestTerminationCode code)
{
	struct http_request *request = *con_cls;
	struct http *http = opaque;
	bool working;

	(void)connection;
	if (!request)
		return;
	*con_cls = NULL;
	{
		LOCK_SCOPE(&http->lock);
		request->at->n_ending++;
	}
	{
		LOCK_SCOPE(&request->lock);
		if (request->broken)
			reset_connection(request);
		if (request->open)
			request->complete = is_complete(request, code);
		request->gone = true;
		working = request->working;
	}
	if (working)
		return;
	if (request->open)
		pool_run(end_stream, request);
	else
		http_request_end(request);
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
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
		MHD_USE_ERROR_LOG | (tls ? MHD_USE_TLS : 0),
		0, NULL, NULL, serve, http,
		MHD_OPTION_EXTERNAL_LOGGER, log_line, NULL,
		MHD_OPTION_LISTEN_SOCKET, http->sockets.fds[i],
		MHD_OPTION_NOTIFY_COMPLETED, completed, http,
		MHD_OPTION_NOTIFY_CONNECTION, connected, http,
		MHD_OPTION_URI_LOG_CALLBACK, request_begun, http,
		MHD_OPTION_CONNECTION_LIMIT, max,
		MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_TIMEOUT_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_MEMORY,
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

/* until NULL: as long as it takes. */
static void
wait_idle(struct http *http, const struct timespec *until)
{
	int r = 0;

	LOCK_SCOPE(&http->lock);
	while (http->requests && r == 0) {
		if (until)
			r = pthread_cond_timedwait(&http->idle, &http->lock, until);
		else
			pthread_cond_wait(&http->idle, &http->lock);
	}
}

static struct timespec
after_ms(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

/* Nothing new from here on, and whoever is still served is hung up on. */
static void
hang_up_all(struct http *http)
{
	LOCK_SCOPE(&http->lock);
	http->stopping = true;
	for (struct http_request *r = http->requests; r; r = r->next)
		http_hang_up(r);
}

/* Whoever connects from here on waits for the next daemon, or until MHD closes its socket.
 * MHD_quiesce_daemon takes it out of the set of MHD's thread, which may be about to do the same
 * (a connection has come just now): the thread does not find it then, and aborts the process
 * (0.9.75). So it stays there, and nothing is told of it. One that is not there, since too many
 * are connected, comes back when some have gone: those it lets in are served until all are hung
 * up on. */
static void
stop_accepting(struct MHD_Daemon *server)
{
	const union MHD_DaemonInfo *set = MHD_get_daemon_info(server, MHD_DAEMON_INFO_EPOLL_FD);
	int epoll_fd = set ? set->epoll_fd : -1;
	const union MHD_DaemonInfo *listener = MHD_get_daemon_info(server,
								   MHD_DAEMON_INFO_LISTEN_FD);
	struct epoll_event nothing = { .data.ptr = server };

	if (epoll_fd >= 0 && listener)
		epoll_ctl(epoll_fd, EPOLL_CTL_MOD, listener->listen_fd, &nothing);
}

void
http_stop(struct http *http, unsigned grace_ms)
{
	struct timespec until = after_ms(grace_ms);

	if (!http)
		return;
	for (size_t i = 0; i < http->sockets.n; i++) {
		if (http->servers[i])
			stop_accepting(http->servers[i]);
	}
	listen_hide(&http->sockets);
	/* Long polls end at once; what does work has its time. */
	if (http->daemon->sessions)
		sessions_end_all(http->daemon->sessions);
	wait_idle(http, &until);
	hang_up_all(http);
	/* MHD must not be stopped while a connection is suspended. */
	wait_idle(http, NULL);
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
