/* SPDX-License-Identifier: BSD-2-Clause */
/* XML-RPC: xmlrpc-c reads what daemon/rpc/xml-scan.c let through. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xmlrpc-c/base.h>

#include "common/mem.h"
#include "common/text.h"
#include "daemon/rpc/record.h"
#include "daemon/rpc/rpc.h"
#include "daemon/rpc/wire.h"
#include "daemon/rpc/xml-planes.h"
#include "daemon/rpc/xml-print.h"
#include "daemon/rpc/xml-scan.h"

static void
cleanup_env(xmlrpc_env *env)
{
	xmlrpc_env_clean(env);
}

static void
cleanup_value(xmlrpc_value **value)
{
	if (*value)
		xmlrpc_DECREF(*value);
}

static json *json_from_value(xmlrpc_env *env, xmlrpc_value *value);

static json *
json_from_string(xmlrpc_env *env, xmlrpc_value *value)
{
	const char *text = NULL;
	size_t len = 0;
	json *j;

	xmlrpc_read_string_lp(env, value, &len, &text);
	if (env->fault_occurred)
		return NULL;
	j = json_object_new_string_len(text, (int)xml_planes_show((char *)text, len));
	free((void *)text);
	return j;
}

static json *
json_from_base64(xmlrpc_env *env, xmlrpc_value *value)
{
	const unsigned char *bytes = NULL;
	size_t len = 0;
	json *j;

	xmlrpc_read_base64(env, value, &len, &bytes);
	if (env->fault_occurred)
		return NULL;
	j = json_object_new_string_len((const char *)bytes, (int)len);
	free((void *)bytes);
	return j;
}

static json *
json_from_array(xmlrpc_env *env, xmlrpc_value *value)
{
	json *array = json_object_new_array();
	int n = xmlrpc_array_size(env, value);

	for (int i = 0; i < n && !env->fault_occurred; i++) {
		CLEANUP(cleanup_value) xmlrpc_value *item = NULL;

		xmlrpc_array_read_item(env, value, (unsigned)i, &item);
		if (!env->fault_occurred)
			json_object_array_add(array, json_from_value(env, item));
	}
	return array;
}

static json *
json_from_struct(xmlrpc_env *env, xmlrpc_value *value)
{
	json *object = json_object_new_object();
	int n = xmlrpc_struct_size(env, value);

	for (int i = 0; i < n && !env->fault_occurred; i++) {
		CLEANUP(cleanup_value) xmlrpc_value *key = NULL, *member = NULL;
		CLEANUP_JSON json *name = NULL;

		xmlrpc_struct_read_member(env, value, (unsigned)i, &key, &member);
		if (env->fault_occurred)
			break;
		name = json_from_string(env, key);
		if (name)
			json_object_object_add(object, json_object_get_string(name),
					       json_from_value(env, member));
	}
	return object;
}

/* NULL is nil, and also what an error in env leaves. */
static json *
json_from_value(xmlrpc_env *env, xmlrpc_value *value)
{
	xmlrpc_bool b = 0;
	double d = 0;
	xmlrpc_int64 n = 0;

	switch (xmlrpc_value_type(value)) {
	case XMLRPC_TYPE_I8:
		xmlrpc_read_i8(env, value, &n);
		return json_object_new_int64(n);
	case XMLRPC_TYPE_BOOL:
		xmlrpc_read_bool(env, value, &b);
		return json_object_new_boolean(b);
	case XMLRPC_TYPE_DOUBLE:
		xmlrpc_read_double(env, value, &d);
		return json_object_new_double(d);
	case XMLRPC_TYPE_STRING:
		return json_from_string(env, value);
	case XMLRPC_TYPE_BASE64:
		return json_from_base64(env, value);
	case XMLRPC_TYPE_ARRAY:
		return json_from_array(env, value);
	case XMLRPC_TYPE_STRUCT:
		return json_from_struct(env, value);
	default:
		return NULL;
	}
}

int
xmlrpc_parse(const char *body, size_t len, char **ret_name, json **ret_params,
	     struct smd_error *err)
{
	CLEANUP_FREE char *scanned = NULL, *hidden = NULL;
	CLEANUP_FREE char *name = NULL;
	CLEANUP_JSON json *params = NULL;
	CLEANUP(cleanup_value) xmlrpc_value *values = NULL;
	CLEANUP(cleanup_env) xmlrpc_env env;
	const char *method = NULL;
	size_t scanned_len;

	xmlrpc_env_init(&env);
	if (xml_scan(body, len, &scanned, &scanned_len, err) < 0)
		return -1;
	hidden = xml_planes_hide(scanned, scanned_len, &scanned_len);
	xmlrpc_parse_call(&env, hidden ? hidden : scanned, scanned_len, &method, &values);
	if (!env.fault_occurred) {
		name = (char *)method;
		params = json_from_array(&env, values);
	}
	if (env.fault_occurred)
		return smd_fail_INVALID_VALUE(err, "xml", "", "not a call in XML: %s",
					      env.fault_string);
	*ret_name = TAKE_PTR(name);
	*ret_params = TAKE_PTR(params);
	return 0;
}

static const char head[] = "<?xml version=\"1.0\"?><methodResponse><params><param>";
static const char foot[] = "</param></params></methodResponse>";

/* As xml_print_value prints the map of them. */
static int
print_rows(FILE *out, struct call_result *result, struct smd_error *err)
{
	const char *key;
	json *record;
	int rc;

	fputs("<value><struct>", out);
	while ((rc = call_result_next(result, &key, &record, err)) == 1) {
		xml_print_member(out, key, result->type->elem, record);
		json_object_put(record);
	}
	fputs("</struct></value>", out);
	return rc;
}

static int
print_result(FILE *out, struct call_result *result, struct smd_error *err)
{
	const char *text;
	size_t len;

	if (result->rows)
		return print_rows(out, result, err);
	if (result->shared) {
		text = shared_text(result->shared, WIRE_XML, &len);
		fwrite(text, 1, len, out);
	} else {
		xml_print_value(out, result->type, result->value);
	}
	return 0;
}

/* What is around a success. */
static struct shared_frame
success_frame(const char *name)
{
	const struct api_message *message = api_message_find(name);
	bool bare = message && message->flags & API_BARE_REPLY;

	return (struct shared_frame){
		.wire = WIRE_XML, .method = smd_strdup(name),
		.before = smd_asprintf("%s%s", head, bare ? "" : "<value><struct><member>"
				       "<name>Status</name><value>Success</value></member>"
				       "<member><name>Value</name>"),
		.after = smd_asprintf("%s%s", bare ? "" : "</member></struct></value>", foot),
	};
}

static int
print_success(FILE *out, const char *name, struct call_result *result, struct smd_error *err)
{
	CLEANUP(shared_frame_done) struct shared_frame frame = success_frame(name);
	int rc;

	fputs(frame.before, out);
	rc = print_result(out, result, err);
	fputs(frame.after, out);
	return rc;
}

static void
print_failure(FILE *out, const struct smd_error *err)
{
	fputs(head, out);
	fputs("<value><struct><member><name>Status</name><value>Failure</value></member>"
	      "<member><name>ErrorDescription</name><value><array><data><value>", out);
	xml_print_text(out, err->code);
	fputs("</value>", out);
	for (char **p = err->params; p && *p; p++) {
		fputs("<value>", out);
		xml_print_text(out, *p);
		fputs("</value>", out);
	}
	fputs("</data></array></value></member></struct></value>", out);
	fputs(foot, out);
}

/* A success whose rows cannot be read becomes a failure. */
static void
print_reply(struct text *text, const char *name, struct call_result *result,
	    struct smd_error *err)
{
	text_begin(text);
	if (!err->code && print_success(text->out, name, result, err) == 0) {
		text_end(text);
		return;
	}
	text_end(text);
	free(text->data);
	text_begin(text);
	print_failure(text->out, err);
	text_end(text);
}

unsigned
rpc_xml(struct daemon *daemon, const struct peer *peer, const char *body, size_t len,
	char **ret_body, size_t *ret_len, const char **ret_type, char **ret_message)
{
	CLEANUP_FREE char *mended = wire_mend_utf8(body, len);
	CLEANUP_FREE char *name = NULL;
	CLEANUP_JSON json *params = NULL;
	CLEANUP(call_result_done) struct call_result result = { .type = NULL };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct text text;
	int r = -1;

	if (xmlrpc_parse(mended ? mended : body, mended ? strlen(mended) : len, &name, &params,
			 &err) < 0)
		return wire_not_a_request(&err, ret_body, ret_len, ret_type);
	if (mended)
		wire_bad_utf8(params, &err);
	else
		r = call_dispatch(daemon, peer, name, params, &result, &err);
	if (r == CALL_ELSEWHERE)
		return 0;
	if (r == CALL_PARKED) {
		if (!peer->park->frame.before)
			peer->park->frame = success_frame(name);
		return 0;
	}
	print_reply(&text, name, &result, &err);
	*ret_body = text.data;
	*ret_len = text.len;
	if (err.code && err.message && *err.message)
		*ret_message = smd_strdup(err.message);
	record_call(daemon, "xml", name, &err, *ret_body, *ret_len);
	*ret_type = "text/xml";
	return 200;
}
