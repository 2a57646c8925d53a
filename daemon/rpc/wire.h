/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Inside the two wires: a request's text to a call, and what is no request. Both
 * answer 200 to whatever is one, and 500 to anything else.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_RPC_WIRE_H
#define SMD_DAEMON_RPC_WIRE_H

#include "common/json.h"

/* A method call in XML: its name (the caller frees) and its parameters. */
int xmlrpc_parse(const char *body, size_t len, char **ret_name, json **ret_params,
		 struct smd_error *err);

/* text with U+FFFD for each byte that is no UTF-8, or NULL where all are. A request
 * so mended is read only to be refused, by: */
char *wire_mend_utf8(const char *text, size_t len);
/* INVALID_VALUE, as xapi answers text that is not UTF-8. Returns -1. */
int wire_bad_utf8(json *params, struct smd_error *err);

/* 500, and a page that says why the body is no request. */
unsigned wire_not_a_request(const struct smd_error *err, char **ret_body, size_t *ret_len,
			    const char **ret_type);

#endif
