/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/columns.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "common/mem.h"
#include "daemon/cli/describe.h"

/* Whether text is an item of a comma-separated list; *ret_at: which. */
static bool
list_has(const char *list, const char *text, size_t *ret_at)
{
	size_t len = strlen(text), at = 0;

	for (const char *p = list; *p; at++) {
		size_t item = strcspn(p, ",");

		if (item == len && strncmp(p, text, len) == 0) {
			if (ret_at)
				*ret_at = at;
			return true;
		}
		p += item;
		p += *p == ',';
	}
	return false;
}

/* ---- Which columns there are --------------------------------------------------- */

static struct column *
columns_add(struct columns *c, json *field, char *name)
{
	struct column *col;

	c->list = smd_reallocarray(c->list, c->n + 1, sizeof *c->list);
	col = &c->list[c->n++];
	*col = (struct column){ .name = name, .field = field };
	return col;
}

/* A reference named as its class ("SR") is "sr-uuid"; another keeps its name. */
static char *
column_name(json *field, const struct spelling_field *spelling)
{
	json *type = smd_json_member(field, "type");
	const char *name = describe_name(field);

	if (spelling->name)
		return smd_strdup(spelling->name);
	if (strcmp(describe_kind(type), "ref") == 0 && strcasecmp(describe_name(type), name) == 0) {
		CLEANUP_FREE char *lower = describe_hyphens(name, true);

		return smd_asprintf("%s-uuid", lower);
	}
	return describe_hyphens(name, false);
}

static bool
field_is_writable(json *cls, json *field)
{
	CLEANUP_FREE char *setter = smd_asprintf("set_%s", describe_name(field));

	return strcmp(smd_json_str(field, "access", ""), "rw") == 0 ||
	       smd_json_bool(field, "always_rw_map", false) ||
	       describe_find(cls, "methods", setter) != NULL;
}

static void
columns_add_field(struct columns *c, json *field)
{
	const struct spelling_field *spelling;
	const char *kind = describe_kind(smd_json_member(field, "type"));
	struct column *col;

	spelling = spelling_field(describe_name(c->cls), describe_name(field));
	col = columns_add(c, field, column_name(field, spelling));
	col->flags = spelling->flags;
	col->writable = field_is_writable(c->cls, field);
	if (col->flags & SPELLING_PLAIN)
		col->shape = COLUMN_PLAIN;
	else if (strcmp(kind, "set") == 0 || (col->flags & SPELLING_VALUES))
		col->shape = COLUMN_SET;
	else if (strcmp(kind, "map") == 0)
		col->shape = COLUMN_MAP;
}

/* Stable: what the order does not name stays behind, as the server has it. */
static void
columns_sort(struct columns *c, const char *order)
{
	struct column *sorted = smd_calloc(c->n + 1, sizeof *sorted);
	size_t n = 0, at;

	for (const char *p = order; *p; ) {
		CLEANUP_FREE char *name = smd_strndup(p, strcspn(p, ","));
		struct column *col = columns_find(c, name);

		if (col)
			sorted[n++] = *col;
		p += strcspn(p, ",");
		p += *p == ',';
	}
	for (size_t i = 0; i < c->n; i++) {
		if (!list_has(order, c->list[i].name, &at))
			sorted[n++] = c->list[i];
	}
	free(c->list);
	c->list = sorted;
	c->n = n;
}

struct columns *
columns_new(json *cls)
{
	struct columns *c = smd_calloc(1, sizeof *c);
	const struct spelling_extra *extra;

	c->cls = cls;
	for (size_t i = 0; i < describe_count(cls, "fields"); i++)
		columns_add_field(c, describe_item(cls, "fields", i));
	for (unsigned i = 0; (extra = spelling_extra(describe_name(cls), i)); i++) {
		json *field = describe_find(cls, "fields", extra->field);

		if (field)
			columns_add(c, field, smd_strdup(extra->name))->extra = extra;
	}
	columns_sort(c, spelling_class(describe_name(cls))->order);
	return c;
}

void
columns_free(struct columns *columns)
{
	if (!columns)
		return;
	for (size_t i = 0; i < columns->n; i++)
		free(columns->list[i].name);
	free(columns->list);
	free(columns);
}

void
columns_select(struct columns *columns, const char *params)
{
	const struct spelling_class *spelling = spelling_class(describe_name(columns->cls));
	bool all = params && strcmp(params, "all") == 0;

	for (size_t i = 0; i < columns->n; i++) {
		struct column *c = &columns->list[i];

		c->selected = all ? !(c->flags & SPELLING_HIDDEN) :
			      list_has(params ? params : spelling->columns, c->name, NULL);
	}
}

struct column *
columns_find(struct columns *columns, const char *name)
{
	for (size_t i = 0; i < columns->n; i++) {
		if (strcmp(columns->list[i].name, name) == 0)
			return &columns->list[i];
	}
	return NULL;
}

char *
column_label(const struct column *column)
{
	static const char shapes[] = { ' ', 'S', 'M' };

	return smd_asprintf("%s (%cR%c)%s", column->name, shapes[column->shape],
			    column->writable ? 'W' : 'O',
			    smd_json_bool(column->field, "deprecated", false) ? " [DEPRECATED]" :
			    "");
}

/* ---- Values ------------------------------------------------------------------------ */

static char *
join(char *so_far, const char *separator, const char *key, const char *value)
{
	char *ret = smd_asprintf("%s%s%s%s%s", so_far ? so_far : "", so_far ? separator : "",
				 key ? key : "", key ? ": " : "", value);

	free(so_far);
	return ret;
}

static char *
set_text(json *elem, json *set, const char *separator, struct names *names)
{
	char *ret = NULL;

	for (size_t i = 0; i < json_object_array_length(set); i++) {
		CLEANUP_FREE char *item = value_text(elem, json_object_array_get_idx(set, i), names);

		ret = join(ret, separator, NULL, item);
	}
	return ret ? ret : smd_strdup("");
}

static char *
map_text(json *type, json *map, bool with_keys, struct names *names)
{
	json *key_type = smd_json_member(type, "key"), *elem = smd_json_member(type, "elem");
	char *ret = NULL;

	json_object_object_foreach(map, key, value) {
		CLEANUP_JSON json *k = json_object_new_string(key);
		CLEANUP_FREE char *key_text = key_type ? value_text(key_type, k, names) : NULL;
		CLEANUP_FREE char *item = value_text(elem, value, names);

		ret = join(ret, "; ", with_keys ? key_text ? key_text : key : NULL, item);
	}
	return ret ? ret : smd_strdup("");
}

char *
value_text(json *type, json *value, struct names *names)
{
	const char *kind = describe_kind(type);

	if (strcmp(kind, "ref") == 0 && json_object_is_type(value, json_type_string))
		return smd_strdup(names_uuid(names, describe_name(type),
					     describe_text(value)));
	switch (json_object_get_type(value)) {
	case json_type_null:
		return smd_strdup("");
	case json_type_array:
		return set_text(smd_json_member(type, "elem"), value, "; ", names);
	case json_type_object:
		return map_text(type, value, true, names);
	case json_type_double:
		return smd_asprintf("%.12g", json_object_get_double(value));
	default:
		return smd_strdup(describe_text(value));
	}
}

/* The host an SR is on: the name behind its one PBD. */
static char *
sr_host_text(json *pbds, struct names *names)
{
	size_t n = json_object_is_type(pbds, json_type_array) ? json_object_array_length(pbds) : 0;
	json *pbd;

	if (n > 1)
		return smd_strdup("<shared>");
	pbd = n ? names_record(names, "PBD",
			       describe_text(json_object_array_get_idx(pbds, 0))) : NULL;
	return smd_strdup(names_label(names, "host", smd_json_str(pbd, "host", "")));
}

char *
column_text(const struct column *column, json *record, struct names *names)
{
	json *type = smd_json_member(column->field, "type");
	json *value = smd_json_member(record, describe_name(column->field));

	if (column->extra && column->extra->kind == SPELLING_HOST_OF_PBDS)
		return sr_host_text(value, names);
	if (column->extra)
		return smd_strdup(names_label(names, describe_name(type),
					      describe_text(value)));
	if (column->flags & SPELLING_3_DIGITS)
		return smd_asprintf("%.3f", json_object_get_double(value));
	if ((column->flags & SPELLING_COMMA) && json_object_is_type(value, json_type_array))
		return set_text(smd_json_member(type, "elem"), value, ", ", names);
	if ((column->flags & SPELLING_VALUES) && json_object_is_type(value, json_type_object))
		return map_text(type, value, false, names);
	return value_text(type, value, names);
}

json *
column_json(const struct column *column, json *record, struct names *names)
{
	json *type = smd_json_member(column->field, "type");
	json *value = smd_json_member(record, describe_name(column->field));
	const char *kind = describe_kind(type);

	if (column->extra || strcmp(kind, "ref") == 0) {
		CLEANUP_FREE char *text = column_text(column, record, names);

		return strcmp(text, NAMES_NOT_FOUND) == 0 ? NULL : json_object_new_string(text);
	}
	if (strcmp(kind, "set") == 0 && json_object_is_type(value, json_type_array) &&
	    strcmp(describe_kind(smd_json_member(type, "elem")), "ref") == 0) {
		json *set = json_object_new_array();

		for (size_t i = 0; i < json_object_array_length(value); i++) {
			CLEANUP_FREE char *uuid = value_text(smd_json_member(type, "elem"),
							     json_object_array_get_idx(value, i),
							     names);

			json_object_array_add(set, json_object_new_string(uuid));
		}
		return set;
	}
	return json_object_get(value);
}
