/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/server.h"

#include <string.h>

#include "common/mem.h"
#include "daemon/cli/describe.h"
#include "daemon/cli/password.h"

#define SYSTEM_SOCKET "/run/smd/smd.sock"
#define RPC_PATH "/jsonrpc"
#define REPLY_DEPTH_MAX 64
#define SERVER_ERRORS_MAX 64	/* parameters of an error we keep */

struct server {
	struct http_client *http;
	char *session;		/* NULL: not logged in */
	bool tcp;
	int64_t next_id;
	json *api;
};

static char *
server_socket(const struct args *args)
{
	const char *from_env = getenv("SMD_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");

	if (args->socket)
		return smd_strdup(args->socket);
	if (from_env && *from_env)
		return smd_strdup(from_env);
	if (access(SYSTEM_SOCKET, F_OK) < 0 && runtime && *runtime)
		return smd_asprintf("%s/smd/smd.sock", runtime);
	return smd_strdup(SYSTEM_SOCKET);
}

int
server_open(const struct args *args, struct server **ret, struct smd_error *err)
{
	struct server *s;

	if (args->server && args->socket)
		return cli_fail(err, "--socket and -s exclude each other");
	s = smd_calloc(1, sizeof *s);
	if (args->server) {
		s->tcp = true;
		s->http = http_client_new(NULL, args->server, args->port ? args->port :
					  args->tls ? "443" : "80");
		if (args->tls)
			http_client_tls(s->http, args->ca);
	} else {
		CLEANUP_FREE char *path = server_socket(args);

		s->http = http_client_new(path, NULL, NULL);
	}
	*ret = s;
	return 0;
}

void
server_close(struct server *server)
{
	if (!server)
		return;
	if (server->session) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		/* a session nobody ended would go by itself, a day later */
		http_client_tick(server->http, NULL, NULL);
		server_do(server, "session.logout", NULL, &err);
	}
	http_client_free(server->http);
	json_object_put(server->api);
	free(server->session);
	free(server);
}

int
server_fail(const char *code, json *params, size_t from, struct smd_error *err)
{
	size_t n = json_object_is_type(params, json_type_array) ?
		   json_object_array_length(params) : 0;
	const char *list[SERVER_ERRORS_MAX + 1];
	CLEANUP_FREE char *text = smd_strdup("");
	size_t k = 0;

	for (size_t i = from; i < n && k < SERVER_ERRORS_MAX; i++, k++) {
		char *longer;

		list[k] = describe_text(json_object_array_get_idx(params, i));
		longer = smd_asprintf("%s%s%s", text, k ? ", " : "", list[k]);
		free(text);
		text = longer;
	}
	list[k] = NULL;
	if (smd_error_decl_find(code))
		return smd_fail_code(err, code, list, "");
	return cli_fail(err, "Error code: %s\nError parameters: %s", code, text);
}

void
server_add_message(struct smd_error *err, const char *message)
{
	if (!message || !*message || *err->message)
		return;
	free(err->message);
	err->message = smd_strdup(message);
}

static int
server_request(struct server *s, const char *method, json *params, json **ret,
	       struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object(), *reply = NULL;
	CLEANUP_FREE char *body = NULL, *text = NULL, *message = NULL;
	json *error, *result;
	size_t len;

	smd_json_set_str(request, "jsonrpc", "2.0");
	smd_json_set_str(request, "method", method);
	smd_json_set(request, "params", params);
	smd_json_set_int(request, "id", ++s->next_id);
	body = smd_json_print(request);
	if (http_post_json(s->http, RPC_PATH, body, &text, &len, &message, err) < 0)
		return -1;
	reply = smd_json_parse(text, len, REPLY_DEPTH_MAX, err);
	if (!reply)
		return -1;
	error = smd_json_member(reply, "error");
	if (error) {
		server_fail(smd_json_str(error, "message", ""), smd_json_member(error, "data"), 0,
			    err);
		server_add_message(err, message);
		return -1;
	}
	if (!json_object_object_get_ex(reply, "result", &result))
		return smd_fail_INTERNAL_ERROR(err, "", "%s: the reply has no result", method);
	*ret = json_object_get(result);
	return 0;
}

int
server_call(struct server *server, const char *method, json *params, json **ret,
	    struct smd_error *err)
{
	json *all = json_object_new_array();

	json_object_array_add(all, json_object_new_string(server->session));
	for (size_t i = 0; params && i < json_object_array_length(params); i++)
		json_object_array_add(all, json_object_get(json_object_array_get_idx(params, i)));
	json_object_put(params);
	return server_request(server, method, all, ret, err);
}

int
server_call_object(struct server *server, const char *method, json *params, json **ret,
		   struct smd_error *err)
{
	CLEANUP_JSON json *result = NULL;

	if (server_call(server, method, params, &result, err) < 0)
		return -1;
	if (!json_object_is_type(result, json_type_object))
		return smd_fail_INTERNAL_ERROR(err, "", "%s: the result is no object", method);
	*ret = TAKE_PTR(result);
	return 0;
}

int
server_do(struct server *server, const char *method, json *params, struct smd_error *err)
{
	CLEANUP_JSON json *result = NULL;

	return server_call(server, method, params, &result, err);
}

int
server_call_str(struct server *server, const char *method, json *params, char **ret,
		struct smd_error *err)
{
	CLEANUP_JSON json *result = NULL;

	if (server_call(server, method, params, &result, err) < 0)
		return -1;
	if (!json_object_is_type(result, json_type_string))
		return smd_fail_INTERNAL_ERROR(err, "", "%s: the result is no string", method);
	*ret = smd_strdup(json_object_get_string(result));
	return 0;
}

int
server_login(struct server *server, const struct args *args, struct smd_error *err)
{
	const char *user = args->user ? args->user : "root";
	CLEANUP_JSON json *result = NULL;
	CLEANUP_FREE char *password = NULL;

	if (args->password)
		password = smd_strdup(args->password);
	else if (args->password_file)
		password = password_from_file(args->password_file, err);
	else if (server->tcp)
		password = password_ask("Password: ", err);
	else
		password = smd_strdup("");	/* the socket knows who we are */
	if (!password)
		return -1;
	if (server_request(server, "session.login_with_password",
			   server_strings(user, password, "1.1", "smctl", NULL), &result, err) < 0)
		return -1;
	if (!json_object_is_type(result, json_type_string))
		return smd_fail_INTERNAL_ERROR(err, "", "the server gives no session");
	server->session = smd_strdup(json_object_get_string(result));
	return 0;
}

json *
server_api(struct server *server, struct smd_error *err)
{
	CLEANUP_JSON json *text = NULL;

	if (server->api)
		return server->api;
	if (server_request(server, "system.describe", json_object_new_array(), &text, err) < 0)
		return NULL;
	if (!json_object_is_type(text, json_type_string)) {
		smd_fail_INTERNAL_ERROR(err, "", "the server does not describe its API");
		return NULL;
	}
	server->api = smd_json_parse(json_object_get_string(text),
				     (size_t)json_object_get_string_len(text), REPLY_DEPTH_MAX,
				     err);
	return server->api;
}

const char *
server_session(const struct server *server)
{
	return server->session;
}

struct http_client *
server_http(struct server *server)
{
	return server->http;
}

json *
server_strings(const char *first, ...)
{
	json *list = json_object_new_array();
	va_list ap;

	va_start(ap, first);
	for (const char *s = first; s; s = va_arg(ap, const char *))
		json_object_array_add(list, json_object_new_string(s));
	va_end(ap);
	return list;
}
