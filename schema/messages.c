/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The messages of the API: the methods the classes declare, and those every
 * class with records has. Made once, from the tables, at first use.
 */
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "schema/api.h"

/* The types that follow from a class. */
struct class_types {
	struct api_type ref, set, record, records;
};

static struct {
	struct api_message *all;	/* in listMethods' order */
	size_t n, size;
	struct api_message **by_name;
	struct class_types *types;	/* beside api_classes */
} table;
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static const struct api_param no_params[] = { { 0 } };
static const struct api_param uuid_params[] = {
	{ "uuid", &api_string, .doc = "its uuid" }, { 0 }
};
static const struct api_param label_params[] = {
	{ "label", &api_string, .doc = "the name" }, { 0 }
};
static const struct api_param expr_params[] = {
	{ "expr", &api_string, .doc = "field \"name\" = \"value\", and, or, not, true, false" }, { 0 }
};

static struct api_param *
make_params(const struct api_param *self, const struct api_param *a, const struct api_param *b)
{
	const struct api_param *given[] = { self, a, b };
	struct api_param *params = smd_calloc(4, sizeof *params);
	size_t n = 0;

	for (size_t i = 0; i < 3; i++) {
		if (given[i])
			params[n++] = *given[i];
	}
	return params;
}

static const struct api_method *
method_find(const struct api_class *cls, const char *name)
{
	for (const struct api_method *m = cls->methods; m->name; m++) {
		if (strcmp(m->name, name) == 0)
			return m;
	}
	return NULL;
}

/* The first of what is said: by the message itself, by its class. */
static enum api_role
role_of(enum api_role own, const struct api_class *cls)
{
	if (own != API_ROLE_UNSAID)
		return own;
	return cls->role != API_ROLE_UNSAID ? cls->role : API_POOL_ADMIN;
}

/* A declared method of the name takes the implied one's place. */
static void
add_implied(const struct api_class *cls, enum api_message_kind kind, const char *verb,
	    const struct api_field *field, const struct api_param *params,
	    const struct api_type *result)
{
	CLEANUP_FREE char *name = smd_asprintf("%s%s", verb, field ? field->name : "");

	if (method_find(cls, name))
		return;
	table.all[table.n++] = (struct api_message){
		.kind = kind, .cls = cls, .field = field, .params = params, .result = result,
		.flags = kind < API_M_SET_FIELD ? API_READ_ONLY : 0,
		.name = smd_asprintf("%s.%s", cls->name, name),
		.role = kind < API_M_SET_FIELD ? API_READER : role_of(field->role, cls),
	};
}

static void
add_declared(const struct api_class *cls, const struct api_method *method)
{
	table.all[table.n++] = (struct api_message){
		.kind = API_M_METHOD, .cls = cls, .method = method, .params = method->params,
		.result = method->result ? method->result : &api_void, .flags = method->flags,
		.name = smd_asprintf("%s.%s", cls->name, method->name),
		.role = method->role == API_ROLE_UNSAID && (method->flags & API_READ_ONLY) ?
			API_READER : role_of(method->role, cls),
	};
}

static void
add_setters(const struct api_class *cls, const struct api_field *f, const struct api_param *self)
{
	const struct api_type *t = f->type;
	struct api_param value = { "value", t, .doc = "the new value" };

	if (f->access != API_RW && !(f->flags & API_ALWAYS_RW_MAP))
		return;
	add_implied(cls, API_M_SET_FIELD, "set_", f, make_params(self, &value, NULL), &api_void);
	if (t->kind == API_MAP) {
		struct api_param key = { "key", t->key, .doc = "the key" };
		struct api_param elem = { "value", t->elem, .doc = "its value" };

		add_implied(cls, API_M_ADD_TO, "add_to_", f, make_params(self, &key, &elem),
			    &api_void);
		add_implied(cls, API_M_REMOVE_FROM, "remove_from_", f,
			    make_params(self, &key, NULL), &api_void);
	} else if (t->kind == API_SET) {
		struct api_param elem = { "value", t->elem, .doc = "the member" };

		add_implied(cls, API_M_ADD, "add_", f, make_params(self, &elem, NULL), &api_void);
		add_implied(cls, API_M_REMOVE, "remove_", f, make_params(self, &elem, NULL),
			    &api_void);
	}
}

static void
add_records(const struct api_class *cls, struct class_types *t)
{
	struct api_param object = { "self", &t->ref, .doc = "the object" };
	const struct api_param *self = make_params(&object, NULL, NULL);

	t->ref = (struct api_type){ API_REF, .name = cls->name };
	t->set = (struct api_type)API_SET_OF(t->ref);
	t->record = (struct api_type){ API_RECORD, .name = cls->name };
	t->records = (struct api_type){ API_MAP, .key = &t->ref, .elem = &t->record };

	add_implied(cls, API_M_GET_RECORD, "get_record", NULL, self, &t->record);
	add_implied(cls, API_M_GET_BY_UUID, "get_by_uuid", NULL, uuid_params, &t->ref);
	if (!(cls->flags & API_NO_GET_ALL)) {
		if (api_field_find(cls, "name_label"))
			add_implied(cls, API_M_GET_BY_NAME_LABEL, "get_by_name_label", NULL,
				    label_params, &t->set);
		add_implied(cls, API_M_GET_ALL, "get_all", NULL, no_params, &t->set);
		add_implied(cls, API_M_GET_ALL_RECORDS, "get_all_records", NULL, no_params,
			    &t->records);
		add_implied(cls, API_M_GET_ALL_WHERE, "get_all_where", NULL, expr_params, &t->set);
		add_implied(cls, API_M_GET_ALL_RECORDS_WHERE, "get_all_records_where", NULL,
			    expr_params, &t->records);
	}
	for (const struct api_field *f = cls->fields; f->name; f++) {
		add_implied(cls, API_M_GET_FIELD, "get_", f, self, f->type);
		add_setters(cls, f, self);
	}
}

static int
compare_messages(const void *a, const void *b)
{
	const struct api_message *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static int
compare_name(const void *name, const void *message)
{
	const struct api_message *const *m = message;

	return strcmp(name, (*m)->name);
}

static void
make_table(void)
{
	size_t n_classes = 0;

	for (; api_classes[n_classes]; n_classes++) {
		const struct api_class *cls = api_classes[n_classes];

		for (const struct api_method *m = cls->methods; m->name; m++)
			table.size++;
		table.size += 7;	/* get_record … get_all_records_where */
		for (const struct api_field *f = cls->fields; f->name; f++)
			table.size += 4;	/* its getter, and three that set at most */
	}
	table.all = smd_calloc(table.size, sizeof *table.all);
	table.types = smd_calloc(n_classes, sizeof *table.types);
	for (size_t i = 0; i < n_classes; i++) {
		const struct api_class *cls = api_classes[i];

		for (const struct api_method *m = cls->methods; m->name; m++)
			add_declared(cls, m);
		if (!(cls->flags & API_NO_RECORDS))
			add_records(cls, &table.types[i]);
	}

	table.by_name = smd_calloc(table.n, sizeof *table.by_name);
	for (size_t i = 0; i < table.n; i++)
		table.by_name[i] = &table.all[i];
	qsort(table.by_name, table.n, sizeof *table.by_name, compare_messages);
}

static const struct api_message *
find_exact(const char *name)
{
	struct api_message **found = bsearch(name, table.by_name, table.n, sizeof *table.by_name,
					     compare_name);

	return found ? *found : NULL;
}

const struct api_message *
api_message_find(const char *name)
{
	const struct api_message *found;

	pthread_once(&table_once, make_table);
	found = find_exact(name);
	for (size_t i = 0; !found && api_classes[i]; i++) {
		size_t len = strlen(api_classes[i]->name);

		if (strncmp(name, api_classes[i]->name, len) == 0 && name[len] == '_') {
			CLEANUP_FREE char *dotted = smd_strdup(name);

			dotted[len] = '.';
			found = find_exact(dotted);
		}
	}
	return found;
}

void
api_messages(api_message_fn *each, void *opaque)
{
	pthread_once(&table_once, make_table);
	for (size_t i = 0; i < table.n; i++) {
		if (!(table.all[i].flags & API_HIDDEN))
			each(opaque, &table.all[i]);
	}
}
