/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making rows. What a row's statement is told is made of JSON by whoever wants the row,
 * in any thread; the database's lock is held for the statement alone.
 */
#include "daemon/db/private.h"

#include <string.h>

#include "common/mem.h"
#include "common/uuid.h"

struct made_value {
	struct db_field *field;
	struct db_value value;
};

struct db_made {
	struct db_class *cls;
	char *ref;
	json *record;		/* whose texts the values have */
	size_t n;
	struct made_value values[];	/* of the fields that do not take their defaults */
};

static void
cleanup_made(struct db_made **made)
{
	db_made_free(*made);
}

void
db_made_free(struct db_made *made)
{
	if (!made)
		return;
	for (size_t i = 0; i < made->n; i++)
		free(made->values[i].value.printed);
	json_object_put(made->record);
	free(made->ref);
	free(made);
}

/* An object without a uuid is given one. */
static void
give_uuid(struct db_made *made, struct db_field *field)
{
	struct db_value *value = &made->values[made->n].value;

	made->values[made->n++].field = field;
	value->is = DB_TEXT;
	value->text = value->printed = smd_strdup(smd_uuid_new().text);
	value->len = SMD_UUID_LEN;
}

/* A misspelt member would silently become a default. */
static int
take_members(struct db_made *made, struct smd_error *err)
{
	json_object_object_foreach(made->record, name, value) {
		struct db_field *field = db_field(made->cls, name, err);
		struct made_value *next = &made->values[made->n];

		if (!field)
			return -1;
		if (field->column < 0 || !value ||
		    (strcmp(name, "uuid") == 0 && !*json_object_get_string(value)))
			continue;
		if (db_value(field->api, value, &next->value, err) != 0)
			return -1;
		next->field = field;
		made->n++;
	}
	return 0;
}

int
db_make(struct db *db, const char *class_name, const char *ref, json *record,
	struct db_made **ret, struct smd_error *err)
{
	size_t room = (size_t)json_object_object_length(record) + 1;
	CLEANUP(cleanup_made) struct db_made *made =
		smd_calloc(1, sizeof *made + room * sizeof made->values[0]);

	made->cls = db_class(db, class_name, err);
	made->ref = smd_strdup(ref);
	made->record = json_object_get(record);
	if (!made->cls || take_members(made, err) != 0)
		return -1;
	for (size_t i = 0; i < made->cls->n_fields; i++) {
		struct db_field *field = &made->cls->fields[i];

		if (strcmp(field->api->name, "uuid") == 0 && !*smd_json_str(record, "uuid", ""))
			give_uuid(made, field);
	}
	*ret = TAKE_PTR(made);
	return 0;
}

/* ---- The statement ------------------------------------------------------------- */

static int
tell_default(sqlite3_stmt *stmt, struct db_field *field, struct smd_error *err)
{
	struct db_value value = { .is = DB_TEXT, .text = field->dflt_text };

	if (field->dflt_text)
		value.len = strlen(field->dflt_text);
	else if (db_value(field->api, field->dflt, &value, err) != 0)
		return -1;
	field->told = 0;
	return db_bind_value(stmt, field->column + 1, field->api, &value, err);
}

/* OR FAIL: that a uuid is taken is found before anything is changed, so that there is
 * nothing to undo, and sqlite need not keep the pages a statement with triggers changes. */
static sqlite3_stmt *
prepare(struct db *db, struct db_class *cls, struct smd_error *err)
{
	CLEANUP_FREE char *columns = db_record_columns(cls);
	sqlite3_str *marks = sqlite3_str_new(NULL);
	int n = db_created_column(cls) + 2;
	sqlite3_stmt *stmt;

	for (int i = 0; i < n; i++)
		sqlite3_str_appendall(marks, i == 0 ? "?" : ", ?");
	stmt = db_prepare(db, &cls->stmts[DB_STMT_INSERT], err,
			  "INSERT OR FAIL INTO \"%w\" (%s) VALUES (%s)", cls->api->name, columns,
			  sqlite3_str_value(marks));
	sqlite3_free(sqlite3_str_finish(marks));
	for (size_t i = 0; stmt && i < cls->n_fields; i++) {
		if (cls->fields[i].column >= 0 && tell_default(stmt, &cls->fields[i], err) != 0)
			return NULL;
	}
	return stmt;
}

/* It keeps what it was told: most fields have their defaults, and are told of them once. */
static int
tell(struct db_class *cls, sqlite3_stmt *stmt, const struct db_made *made, struct smd_error *err)
{
	cls->n_told++;
	for (size_t i = 0; i < made->n; i++) {
		struct db_field *field = made->values[i].field;

		field->told = cls->n_told;
		if (db_bind_value(stmt, field->column + 1, field->api, &made->values[i].value,
				  err) != 0)
			return -1;
	}
	for (size_t i = 0; i < cls->n_fields; i++) {
		struct db_field *field = &cls->fields[i];

		if (field->told != 0 && field->told != cls->n_told &&
		    tell_default(stmt, field, err) != 0)
			return -1;
	}
	return 0;
}

static int
touch_given(struct db *db, const struct db_made *made, struct smd_error *err)
{
	for (size_t i = 0; i < made->n; i++) {
		const struct made_value *given = &made->values[i];

		if (given->field->target &&
		    db_touch_target(db, given->field, given->value.text, err) != 0)
			return -1;
	}
	return 0;
}

static int
run(struct db *db, const struct db_made *made, sqlite3_stmt *stmt, struct smd_error *err)
{
	const char *name = made->cls->api->name;
	int rc = sqlite3_step(stmt);

	if (rc != SQLITE_DONE && sqlite3_extended_errcode(db->sql) == SQLITE_CONSTRAINT_UNIQUE)
		smd_fail_UUID_INVALID(err, name, smd_json_str(made->record, "uuid", ""),
				      "there is a %s with this uuid already", name);
	else if (rc != SQLITE_DONE)
		db_fail(db, sqlite3_sql(stmt), err);
	sqlite3_reset(stmt);
	return rc == SQLITE_DONE ? 0 : -1;
}

/* That the uuid is taken is found before anything is changed. */
static int
insert_row(struct db *db, const struct db_made *made, struct smd_error *err)
{
	struct db_class *cls = made->cls;
	sqlite3_stmt *stmt = cls->stmts[DB_STMT_INSERT];
	int generations = db_created_column(cls);
	uint64_t gen;

	if (!stmt && !(stmt = prepare(db, cls, err)))
		return -1;
	if (tell(cls, stmt, made, err) != 0)
		return -1;
	sqlite3_bind_text(stmt, 1, made->ref, -1, SQLITE_STATIC);
	gen = db_next_generation(db, cls);
	sqlite3_bind_int64(stmt, generations + 1, (sqlite3_int64)gen);
	sqlite3_bind_int64(stmt, generations + 2, (sqlite3_int64)gen);
	return run(db, made, stmt, err) != 0 ? -1 : touch_given(db, made, err);
}

int
db_insert_made(struct db *db, const struct db_made *made, struct smd_error *err)
{
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, insert_row(db, made, err), err);
}

int
db_insert(struct db *db, const char *class_name, const char *ref, json *record,
	  struct smd_error *err)
{
	CLEANUP(cleanup_made) struct db_made *made = NULL;

	if (db_make(db, class_name, ref, record, &made, err) != 0)
		return -1;
	return db_insert_made(db, made, err);
}
