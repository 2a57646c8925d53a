/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * JSON values, json-c's, met only through this header. In the API code a value
 * is a `json *`: a reference-counted tree. json_object_get/put keep their names.
 *
 * Threads: a tree belongs to one thread at a time; the counts are not atomic.
 */
#ifndef SMD_COMMON_JSON_H
#define SMD_COMMON_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "common/error.h"

typedef struct json_object json;

static inline void
cleanup_json(json **j)
{
	json_object_put(*j);
}
#define CLEANUP_JSON CLEANUP(cleanup_json)

/* Parse len bytes that somebody else wrote. Refused, with the offset in the
 * message: nesting over max_depth, duplicate keys, invalid UTF-8, bytes after
 * the value, NaN and Infinity. Returns a tree the caller puts, or NULL. */
json *smd_json_parse(const char *text, size_t len, int max_depth, struct smd_error *err);

/* What smd_json_print wrote and nobody has changed since: none of those checks. */
json *smd_json_read_back(const char *text);

/* Compact text; the caller frees. */
char *smd_json_print(json *j);

/* Member of an object as the kind asked for, or the fallback when it is absent
 * or of another kind. Borrowed. */
const char *smd_json_str(json *obj, const char *key, const char *fallback);
char *smd_json_dup(json *obj, const char *key);	/* a string, the caller's; NULL: none */
/* An array's strings, "a, b, c"; of what is no array: "". The caller's. */
char *smd_json_join(json *array);
int64_t smd_json_int(json *obj, const char *key, int64_t fallback);
bool smd_json_bool(json *obj, const char *key, bool fallback);
json *smd_json_member(json *obj, const char *key);	/* NULL: absent */

/* Set a member; each takes a copy of the text, and smd_json_set the reference. */
void smd_json_set(json *obj, const char *key, json *take);
void smd_json_set_str(json *obj, const char *key, const char *value);
void smd_json_set_int(json *obj, const char *key, int64_t value);
void smd_json_set_bool(json *obj, const char *key, bool value);

/* A tree of its own that says the same; NULL: none (of JSON's null). */
json *smd_json_copy(json *j);
/* Whether an array (NULL: an empty one) of strings has this one. */
bool smd_json_has_str(json *array, const char *text);

/* {"code":…,"params":[…],"message":…,"errno":n}: how errors cross a pipe. */
json *smd_json_from_error(const struct smd_error *err);
int smd_json_to_error(json *obj, struct smd_error *err);	/* always -1 */

/* Whether the bytes are valid UTF-8 (RFC 3629: no surrogates, no overlong). */
bool smd_utf8_valid(const char *s, size_t len);

#endif
