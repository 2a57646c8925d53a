/* SPDX-License-Identifier: BSD-2-Clause */
/* The messages every class has, over the database (xapi-api: implied messages). */
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"

/* An object's uuid for an error's parameters; "" for one that is gone. */
static char *
object_uuid(struct call *call, const char *cls, const char *ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	char *uuid = NULL;

	if (db_get_str(call->daemon->db, cls, ref, "uuid", &uuid, &err) != 0)
		return smd_strdup("");
	return uuid;
}

static int
map_add(struct call *call, struct smd_error *err)
{
	const struct api_message *m = call->message;
	const char *cls = m->cls->name, *field = m->field->name;
	const char *ref = call_str(call, 0), *key = call_str(call, 1);
	struct db *db = call->daemon->db;
	CLEANUP_JSON json *map = NULL;

	if (db_get(db, cls, ref, field, &map, err) != 0)
		return -1;
	if (smd_json_member(map, key)) {
		CLEANUP_FREE char *uuid = object_uuid(call, cls, ref);

		return smd_fail_MAP_DUPLICATE_KEY(err, cls, field, uuid, key,
						  "%s of %s %s has the key %s already", field, cls,
						  uuid, key);
	}
	smd_json_set(map, key, json_object_get(call_arg(call, 2)));
	return db_set(db, cls, ref, field, map, err);
}

static int
map_remove(struct call *call, struct smd_error *err)
{
	const struct api_message *m = call->message;
	struct db *db = call->daemon->db;
	CLEANUP_JSON json *map = NULL;

	if (db_get(db, m->cls->name, call_str(call, 0), m->field->name, &map, err) != 0)
		return -1;
	if (!smd_json_member(map, call_str(call, 1)))
		return 0;
	json_object_object_del(map, call_str(call, 1));
	return db_set(db, m->cls->name, call_str(call, 0), m->field->name, map, err);
}

/* A set without the member, and with it at the end when add. */
static int
set_change(struct call *call, bool add, struct smd_error *err)
{
	const struct api_message *m = call->message;
	const char *ref = call_str(call, 0);
	CLEANUP_JSON json *changed = json_object_new_array();
	CLEANUP_JSON json *set = NULL;
	struct db *db = call->daemon->db;
	bool had = false;

	if (db_get(db, m->cls->name, ref, m->field->name, &set, err) != 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(set); i++) {
		json *member = json_object_array_get_idx(set, i);

		if (json_object_equal(member, call_arg(call, 1)))
			had = true;
		else
			json_object_array_add(changed, json_object_get(member));
	}
	if (had == add)
		return 0;
	if (add)
		json_object_array_add(changed, json_object_get(call_arg(call, 1)));
	return db_set(db, m->cls->name, ref, m->field->name, changed, err);
}

/* What reads a field before it writes it is one transaction. */
static int
change(struct call *call, struct smd_error *err)
{
	struct db *db = call->daemon->db;
	int rc;

	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	switch (call->message->kind) {
	case API_M_ADD_TO:
		rc = map_add(call, err);
		break;
	case API_M_REMOVE_FROM:
		rc = map_remove(call, err);
		break;
	default:
		rc = set_change(call, call->message->kind == API_M_ADD, err);
		break;
	}
	return db_end(db, rc, err);
}

static int
get_by_uuid(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *ref = NULL;

	if (db_by_uuid(call->daemon->db, call->message->cls->name, call_str(call, 0), &ref,
		       err) != 0)
		return -1;
	*ret = json_object_new_string(ref);
	return 0;
}

static int
generic(struct call *call, json **ret, struct smd_error *err)
{
	const struct api_message *m = call->message;
	struct db *db = call->daemon->db;
	const char *cls = m->cls->name;

	switch (m->kind) {
	case API_M_GET_RECORD:
		return db_get_record(db, cls, call_str(call, 0), ret, err);
	case API_M_GET_BY_UUID:
		return get_by_uuid(call, ret, err);
	case API_M_GET_BY_NAME_LABEL:
		return db_find(db, cls, "name_label", call_str(call, 0), ret, err);
	case API_M_GET_ALL:
		return db_all(db, cls, ret, err);
	case API_M_GET_ALL_RECORDS:
		return db_rows_open(db, cls, NULL, &call->rows, err);
	case API_M_GET_ALL_WHERE:
		return db_where(db, cls, call_str(call, 0), ret, err);
	case API_M_GET_ALL_RECORDS_WHERE:
		return db_rows_open(db, cls, call_str(call, 0), &call->rows, err);
	case API_M_GET_FIELD:
		return db_get(db, cls, call_str(call, 0), m->field->name, ret, err);
	case API_M_SET_FIELD:
		return db_set(db, cls, call_str(call, 0), m->field->name, call_arg(call, 1), err);
	case API_M_ADD_TO:
	case API_M_REMOVE_FROM:
	case API_M_ADD:
	case API_M_REMOVE:
		return change(call, err);
	case API_M_METHOD:
		break;
	}
	return smd_fail_MESSAGE_METHOD_UNKNOWN(err, m->name, "%s is no message of every class",
					       m->name);
}

const struct call_binding api_generic_handlers[] = {
	{ "*", generic },
	{ 0 },
};
