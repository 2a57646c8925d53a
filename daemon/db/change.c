/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Changing and deleting rows. Each change gives its object, and the objects whose
 * derived fields it moves, a new generation; making rows is daemon/db/insert.c.
 */
#include "daemon/db/private.h"

#include <string.h>

#include "common/mem.h"

static int
fail_gone(const struct db_class *cls, const char *ref, struct smd_error *err)
{
	return smd_fail_HANDLE_INVALID(err, cls->api->name, ref, "there is no %s %s",
				       cls->api->name, ref);
}

/* ---- Delete -------------------------------------------------------------------- */

static int
created_generation(struct db *db, struct db_class *cls, const char *ref, uint64_t *ret,
		   struct smd_error *err)
{
	DB_STMT *stmt = db_prepare(db, &cls->stmts[DB_STMT_GENERATIONS], err,
				   "SELECT created_gen FROM \"%w\" WHERE ref = ?", cls->api->name);
	int rc;

	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, ref);
	rc = db_step(db, stmt, err);
	if (rc == 0)
		return fail_gone(cls, ref, err);
	if (rc < 0)
		return -1;
	*ret = (uint64_t)sqlite3_column_int64(stmt, 0);
	return 0;
}

static int
touch_targets(struct db *db, struct db_class *cls, const char *ref, struct smd_error *err)
{
	for (size_t i = 0; i < cls->n_fields; i++) {
		CLEANUP_FREE char *target = NULL;

		if (!cls->fields[i].target)
			continue;
		if (db_get_str(db, cls->api->name, ref, cls->fields[i].api->name, &target, err) != 0 ||
		    db_touch_target(db, &cls->fields[i], target, err) != 0)
			return -1;
	}
	return 0;
}

static int delete_row(struct db *db, struct db_class *cls, const char *ref, struct smd_error *err);

/* The objects whose API_GOES_WITH field points to this one. */
static int
delete_followers(struct db *db, struct db_class *cls, const char *ref, struct smd_error *err)
{
	for (size_t i = 0; i < cls->n_fields; i++) {
		const struct db_field *f = &cls->fields[i];
		CLEANUP_JSON json *refs = NULL;

		if (!f->pointer || !(f->pointer->api->flags & API_GOES_WITH))
			continue;
		if (db_find(db, f->from->api->name, f->pointer->api->name, ref, &refs, err) != 0)
			return -1;
		for (size_t j = 0; j < json_object_array_length(refs); j++) {
			json *follower = json_object_array_get_idx(refs, j);

			if (delete_row(db, f->from, json_object_get_string(follower), err) != 0)
				return -1;
		}
	}
	return 0;
}

static int
delete_row(struct db *db, struct db_class *cls, const char *ref, struct smd_error *err)
{
	sqlite3_stmt *stmt;
	uint64_t created;

	if (created_generation(db, cls, ref, &created, err) != 0 ||
	    delete_followers(db, cls, ref, err) != 0 || touch_targets(db, cls, ref, err) != 0)
		return -1;
	stmt = db_prepare(db, &cls->stmts[DB_STMT_DELETE], err,
			  "DELETE FROM \"%w\" WHERE ref = ?", cls->api->name);
	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, ref);
	if (db_run(db, stmt, err) != 0)
		return -1;
	return db_log_deletion(db, cls, ref, created, err);
}

int
db_delete(struct db *db, const char *class_name, const char *ref, struct smd_error *err)
{
	struct db_class *cls = db_class(db, class_name, err);

	if (!cls || db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, delete_row(db, cls, ref, err), err);
}

/* ---- Fields -------------------------------------------------------------------- */

static int
get_stored(struct db *db, struct db_class *cls, struct db_field *field, const char *ref,
	   json **ret, struct smd_error *err)
{
	DB_STMT *stmt = db_prepare(db, &field->get, err, "SELECT \"%w\" FROM \"%w\" WHERE ref = ?",
				   field->api->name, cls->api->name);
	int rc;

	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, ref);
	rc = db_step(db, stmt, err);
	if (rc == 0)
		return fail_gone(cls, ref, err);
	return rc < 0 ? -1 : db_column(db, stmt, 0, field->api, ret, err);
}

int
db_get(struct db *db, const char *class_name, const char *ref, const char *field_name, json **ret,
       struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	struct db_class *cls = db_class(db, class_name, err);
	struct db_field *field = cls ? db_field(cls, field_name, err) : NULL;

	if (!field)
		return -1;
	if (field->column >= 0)
		return get_stored(db, cls, field, ref, ret, err);
	if (!db_exists(db, class_name, ref))
		return fail_gone(cls, ref, err);
	return db_inverse(db, cls, field, ref, NULL, ret, err);
}

static int
update_field(struct db *db, struct db_class *cls, struct db_field *field, const char *ref,
	     json *value, struct smd_error *err)
{
	DB_STMT *stmt = db_prepare(db, &field->set, err,
				   "UPDATE \"%w\" SET \"%w\" = ?, modified_gen = ? WHERE ref = ?",
				   cls->api->name, field->api->name);
	CLEANUP_VALUE struct db_value told = { 0 };

	if (!stmt || db_value(field->api, value, &told, err) != 0 ||
	    db_bind_value(stmt, 1, field->api, &told, err) != 0)
		return -1;
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)db_next_generation(db, cls));
	db_bind_text(stmt, 3, ref);
	return db_run(db, stmt, err);
}

/* The value that is there already changes nothing and makes no event. */
static int
set_field(struct db *db, struct db_class *cls, struct db_field *field, const char *ref,
	  json *value, struct smd_error *err)
{
	CLEANUP_JSON json *old = NULL;

	if (get_stored(db, cls, field, ref, &old, err) != 0)
		return -1;
	if (json_object_equal(old, value))
		return 0;
	if (update_field(db, cls, field, ref, value, err) != 0)
		return -1;
	if (!field->target)
		return 0;
	if (db_touch_target(db, field, json_object_get_string(old), err) != 0)
		return -1;
	return db_touch_target(db, field, json_object_get_string(value), err);
}

int
db_set(struct db *db, const char *class_name, const char *ref, const char *field_name,
       json *value, struct smd_error *err)
{
	struct db_class *cls = db_class(db, class_name, err);
	struct db_field *field = cls ? db_field(cls, field_name, err) : NULL;

	if (!field)
		return -1;
	if (field->column < 0)
		return smd_fail_INTERNAL_ERROR(err, field_name, "%s.%s is not stored", class_name,
					       field_name);
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, set_field(db, cls, field, ref, value, err), err);
}

static int
touch_row(struct db *db, struct db_class *cls, const char *ref, struct smd_error *err)
{
	uint64_t created;
	sqlite3_stmt *stmt;

	if (created_generation(db, cls, ref, &created, err) != 0)
		return -1;
	stmt = db_prepare(db, &cls->stmts[DB_STMT_TOUCH], err,
			  "UPDATE \"%w\" SET modified_gen = ? WHERE ref = ?", cls->api->name);
	if (!stmt)
		return -1;
	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)db_next_generation(db, cls));
	db_bind_text(stmt, 2, ref);
	return db_run(db, stmt, err);
}

int
db_touch(struct db *db, const char *class_name, const char *ref, struct smd_error *err)
{
	struct db_class *cls = db_class(db, class_name, err);

	if (!cls || db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, touch_row(db, cls, ref, err), err);
}

int
db_touch_target(struct db *db, struct db_field *field, const char *ref, struct smd_error *err)
{
	if (strcmp(ref, API_NULL_REF) == 0 ||
	    (db->touched_class == field->target && strcmp(db->touched, ref) == 0) ||
	    !db_exists(db, field->target->api->name, ref))
		return 0;	/* nothing, touched already, or gone */
	if (touch_row(db, field->target, ref, err) != 0)
		return -1;
	free(db->touched);
	db->touched = smd_strdup(ref);
	db->touched_class = field->target;
	return 0;
}

/* ---- Shorthands ---------------------------------------------------------------- */

int
db_get_str(struct db *db, const char *cls, const char *ref, const char *field, char **ret,
	   struct smd_error *err)
{
	CLEANUP_JSON json *value = NULL;

	if (db_get(db, cls, ref, field, &value, err) != 0)
		return -1;
	*ret = smd_strdup(json_object_get_string(value));
	return 0;
}

int
db_get_int(struct db *db, const char *cls, const char *ref, const char *field, int64_t *ret,
	   struct smd_error *err)
{
	CLEANUP_JSON json *value = NULL;

	if (db_get(db, cls, ref, field, &value, err) != 0)
		return -1;
	*ret = json_object_get_int64(value);
	return 0;
}

int
db_get_bool(struct db *db, const char *cls, const char *ref, const char *field, bool *ret,
	    struct smd_error *err)
{
	CLEANUP_JSON json *value = NULL;

	if (db_get(db, cls, ref, field, &value, err) != 0)
		return -1;
	*ret = json_object_get_boolean(value);
	return 0;
}

int
db_set_str(struct db *db, const char *cls, const char *ref, const char *field, const char *value,
	   struct smd_error *err)
{
	CLEANUP_JSON json *j = json_object_new_string(value ? value : "");

	return db_set(db, cls, ref, field, j, err);
}

int
db_set_int(struct db *db, const char *cls, const char *ref, const char *field, int64_t value,
	   struct smd_error *err)
{
	CLEANUP_JSON json *j = json_object_new_int64(value);

	return db_set(db, cls, ref, field, j, err);
}

int
db_set_bool(struct db *db, const char *cls, const char *ref, const char *field, bool value,
	    struct smd_error *err)
{
	CLEANUP_JSON json *j = json_object_new_boolean(value);

	return db_set(db, cls, ref, field, j, err);
}

int
db_map_get(struct db *db, const char *cls, const char *ref, const char *field, const char *key,
	   char **ret, struct smd_error *err)
{
	CLEANUP_JSON json *map = NULL;
	json *value;

	if (db_get(db, cls, ref, field, &map, err) != 0)
		return -1;
	value = smd_json_member(map, key);
	*ret = value ? smd_strdup(json_object_get_string(value)) : NULL;
	return 0;
}

/* value NULL: remove. */
static int
map_change(struct db *db, const char *cls, const char *ref, const char *field, const char *key,
	   const char *value, struct smd_error *err)
{
	CLEANUP_JSON json *map = NULL;

	if (db_get(db, cls, ref, field, &map, err) != 0)
		return -1;
	if (value)
		smd_json_set_str(map, key, value);
	else
		json_object_object_del(map, key);
	return db_set(db, cls, ref, field, map, err);
}

int
db_map_set(struct db *db, const char *cls, const char *ref, const char *field, const char *key,
	   const char *value, struct smd_error *err)
{
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, map_change(db, cls, ref, field, key, value ? value : "", err), err);
}

int
db_map_remove(struct db *db, const char *cls, const char *ref, const char *field, const char *key,
	      struct smd_error *err)
{
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, map_change(db, cls, ref, field, key, NULL, err), err);
}
