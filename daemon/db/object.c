/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects as rows: scalars as sqlite's own types, sets and maps as JSON text.
 */
#include "daemon/db/private.h"

#include <string.h>

#include "common/mem.h"
#include "common/uuid.h"

/* ---- One value ----------------------------------------------------------------- */

/* A text is the value's, or printed anew. */
int
db_value(const struct api_field *field, json *value, struct db_value *ret, struct smd_error *err)
{
	enum json_type is = json_object_get_type(value);

	*ret = (struct db_value){ .is = DB_TEXT };
	switch (field->type->kind) {
	case API_INT:
	case API_INT32:
	case API_BOOL:
		if (is != (field->type->kind == API_BOOL ? json_type_boolean : json_type_int))
			break;
		ret->is = DB_INTEGER;
		ret->integer = json_object_get_int64(value);
		return 0;
	case API_FLOAT:
		if (is != json_type_double && is != json_type_int)
			break;
		ret->is = DB_REAL;
		ret->real = json_object_get_double(value);
		return 0;
	case API_SET:
	case API_MAP:
	case API_RECORD:
		if (is != (field->type->kind == API_SET ? json_type_array : json_type_object))
			break;
		ret->text = ret->printed = smd_json_print(value);
		ret->len = strlen(ret->text);
		return 0;
	default:
		if (is != json_type_string)
			break;
		ret->text = json_object_get_string(value);
		ret->len = (size_t)json_object_get_string_len(value);
		return 0;
	}
	return smd_fail_INTERNAL_ERROR(err, field->name,
				       "field %s cannot hold a value of JSON's type %s",
				       field->name, json_type_to_name(is));
}

/* A text is not copied: it lives until the statement has run. */
int
db_bind_value(sqlite3_stmt *stmt, int n, const struct api_field *field,
	      const struct db_value *value, struct smd_error *err)
{
	int rc;

	if (value->is == DB_INTEGER)
		rc = sqlite3_bind_int64(stmt, n, value->integer);
	else if (value->is == DB_REAL)
		rc = sqlite3_bind_double(stmt, n, value->real);
	else
		rc = sqlite3_bind_text64(stmt, n, value->text, value->len, SQLITE_STATIC,
					 SQLITE_UTF8);
	if (rc == SQLITE_OK)
		return 0;
	return smd_fail_INTERNAL_ERROR(err, field->name, "field %s cannot hold this: %s",
				       field->name, sqlite3_errstr(rc));
}

/* Most sets and maps are empty: no parser for those. */
static json *
json_from_column(struct db *db, const char *text, int len)
{
	json *value;

	if (strcmp(text, "{}") == 0)
		return json_object_new_object();
	if (strcmp(text, "[]") == 0)
		return json_object_new_array_ext(0);
	json_tokener_reset(db->tokener);
	value = json_tokener_parse_ex(db->tokener, text, len);
	if (json_tokener_get_error(db->tokener) != json_tokener_success) {
		json_object_put(value);
		return NULL;
	}
	return value;
}

int
db_column(struct db *db, sqlite3_stmt *stmt, int n, const struct api_field *field, json **ret,
	  struct smd_error *err)
{
	const char *text;
	json *value;

	switch (field->type->kind) {
	case API_INT:
	case API_INT32:
		value = json_object_new_int64(sqlite3_column_int64(stmt, n));
		break;
	case API_BOOL:
		value = json_object_new_boolean(sqlite3_column_int(stmt, n) != 0);
		break;
	case API_FLOAT:
		value = json_object_new_double(sqlite3_column_double(stmt, n));
		break;
	case API_SET:
	case API_MAP:
	case API_RECORD:
		text = db_column_text(stmt, n);
		value = json_from_column(db, text, sqlite3_column_bytes(stmt, n));
		if (!value)
			return smd_fail_INTERNAL_ERROR(err, field->name,
						       "field %s holds no JSON: %.80s",
						       field->name, text);
		break;
	default:
		text = db_column_text(stmt, n);
		value = json_object_new_string_len(text, sqlite3_column_bytes(stmt, n));
		break;
	}
	*ret = value;
	return 0;
}

/* ---- Records ------------------------------------------------------------------- */

char *
db_record_columns(const struct db_class *cls)
{
	sqlite3_str *text = sqlite3_str_new(NULL);
	char *copy;

	sqlite3_str_appendall(text, "ref");
	for (size_t i = 0; i < cls->n_fields; i++) {
		if (cls->fields[i].column >= 0)
			sqlite3_str_appendf(text, ", \"%w\"", cls->fields[i].api->name);
	}
	sqlite3_str_appendall(text, ", created_gen, modified_gen");
	copy = smd_strdup(sqlite3_str_value(text));
	sqlite3_free(sqlite3_str_finish(text));
	return copy;
}

int
db_created_column(const struct db_class *cls)
{
	int n = 1;

	for (size_t i = 0; i < cls->n_fields; i++)
		n += cls->fields[i].column >= 0;
	return n;
}

int
db_row_record(struct db *db, struct db_class *cls, sqlite3_stmt *stmt,
	      struct db_inverses *inverses, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *record = json_object_new_object();
	const char *ref = db_column_text(stmt, 0);

	for (size_t i = 0; i < cls->n_fields; i++) {
		struct db_field *field = &cls->fields[i];
		json *value = NULL;
		int rc;

		if (field->column >= 0)
			rc = db_column(db, stmt, field->column, field->api, &value, err);
		else
			rc = db_inverse(db, cls, field, ref, inverses, &value, err);
		if (rc != 0)
			return smd_error_prefix(err, "%s %s", cls->api->name, ref);
		json_object_object_add_ex(record, field->api->name, value,
					  JSON_C_OBJECT_ADD_KEY_IS_NEW |
					  JSON_C_OBJECT_ADD_CONSTANT_KEY);
	}
	*ret = TAKE_PTR(record);
	return 0;
}

static sqlite3_stmt *
record_stmt(struct db *db, struct db_class *cls, struct smd_error *err)
{
	CLEANUP_FREE char *columns = NULL;

	if (!cls->stmts[DB_STMT_RECORD])
		columns = db_record_columns(cls);
	return db_prepare(db, &cls->stmts[DB_STMT_RECORD], err,
			  "SELECT %s FROM \"%w\" WHERE ref = ?", columns, cls->api->name);
}

static int
fail_gone(const struct db_class *cls, const char *ref, struct smd_error *err)
{
	return smd_fail_HANDLE_INVALID(err, cls->api->name, ref, "there is no %s %s",
				       cls->api->name, ref);
}

int
db_get_record(struct db *db, const char *class_name, const char *ref, json **ret,
	      struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	struct db_class *cls = db_class(db, class_name, err);
	DB_STMT *stmt = NULL;
	int rc;

	if (!cls || !(stmt = record_stmt(db, cls, err)))
		return -1;
	db_bind_text(stmt, 1, ref);
	rc = db_step(db, stmt, err);
	if (rc == 0)
		return fail_gone(cls, ref, err);
	return rc < 0 ? -1 : db_row_record(db, cls, stmt, NULL, ret, err);
}

/* The indexes of some pointers have only the rows that point at something, and sqlite uses
 * one of those where it is told that no others are asked for. */
#define POINTS "\"%w\" = ? AND \"%w\" <> '" API_NULL_REF "'"

static bool
is_null(const struct db_field *field, const char *text)
{
	return field->target && strcmp(text, API_NULL_REF) == 0;
}

sqlite3_stmt *
db_where_stmt(struct db *db, struct db_class *cls, const struct db_where *where,
	      struct smd_error *err)
{
	CLEANUP_FREE char *columns = db_record_columns(cls);
	const struct db_field *field;
	sqlite3_stmt *stmt = NULL;
	const char *text;

	if (!db_where_equal(where, &field, &text) || is_null(field, text)) {
		db_prepare(db, &stmt, err, "SELECT %s FROM \"%w\" ORDER BY rowid", columns,
			   cls->api->name);
		return stmt;
	}
	db_prepare(db, &stmt, err, field->target ?
		   "SELECT %s FROM \"%w\" WHERE " POINTS " ORDER BY rowid" :
		   "SELECT %s FROM \"%w\" WHERE \"%w\" = ? ORDER BY rowid", columns, cls->api->name,
		   field->api->name, field->api->name);
	if (stmt)
		db_bind_text(stmt, 1, text);
	return stmt;
}

static int
each_record(struct db *db, struct db_class *cls, const struct db_where *where, json *records,
	    struct smd_error *err)
{
	sqlite3_stmt *stmt = db_where_stmt(db, cls, where, err);
	struct db_inverses inverses = { 0 };
	int rc = stmt ? 0 : -1;

	while (rc == 0 && (rc = db_step(db, stmt, err)) == 1) {
		json *record = NULL;

		rc = db_row_record(db, cls, stmt, &inverses, &record, err);
		if (rc == 0 && db_where_match(where, db_column_text(stmt, 0), record))
			json_object_object_add_ex(records, db_column_text(stmt, 0), record,
						  JSON_C_OBJECT_ADD_KEY_IS_NEW);
		else
			json_object_put(record);
	}
	sqlite3_finalize(stmt);
	db_inverses_done(cls, &inverses);
	return rc;
}

static void
cleanup_where(struct db_where **where)
{
	db_where_free(*where);
}

int
db_all_records(struct db *db, const char *class_name, const char *expr, json **ret,
	       struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	CLEANUP_JSON json *records = json_object_new_object();
	CLEANUP(cleanup_where) struct db_where *where = NULL;
	struct db_class *cls = db_class(db, class_name, err);

	if (!cls || db_where_parse(expr ? expr : "true", cls, &where, err) != 0 ||
	    each_record(db, cls, where, records, err) != 0)
		return -1;
	*ret = TAKE_PTR(records);
	return 0;
}

int
db_where(struct db *db, const char *class_name, const char *expr, json **ret,
	 struct smd_error *err)
{
	CLEANUP_JSON json *records = NULL;
	json *refs;

	if (db_all_records(db, class_name, expr, &records, err) != 0)
		return -1;
	refs = json_object_new_array();
	json_object_object_foreach(records, ref, record) {
		(void)record;
		json_object_array_add(refs, json_object_new_string(ref));
	}
	*ret = refs;
	return 0;
}

/* ---- Refs ---------------------------------------------------------------------- */

static int
collect_refs(struct db *db, sqlite3_stmt *stmt, json **ret, struct smd_error *err)
{
	json *refs = json_object_new_array();
	int rc;

	while ((rc = db_step(db, stmt, err)) == 1)
		json_object_array_add(refs, json_object_new_string(db_column_text(stmt, 0)));
	if (rc == 0)
		*ret = refs;
	else
		json_object_put(refs);
	return rc;
}

int
db_all(struct db *db, const char *class_name, json **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	struct db_class *cls = db_class(db, class_name, err);
	DB_STMT *stmt = NULL;

	if (!cls)
		return -1;
	stmt = db_prepare(db, &cls->stmts[DB_STMT_REFS], err,
			  "SELECT ref FROM \"%w\" ORDER BY rowid", class_name);
	return stmt ? collect_refs(db, stmt, ret, err) : -1;
}

static sqlite3_stmt *
find_stmt(struct db *db, const char *class_name, const char *field_name, const char *value,
	  struct smd_error *err)
{
	struct db_class *cls = db_class(db, class_name, err);
	struct db_field *field = cls ? db_field(cls, field_name, err) : NULL;
	sqlite3_stmt *stmt;

	if (!field)
		return NULL;
	if (field->column < 0) {
		smd_fail_INTERNAL_ERROR(err, field_name, "%s.%s is not stored", class_name, field_name);
		return NULL;
	}
	stmt = is_null(field, value) || !field->target ?
		db_prepare(db, field->target ? &field->find_null : &field->find, err,
			   "SELECT ref FROM \"%w\" WHERE \"%w\" = ? ORDER BY rowid", class_name,
			   field_name) :
		db_prepare(db, &field->find, err,
			   "SELECT ref FROM \"%w\" WHERE " POINTS " ORDER BY rowid", class_name,
			   field_name, field_name);
	if (stmt && field->api->type->kind == API_BOOL)
		sqlite3_bind_int(stmt, 1, strcmp(value, "true") == 0);
	else if (stmt)
		db_bind_text(stmt, 1, value);
	return stmt;
}

int
db_find(struct db *db, const char *class_name, const char *field_name, const char *value,
	json **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = find_stmt(db, class_name, field_name, value, err);

	return stmt ? collect_refs(db, stmt, ret, err) : -1;
}

int
db_has(struct db *db, const char *class_name, const char *field_name, const char *value, bool *ret,
       struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = find_stmt(db, class_name, field_name, value, err);
	int rc = stmt ? db_step(db, stmt, err) : -1;

	if (rc < 0)
		return -1;
	*ret = rc == 1;
	return 0;
}

/* 1: *ret is the ref of the row with this uuid, 0: none, -1. */
static int
find_uuid(struct db *db, const char *class_name, const char *uuid, char **ret,
	  struct smd_error *err)
{
	CLEANUP_JSON json *refs = NULL;

	if (db_find(db, class_name, "uuid", uuid, &refs, err) != 0)
		return -1;
	if (json_object_array_length(refs) == 0)
		return 0;
	*ret = smd_strdup(json_object_get_string(json_object_array_get_idx(refs, 0)));
	return 1;
}

int
db_by_uuid(struct db *db, const char *class_name, const char *uuid, char **ret,
	   struct smd_error *err)
{
	int rc = find_uuid(db, class_name, uuid, ret, err);

	if (rc == 0)
		return smd_fail_UUID_INVALID(err, class_name, uuid, "no %s has the uuid %s",
					     class_name, uuid);
	return rc < 0 ? -1 : 0;
}

bool
db_exists(struct db *db, const char *class_name, const char *ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	DB_LOCK_SCOPE(db);
	struct db_class *cls = db_class(db, class_name, &err);
	DB_STMT *stmt = NULL;

	if (!cls)
		return false;
	stmt = db_prepare(db, &cls->stmts[DB_STMT_GENERATIONS], &err,
			  "SELECT created_gen FROM \"%w\" WHERE ref = ?", class_name);
	if (!stmt)
		return false;
	db_bind_text(stmt, 1, ref);
	return db_step(db, stmt, &err) == 1;
}

int
db_resolve(struct db *db, const char *class_name, const char *ref_or_uuid, char **ret,
	   struct smd_error *err)
{
	if (db_exists(db, class_name, ref_or_uuid)) {
		*ret = smd_strdup(ref_or_uuid);
		return 0;
	}
	if (smd_uuid_ok(ref_or_uuid))
		return db_by_uuid(db, class_name, ref_or_uuid, ret, err);
	return smd_fail_HANDLE_INVALID(err, class_name, ref_or_uuid, "there is no %s %s",
				       class_name, ref_or_uuid);
}

int
db_repoint(struct db *db, const char *cls, const char *field, const char *from_ref,
	   const char *to_ref, struct smd_error *err)
{
	CLEANUP_JSON json *refs = NULL;
	int r;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	r = db_find(db, cls, field, from_ref, &refs, err);
	for (size_t i = 0; r == 0 && i < json_object_array_length(refs); i++)
		r = db_set_str(db, cls, json_object_get_string(json_object_array_get_idx(refs, i)),
			       field, to_ref, err);
	if (r == 0)
		return db_commit(db, err);
	db_rollback(db);
	return -1;
}
