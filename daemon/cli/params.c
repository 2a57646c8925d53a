/* SPDX-License-Identifier: BSD-2-Clause */
/* CLASS-param-get, -set, -add, -remove, -clear: one object's fields. */
#include <string.h>

#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/describe.h"

static void
cleanup_columns(struct columns **c)
{
	columns_free(*c);
}

/* uuid= and param-name=, which all but param-set begin with. */
static int
param_target(struct cli *cli, json *cls, struct columns *columns, char **ret_ref,
	     const struct column **ret_column, struct smd_error *err)
{
	const char *name = args_need(cli->args, "param-name", err);

	if (!name)
		return -1;
	*ret_column = columns_find(columns, name);
	if (!*ret_column)
		return cli_fail(err, "Unknown field: %s", name);
	return cli_take_uuid(cli, cls, ret_ref, err);
}

static int
param_call(struct cli *cli, json *cls, const char *verb, json *field, json *params,
	   struct smd_error *err)
{
	CLEANUP_FREE char *method = smd_asprintf("%s.%s%s", describe_name(cls), verb,
						 describe_name(field));

	return server_do(cli->server, method, params, err);
}

static json *
ref_and(const char *ref, json *value)
{
	json *params = server_strings(ref, NULL);

	json_object_array_add(params, value);
	return params;
}

static const char *
field_kind(const struct column *column)
{
	return describe_kind(smd_json_member(column->field, "type"));
}

int
param_get(struct cli *cli, json *cls, struct smd_error *err)
{
	CLEANUP(cleanup_columns) struct columns *columns = columns_new(cls);
	CLEANUP_FREE char *method = smd_asprintf("%s.get_record", describe_name(cls)), *ref = NULL,
		     *text = NULL;
	const char *key = args_take(cli->args, "param-key");
	CLEANUP_JSON json *record = NULL;
	const struct column *column;
	json *value;

	if (param_target(cli, cls, columns, &ref, &column, err) < 0 ||
	    args_all_used(cli->args, err) < 0 ||
	    server_call_object(cli->server, method, server_strings(ref, NULL), &record,
			       err) < 0)
		return -1;
	value = smd_json_member(record, describe_name(column->field));
	if (key && !column->extra && strcmp(field_kind(column), "map") == 0) {
		value = smd_json_member(value, key);
		if (!value)
			return cli_fail(err, "Error: Key %s not found in map", key);
		list_print_value(cli, smd_json_member(smd_json_member(column->field, "type"), "elem"),
				 value);
		return 0;
	}
	if (cli->args->json) {
		CLEANUP_JSON json *j = column_json(column, record, cli->names);

		puts(json_object_to_json_string_ext(j, JSON_C_TO_STRING_PRETTY |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
		return 0;
	}
	text = column_text(column, record, cli->names);
	puts(text);
	return 0;
}

/* "other-config:k=v": whatever the key had goes first. */
static int
param_set_key(struct cli *cli, json *cls, const char *ref, const struct column *column,
	      const char *key, const char *text, struct smd_error *err)
{
	json *elem = smd_json_member(smd_json_member(column->field, "type"), "elem"), *value, *params;

	if (strcmp(field_kind(column), "map") != 0)
		return cli_fail(err, "%s is no map", column->name);
	if (value_parse(elem, column->name, text, cli_resolve, cli, &value, err) < 0)
		return -1;
	params = server_strings(ref, key, NULL);
	json_object_array_add(params, value);
	if (param_call(cli, cls, "remove_from_", column->field, server_strings(ref, key, NULL),
		       err) < 0) {
		json_object_put(params);
		return -1;
	}
	return param_call(cli, cls, "add_to_", column->field, params, err);
}

static int
param_set_word(struct cli *cli, json *cls, struct columns *columns, const char *ref,
	       const struct word *word, struct smd_error *err)
{
	const char *colon = strchr(word->key, ':');
	CLEANUP_FREE char *name = smd_strndup(word->key, strcspn(word->key, ":"));
	const struct column *column = columns_find(columns, name);
	json *value;

	if (!column || column->extra)
		return cli_fail(err, "Unknown field: %s", name);
	if (!column->writable)
		return cli_fail(err, "The field %s is read-only", name);
	if (colon)
		return param_set_key(cli, cls, ref, column, colon + 1, word->value, err);
	if (strcmp(field_kind(column), "map") == 0)
		return cli_fail(err, "The field %s is a map: %s:KEY=VALUE", name, name);
	if (value_parse(smd_json_member(column->field, "type"), name, word->value, cli_resolve, cli,
			&value, err) < 0)
		return -1;
	return param_call(cli, cls, "set_", column->field, ref_and(ref, value), err);
}

int
param_set(struct cli *cli, json *cls, struct smd_error *err)
{
	CLEANUP(cleanup_columns) struct columns *columns = columns_new(cls);
	CLEANUP_FREE char *ref = NULL;

	if (cli_take_uuid(cli, cls, &ref, err) < 0)
		return -1;
	for (size_t i = 0; i < cli->args->n_words; i++) {
		const struct word *w = &cli->args->words[i];

		if (!w->used && param_set_word(cli, cls, columns, ref, w, err) < 0)
			return -1;
	}
	return 0;
}

/* param-add uuid= param-name=tags param-key=blue; for a map, key=value words. */
int
param_add(struct cli *cli, json *cls, struct smd_error *err)
{
	CLEANUP(cleanup_columns) struct columns *columns = columns_new(cls);
	const struct column *column;
	CLEANUP_FREE char *ref = NULL;
	const char *key;

	if (param_target(cli, cls, columns, &ref, &column, err) < 0)
		return -1;
	if (strcmp(field_kind(column), "set") == 0) {
		key = args_need(cli->args, "param-key", err);
		if (!key || args_all_used(cli->args, err) < 0)
			return -1;
		return param_call(cli, cls, "add_", column->field, server_strings(ref, key, NULL),
				  err);
	}
	if (strcmp(field_kind(column), "map") != 0)
		return cli_fail(err, "%s is neither a set nor a map", column->name);
	for (size_t i = 0; i < cli->args->n_words; i++) {
		const struct word *w = &cli->args->words[i];

		if (!w->used && param_call(cli, cls, "add_to_", column->field,
					   server_strings(ref, w->key, w->value, NULL), err) < 0)
			return -1;
	}
	return 0;
}

int
param_remove(struct cli *cli, json *cls, struct smd_error *err)
{
	CLEANUP(cleanup_columns) struct columns *columns = columns_new(cls);
	const struct column *column;
	CLEANUP_FREE char *ref = NULL;
	const char *key;

	if (param_target(cli, cls, columns, &ref, &column, err) < 0)
		return -1;
	key = args_need(cli->args, "param-key", err);
	if (!key || args_all_used(cli->args, err) < 0)
		return -1;
	if (strcmp(field_kind(column), "set") == 0)
		return param_call(cli, cls, "remove_", column->field,
				  server_strings(ref, key, NULL), err);
	if (strcmp(field_kind(column), "map") == 0)
		return param_call(cli, cls, "remove_from_", column->field,
				  server_strings(ref, key, NULL), err);
	return cli_fail(err, "%s is neither a set nor a map", column->name);
}

/* Key by key: a map that is read-only as a whole may still lose its keys. */
static int
param_clear_map(struct cli *cli, json *cls, const char *ref, const struct column *column,
		struct smd_error *err)
{
	CLEANUP_FREE char *getter = smd_asprintf("%s.get_%s", describe_name(cls),
						 describe_name(column->field));
	CLEANUP_JSON json *map = NULL;

	if (server_call_object(cli->server, getter, server_strings(ref, NULL), &map, err) < 0)
		return -1;
	json_object_object_foreach(map, key, value) {
		(void)value;
		if (param_call(cli, cls, "remove_from_", column->field,
			       server_strings(ref, key, NULL), err) < 0)
			return -1;
	}
	return 0;
}

int
param_clear(struct cli *cli, json *cls, struct smd_error *err)
{
	CLEANUP(cleanup_columns) struct columns *columns = columns_new(cls);
	const struct column *column;
	CLEANUP_FREE char *ref = NULL;
	const char *kind;
	json *empty;

	if (param_target(cli, cls, columns, &ref, &column, err) < 0 ||
	    args_all_used(cli->args, err) < 0)
		return -1;
	kind = field_kind(column);
	if (!column->writable || column->extra)
		return cli_fail(err, "The field %s is read-only", column->name);
	if (strcmp(kind, "map") == 0)
		return param_clear_map(cli, cls, ref, column, err);
	if (strcmp(kind, "set") == 0)
		empty = json_object_new_array();
	else if (strcmp(kind, "string") == 0 || strcmp(kind, "ref") == 0)
		empty = json_object_new_string(*kind == 'r' ? "OpaqueRef:NULL" : "");
	else
		return cli_fail(err, "The field %s cannot be empty", column->name);
	return param_call(cli, cls, "set_", column->field, ref_and(ref, empty), err);
}
