/* SPDX-License-Identifier: BSD-2-Clause */
/* One message in words and in XML-RPC's types, for introspection. */
#include <stdio.h>
#include <stdlib.h>

#include "common/mem.h"
#include "schema/api.h"

/* What carries a value in XML: a number of 64 bits is text. */
static const char *
wire_type(const struct api_type *type)
{
	switch (type->kind) {
	case API_INT32:
		return "int";
	case API_FLOAT:
		return "double";
	case API_BOOL:
		return "boolean";
	case API_DATETIME:
		return "dateTime.iso8601";
	case API_SET:
		return "array";
	case API_MAP:
	case API_RECORD:
	case API_ANY:
		return "struct";
	default:
		return "string";
	}
}

static json *
signature(const struct api_message *m, size_t n_params)
{
	json *types = json_object_new_array();

	json_object_array_add(types, json_object_new_string(wire_type(m->result)));
	if (!(m->flags & API_NO_SESSION))
		json_object_array_add(types, json_object_new_string("string"));
	for (size_t i = 0; i < n_params; i++)
		json_object_array_add(types, json_object_new_string(wire_type(m->params[i].type)));
	return types;
}

json *
api_message_signatures(const struct api_message *m)
{
	json *all = json_object_new_array();

	for (size_t n = 0;; n++) {
		if (!m->params[n].name || m->params[n].dflt)
			json_object_array_add(all, signature(m, n));
		if (!m->params[n].name)
			return all;
	}
}

static void
print_params(FILE *out, const struct api_message *m)
{
	const char *comma = "";

	if (!(m->flags & API_NO_SESSION)) {
		fputs("session", out);
		comma = ", ";
	}
	for (const struct api_param *p = m->params; p->name; p++) {
		CLEANUP_FREE char *type = api_type_text(p->type);

		fprintf(out, "%s%s: %s%s%s", comma, p->name, type, p->dflt ? " = " : "",
			p->dflt ? p->dflt : "");
		comma = ", ";
	}
}

const char *
api_message_doc(const struct api_message *m)
{
	static const char *const docs[] = {
		[API_M_GET_RECORD] = "Every field of an object.",
		[API_M_GET_BY_UUID] = "The object that has a uuid.",
		[API_M_GET_BY_NAME_LABEL] = "The objects that have a name.",
		[API_M_GET_ALL] = "All objects of the class.",
		[API_M_GET_ALL_RECORDS] = "All objects of the class and their fields.",
		[API_M_GET_ALL_WHERE] = "The objects an expression selects.",
		[API_M_GET_ALL_RECORDS_WHERE] = "The objects an expression selects, and their fields.",
		[API_M_GET_FIELD] = "Read a field of an object.",
		[API_M_SET_FIELD] = "Write a field of an object.",
		[API_M_ADD_TO] = "Add a key to a map of an object.",
		[API_M_REMOVE_FROM] = "Remove a key from a map of an object; none is fine.",
		[API_M_ADD] = "Add a member to a set of an object.",
		[API_M_REMOVE] = "Remove a member from a set of an object; none is fine.",
	};

	return m->kind == API_M_METHOD ? m->method->doc : docs[m->kind];
}

char *
api_message_help(const struct api_message *m)
{
	CLEANUP_FREE char *result = api_type_text(m->result);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		abort();
	fprintf(out, "%s(", m->name);
	print_params(out, m);
	fprintf(out, ") -> %s\n%s", result, api_message_doc(m));
	if (m->field)
		fprintf(out, "\n%s: %s.", m->field->name, m->field->doc);
	for (const struct api_param *p = m->params; p->name; p++)
		fprintf(out, "\n%s: %s", p->name, p->doc);
	if (m->method && m->method->result_doc)
		fprintf(out, "\nresult: %s", m->method->result_doc);
	fprintf(out, "\nLeast role: %s", api_role_names[m->role]);
	if (m->flags & API_ASYNC)
		fprintf(out, "\nAsync.%s answers with a task.", m->name);
	for (const int *e = m->method ? m->method->errors : (const int[]){ -1 }; *e >= 0; e++)
		fprintf(out, "%s%s", e == m->method->errors ? "\nErrors: " : ", ",
			smd_error_decls[*e].code);
	if (fclose(out) != 0)
		abort();
	return text;
}
