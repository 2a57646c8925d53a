/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/values.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "common/mem.h"
#include "daemon/cli/describe.h"

int
value_parse_int(const char *word, const char *text, int64_t *ret, struct smd_error *err)
{
	static const struct {
		const char *name;
		int shift;
	} units[] = { { "", 0 }, { "bytes", 0 }, { "KiB", 10 }, { "MiB", 20 }, { "GiB", 30 },
		      { "TiB", 40 } };
	long long n;
	char *end;

	errno = 0;
	n = strtoll(text, &end, 10);
	if (end != text && errno == 0 && !isspace((unsigned char)text[0])) {
		for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
			if (strcmp(end, units[i].name) != 0)
				continue;
			if (n > INT64_MAX >> units[i].shift || n < -(INT64_MAX >> units[i].shift))
				return cli_fail(err, "%s: \"%s\" is too large", word, text);
			*ret = n * (INT64_C(1) << units[i].shift);
			return 0;
		}
	}
	return cli_fail(err, "%s: \"%s\" is no number (a suffix may be KiB, MiB, GiB or TiB)", word,
			text);
}

static int
value_parse_bool(const char *word, const char *text, json **ret, struct smd_error *err)
{
	static const char *const yes[] = { "true", "t", "yes", "y", "1" };
	static const char *const no[] = { "false", "f", "no", "n", "0" };

	for (size_t i = 0; i < 5; i++) {
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
			*ret = json_object_new_boolean(strcasecmp(text, yes[i]) == 0);
			return 0;
		}
	}
	return cli_fail(err, "%s: \"%s\" is neither true nor false", word, text);
}

/* The server checks enumerations too, but cannot say what would be right. */
static int
value_parse_enum(json *type, const char *word, const char *text, json **ret,
		 struct smd_error *err)
{
	CLEANUP_FREE char *known = smd_strdup("");

	for (size_t i = 0; i < describe_count(type, "values"); i++) {
		const char *v = describe_text(describe_item(type, "values", i));
		char *longer;

		if (strcasecmp(v, text) == 0) {
			*ret = json_object_new_string(v);
			return 0;
		}
		longer = smd_asprintf("%s%s%s", known, i ? ", " : "", v);
		free(known);
		known = longer;
	}
	return cli_fail(err, "%s: \"%s\" is none of %s", word, text, known);
}

static int
value_parse_list(json *type, const char *word, const char *text, value_resolve_fn *resolve,
		 void *opaque, json **ret, struct smd_error *err)
{
	bool map = strcmp(describe_kind(type), "map") == 0;
	CLEANUP_JSON json *list = map ? json_object_new_object() : json_object_new_array();
	json *elem = smd_json_member(type, "elem"), *value;

	for (const char *p = text; *p; p += *p == ',') {
		CLEANUP_FREE char *item = smd_strndup(p, strcspn(p, ","));
		char *eq = strchr(item, '=');

		p += strlen(item);
		if (map && !eq)
			return cli_fail(err, "%s is a map: %s:KEY=VALUE", word, word);
		if (value_parse(elem, word, map ? eq + 1 : item, resolve, opaque, &value, err) < 0)
			return -1;
		if (map) {
			*eq = '\0';
			smd_json_set(list, item, value);
		} else {
			json_object_array_add(list, value);
		}
	}
	*ret = TAKE_PTR(list);
	return 0;
}

static int
value_parse_float(const char *word, const char *text, json **ret, struct smd_error *err)
{
	char *end;
	double d = strtod(text, &end);

	if (end == text || *end != '\0')
		return cli_fail(err, "%s: \"%s\" is no number", word, text);
	*ret = json_object_new_double(d);
	return 0;
}

int
value_parse(json *type, const char *word, const char *text, value_resolve_fn *resolve,
	    void *opaque, json **ret, struct smd_error *err)
{
	const char *kind = describe_kind(type);
	CLEANUP_FREE char *ref = NULL;
	int64_t n;

	if (strcmp(kind, "int") == 0 || strcmp(kind, "int32") == 0) {
		if (value_parse_int(word, text, &n, err) < 0)
			return -1;
		*ret = json_object_new_int64(n);
		return 0;
	}
	if (strcmp(kind, "float") == 0)
		return value_parse_float(word, text, ret, err);
	if (strcmp(kind, "bool") == 0)
		return value_parse_bool(word, text, ret, err);
	if (strcmp(kind, "enum") == 0)
		return value_parse_enum(type, word, text, ret, err);
	if (strcmp(kind, "set") == 0 || strcmp(kind, "map") == 0)
		return value_parse_list(type, word, text, resolve, opaque, ret, err);
	if (strcmp(kind, "ref") == 0) {
		if (text[0] == '\0')
			ref = smd_strdup("OpaqueRef:NULL");
		else if (resolve(opaque, describe_name(type), text, &ref, err) < 0)
			return -1;
		text = ref;
	}
	*ret = json_object_new_string(text);
	return 0;
}

/* "sm-config:image-format=qcow2" into a map; "tags:blue=" into a set. */
static int
value_take_subs(struct args *args, json *type, const char *word, value_resolve_fn *resolve,
		void *opaque, json **into, struct smd_error *err)
{
	bool map = strcmp(describe_kind(type), "map") == 0;
	json *elem = smd_json_member(type, "elem"), *value;
	const char *key, *text;
	size_t at = 0;

	while ((key = args_take_sub(args, word, &at, &text))) {
		if (!*into)
			*into = map ? json_object_new_object() : json_object_new_array();
		if (value_parse(elem, word, map ? text : key, resolve, opaque, &value, err) < 0)
			return -1;
		if (map)
			smd_json_set(*into, key, value);
		else
			json_object_array_add(*into, value);
	}
	return 0;
}

int
value_take(struct args *args, json *type, const char *word, value_resolve_fn *resolve,
	   void *opaque, json **ret, struct smd_error *err)
{
	const char *text = args_take(args, word), *kind = describe_kind(type);
	CLEANUP_JSON json *value = NULL;

	if (text && value_parse(type, word, text, resolve, opaque, &value, err) < 0)
		return -1;
	if ((strcmp(kind, "map") == 0 || strcmp(kind, "set") == 0) &&
	    value_take_subs(args, type, word, resolve, opaque, &value, err) < 0)
		return -1;
	*ret = TAKE_PTR(value);
	return 0;
}
