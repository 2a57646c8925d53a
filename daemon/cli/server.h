/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The server, as JSON-RPC 2.0 calls in one session.
 *
 * An error of the server has its code and parameters and no message; an error
 * on the way to it has a message and empty parameters.
 *
 * Threads: one.
 */
#ifndef SMD_DAEMON_CLI_SERVER_H
#define SMD_DAEMON_CLI_SERVER_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/cli/args.h"
#include "daemon/cli/http.h"

struct server;

/* Choose the server from the flags, SMD_SOCKET and the usual places. */
int server_open(const struct args *args, struct server **ret, struct smd_error *err);
/* Log out, if logged in, and free. */
void server_close(struct server *server);

/* Log in with the flags' user and password; a password that is missing over TCP
 * is asked for. */
int server_login(struct server *server, const struct args *args, struct smd_error *err);

/* Call a method that takes a session. params: an array, taken; NULL: none. *ret:
 * a new reference. */
int server_call(struct server *server, const char *method, json *params, json **ret,
		struct smd_error *err);
/* The same where the result is a map or a record. */
int server_call_object(struct server *server, const char *method, json *params, json **ret,
		       struct smd_error *err);
/* The same where the result is of no interest, or a string (the caller's). */
int server_do(struct server *server, const char *method, json *params, struct smd_error *err);
int server_call_str(struct server *server, const char *method, json *params, char **ret,
		    struct smd_error *err);

/* What the server says of its API: system.describe's object. Borrowed. */
json *server_api(struct server *server, struct smd_error *err);

const char *server_session(const struct server *server);
struct http_client *server_http(struct server *server);

/* Fail with a code and parameters of the server's, params[from] on. A code that isn't
 * in our catalogue is shown as xe shows such. Returns -1. */
int server_fail(const char *code, json *params, size_t from, struct smd_error *err);
/* What the server says of it besides, unless it has a message already; NULL: nothing. */
void server_add_message(struct smd_error *err, const char *message);

/* An array of strings, for params; ended by a NULL. */
json *server_strings(const char *first, ...) __attribute__((sentinel));

#endif
