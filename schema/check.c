/* SPDX-License-Identifier: BSD-2-Clause */
/* Our own results against the types the tables declare for them. */
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "schema/api.h"
#include "schema/datetime.h"

static int
bad(const struct api_type *type, json *value, const char *what, struct smd_error *err)
{
	CLEANUP_FREE char *type_text = api_type_text(type);
	CLEANUP_FREE char *text = smd_asprintf("%s should be %s but is %.200s", what, type_text,
					       json_object_to_json_string(value));

	return smd_fail_INTERNAL_ERROR(err, text, "%s", text);
}

static bool
scalar_ok(const struct api_type *type, json *value)
{
	char normal[API_DATETIME_LEN + 1];
	const char *text = json_object_get_string(value);
	enum json_type have = json_object_get_type(value);

	switch (type->kind) {
	case API_VOID:
		return !value || (have == json_type_string && text[0] == '\0');
	case API_INT:
		return have == json_type_int;
	case API_INT32:
		return have == json_type_int && json_object_get_int64(value) >= INT32_MIN &&
		       json_object_get_int64(value) <= INT32_MAX;
	case API_FLOAT:
		return have == json_type_int ||
		       (have == json_type_double && isfinite(json_object_get_double(value)));
	case API_BOOL:
		return have == json_type_boolean;
	case API_STRING:
		return have == json_type_string;
	case API_REF:
		return have == json_type_string && strncmp(text, "OpaqueRef:", 10) == 0;
	case API_DATETIME:
		return have == json_type_string && api_datetime_normal(text, normal) &&
		       strcmp(text, normal) == 0;
	case API_ENUM:
		if (have != json_type_string)
			return false;
		for (const char *const *v = type->values; *v; v++) {
			if (strcmp(*v, text) == 0)
				return true;
		}
		return false;
	default:
		return false;
	}
}

/* The record of an object whose class stands beside it. */
static int
check_any(const struct api_type *type, json *record, json *value, struct smd_error *err)
{
	const struct api_class *cls = api_class_find(smd_json_str(record, type->name, ""), true);
	struct api_type of_class = { API_RECORD, .name = cls ? cls->name : NULL };

	if (!cls)
		return bad(type, value, type->name, err);
	return api_value_check(&of_class, value, cls->name, err);
}

static int
check_record(const struct api_type *type, json *value, const char *what, struct smd_error *err)
{
	const struct api_field *fields = type->fields ? type->fields :
					 api_class_find(type->name, false)->fields;
	int n = 0;

	if (!json_object_is_type(value, json_type_object))
		return bad(type, value, what, err);
	for (const struct api_field *f = fields; f->name; f++) {
		json *member;

		if (!json_object_object_get_ex(value, f->name, &member)) {
			if (f->flags & API_OPTIONAL)
				continue;
			return bad(f->type, NULL, f->name, err);
		}
		n++;
		if (f->type->kind == API_ANY ? check_any(f->type, value, member, err) < 0 :
		    api_value_check(f->type, member, f->name, err) < 0)
			return -1;
	}
	return n == json_object_object_length(value) ? 0 : bad(type, value, what, err);
}

static int
check_map(const struct api_type *type, json *value, const char *what, struct smd_error *err)
{
	if (!json_object_is_type(value, json_type_object))
		return bad(type, value, what, err);
	json_object_object_foreach(value, key, member) {
		CLEANUP_JSON json *key_text = json_object_new_string(key);
		CLEANUP_JSON json *normal = NULL;
		struct smd_error key_err CLEANUP_ERROR = SMD_ERROR_INIT;

		if (api_value_accept(type->key, key_text, what, &normal, &key_err) < 0)
			return bad(type->key, key_text, what, err);
		if (api_value_check(type->elem, member, what, err) < 0)
			return -1;
	}
	return 0;
}

int
api_value_check(const struct api_type *type, json *value, const char *what, struct smd_error *err)
{
	switch (type->kind) {
	case API_SET:
		if (!json_object_is_type(value, json_type_array))
			return bad(type, value, what, err);
		for (size_t i = 0; i < json_object_array_length(value); i++) {
			if (api_value_check(type->elem, json_object_array_get_idx(value, i), what,
					    err) < 0)
				return -1;
		}
		return 0;
	case API_MAP:
		return check_map(type, value, what, err);
	case API_RECORD:
		return check_record(type, value, what, err);
	default:
		return scalar_ok(type, value) ? 0 : bad(type, value, what, err);
	}
}
