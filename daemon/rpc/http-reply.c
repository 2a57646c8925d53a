/* SPDX-License-Identifier: BSD-2-Clause */
/* What handlers of streams ask of a request, and the shapes of replies. */
#include "daemon/rpc/http-private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/rpc/session.h"
#include "daemon/rpc/tls.h"

#define DRAIN_MAX (16 * 1024 * 1024)	/* of a refused body read before the answer */
#define DRAIN_MS 1000

/* ---- What streams ask ---- */

struct daemon *
http_daemon(struct http_request *request)
{
	return request->http->daemon;
}

const struct peer *
http_peer(struct http_request *request)
{
	return &request->peer;
}

static enum MHD_Result
keep_value(void *opaque, enum MHD_ValueKind kind, const char *key, const char *text)
{
	struct http_request *request = opaque;
	struct http_value *value = smd_calloc(1, sizeof *value), **last = &request->values;

	value->kind = kind;
	value->key = smd_strdup(key);
	value->value = smd_strdup(text);
	while (*last)
		last = &(*last)->next;
	*last = value;
	return MHD_YES;
}

void
http_keep_values(struct http_request *request)
{
	static const enum MHD_ValueKind kinds[] = {
		MHD_HEADER_KIND, MHD_COOKIE_KIND, MHD_GET_ARGUMENT_KIND,
	};

	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		MHD_get_connection_values(request->connection, kinds[i], keep_value, request);
}

void
http_free_values(struct http_request *request)
{
	while (request->values) {
		struct http_value *value = request->values;

		request->values = value->next;
		free(value->key);
		free(value->value);
		free(value);
	}
}

static const char *
find_value(struct http_request *request, enum MHD_ValueKind kind, const char *name)
{
	if (!request->values)
		return MHD_lookup_connection_value(request->connection, kind, name);
	for (const struct http_value *v = request->values; v; v = v->next) {
		if (v->kind == kind && strcasecmp(v->key, name) == 0)
			return v->value;
	}
	return NULL;
}

const char *
http_query(struct http_request *request, const char *name)
{
	return find_value(request, MHD_GET_ARGUMENT_KIND, name);
}

const char *
http_header(struct http_request *request, const char *name)
{
	return find_value(request, MHD_HEADER_KIND, name);
}

const char *
http_cookie(struct http_request *request, const char *name)
{
	return find_value(request, MHD_COOKIE_KIND, name);
}

uint64_t
http_content_length(struct http_request *request)
{
	const char *text = http_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
	uint64_t n = 0;
	char *end;

	if (!text || text[0] < '0' || text[0] > '9')
		return HTTP_UNKNOWN_LENGTH;
	errno = 0;
	n = strtoull(text, &end, 10);
	return errno == 0 && *end == '\0' ? n : HTTP_UNKNOWN_LENGTH;
}

void
http_reply_header(struct http_request *request, const char *name, const char *value)
{
	if (request->n_headers == HTTP_REPLY_HEADERS_MAX)
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

/* The loop finds the end of the connection, after the step that runs if one does. */
void
http_hang_up(struct http_request *request)
{
	LOCK_SCOPE(&request->lock);
	if (!request->gone)
		shutdown(http_fd(request), SHUT_RDWR);
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
	} else if (session_login(request->http->daemon->sessions, &request->peer, user, password,
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

/* ---- Replies ---- */

/* Only reads from what it is given; the response owns a copy of body or body itself. */
enum MHD_Result
http_queue(struct http_request *request, unsigned status, struct MHD_Response *response)
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

enum MHD_Result
http_reply_text(struct http_request *request, unsigned status, const char *text)
{
	CLEANUP_FREE char *page = text ? smd_strdup(text) :
				  smd_asprintf("<html><body><h1>HTTP %u</h1></body></html>", status);
	size_t len = strlen(page);
	struct MHD_Response *response = MHD_create_response_from_buffer(len, page,
									MHD_RESPMEM_MUST_COPY);

	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
				text ? "text/plain; charset=utf-8" : "text/html");
	return http_queue(request, status, response);
}

enum MHD_Result
http_reply_rpc(struct http_request *request, unsigned status, char *body, size_t len, const char *type)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(len, body,
									MHD_RESPMEM_MUST_FREE);

	MHD_set_response_options(response, MHD_RF_SEND_KEEP_ALIVE_HEADER, MHD_RO_END);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
	MHD_add_response_header(response, "Access-Control-Allow-Headers", "X-Requested-With");
	return http_queue(request, status, response);
}

/* A browser asks what it may do. */
enum MHD_Result
http_reply_options(struct http_request *request)
{
	const char *asked = http_header(request, "Access-Control-Request-Headers");
	CLEANUP_FREE char *headers = smd_asprintf("%s%sX-Requested-With", asked ? asked : "",
						  asked ? ", " : "");

	http_reply_header(request, "Access-Control-Allow-Origin", "*");
	http_reply_header(request, "Access-Control-Allow-Headers", headers);
	http_reply_header(request, "Access-Control-Allow-Methods", "PUT");
	return http_reply_text(request, MHD_HTTP_OK, "");
}

/* Answer a request without its body. A small one is read first all the same, so
 * that a client that only listens when it has sent all hears the answer. */
enum MHD_Result
http_refuse(struct http_request *request, unsigned status, char *text)
{
	uint64_t len = http_content_length(request);
	enum MHD_Result r;

	if (len > 0 && len <= DRAIN_MAX && !http_header(request, MHD_HTTP_HEADER_EXPECT)) {
		request->refused = true;
		http_due(request, true);
		request->status = status;
		request->text = text;
		return MHD_YES;
	}
	r = http_reply_text(request, status, text);
	free(text);
	return r;
}

enum MHD_Result
http_refused_body(struct http_request *request, size_t *len)
{
	if (*len == 0) {
		http_due(request, false);
		return http_reply_text(request, request->status, request->text);
	}
	*len = 0;
	return MHD_YES;
}

/* ---- Behind libmicrohttpd's back ---- */

void *
http_tls(struct http_request *request)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		request->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);

	return info ? info->tls_session : NULL;
}

static void
send_all(struct http_request *request, const char *text)
{
	void *tls = http_tls(request);
	int fd = http_fd(request);
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
void
http_answer_early(struct http_request *request)
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

/* Closing with unread data resets the connection, and the client may lose the
 * answer: give it a moment to read that and hang up. */
static void
drain(struct http_request *request)
{
	int fd = http_fd(request);
	void *tls = http_tls(request);
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

static void
send_answer(struct http_request *request, unsigned status, const char *text)
{
	CLEANUP_FREE char *reply = smd_asprintf(
		"HTTP/1.1 %u %s\r\nConnection: close\r\n"
		"Content-Type: text/plain; charset=utf-8\r\n"
		"Content-Length: %zu\r\n\r\n%s", status, MHD_get_reason_phrase_for(status),
		strlen(text), text);

	send_all(request, reply);
}

void
http_answer_and_hang_up(struct http_request *request, unsigned status, const char *text)
{
	send_answer(request, status, text);
	drain(request);
}

/* The loop only reads from an upload, and while we hold the lock it closes nothing. What it
 * reads after this it refuses. */
bool
http_answer_idle(struct http_request *request, unsigned status, const char *text)
{
	LOCK_SCOPE(&request->lock);
	if (request->gone || request->working || request->answered || !request->open)
		return false;
	request->answered = request->hung_up = true;
	send_answer(request, status, text);
	if (http_tls(request))
		tls_end(http_tls(request));
	else
		shutdown(http_fd(request), SHUT_WR);
	return true;
}
