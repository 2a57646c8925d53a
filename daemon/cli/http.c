/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/http.h"

#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "common/mem.h"

#define REPLY_MAX (256u << 20)	/* get_all_records of some hundred thousand VDIs */
#define MESSAGE_HEADER "Smd-Message: "
#define REFUSAL_MAX 400u	/* of a refusal's text, for the message */

struct http_client {
	CURL *curl;
	char *base;		/* "http://host:port" */
	char *label;		/* of the server, in messages */
	bool over_socket;
	http_tick_fn *tick;
	void *tick_opaque;
	char curl_error[CURL_ERROR_SIZE];
};

struct reply {
	struct http_client *client;
	const struct http_body *body;	/* NULL: everything goes to text */
	char *text;
	size_t len;
	size_t max;
	char *message;			/* of an error */
};

struct http_client *
http_client_new(const char *socket_path, const char *host, const char *port)
{
	struct http_client *c = smd_calloc(1, sizeof *c);

	curl_global_init(CURL_GLOBAL_DEFAULT);
	c->curl = curl_easy_init();
	if (socket_path) {
		c->base = smd_strdup("http://localhost");
		c->label = smd_strdup(socket_path);
		c->over_socket = true;
		curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, socket_path);
	} else if (strchr(host, ':') && host[0] != '[') {	/* a bare IPv6 address */
		c->base = smd_asprintf("http://[%s]:%s", host, port);
	} else {
		c->base = smd_asprintf("http://%s:%s", host, port);
	}
	if (!c->label)
		c->label = smd_strdup(c->base);
	return c;
}

void
http_client_tls(struct http_client *client, const char *ca)
{
	CLEANUP_FREE char *plain = client->base;

	client->base = smd_asprintf("https%s", plain + strlen("http"));
	free(client->label);
	client->label = smd_strdup(client->base);
	if (ca)
		curl_easy_setopt(client->curl, CURLOPT_CAINFO, ca);
}

void
http_client_free(struct http_client *client)
{
	if (!client)
		return;
	curl_easy_cleanup(client->curl);
	curl_global_cleanup();
	free(client->base);
	free(client->label);
	free(client);
}

void
http_client_tick(struct http_client *client, http_tick_fn *tick, void *opaque)
{
	client->tick = tick;
	client->tick_opaque = opaque;
}

char *
http_escape(struct http_client *client, const char *text)
{
	char *escaped = curl_easy_escape(client->curl, text, 0), *ret = smd_strdup(escaped);

	curl_free(escaped);
	return ret;
}

static size_t
reply_append(struct reply *r, const char *data, size_t len)
{
	if (len > r->max - r->len)
		return 0;
	r->text = smd_reallocarray(r->text, r->len + len + 1, 1);
	memcpy(r->text + r->len, data, len);
	r->len += len;
	r->text[r->len] = '\0';
	return len;
}

static size_t
http_on_write(char *data, size_t size, size_t n, void *opaque)
{
	struct reply *r = opaque;
	size_t len = size * n;
	long status = 0;

	if (!r->body)
		return reply_append(r, data, len);
	curl_easy_getinfo(r->client->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200 || status > 299 || !r->body->write) {
		size_t room = r->max - r->len;

		reply_append(r, data, len < room ? len : room);
		return len;
	}
	return r->body->write(r->body->opaque, data, len) < 0 ? 0 : len;
}

static size_t
http_on_header(char *line, size_t size, size_t n, void *opaque)
{
	const size_t name = strlen(MESSAGE_HEADER);
	struct reply *r = opaque;
	size_t len = size * n;

	if (len <= name || strncasecmp(line, MESSAGE_HEADER, name) != 0)
		return len;
	free(r->message);
	while (len > name && (line[len - 1] == '\r' || line[len - 1] == '\n'))
		len--;
	r->message = smd_strndup(line + name, len - name);
	return size * n;
}

static size_t
http_on_read(char *buf, size_t size, size_t n, void *opaque)
{
	const struct http_body *body = opaque;
	ssize_t got = body->read(body->opaque, buf, size * n);

	return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

static int
http_on_tick(void *opaque, curl_off_t down_all, curl_off_t down, curl_off_t up_all, curl_off_t up)
{
	struct http_client *c = opaque;

	(void)down_all;
	(void)up_all;
	return c->tick ? c->tick(c->tick_opaque, (uint64_t)(down > up ? down : up)) : 0;
}

static void
http_prepare(struct http_client *c, const char *path, struct reply *reply)
{
	CLEANUP_FREE char *url = smd_asprintf("%s%s", c->base, path);

	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, http_on_tick);
	curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, http_on_write);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, reply);
	curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->curl_error);
	curl_easy_setopt(c->curl, CURLOPT_BUFFERSIZE, 512L << 10);
	curl_easy_setopt(c->curl, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
	/* No proxy: a password must not go where http_proxy happens to point. */
	curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
}

static int
http_perform(struct http_client *c, struct smd_error *err)
{
	CURLcode rc;
	long errnum = 0;

	c->curl_error[0] = '\0';
	rc = curl_easy_perform(c->curl);
	if (rc == CURLE_OK)
		return 0;
	curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &errnum);
	if (c->over_socket && rc == CURLE_COULDNT_CONNECT && errnum)
		return smd_fail_INTERNAL_ERROR(err, "", "%s: %s: %s", c->label,
					       curl_easy_strerror(rc), strerror((int)errnum));
	/* over the socket, curl's own words are of a host and a port that are none */
	return smd_fail_INTERNAL_ERROR(err, "", "%s: %s", c->label,
				       c->curl_error[0] && !c->over_socket ?
				       c->curl_error : curl_easy_strerror(rc));
}

static int
http_status(struct http_client *c, const struct reply *reply, struct smd_error *err)
{
	long status = 0;

	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 200 && status <= 299)
		return 0;
	return smd_fail_INTERNAL_ERROR(err, "", "the server answered with status %ld: %.400s",
				       status, reply->text ? reply->text : "");
}

int
http_post_json(struct http_client *client, const char *path, const char *body, char **ret_reply,
	       size_t *ret_len, char **ret_message, struct smd_error *err)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	struct reply reply = { .client = client, .max = REPLY_MAX };
	int rc;

	headers = curl_slist_append(headers, "Expect:");
	curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(client->curl, CURLOPT_POST, 1L);
	curl_easy_setopt(client->curl, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
	http_prepare(client, path, &reply);
	curl_easy_setopt(client->curl, CURLOPT_HEADERFUNCTION, http_on_header);
	curl_easy_setopt(client->curl, CURLOPT_HEADERDATA, &reply);
	rc = http_perform(client, err);
	if (rc == 0)
		rc = http_status(client, &reply, err);
	curl_easy_setopt(client->curl, CURLOPT_HEADERFUNCTION, NULL);
	curl_easy_setopt(client->curl, CURLOPT_HEADERDATA, NULL);
	curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(headers);
	if (rc < 0) {
		free(reply.message);
		free(reply.text);
		return -1;
	}
	*ret_reply = reply.text ? reply.text : smd_strdup("");
	*ret_len = reply.len;
	*ret_message = reply.message;
	return 0;
}

int
http_get(struct http_client *client, const char *path, const struct http_body *body,
	 struct smd_error *err)
{
	struct reply reply = { .client = client, .body = body, .max = REFUSAL_MAX };
	int rc;

	curl_easy_setopt(client->curl, CURLOPT_HTTPGET, 1L);
	http_prepare(client, path, &reply);
	rc = http_perform(client, err);
	if (rc == 0)
		rc = http_status(client, &reply, err);
	free(reply.text);
	return rc;
}

int
http_put(struct http_client *client, const char *path, const struct http_body *body,
	 struct smd_error *err)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
	struct reply reply = { .client = client, .body = body, .max = REFUSAL_MAX };
	curl_off_t size = body->size == UINT64_MAX ? -1 : (curl_off_t)body->size;
	int rc;

	curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(client->curl, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(client->curl, CURLOPT_READFUNCTION, http_on_read);
	curl_easy_setopt(client->curl, CURLOPT_READDATA, body);
	curl_easy_setopt(client->curl, CURLOPT_INFILESIZE_LARGE, size);
	http_prepare(client, path, &reply);
	rc = http_perform(client, err);
	if (rc == 0)
		rc = http_status(client, &reply, err);
	curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(client->curl, CURLOPT_UPLOAD, 0L);
	curl_slist_free_all(headers);
	free(reply.text);
	return rc;
}
