/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the server says of its API (schema/api.h, api_describe): classes, fields
 * and methods are the JSON objects of that reply, borrowed from it.
 */
#ifndef SMD_DAEMON_CLI_DESCRIBE_H
#define SMD_DAEMON_CLI_DESCRIBE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/json.h"

/* The n-th member of an array in obj, and how many there are. */
json *describe_item(json *obj, const char *list, size_t n);
size_t describe_count(json *obj, const char *list);
/* The member of the list with this name; NULL: none. */
json *describe_find(json *obj, const char *list, const char *name);

static inline const char *
describe_name(json *item)
{
	return smd_json_str(item, "name", "");
}

/* A string's text; "" for nothing. Never NULL, as json_object_get_string can be. */
static inline const char *
describe_text(json *string)
{
	return string ? json_object_get_string(string) : "";
}

/* A class by its name in any case; NULL: unknown. */
json *describe_class(json *api, const char *name);
/* Whether the class has objects that can be listed. */
bool describe_has_objects(json *cls);

/* "ref", "set", … of a field, parameter or method result's type. */
const char *describe_kind(json *type);

/* "pool_migrate" -> "pool-migrate"; with lower, "host_metrics" of a class, too. The
 * caller frees. */
char *describe_hyphens(const char *name, bool lower);

#endif
