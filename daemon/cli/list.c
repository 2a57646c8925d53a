/* SPDX-License-Identifier: BSD-2-Clause */
/* CLASS-list and CLASS-param-list: records, filtered, in columns. */
#include <string.h>

#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/describe.h"
#include "daemon/cli/print.h"

static void
cleanup_columns(struct columns **c)
{
	columns_free(*c);
}

/* ---- Filters --------------------------------------------------------------------- */

/* The column a word filters by: "type", or "sm-config" of "sm-config:image-format". */
static struct column *
filter_column(struct columns *columns, const struct word *word, const char **ret_sub)
{
	struct column *c = columns_find(columns, word->key);
	const char *colon = strchr(word->key, ':');
	CLEANUP_FREE char *name = NULL;

	*ret_sub = NULL;
	if (c || !colon)
		return c;
	name = smd_strndup(word->key, (size_t)(colon - word->key));
	*ret_sub = colon + 1;
	return columns_find(columns, name);
}

int
list_filters_check(struct cli *cli, struct columns *columns, struct smd_error *err)
{
	for (size_t i = 0; i < cli->args->n_words; i++) {
		const struct word *w = &cli->args->words[i];
		const char *sub;
		struct column *c;

		if (w->used)
			continue;
		c = filter_column(columns, w, &sub);
		if (!c || (sub && strcmp(describe_kind(smd_json_member(c->field, "type")), "map") != 0 &&
			   strcmp(sub, "contains") != 0))
			return cli_fail(err, "Unknown field: %s", w->key);
	}
	return 0;
}

static bool
set_contains(struct cli *cli, const struct column *c, json *record, const char *text)
{
	json *type = smd_json_member(c->field, "type"), *elem = smd_json_member(type, "elem");
	json *value = smd_json_member(record, describe_name(c->field));

	if (json_object_is_type(value, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(value); i++) {
			CLEANUP_FREE char *item = value_text(elem, json_object_array_get_idx(value, i),
							     cli->names);

			if (strcmp(item, text) == 0)
				return true;
		}
	} else if (json_object_is_type(value, json_type_object)) {
		json_object_object_foreach(value, key, item) {
			CLEANUP_FREE char *as_text = value_text(elem, item, cli->names);

			(void)key;
			if (strcmp(as_text, text) == 0)
				return true;
		}
	}
	return false;
}

/* An object a field refers to is as well named by its name, as elsewhere. */
static bool
names_object(struct cli *cli, const struct column *c, json *record, const char *text)
{
	json *type = smd_json_member(c->field, "type");
	const char *ref = smd_json_str(record, describe_name(c->field), "");

	return strcmp(describe_kind(type), "ref") == 0 &&
	       strcmp(names_label(cli->names, describe_name(type), ref), text) == 0;
}

static bool
filter_matches(struct cli *cli, struct columns *columns, json *record, const struct word *w)
{
	const char *sub;
	struct column *c = filter_column(columns, w, &sub);
	CLEANUP_FREE char *text = NULL;

	if (sub && c->shape != COLUMN_SET &&
	    strcmp(describe_kind(smd_json_member(c->field, "type")), "map") == 0) {
		json *map = smd_json_member(record, describe_name(c->field));
		json *type = smd_json_member(c->field, "type");
		json *value = smd_json_member(map, sub);

		if (!value)
			return false;
		text = value_text(smd_json_member(type, "elem"), value, cli->names);
	} else if (sub) {
		return set_contains(cli, c, record, w->value);
	} else {
		text = column_text(c, record, cli->names);
	}
	return strcmp(text, w->value) == 0 || (!sub && names_object(cli, c, record, w->value));
}

bool
list_matches(struct cli *cli, struct columns *columns, json *record)
{
	for (size_t i = 0; i < cli->args->n_words; i++) {
		const struct word *w = &cli->args->words[i];

		if (!w->used && !filter_matches(cli, columns, record, w))
			return false;
	}
	return true;
}

/* ---- Output -------------------------------------------------------------------------- */

static void
print_rows(struct cli *cli, const struct columns *columns, json *record)
{
	struct print_row *rows = smd_calloc(columns->n + 1, sizeof *rows);
	size_t n = 0;

	for (size_t i = 0; i < columns->n; i++) {
		if (!columns->list[i].selected)
			continue;
		rows[n].label = column_label(&columns->list[i]);
		rows[n++].value = column_text(&columns->list[i], record, cli->names);
	}
	if (n > 0)
		print_record(stdout, rows, n);
	for (size_t i = 0; i < n; i++) {
		free(rows[i].label);
		free(rows[i].value);
	}
	free(rows);
}

static void
print_json(json *j)
{
	puts(json_object_to_json_string_ext(j, JSON_C_TO_STRING_PRETTY |
					       JSON_C_TO_STRING_NOSLASHESCAPE));
}

static json *
record_json(struct cli *cli, const struct columns *columns, json *record)
{
	json *obj = json_object_new_object();

	for (size_t i = 0; i < columns->n; i++) {
		if (columns->list[i].selected)
			json_object_object_add(obj, columns->list[i].name,
					       column_json(&columns->list[i], record, cli->names));
	}
	return obj;
}

static void
print_first_column(struct cli *cli, const struct columns *columns, json **records, size_t n)
{
	char **values = smd_calloc(n + 1, sizeof *values);
	size_t first = 0, n_values;

	while (first < columns->n && !columns->list[first].selected)
		first++;
	n_values = first < columns->n ? n : 0;
	for (size_t i = 0; i < n_values; i++)
		values[i] = column_text(&columns->list[first], records[i], cli->names);
	print_minimal(stdout, (const char *const *)values, n_values);
	for (size_t i = 0; i < n_values; i++)
		free(values[i]);
	free(values);
}

static void
print_records(struct cli *cli, const struct columns *columns, json **records, size_t n)
{
	CLEANUP_JSON json *all = NULL;

	if (cli->args->json) {
		all = json_object_new_array();
		for (size_t i = 0; i < n; i++)
			json_object_array_add(all, record_json(cli, columns, records[i]));
		print_json(all);
	} else if (cli->args->minimal) {
		print_first_column(cli, columns, records, n);
	} else {
		for (size_t i = 0; i < n; i++)
			print_rows(cli, columns, records[i]);
	}
}

int
list_run(struct cli *cli, json *cls, struct smd_error *err)
{
	CLEANUP(cleanup_columns) struct columns *columns = columns_new(cls);
	CLEANUP_FREE char *method = smd_asprintf("%s.get_all_records", describe_name(cls));
	CLEANUP_JSON json *records = NULL;
	CLEANUP_FREE json **found = NULL;
	size_t n = 0;

	columns_select(columns, args_take(cli->args, "params"));
	if (list_filters_check(cli, columns, err) < 0 ||
	    server_call_object(cli->server, method, NULL, &records, err) < 0)
		return -1;
	names_learn(cli->names, describe_name(cls), records);
	found = smd_calloc((size_t)json_object_object_length(records) + 1, sizeof *found);
	json_object_object_foreach(records, ref, record) {
		(void)ref;
		if (list_matches(cli, columns, record))
			found[n++] = record;
	}
	print_records(cli, columns, found, n);
	return 0;
}

int
list_one(struct cli *cli, json *cls, struct smd_error *err)
{
	CLEANUP(cleanup_columns) struct columns *columns = columns_new(cls);
	CLEANUP_FREE char *method = smd_asprintf("%s.get_record", describe_name(cls));
	CLEANUP_JSON json *record = NULL;
	CLEANUP_FREE char *ref = NULL;

	columns_select(columns, "all");
	if (cli_take_uuid(cli, cls, &ref, err) < 0 || args_all_used(cli->args, err) < 0 ||
	    server_call_object(cli->server, method, server_strings(ref, NULL), &record,
			       err) < 0)
		return -1;
	print_records(cli, columns, &record, 1);
	return 0;
}

static void
print_lines(struct cli *cli, json *type, json *set)
{
	size_t n = json_object_array_length(set);
	char **lines = smd_calloc(n + 1, sizeof *lines);

	for (size_t i = 0; i < n; i++)
		lines[i] = value_text(smd_json_member(type, "elem"),
				      json_object_array_get_idx(set, i), cli->names);
	if (cli->args->minimal)
		print_minimal(stdout, (const char *const *)lines, n);
	for (size_t i = 0; i < n; i++) {
		if (!cli->args->minimal)
			puts(lines[i]);
		free(lines[i]);
	}
	free(lines);
}

/* A line for each pair. */
static void
print_pairs(struct cli *cli, json *type, json *map)
{
	json_object_object_foreach(map, key, value) {
		CLEANUP_FREE char *text = value_text(smd_json_member(type, "elem"), value, cli->names);

		printf("%s: %s\n", key, text);
	}
}

void
list_print_value(struct cli *cli, json *type, json *value)
{
	CLEANUP_FREE char *text = NULL;

	if (strcmp(describe_kind(type), "void") == 0)
		return;
	if (json_object_is_type(value, json_type_array) && !cli->args->json) {
		print_lines(cli, type, value);
		return;
	}
	if (strcmp(describe_kind(type), "map") == 0 && json_object_is_type(value, json_type_object) &&
	    !cli->args->json && !cli->args->minimal) {
		print_pairs(cli, type, value);
		return;
	}
	text = value_text(type, value, cli->names);
	if (cli->args->json && strcmp(describe_kind(type), "ref") != 0) {
		print_json(value);
	} else if (cli->args->json) {
		CLEANUP_JSON json *uuid = json_object_new_string(text);

		print_json(uuid);
	} else if (cli->args->minimal) {
		print_minimal(stdout, (const char *const[]){ text }, 1);
	} else {
		puts(text);
	}
}
