/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/json.h"

#include <string.h>

#include "common/mem.h"

/* One well-formed UTF-8 sequence at s: its length, or 0 (RFC 3629, section 4). */
static size_t
utf8_sequence(const unsigned char *s, size_t len)
{
	uint32_t c, min;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2, c = s[0] & 0x1f, min = 0x80;
	else if ((s[0] & 0xf0) == 0xe0)
		n = 3, c = s[0] & 0x0f, min = 0x800;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4, c = s[0] & 0x07, min = 0x10000;
	else
		return 0;
	if (len < n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return n;
}

bool
smd_utf8_valid(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;

	while (len > 0) {
		size_t n = utf8_sequence(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

/* json-c keeps the last of two members with one name and says nothing, so a
 * second, shallow walk over the text finds duplicates: it needs only strings
 * and brackets, since json-c has accepted the rest. */
struct dup_level {
	json *names;		/* of an object; NULL in an array */
	bool want_name;
};

static size_t
json_string_end(const char *text, size_t i, size_t len)
{
	for (i++; i < len && text[i] != '"'; i++) {
		if (text[i] == '\\')
			i++;
	}
	return i;
}

/* What json-c takes even when it is strict, and JSON has not: names in single
 * quotes, NaN and Infinity. Outside strings JSON has none of these characters. */
static bool
json_has_strays(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"')
			i = json_string_end(text, i, len);
		else if (text[i] == '\'' || text[i] == 'N' || text[i] == 'I')
			return true;
	}
	return false;
}

/* What a string in quotes stands for; nearly all stand for themselves. */
static char *
json_plain_name(const char *text, size_t len)
{
	CLEANUP_FREE char *quoted = NULL;
	CLEANUP_JSON json *name = NULL;

	if (len >= 2 && text[len - 1] == '"' && !memchr(text, '\\', len))
		return smd_strndup(text + 1, len - 2);
	quoted = smd_strndup(text, len);
	name = json_tokener_parse(quoted);
	return smd_strdup(name ? json_object_get_string(name) : quoted);
}

static bool
json_name_repeats(json *names, const char *text, size_t len)
{
	CLEANUP_FREE char *plain = json_plain_name(text, len);

	if (json_object_object_get_ex(names, plain, NULL))
		return true;
	json_object_object_add(names, plain, NULL);
	return false;
}

static bool
json_has_duplicates(const char *text, size_t len, int max_depth)
{
	struct dup_level *levels = smd_calloc((size_t)max_depth + 1, sizeof *levels);
	bool found = false;
	int depth = 0;

	for (size_t i = 0; i < len && !found; i++) {
		struct dup_level *l = &levels[depth];

		if (text[i] == '"') {
			size_t end = json_string_end(text, i, len);

			if (l->names && l->want_name)
				found = json_name_repeats(l->names, text + i, end + 1 - i);
			l->want_name = false;
			i = end;
		} else if ((text[i] == '{' || text[i] == '[') && depth < max_depth) {
			depth++;
			levels[depth].names = text[i] == '{' ? json_object_new_object() : NULL;
			levels[depth].want_name = text[i] == '{';
		} else if ((text[i] == '}' || text[i] == ']') && depth > 0) {
			json_object_put(l->names);
			l->names = NULL;
			depth--;
		} else if (text[i] == ',') {
			l->want_name = l->names != NULL;
		}
	}
	for (; depth > 0; depth--)
		json_object_put(levels[depth].names);
	free(levels);
	return found;
}

static void
cleanup_tokener(struct json_tokener **t)
{
	if (*t)
		json_tokener_free(*t);
}

json *
smd_json_parse(const char *text, size_t len, int max_depth, struct smd_error *err)
{
	CLEANUP(cleanup_tokener) struct json_tokener *tok = json_tokener_new_ex(max_depth);
	CLEANUP_JSON json *value = NULL;
	enum json_tokener_error e;
	size_t used;

	if (len > INT32_MAX || memchr(text, '\0', len) || !smd_utf8_valid(text, len)) {
		smd_fail_INVALID_VALUE(err, "json", "", "the text is not valid UTF-8");
		return NULL;
	}
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	value = json_tokener_parse_ex(tok, text, (int)len);
	e = json_tokener_get_error(tok);
	used = json_tokener_get_parse_end(tok);
	if (e == json_tokener_continue) {	/* a bare number ends only with the text */
		value = json_tokener_parse_ex(tok, "", 1);
		e = json_tokener_get_error(tok);
	}
	if (json_has_strays(text, len))
		e = json_tokener_error_parse_unexpected;
	for (size_t i = used; e == json_tokener_success && i < len; i++) {
		if (!strchr(" \t\r\n", text[i]))
			e = json_tokener_error_parse_unexpected;
	}
	if (e != json_tokener_success) {
		smd_fail_INVALID_VALUE(err, "json", "", "not JSON at byte %zu: %s", used,
				       json_tokener_error_desc(e));
		return NULL;
	}
	if (json_has_duplicates(text, len, max_depth)) {
		smd_fail_INVALID_VALUE(err, "json", "", "an object has two members of one name");
		return NULL;
	}
	return TAKE_PTR(value);
}

json *
smd_json_read_back(const char *text)
{
	return json_tokener_parse(text);
}

/* Sixteen digits, as xapi writes floats: 0.3 and not its neighbour. */
static void
json_set_double_format(void)
{
	json_c_set_serialization_double_format("%.16g", JSON_C_OPTION_GLOBAL);
}

char *
smd_json_print(json *j)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, json_set_double_format);
	return smd_strdup(json_object_to_json_string_ext(j, JSON_C_TO_STRING_PLAIN |
							 JSON_C_TO_STRING_NOSLASHESCAPE));
}

json *
smd_json_member(json *obj, const char *key)
{
	json *member;

	if (!json_object_is_type(obj, json_type_object) ||
	    !json_object_object_get_ex(obj, key, &member))
		return NULL;
	return member;
}

const char *
smd_json_str(json *obj, const char *key, const char *fallback)
{
	json *m = smd_json_member(obj, key);

	return json_object_is_type(m, json_type_string) ? json_object_get_string(m) : fallback;
}

char *
smd_json_dup(json *obj, const char *key)
{
	const char *text = smd_json_str(obj, key, NULL);

	return text ? smd_strdup(text) : NULL;
}

char *
smd_json_join(json *array)
{
	size_t n = json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
	char *text = smd_strdup("");

	for (size_t i = 0; i < n; i++) {
		char *longer = smd_asprintf("%s%s%s", text, i ? ", " : "", json_object_get_string(
						    json_object_array_get_idx(array, i)));

		free(text);
		text = longer;
	}
	return text;
}

int64_t
smd_json_int(json *obj, const char *key, int64_t fallback)
{
	json *m = smd_json_member(obj, key);

	return json_object_is_type(m, json_type_int) ? json_object_get_int64(m) : fallback;
}

bool
smd_json_bool(json *obj, const char *key, bool fallback)
{
	json *m = smd_json_member(obj, key);

	return json_object_is_type(m, json_type_boolean) ? json_object_get_boolean(m) : fallback;
}

void
smd_json_set(json *obj, const char *key, json *take)
{
	json_object_object_add(obj, key, take);
}

void
smd_json_set_str(json *obj, const char *key, const char *value)
{
	json_object_object_add(obj, key, json_object_new_string(value ? value : ""));
}

void
smd_json_set_int(json *obj, const char *key, int64_t value)
{
	json_object_object_add(obj, key, json_object_new_int64(value));
}

void
smd_json_set_bool(json *obj, const char *key, bool value)
{
	json_object_object_add(obj, key, json_object_new_boolean(value));
}

json *
smd_json_copy(json *j)
{
	json *copy = NULL;

	json_object_deep_copy(j, &copy, NULL);
	return copy;
}

bool
smd_json_has_str(json *array, const char *text)
{
	for (size_t i = 0; array && i < json_object_array_length(array); i++) {
		if (strcmp(json_object_get_string(json_object_array_get_idx(array, i)), text) == 0)
			return true;
	}
	return false;
}

json *
smd_json_from_error(const struct smd_error *err)
{
	json *obj = json_object_new_object();
	json *params = json_object_new_array();

	for (size_t i = 0; err->params && err->params[i]; i++)
		json_object_array_add(params, json_object_new_string(err->params[i]));
	smd_json_set_str(obj, "code", err->code);
	smd_json_set(obj, "params", params);
	smd_json_set_str(obj, "message", err->message);
	smd_json_set_int(obj, "errno", err->errnum);
	return obj;
}

int
smd_json_to_error(json *obj, struct smd_error *err)
{
	json *list = smd_json_member(obj, "params");
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	const char *code = smd_json_str(obj, "code", "INTERNAL_ERROR");
	const struct smd_error_decl *decl = smd_error_decl_find(code);
	size_t n_params = decl && decl->n_params >= 0 ? (size_t)decl->n_params : n;
	const char **params = smd_calloc(n_params + 1, sizeof *params);

	/* It may come from a worker gone bad: as many as the code declares, come what may. */
	for (size_t i = 0; i < n_params; i++) {
		json *param = i < n ? json_object_array_get_idx(list, i) : NULL;

		params[i] = param ? json_object_get_string(param) : "";
	}
	smd_fail_code(err, code, params,
		      smd_json_str(obj, "message", ""));
	err->errnum = (int)smd_json_int(obj, "errno", 0);
	free(params);
	return -1;
}
