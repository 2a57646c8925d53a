/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/names.h"

#include <string.h>

#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/cli/describe.h"

struct names {
	struct server *server;
	json *api;
	json *classes;		/* class -> { ref -> record } */
};

struct names *
names_new(struct server *server, json *api)
{
	struct names *n = smd_calloc(1, sizeof *n);

	n->server = server;
	n->api = api;
	n->classes = json_object_new_object();
	return n;
}

void
names_free(struct names *names)
{
	if (!names)
		return;
	json_object_put(names->classes);
	free(names);
}

void
names_learn(struct names *names, const char *cls, json *records)
{
	smd_json_set(names->classes, cls, json_object_get(records));
}

/* Trouble here makes a name unknown and fails nothing: the record that refers to
 * it is still worth showing. */
json *
names_records(struct names *names, const char *cls)
{
	json *records = smd_json_member(names->classes, cls), *desc;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *method = NULL;

	if (records || !names->server)
		return records;
	desc = describe_class(names->api, cls);
	if (!desc || !describe_has_objects(desc))
		return NULL;
	method = smd_asprintf("%s.get_all_records", cls);
	if (server_call(names->server, method, NULL, &records, &err) < 0)
		records = json_object_new_object();
	smd_json_set(names->classes, cls, records);
	return records;
}

json *
names_record(struct names *names, const char *cls, const char *ref)
{
	json *records = names_records(names, cls);

	return json_object_is_type(records, json_type_object) ? smd_json_member(records, ref) :
	       NULL;
}

const char *
names_uuid(struct names *names, const char *cls, const char *ref)
{
	return smd_json_str(names_record(names, cls, ref), "uuid", NAMES_NOT_FOUND);
}

const char *
names_label(struct names *names, const char *cls, const char *ref)
{
	return smd_json_str(names_record(names, cls, ref), "name_label", NAMES_NOT_FOUND);
}

/* The one object with this name; -1 without an error: none has it. */
static int
names_by_label(struct names *names, const char *cls, const char *label, char **ret_ref,
	       struct smd_error *err)
{
	CLEANUP_FREE char *method = smd_asprintf("%s.get_by_name_label", cls);
	json *desc = describe_class(names->api, cls);
	CLEANUP_JSON json *refs = NULL;
	size_t n;

	if (!desc || !describe_find(desc, "fields", "name_label"))
		return -1;
	if (server_call(names->server, method, server_strings(label, NULL), &refs, err) < 0)
		return -1;
	n = json_object_is_type(refs, json_type_array) ? json_object_array_length(refs) : 0;
	if (n > 1)
		return cli_fail(err, "%zu objects of class %s have the name \"%s\": give the uuid",
				n, cls, label);
	if (n == 0)
		return -1;
	*ret_ref = smd_strdup(describe_text(json_object_array_get_idx(refs, 0)));
	return 0;
}

int
names_resolve(struct names *names, const char *cls, const char *text, char **ret_ref,
	      struct smd_error *err)
{
	CLEANUP_FREE char *method = smd_asprintf("%s.get_by_uuid", cls);

	if (strncmp(text, "OpaqueRef:", strlen("OpaqueRef:")) == 0) {
		*ret_ref = smd_strdup(text);
		return 0;
	}
	if (!smd_uuid_ok(text)) {
		if (names_by_label(names, cls, text, ret_ref, err) == 0)
			return 0;
		if (err->code)
			return -1;
	}
	if (server_call_str(names->server, method, server_strings(text, NULL), ret_ref, err) == 0)
		return 0;
	if (smd_uuid_ok(text) || !smd_error_is(err, SMD_E_UUID_INVALID))
		return -1;
	smd_error_clear(err);
	return cli_fail(err, "No %s has the uuid or the name \"%s\"", cls, text);
}

char *
names_describe_ref(struct names *names, const char *ref)
{
	for (size_t i = 0; i < describe_count(names->api, "classes"); i++) {
		const char *cls = describe_name(describe_item(names->api, "classes", i));
		json *record = names_record(names, cls, ref);
		const char *label = smd_json_str(record, "name_label", NULL);

		if (!record)
			continue;
		if (label)
			return smd_asprintf("%s (%s)", smd_json_str(record, "uuid", ""), label);
		return smd_strdup(smd_json_str(record, "uuid", ""));
	}
	return NULL;
}
