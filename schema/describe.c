/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables as text and as JSON, for people, clients and the manual. */
#include <string.h>

#include "common/mem.h"
#include "schema/api.h"

char *
api_type_text(const struct api_type *type)
{
	CLEANUP_FREE char *key = type->key ? api_type_text(type->key) : NULL;
	CLEANUP_FREE char *elem = type->elem ? api_type_text(type->elem) : NULL;

	switch (type->kind) {
	case API_VOID:
		return smd_strdup("void");
	case API_STRING:
		return smd_strdup("string");
	case API_INT:
	case API_INT32:
		return smd_strdup("int");
	case API_FLOAT:
		return smd_strdup("float");
	case API_BOOL:
		return smd_strdup("bool");
	case API_DATETIME:
		return smd_strdup("datetime");
	case API_ENUM:
		return smd_asprintf("enum %s", type->name);
	case API_REF:
		return smd_asprintf("%s ref", type->name);
	case API_SET:
		return smd_asprintf("%s set", elem);
	case API_MAP:
		return smd_asprintf("(%s -> %s) map", key, elem);
	case API_RECORD:
		return smd_asprintf("%s record", type->name);
	case API_ANY:
		break;
	}
	return smd_asprintf("<%s> record", type->name);
}

static void
set_true(json *obj, const char *key, unsigned flags, unsigned flag)
{
	if (flags & flag)
		smd_json_set_bool(obj, key, true);
}

static void
set_role(json *obj, enum api_role role)
{
	if (role != API_ROLE_UNSAID)
		smd_json_set_str(obj, "role", api_role_names[role]);
}

static json *describe_fields(const struct api_field *fields);

static json *
describe_type(const struct api_type *type)
{
	static const char *const kinds[] = {
		[API_VOID] = "void", [API_STRING] = "string", [API_INT] = "int",
		[API_INT32] = "int32", [API_FLOAT] = "float", [API_BOOL] = "bool",
		[API_DATETIME] = "datetime", [API_ENUM] = "enum", [API_REF] = "ref",
		[API_SET] = "set", [API_MAP] = "map", [API_RECORD] = "record", [API_ANY] = "any",
	};
	json *j = json_object_new_object();

	smd_json_set_str(j, "kind", kinds[type->kind]);
	if (type->name)
		smd_json_set_str(j, "name", type->name);
	if (type->key)
		smd_json_set(j, "key", describe_type(type->key));
	if (type->elem)
		smd_json_set(j, "elem", describe_type(type->elem));
	if (type->values) {
		json *values = json_object_new_array();

		for (const char *const *v = type->values; *v; v++)
			json_object_array_add(values, json_object_new_string(*v));
		smd_json_set(j, "values", values);
	}
	if (type->fields)
		smd_json_set(j, "fields", describe_fields(type->fields));
	return j;
}

static json *
describe_fields(const struct api_field *fields)
{
	static const char *const access[] = {
		[API_STATIC_RO] = "static_ro", [API_DYNAMIC_RO] = "dynamic_ro", [API_RW] = "rw",
	};
	json *list = json_object_new_array();

	for (const struct api_field *f = fields; f->name; f++) {
		json *j = json_object_new_object();

		smd_json_set_str(j, "name", f->name);
		smd_json_set(j, "type", describe_type(f->type));
		smd_json_set_str(j, "access", access[f->access]);
		smd_json_set_str(j, "doc", f->doc);
		if (f->dflt)
			smd_json_set(j, "default", api_value_default(f->type, f->dflt));
		if (f->inverse)
			smd_json_set_str(j, "inverse", f->inverse);
		set_true(j, "required", f->flags, API_REQUIRED);
		set_true(j, "derived", f->flags, API_DERIVED);
		set_true(j, "deprecated", f->flags, API_DEPRECATED);
		set_true(j, "prototype", f->flags, API_PROTOTYPE);
		set_true(j, "always_rw_map", f->flags, API_ALWAYS_RW_MAP);
		set_true(j, "optional", f->flags, API_OPTIONAL);
		set_true(j, "goes_with", f->flags, API_GOES_WITH);
		set_role(j, f->role);
		json_object_array_add(list, j);
	}
	return list;
}

static json *
describe_keys(const char *keys)
{
	json *list = json_object_new_array();

	while (*keys) {
		size_t len = strcspn(keys, " ");

		json_object_array_add(list, json_object_new_string_len(keys, (int)len));
		keys += len + strspn(keys + len, " ");
	}
	return list;
}

static json *
describe_params(const struct api_param *params)
{
	json *list = json_object_new_array();

	for (const struct api_param *p = params; p->name; p++) {
		json *j = json_object_new_object();

		smd_json_set_str(j, "name", p->name);
		smd_json_set(j, "type", describe_type(p->type));
		smd_json_set_str(j, "doc", p->doc);
		if (p->dflt)
			smd_json_set(j, "default", api_value_default(p->type, p->dflt));
		set_true(j, "rest", p->flags, API_PARAM_REST);
		if (p->keys)
			smd_json_set(j, "keys", describe_keys(p->keys));
		json_object_array_add(list, j);
	}
	return list;
}

static json *
describe_methods(const struct api_method *methods)
{
	json *list = json_object_new_array();

	for (const struct api_method *m = methods; m->name; m++) {
		json *j = json_object_new_object(), *errors = json_object_new_array();

		smd_json_set_str(j, "name", m->name);
		smd_json_set_str(j, "since", m->since);
		smd_json_set_str(j, "doc", m->doc);
		smd_json_set(j, "params", describe_params(m->params));
		smd_json_set(j, "result", describe_type(m->result ? m->result : &api_void));
		if (m->result_doc)
			smd_json_set_str(j, "result_doc", m->result_doc);
		for (const int *e = m->errors; *e >= 0; e++)
			json_object_array_add(errors,
					      json_object_new_string(smd_error_decls[*e].code));
		smd_json_set(j, "errors", errors);
		set_true(j, "async", m->flags, API_ASYNC);
		set_true(j, "no_session", m->flags, API_NO_SESSION);
		set_true(j, "hidden", m->flags, API_HIDDEN);
		set_true(j, "read_only", m->flags, API_READ_ONLY);
		set_true(j, "constructor", m->flags, API_CONSTRUCTOR);
		set_true(j, "bare_reply", m->flags, API_BARE_REPLY);
		set_role(j, m->role);
		json_object_array_add(list, j);
	}
	return list;
}

static json *
describe_errors(void)
{
	json *list = json_object_new_array();

	for (int i = 0; i < SMD_N_ERRORS; i++) {
		const struct smd_error_decl *d = &smd_error_decls[i];
		json *j = json_object_new_object(), *params = json_object_new_array();

		for (const char *const *p = d->params; *p; p++)
			json_object_array_add(params, json_object_new_string(*p));
		smd_json_set_str(j, "code", d->code);
		smd_json_set(j, "params", params);
		set_true(j, "any_number", d->n_params < 0, 1);
		smd_json_set_str(j, "text", d->text);
		json_object_array_add(list, j);
	}
	return list;
}

json *
api_describe(void)
{
	json *api = json_object_new_object(), *classes = json_object_new_array();

	for (size_t i = 0; api_classes[i]; i++) {
		const struct api_class *cls = api_classes[i];
		json *j = json_object_new_object();

		smd_json_set_str(j, "name", cls->name);
		smd_json_set_str(j, "doc", cls->doc);
		set_true(j, "no_records", cls->flags, API_NO_RECORDS);
		set_true(j, "no_get_all", cls->flags, API_NO_GET_ALL);
		set_true(j, "no_events", cls->flags, API_NO_EVENTS);
		set_true(j, "in_memory", cls->flags, API_IN_MEMORY);
		set_role(j, cls->role);
		smd_json_set(j, "fields", describe_fields(cls->fields));
		smd_json_set(j, "methods", describe_methods(cls->methods));
		json_object_array_add(classes, j);
	}
	smd_json_set(api, "classes", classes);
	smd_json_set(api, "errors", describe_errors());
	return api;
}
