/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Values against their types: what a client sent is brought to normal form,
 * what we answer is checked. Types are finite trees, so that recursion ends
 * where the type does, however deep the value is.
 */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/mem.h"
#include "schema/api.h"
#include "schema/datetime.h"

static const char *
kind_found(json *value)
{
	return json_type_to_name(json_object_get_type(value));
}

/* xapi's dispatcher has no code of its own for what its parser refuses: everything
 * but a text that stands for no value of its type is INTERNAL_ERROR [text]. */
static int
wrong_type(const struct api_type *type, json *value, const char *what, struct smd_error *err)
{
	CLEANUP_FREE char *type_text = api_type_text(type);
	CLEANUP_FREE char *text = smd_asprintf("%s takes %s, not %s", what, type_text,
					       kind_found(value));

	return smd_fail_INTERNAL_ERROR(err, text, "%s", text);
}

static int
lacks(const char *what, const char *field, struct smd_error *err)
{
	CLEANUP_FREE char *text = smd_asprintf("%s lacks %s", what, field);

	return smd_fail_INTERNAL_ERROR(err, text, "%s", text);
}

static bool
enum_has(const struct api_type *type, const char *text)
{
	for (const char *const *v = type->values; *v; v++) {
		if (strcmp(*v, text) == 0)
			return true;
	}
	return false;
}

/* Text without a NUL inside, which C would take for its end. */
static bool
text_is_whole(json *value)
{
	return strlen(json_object_get_string(value)) ==
	       (size_t)json_object_get_string_len(value);
}

static bool
int_from_text(json *value, int64_t *ret)
{
	const char *text = json_object_get_string(value);
	char *end;

	if (!text_is_whole(value) || (!(text[0] >= '0' && text[0] <= '9') && text[0] != '-' && text[0] != '+'))
		return false;
	errno = 0;
	*ret = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' && end[-1] >= '0' && end[-1] <= '9';
}

static int
accept_int(const struct api_type *type, json *value, const char *what, json **ret,
	   struct smd_error *err)
{
	int64_t n;

	switch (json_object_get_type(value)) {
	case json_type_int:
		/* json-c holds up to UINT64_MAX, and cuts at INT64_MAX here. */
		n = json_object_get_int64(value);
		if (n == INT64_MAX && json_object_get_uint64(value) > INT64_MAX)
			return smd_fail_INVALID_VALUE(err, what, json_object_get_string(value),
						      "%s does not fit 64 bits", what);
		break;
	case json_type_string:
		if (!int_from_text(value, &n))
			return smd_fail_INVALID_VALUE(err, what, json_object_get_string(value),
						      "%s is no whole number of 64 bits", what);
		break;
	default:
		return wrong_type(type, value, what, err);
	}
	if (type->kind == API_INT32 && (n < INT32_MIN || n > INT32_MAX))
		return smd_fail_INVALID_VALUE(err, what, SMD_U64((uint64_t)n),
					      "%s does not fit 32 bits", what);
	*ret = json_object_new_int64(n);
	return 0;
}

static int
accept_float(const struct api_type *type, json *value, const char *what, json **ret,
	     struct smd_error *err)
{
	const char *text;
	char *end = NULL;
	double d;

	switch (json_object_get_type(value)) {
	case json_type_int:
	case json_type_double:
		d = json_object_get_double(value);
		break;
	case json_type_string:
		text = json_object_get_string(value);
		d = strtod(text, &end);
		if (end == text || *end != '\0' || !text_is_whole(value))
			return smd_fail_INVALID_VALUE(err, what, text, "%s is no number", what);
		break;
	default:
		return wrong_type(type, value, what, err);
	}
	if (!isfinite(d))
		return smd_fail_INVALID_VALUE(err, what, json_object_get_string(value),
					      "%s is not finite", what);
	*ret = json_object_new_double(d);
	return 0;
}

/* Strings, and what is written as one. */
static int
accept_text(const struct api_type *type, json *value, const char *what, json **ret,
	    struct smd_error *err)
{
	char normal[API_DATETIME_LEN + 1];
	const char *text;
	size_t len;

	if (!json_object_is_type(value, json_type_string))
		return wrong_type(type, value, what, err);
	text = json_object_get_string(value);
	len = (size_t)json_object_get_string_len(value);
	if (!text_is_whole(value))
		return smd_fail_INVALID_VALUE(err, what, text, "%s holds a NUL character", what);
	if (!smd_utf8_valid(text, len))
		return smd_fail_INVALID_VALUE(err, "Invalid UTF-8 string in parameter", "",
					      "%s is not UTF-8", what);
	if (type->kind == API_ENUM && !enum_has(type, text))
		return smd_fail_INVALID_VALUE(err, what, text, "%s is not one of %s", what,
					      type->name);
	if (type->kind == API_DATETIME) {
		if (!api_datetime_normal(text, normal))
			return smd_fail_INVALID_VALUE(err, what, text, "%s is no datetime", what);
		*ret = json_object_new_string(normal);
	} else {
		*ret = json_object_get(value);
	}
	return 0;
}

static int
accept_set(const struct api_type *type, json *value, const char *what, json **ret,
	   struct smd_error *err)
{
	CLEANUP_JSON json *set = NULL;
	size_t n;

	if (!json_object_is_type(value, json_type_array))
		return wrong_type(type, value, what, err);
	set = json_object_new_array();
	n = json_object_array_length(value);
	for (size_t i = 0; i < n; i++) {
		json *elem;

		if (api_value_accept(type->elem, json_object_array_get_idx(value, i), what, &elem,
				     err) < 0)
			return -1;
		json_object_array_add(set, elem);
	}
	*ret = TAKE_PTR(set);
	return 0;
}

static int
accept_map(const struct api_type *type, json *value, const char *what, json **ret,
	   struct smd_error *err)
{
	CLEANUP_JSON json *map = NULL;

	/* An empty PHP or Lua table arrives as an empty array. */
	if (json_object_is_type(value, json_type_array) && json_object_array_length(value) == 0) {
		*ret = json_object_new_object();
		return 0;
	}
	if (!json_object_is_type(value, json_type_object))
		return wrong_type(type, value, what, err);
	map = json_object_new_object();
	json_object_object_foreach(value, key, member) {
		CLEANUP_JSON json *key_text = json_object_new_string(key);
		CLEANUP_JSON json *key_normal = NULL;
		json *elem;

		if (api_value_accept(type->key, key_text, what, &key_normal, err) < 0 ||
		    api_value_accept(type->elem, member, what, &elem, err) < 0)
			return -1;
		json_object_object_add(map, json_object_get_string(key_normal), elem);
	}
	*ret = TAKE_PTR(map);
	return 0;
}

static int
accept_struct(const struct api_type *type, json *value, const char *what, json **ret,
	      struct smd_error *err)
{
	CLEANUP_JSON json *record = NULL;

	if (!json_object_is_type(value, json_type_object))
		return wrong_type(type, value, what, err);
	record = json_object_new_object();
	for (const struct api_field *f = type->fields; f->name; f++) {
		json *member, *normal;

		if (!json_object_object_get_ex(value, f->name, &member)) {
			if (f->flags & API_OPTIONAL)
				continue;
			return lacks(what, f->name, err);
		}
		if (api_value_accept(f->type, member, f->name, &normal, err) < 0)
			return -1;
		json_object_object_add(record, f->name, normal);
	}
	*ret = TAKE_PTR(record);
	return 0;
}

static int
accept_record(const struct api_type *type, json *value, const char *what, json **ret,
	      struct smd_error *err)
{
	if (type->fields)
		return accept_struct(type, value, what, ret, err);
	if (!json_object_is_type(value, json_type_object))
		return wrong_type(type, value, what, err);
	return api_record_complete(api_class_find(type->name, false), value, ret, err);
}

int
api_value_accept(const struct api_type *type, json *value, const char *what, json **ret,
		 struct smd_error *err)
{
	switch (type->kind) {
	case API_INT:
	case API_INT32:
		return accept_int(type, value, what, ret, err);
	case API_FLOAT:
		return accept_float(type, value, what, ret, err);
	case API_BOOL:
		if (!json_object_is_type(value, json_type_boolean))
			return wrong_type(type, value, what, err);
		*ret = json_object_get(value);
		return 0;
	case API_STRING:
	case API_DATETIME:
	case API_ENUM:
	case API_REF:
		return accept_text(type, value, what, ret, err);
	case API_SET:
		return accept_set(type, value, what, ret, err);
	case API_MAP:
		return accept_map(type, value, what, ret, err);
	case API_RECORD:
		return accept_record(type, value, what, ret, err);
	case API_VOID:
	case API_ANY:
		break;
	}
	return wrong_type(type, value, what, err);
}

int
api_record_complete(const struct api_class *cls, json *given, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *record = json_object_new_object();

	for (const struct api_field *f = cls->fields; f->name; f++) {
		json *member, *normal;

		if (f->flags & API_DERIVED)
			continue;
		if (f->access != API_DYNAMIC_RO &&
		    json_object_object_get_ex(given, f->name, &member)) {
			if (api_value_accept(f->type, member, f->name, &normal, err) < 0)
				return -1;
		} else if (f->flags & API_REQUIRED) {
			CLEANUP_FREE char *text = smd_asprintf("field %s of class %s is missing",
							       f->name, cls->name);

			return smd_fail_INTERNAL_ERROR(err, text, "%s", text);
		} else {
			normal = api_value_default(f->type, f->dflt);
		}
		json_object_object_add(record, f->name, normal);
	}
	*ret = TAKE_PTR(record);
	return 0;
}

json *
api_value_default(const struct api_type *type, const char *dflt)
{
	if (dflt) {
		json *value = json_tokener_parse(dflt);

		assert(value);
		return value;
	}
	switch (type->kind) {
	case API_INT:
	case API_INT32:
		return json_object_new_int64(0);
	case API_FLOAT:
		return json_object_new_double(0);
	case API_BOOL:
		return json_object_new_boolean(false);
	case API_DATETIME:
		return json_object_new_string(API_EPOCH);
	case API_ENUM:
		return json_object_new_string(type->values[0]);
	case API_REF:
		return json_object_new_string(API_NULL_REF);
	case API_SET:
		return json_object_new_array();
	case API_MAP:
	case API_RECORD:
	case API_ANY:
		return json_object_new_object();
	case API_VOID:
	case API_STRING:
		break;
	}
	return json_object_new_string("");
}
