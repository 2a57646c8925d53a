/* SPDX-License-Identifier: BSD-2-Clause */
/* Looking classes and fields up by name. */
#include <string.h>
#include <strings.h>

#include "schema/api.h"

const struct api_class *
api_class_find(const char *name, bool any_case)
{
	for (size_t i = 0; api_classes[i]; i++) {
		const char *have = api_classes[i]->name;

		if (any_case ? strcasecmp(have, name) == 0 : strcmp(have, name) == 0)
			return api_classes[i];
	}
	return NULL;
}

const struct api_field *
api_field_find(const struct api_class *cls, const char *name)
{
	for (const struct api_field *f = cls->fields; f->name; f++) {
		if (strcmp(f->name, name) == 0)
			return f;
	}
	return NULL;
}
