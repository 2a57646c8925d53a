/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One command per method: words to parameters by what the server says of them.
 * The object itself is uuid=, another reference NAME-uuid=, a constructor's record
 * its fields, and the rest their names with hyphens.
 */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/describe.h"

#define NULL_REF "OpaqueRef:NULL"

static const struct spelling_param *
call_spelling(json *cls, json *method, json *param)
{
	CLEANUP_FREE char *full = smd_asprintf("%s.%s", describe_name(cls), describe_name(method));

	return spelling_param(full, describe_name(param));
}

static const char *
param_kind(json *param)
{
	return describe_kind(smd_json_member(param, "type"));
}

char *
call_word(json *cls, json *method, json *param, size_t n)
{
	const struct spelling_param *spelling = call_spelling(cls, method, param);
	const char *of_class = describe_name(smd_json_member(param, "type"));
	CLEANUP_FREE char *name = describe_hyphens(describe_name(param), true);

	if (spelling->word)
		return smd_strdup(spelling->word);
	if (strcmp(param_kind(param), "ref") != 0)
		return describe_hyphens(describe_name(param), false);
	if (n == 0 && strcmp(of_class, describe_name(cls)) == 0 && !call_constructed(method))
		return smd_strdup("uuid");
	return smd_asprintf("%s-uuid", name);
}

json *
call_constructed(json *method)
{
	return smd_json_bool(method, "constructor", false) ? describe_item(method, "params", 0) :
	       NULL;
}

bool
call_field_is_given(json *field)
{
	const char *access = smd_json_str(field, "access", "");

	return strcmp(access, "rw") == 0 || strcmp(access, "static_ro") == 0;
}

/* Flags that are off, maps that are empty, and the only host there is need not be
 * said; spelling.h has what else xe lets one leave out. */
bool
call_may_be_left_out(json *cls, json *method, json *param)
{
	json *type = smd_json_member(param, "type");
	const char *kind = describe_kind(type);

	if (call_constructed(method) && !smd_json_bool(param, "required", false))
		return true;
	return json_object_object_get_ex(param, "default", NULL) ||
	       call_spelling(cls, method, param)->dflt || strcmp(kind, "bool") == 0 ||
	       strcmp(kind, "map") == 0 || strcmp(kind, "set") == 0 ||
	       (strcmp(kind, "ref") == 0 && strcmp(describe_name(type), "host") == 0);
}

static int
call_only_host(struct cli *cli, const char *word, json **ret, struct smd_error *err)
{
	json *hosts = names_records(cli->names, "host");

	if (!json_object_is_type(hosts, json_type_object) || json_object_object_length(hosts) != 1)
		return cli_fail(err, "Required parameter not found: %s", word);
	json_object_object_foreach(hosts, ref, record) {
		(void)record;
		*ret = json_object_new_string(ref);
	}
	return 0;
}

/* What stands for a word that was left out. *ret: NULL: nothing, of a constructor's
 * field, where the server knows best. */
static int
call_default(struct cli *cli, json *cls, json *method, json *param, const char *word, json **ret,
	     struct smd_error *err)
{
	const struct spelling_param *spelling = call_spelling(cls, method, param);
	const char *kind = param_kind(param);
	json *dflt;

	*ret = NULL;
	if (!call_may_be_left_out(cls, method, param))
		return cli_fail(err, "Required parameter not found: %s", word);
	if (spelling->dflt)
		*ret = smd_json_parse(spelling->dflt, strlen(spelling->dflt), 4, err);
	else if (json_object_object_get_ex(param, "default", &dflt))
		*ret = json_object_get(dflt);
	else if (call_constructed(method) && !smd_json_bool(param, "required", false))
		return 0;
	else if (strcmp(kind, "bool") == 0)
		*ret = json_object_new_boolean(false);
	else if (strcmp(kind, "map") == 0)
		*ret = json_object_new_object();
	else if (strcmp(kind, "set") == 0)
		*ret = json_object_new_array();
	else
		return call_only_host(cli, word, ret, err);
	return *ret ? 0 : -1;
}

static int
call_param(struct cli *cli, json *cls, json *method, json *param, size_t n, json **ret,
	   struct smd_error *err)
{
	CLEANUP_FREE char *word = call_word(cls, method, param, n);

	if (value_take(cli->args, smd_json_member(param, "type"), word, cli_resolve, cli, ret,
		       err) < 0)
		return -1;
	return *ret ? 0 : call_default(cli, cls, method, param, word, ret, err);
}

static int
call_record(struct cli *cli, json *cls, json *method, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *record = json_object_new_object();

	for (size_t i = 0; i < describe_count(cls, "fields"); i++) {
		json *field = describe_item(cls, "fields", i), *value;

		if (!call_field_is_given(field))
			continue;
		if (call_param(cli, cls, method, field, i, &value, err) < 0)
			return -1;
		if (value)
			smd_json_set(record, describe_name(field), value);
	}
	*ret = TAKE_PTR(record);
	return 0;
}

/* A size, as it is written everywhere else, for the server, which takes numbers. */
static void
rest_value(json *map, const struct word *w)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *text = NULL;
	int64_t size;

	if (!strpbrk(w->value, "KMGTb") || value_parse_int(w->key, w->value, &size, &err) < 0) {
		smd_json_set_str(map, w->key, w->value);
		return;
	}
	text = smd_asprintf("%" PRId64, size);
	smd_json_set_str(map, w->key, text);
}

/* The words nobody claimed, into the map that takes the rest. */
static void
call_rest(struct args *args, json *map)
{
	for (size_t i = 0; i < args->n_words; i++) {
		struct word *w = &args->words[i];

		if (!w->used)
			rest_value(map, w);
		w->used = true;
	}
}

static bool
key_is(const char *key, const char *pattern)
{
	size_t len = strcspn(pattern, "*");

	return pattern[len] ? strncmp(key, pattern, len) == 0 : strcmp(key, pattern) == 0;
}

/* A key that the method does not read is a slip of the pen, and would have no effect. */
static int
check_keys(json *param, json *map, struct smd_error *err)
{
	size_t n = describe_count(param, "keys");
	CLEANUP_FREE char *known = smd_json_join(smd_json_member(param, "keys"));

	json_object_object_foreach(map, key, value) {
		size_t i = 0;

		(void)value;
		while (i < n && !key_is(key, json_object_get_string(describe_item(param, "keys", i))))
			i++;
		if (n > 0 && i == n)
			return cli_fail(err, "Unknown parameter: %s; as %s there are: %s", key,
					describe_name(param), known);
	}
	return 0;
}

static int
call_params(struct cli *cli, json *cls, json *method, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *params = json_object_new_array();
	json *rest = NULL, *rest_param = NULL, *value;

	for (size_t i = 0; i < describe_count(method, "params"); i++) {
		json *param = describe_item(method, "params", i);

		if (param == call_constructed(method)) {
			if (call_record(cli, cls, method, &value, err) < 0)
				return -1;
		} else if (call_param(cli, cls, method, param, i, &value, err) < 0) {
			return -1;
		}
		json_object_array_add(params, value);
		if (smd_json_bool(param, "rest", false)) {
			rest = value;
			rest_param = param;
		}
	}
	if (rest) {
		call_rest(cli->args, rest);
		if (check_keys(rest_param, rest, err) < 0)
			return -1;
	}
	if (args_all_used(cli->args, err) < 0)
		return -1;
	*ret = TAKE_PTR(params);
	return 0;
}

static int
call_print(struct cli *cli, json *method, json *value, struct smd_error *err)
{
	json *type = smd_json_member(method, "result");
	CLEANUP_FREE char *getter = NULL, *uuid = NULL;
	CLEANUP_JSON json *text = NULL;
	const char *ref;

	if (strcmp(describe_name(method), "measure") == 0) {
		measure_print(cli, type, value);
		return 0;
	}
	if (strcmp(describe_kind(type), "ref") != 0 || !json_object_is_type(value, json_type_string)) {
		list_print_value(cli, type, value);
		return 0;
	}
	ref = json_object_get_string(value);
	if (strcmp(ref, NULL_REF) == 0)
		return 0;
	getter = smd_asprintf("%s.get_uuid", describe_name(type));
	if (server_call_str(cli->server, getter, server_strings(ref, NULL), &uuid, err) < 0)
		return -1;
	text = json_object_new_string(uuid);
	puts(cli->args->json ? json_object_to_json_string(text) : uuid);
	return 0;
}

/* As a task, where the result can come back from one as plain text. */
static bool
call_as_task(json *method)
{
	const char *kind = describe_kind(smd_json_member(method, "result"));

	return smd_json_bool(method, "async", false) &&
	       (strcmp(kind, "void") == 0 || strcmp(kind, "ref") == 0 ||
		strcmp(kind, "string") == 0);
}

int
call_run(struct cli *cli, json *cls, json *method, struct smd_error *err)
{
	bool task = call_as_task(method);
	CLEANUP_FREE char *name = smd_asprintf("%s%s.%s", task ? "Async." : "", describe_name(cls),
					       describe_name(method));
	CLEANUP_FREE char *ref = NULL, *xml = NULL, *text = NULL;
	CLEANUP_JSON json *result = NULL;
	json *params;

	if (call_params(cli, cls, method, &params, err) < 0)
		return -1;
	if (cli->args->dry_run) {
		int r = measure_call(cli, method, params, err);

		json_object_put(params);
		return r;
	}
	if (!task) {
		if (server_call(cli->server, name, params, &result, err) < 0)
			return -1;
		return call_print(cli, method, result, err);
	}
	if (server_call_str(cli->server, name, params, &ref, err) < 0 ||
	    task_wait(cli, ref, true, &xml, err) < 0)
		return -1;
	text = task_result_text(xml);
	result = json_object_new_string(text);
	return call_print(cli, method, result, err);
}
