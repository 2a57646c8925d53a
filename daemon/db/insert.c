/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making rows.
 */
#include "daemon/db/private.h"

#include <string.h>

#include "common/mem.h"
#include "common/uuid.h"

/* OR FAIL: that a uuid is taken is found before anything is changed, so that there is
 * nothing to undo, and sqlite need not keep the pages a statement with triggers changes. */
static sqlite3_stmt *
insert_stmt(struct db *db, struct db_class *cls, struct smd_error *err)
{
	CLEANUP_FREE char *columns = NULL;
	sqlite3_str *marks;
	sqlite3_stmt *stmt;
	int n = db_created_column(cls) + 2;

	if (cls->stmts[DB_STMT_INSERT])
		return db_prepare(db, &cls->stmts[DB_STMT_INSERT], err, "");
	columns = db_record_columns(cls);
	marks = sqlite3_str_new(NULL);
	for (int i = 0; i < n; i++)
		sqlite3_str_appendall(marks, i == 0 ? "?" : ", ?");
	stmt = db_prepare(db, &cls->stmts[DB_STMT_INSERT], err,
			  "INSERT OR FAIL INTO \"%w\" (%s) VALUES (%s)", cls->api->name, columns,
			  sqlite3_str_value(marks));
	sqlite3_free(sqlite3_str_finish(marks));
	return stmt;
}

/* What no row says of a field; an object without a uuid is given one. */
static int
bind_default(sqlite3_stmt *stmt, const struct db_field *field, json *record, struct smd_error *err)
{
	if (strcmp(field->api->name, "uuid") == 0) {
		if (!*smd_json_str(record, "uuid", ""))
			db_bind_text(stmt, field->column + 1, smd_uuid_new().text);
		return 0;
	}
	if (!field->dflt_text)
		return db_bind(stmt, field->column + 1, field->api, field->dflt, err);
	sqlite3_bind_text(stmt, field->column + 1, field->dflt_text, -1, SQLITE_STATIC);
	return 0;
}

static bool
is_given(const struct db_field *field, json *value)
{
	return value && (strcmp(field->api->name, "uuid") != 0 || *json_object_get_string(value));
}

/* Defaults first: most fields keep theirs. A misspelt member would silently become one. */
static int
bind_row(struct db_class *cls, sqlite3_stmt *stmt, json *record, struct smd_error *err)
{
	for (size_t i = 0; i < cls->n_fields; i++) {
		if (cls->fields[i].column >= 0 &&
		    bind_default(stmt, &cls->fields[i], record, err) != 0)
			return -1;
	}
	json_object_object_foreach(record, name, value) {
		const struct db_field *field = db_field(cls, name, err);

		if (!field || (field->column >= 0 && is_given(field, value) &&
			       db_bind(stmt, field->column + 1, field->api, value, err) != 0))
			return -1;
	}
	return 0;
}

static int
touch_given(struct db *db, const struct db_class *cls, json *record, struct smd_error *err)
{
	for (size_t i = 0; i < cls->n_fields; i++) {
		struct db_field *field = &cls->fields[i];
		json *value = field->target ? smd_json_member(record, field->api->name) : NULL;

		if (value && db_touch_target(db, field, json_object_get_string(value), err) != 0)
			return -1;
	}
	return 0;
}

static int
insert_row(struct db *db, struct db_class *cls, const char *ref, json *record,
	   struct smd_error *err)
{
	DB_STMT *stmt = insert_stmt(db, cls, err);
	int generations = db_created_column(cls);
	uint64_t gen;

	if (!stmt || bind_row(cls, stmt, record, err) != 0 ||
	    touch_given(db, cls, record, err) != 0)
		return -1;
	db_bind_text(stmt, 1, ref);
	gen = db_next_generation(db, cls);
	sqlite3_bind_int64(stmt, generations + 1, (sqlite3_int64)gen);
	sqlite3_bind_int64(stmt, generations + 2, (sqlite3_int64)gen);
	return db_run(db, stmt, err);
}

int
db_insert(struct db *db, const char *class_name, const char *ref, json *record,
	  struct smd_error *err)
{
	struct db_class *cls = db_class(db, class_name, err);

	if (!cls || db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, insert_row(db, cls, ref, record, err), err);
}
