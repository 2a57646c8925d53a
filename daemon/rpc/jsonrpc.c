/* SPDX-License-Identifier: BSD-2-Clause */
/* JSON-RPC 1.0 (no "jsonrpc" member) and 2.0. No batches. */
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/text.h"
#include "daemon/rpc/record.h"
#include "daemon/rpc/rpc.h"
#include "daemon/rpc/wire.h"

struct request {
	bool v2;
	const char *method;	/* borrowed from the tree, as is id */
	json *id;
	json *params;		/* owned */
};

static int
refuse(const char *why, struct smd_error *err)
{
	return smd_fail_INVALID_VALUE(err, "json", why, "not a call in JSON-RPC: %s", why);
}

/* An object of named parameters is one positional one: xapi's rule. */
static int
read_params(json *tree, struct request *ret, struct smd_error *err)
{
	json *params = smd_json_member(tree, "params");

	if (json_object_is_type(params, json_type_array)) {
		ret->params = json_object_get(params);
		return 0;
	}
	if (!ret->v2 || (params && !json_object_is_type(params, json_type_object)))
		return refuse("params must be an array", err);
	ret->params = json_object_new_array();
	if (params)
		json_object_array_add(ret->params, json_object_get(params));
	return 0;
}

static int
read_request(json *tree, struct request *ret, struct smd_error *err)
{
	json *version;

	if (!json_object_is_type(tree, json_type_object))
		return refuse("a request is an object", err);
	ret->v2 = json_object_object_get_ex(tree, "jsonrpc", &version);
	if (ret->v2 && strcmp(smd_json_str(tree, "jsonrpc", ""), "2.0") != 0)
		return refuse("jsonrpc must be \"2.0\"", err);
	ret->method = smd_json_str(tree, "method", NULL);
	if (!ret->method)
		return refuse("method must be a string", err);
	ret->id = smd_json_member(tree, "id");
	if (!json_object_is_type(ret->id, json_type_int) &&
	    !json_object_is_type(ret->id, json_type_string))
		return refuse("id must be a number or a string", err);
	return read_params(tree, ret, err);
}

static json *
reply_start(const struct request *request)
{
	json *reply = json_object_new_object();

	if (request->v2)
		smd_json_set_str(reply, "jsonrpc", "2.0");
	return reply;
}

/* A value that prints as what it was printed as before. The text is borrowed. */
static json *
printed(const char *text)
{
	json *node = json_object_new_object();

	json_object_set_serializer(node, json_object_userdata_to_json_string, (void *)text, NULL);
	return node;
}

static json *
reply_success(const struct request *request, const struct call_result *result)
{
	json *reply = reply_start(request);
	size_t len;

	smd_json_set(reply, "result", result->shared ?
		     printed(shared_text(result->shared, WIRE_JSON, &len)) :
		     json_object_get(result->value));
	if (!request->v2)
		smd_json_set(reply, "error", NULL);
	smd_json_set(reply, "id", json_object_get(request->id));
	return reply;
}

static json *
reply_failure(const struct request *request, const struct smd_error *err)
{
	json *reply = reply_start(request), *params = json_object_new_array();

	if (!request->v2)
		json_object_array_add(params, json_object_new_string(err->code));
	for (char **p = err->params; p && *p; p++)
		json_object_array_add(params, json_object_new_string(*p));
	if (request->v2) {
		json *error = json_object_new_object();

		smd_json_set_int(error, "code", 1);
		smd_json_set_str(error, "message", err->code);
		smd_json_set(error, "data", params);
		smd_json_set(reply, "error", error);
	} else {
		smd_json_set(reply, "result", NULL);
		smd_json_set(reply, "error", params);
	}
	smd_json_set(reply, "id", json_object_get(request->id));
	return reply;
}

/* What reply_success prints but for the result. */
static struct shared_frame
success_frame(const struct request *request)
{
	CLEANUP_FREE char *id = smd_json_print(request->id);

	return (struct shared_frame){
		.wire = WIRE_JSON, .method = smd_strdup(request->method),
		.before = smd_strdup(request->v2 ? "{\"jsonrpc\":\"2.0\",\"result\":" :
				     "{\"result\":"),
		.after = smd_asprintf(request->v2 ? ",\"id\":%s}" : ",\"error\":null,\"id\":%s}", id),
	};
}

static void
print_json(FILE *out, json *value)
{
	CLEANUP_FREE char *text = smd_json_print(value);

	fputs(text, out);
}

/* A map of records as reply_success has it, without ever having them all. */
static int
print_rows(FILE *out, const struct request *request, struct call_result *result,
	   struct smd_error *err)
{
	CLEANUP(shared_frame_done) struct shared_frame frame = success_frame(request);
	const char *key, *comma = "";
	json *record;
	int rc;

	fprintf(out, "%s{", frame.before);
	while ((rc = call_result_next(result, &key, &record, err)) == 1) {
		CLEANUP_JSON json *name = json_object_new_string(key);

		fputs(comma, out);
		print_json(out, name);
		putc(':', out);
		print_json(out, record);
		json_object_put(record);
		comma = ",";
	}
	fprintf(out, "}%s", frame.after);
	return rc;
}

/* 0; -1: the rows could not be read, and it is a failure. */
static int
reply_rows(const struct request *request, struct call_result *result, char **ret_body,
	   size_t *ret_len, struct smd_error *err)
{
	struct text text;
	int rc;

	text_begin(&text);
	rc = print_rows(text.out, request, result, err);
	text_end(&text);
	if (rc < 0) {
		free(text.data);
		return -1;
	}
	*ret_body = text.data;
	*ret_len = text.len;
	return 0;
}

static void
reply_whole(const struct request *request, const struct call_result *result,
	    const struct smd_error *err, char **ret_body, size_t *ret_len)
{
	CLEANUP_JSON json *reply = err->code ? reply_failure(request, err) :
				   reply_success(request, result);

	*ret_body = smd_json_print(reply);
	*ret_len = strlen(*ret_body);
}

unsigned
rpc_json(struct daemon *daemon, const struct peer *peer, const char *body, size_t len,
	 char **ret_body, size_t *ret_len, const char **ret_type, char **ret_message)
{
	CLEANUP_FREE char *mended = wire_mend_utf8(body, len);
	CLEANUP_JSON json *tree = NULL, *params = NULL;
	CLEANUP(call_result_done) struct call_result result = { .type = NULL };
	struct request request = { 0 };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	int r;

	/* The request itself is one level, its params another. */
	tree = smd_json_parse(mended ? mended : body, mended ? strlen(mended) : len,
			      API_DEPTH_MAX + 2, &err);
	if (!tree || read_request(tree, &request, &err) < 0) {
		if (!err.code)
			refuse("nothing there", &err);
		return wire_not_a_request(&err, ret_body, ret_len, ret_type);
	}
	params = request.params;
	if (mended)
		r = wire_bad_utf8(params, &err);
	else
		r = call_dispatch(daemon, peer, request.method, params, &result, &err);
	if (r == CALL_ELSEWHERE)
		return 0;
	if (r == CALL_PARKED) {
		if (!peer->park->frame.before)
			peer->park->frame = success_frame(&request);
		return 0;
	}
	if (r < 0 || !result.rows || reply_rows(&request, &result, ret_body, ret_len, &err) < 0)
		reply_whole(&request, &result, &err, ret_body, ret_len);
	if (err.code && err.message && *err.message)
		*ret_message = smd_strdup(err.message);
	record_call(daemon, "json", request.method, &err, *ret_body, *ret_len);
	*ret_type = "application/json";
	return 200;
}
