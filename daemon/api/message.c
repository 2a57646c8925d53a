/* SPDX-License-Identifier: BSD-2-Clause */
/* message: what happened to an object, kept until it is destroyed or too old. */
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "schema/datetime.h"

#define MESSAGES_MAX 10000	/* the oldest make room, as in xapi */

/* Classes are spelt as people write them: "Host" is host. */
static int
check_object(struct db *db, const char *cls, const char *uuid, struct smd_error *err)
{
	const struct api_class *found = api_class_find(cls, true);
	struct smd_error unknown CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *ref = NULL;

	if (found && db_by_uuid(db, found->name, uuid, &ref, &unknown) == 0)
		return 0;
	return smd_fail_UUID_INVALID(err, cls, uuid, "no %s has the uuid %s", cls, uuid);
}

/* Rows come in the order they were made. */
static int
make_room(struct db *db, struct smd_error *err)
{
	CLEANUP_JSON json *refs = NULL;
	size_t n;

	if (db_all(db, "message", &refs, err) != 0)
		return -1;
	n = json_object_array_length(refs);
	for (size_t i = 0; n - i >= MESSAGES_MAX; i++) {
		if (db_delete(db, "message",
			      json_object_get_string(json_object_array_get_idx(refs, i)), err) != 0)
			return -1;
	}
	return 0;
}

static int
message_create(struct call *call, json **ret, struct smd_error *err)
{
	struct db *db = call->daemon->db;
	CLEANUP_JSON json *row = json_object_new_object();
	CLEANUP_FREE char *ref = db_new_ref(), *now = db_now();
	int rc;

	if (check_object(db, call_str(call, 2), call_str(call, 3), err) != 0)
		return -1;
	smd_json_set_str(row, "name", call_str(call, 0));
	smd_json_set_int(row, "priority", call_int(call, 1));
	smd_json_set_str(row, "cls", call_str(call, 2));
	smd_json_set_str(row, "obj_uuid", call_str(call, 3));
	smd_json_set_str(row, "body", call_str(call, 4));
	smd_json_set_str(row, "timestamp", now);
	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	rc = make_room(db, err);
	if (rc == 0)
		rc = db_insert(db, "message", ref, row, err);
	if (db_end(db, rc, err) != 0)
		return -1;
	*ret = json_object_new_string(ref);
	return 0;
}

static int
message_destroy(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return db_delete(call->daemon->db, "message", call_str(call, 0), err);
}

static int
delete_messages(struct db *db, json *refs, struct smd_error *err)
{
	int rc = 0;

	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(refs) && rc == 0; i++)
		rc = db_delete(db, "message",
			       json_object_get_string(json_object_array_get_idx(refs, i)), err);
	return db_end(db, rc, err);
}

static int
message_destroy_many(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return delete_messages(call->daemon->db, call_arg(call, 0), err);
}

/* ---- Choosing ---------------------------------------------------------------------- */

/* What a message must have to be chosen; NULL: anything. Datetimes in normal form
 * compare as text. */
struct choice {
	const char *cls, *obj_uuid, *since;
	char after[API_DATETIME_LEN + 1], before[API_DATETIME_LEN + 1];	/* "": any time */
	bool has_priority;
	int64_t priority;
};

static bool
chosen(const struct choice *c, json *row)
{
	const char *time = smd_json_str(row, "timestamp", "");

	return (!c->cls || strcmp(c->cls, smd_json_str(row, "cls", "")) == 0) &&
	       (!c->obj_uuid || strcmp(c->obj_uuid, smd_json_str(row, "obj_uuid", "")) == 0) &&
	       (!c->since || strcmp(time, c->since) >= 0) &&
	       (!*c->after || strcmp(time, c->after) > 0) &&
	       (!*c->before || strcmp(time, c->before) < 0) &&
	       (!c->has_priority || c->priority == smd_json_int(row, "priority", 0));
}

static int
choose(struct call *call, const struct choice *c, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *all = NULL, *found = json_object_new_object();

	if (db_all_records(call->daemon->db, "message", NULL, &all, err) != 0)
		return -1;
	json_object_object_foreach(all, ref, row) {
		if (chosen(c, row))
			smd_json_set(found, ref, json_object_get(row));
	}
	*ret = TAKE_PTR(found);
	return 0;
}

static int
message_get(struct call *call, json **ret, struct smd_error *err)
{
	struct choice c = {
		.cls = call_str(call, 0), .obj_uuid = call_str(call, 1), .since = call_str(call, 2),
	};

	return choose(call, &c, ret, err);
}

static int
message_get_since(struct call *call, json **ret, struct smd_error *err)
{
	struct choice c = { .since = call_str(call, 0) };

	return choose(call, &c, ret, err);
}

static int
parse_filter(struct choice *c, const char *key, const char *value, struct smd_error *err)
{
	char *end;

	if ((strcmp(key, "before") == 0 && api_datetime_normal(value, c->before)) ||
	    (strcmp(key, "after") == 0 && api_datetime_normal(value, c->after)))
		return 0;
	if (strcmp(key, "priority") == 0) {
		c->priority = strtoll(value, &end, 10);
		c->has_priority = true;
		if (*value && !*end)
			return 0;
	}
	return smd_fail_INVALID_VALUE(err, key, value,
				      "the filter %s=%s is none of before, after and priority", key,
				      value);
}

static int
message_destroy_all(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *found = NULL, *refs = json_object_new_array();
	struct choice c = { 0 };

	(void)ret;
	json_object_object_foreach(call_arg(call, 0), key, value) {
		if (parse_filter(&c, key, json_object_get_string(value), err) != 0)
			return -1;
	}
	if (choose(call, &c, &found, err) != 0)
		return -1;
	json_object_object_foreach(found, ref, row) {
		(void)row;
		json_object_array_add(refs, json_object_new_string(ref));
	}
	return delete_messages(call->daemon->db, refs, err);
}

const struct call_binding api_message_handlers[] = {
	{ "message.create", message_create },
	{ "message.destroy", message_destroy },
	{ "message.destroy_all", message_destroy_all },
	{ "message.destroy_many", message_destroy_many },
	{ "message.get", message_get },
	{ "message.get_since", message_get_since },
	{ NULL, NULL },
};
