/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/describe.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "common/mem.h"

json *
describe_item(json *obj, const char *list, size_t n)
{
	json *array = smd_json_member(obj, list);

	return json_object_is_type(array, json_type_array) ? json_object_array_get_idx(array, n) :
	       NULL;
}

size_t
describe_count(json *obj, const char *list)
{
	json *array = smd_json_member(obj, list);

	return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

json *
describe_find(json *obj, const char *list, const char *name)
{
	for (size_t i = 0; i < describe_count(obj, list); i++) {
		json *item = describe_item(obj, list, i);

		if (strcmp(describe_name(item), name) == 0)
			return item;
	}
	return NULL;
}

json *
describe_class(json *api, const char *name)
{
	for (size_t i = 0; i < describe_count(api, "classes"); i++) {
		json *cls = describe_item(api, "classes", i);

		if (strcasecmp(describe_name(cls), name) == 0)
			return cls;
	}
	return NULL;
}

bool
describe_has_objects(json *cls)
{
	return !smd_json_bool(cls, "no_records", false) &&
	       !smd_json_bool(cls, "no_get_all", false);
}

const char *
describe_kind(json *type)
{
	return smd_json_str(type, "kind", "void");
}

char *
describe_hyphens(const char *name, bool lower)
{
	char *ret = smd_strdup(name);

	for (char *p = ret; *p; p++) {
		if (*p == '_')
			*p = '-';
		else if (lower)
			*p = (char)tolower((unsigned char)*p);
	}
	return ret;
}
