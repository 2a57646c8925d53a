/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making rows. What a row's statement is told is made of JSON by whoever wants the row,
 * in any thread; the database's lock is held for the statement alone.
 */
#include "daemon/db/private.h"

#include <string.h>

#include "common/mem.h"
#include "common/uuid.h"

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
	for (size_t i = 0; made->record && i < made->n; i++)
		free(made->values[i].value.printed);
	json_object_put(made->record);
	free(made);
}

/* ref follows the values, and text_room bytes follow it. */
static struct db_made *
made_new(size_t n, const char *ref, size_t text_room, char **ret_text)
{
	size_t head = sizeof(struct db_made) + n * sizeof(struct db_made_value);
	size_t ref_size = strlen(ref) + 1;
	struct db_made *made = smd_calloc(1, head + ref_size + text_room);
	char *end = (char *)made + head;

	memcpy(end, ref, ref_size);
	made->ref = end;
	*ret_text = end + ref_size;
	return made;
}

const struct db_value *
db_made_value(const struct db_made *made, const struct db_field *field)
{
	for (size_t i = 0; i < made->n; i++) {
		if (made->values[i].field == field)
			return &made->values[i].value;
	}
	return NULL;
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
		struct db_made_value *next = &made->values[made->n];

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
	char *no_text;
	CLEANUP(cleanup_made) struct db_made *made = made_new(room, ref, 0, &no_text);

	made->cls = db_class(db, class_name, err);
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

static struct db_value *
value_named(struct db_made *made, const char *name)
{
	for (size_t i = 0; i < made->n; i++) {
		if (strcmp(made->values[i].field->api->name, name) == 0)
			return &made->values[i].value;
	}
	return NULL;
}

static int
differ(struct db_made *made, const struct db_difference *difference, char **text,
       struct smd_error *err)
{
	struct db_value *value = value_named(made, difference->field);

	if (!value || value->is == DB_REAL || (value->is == DB_TEXT) != (difference->text != NULL))
		return smd_fail_INTERNAL_ERROR(err, difference->field, "%s.%s cannot differ from"
					       " the model's", made->cls->api->name, difference->field);
	if (value->is == DB_INTEGER) {
		value->integer = difference->integer;
		return 0;
	}
	value->len = strlen(difference->text);
	value->text = memcpy(*text, difference->text, value->len + 1);
	*text += value->len + 1;
	return 0;
}

int
db_make_like(const struct db_made *model, const char *ref,
	     const struct db_difference *differences, size_t n, struct db_made **ret,
	     struct smd_error *err)
{
	CLEANUP(cleanup_made) struct db_made *made = NULL;
	size_t room = 0;
	char *text;

	for (size_t i = 0; i < n; i++)
		room += differences[i].text ? strlen(differences[i].text) + 1 : 0;
	made = made_new(model->n, ref, room, &text);
	made->cls = model->cls;
	made->n = model->n;
	memcpy(made->values, model->values, model->n * sizeof model->values[0]);
	for (size_t i = 0; i < n; i++) {
		if (differ(made, &differences[i], &text, err) != 0)
			return -1;
	}
	*ret = TAKE_PTR(made);
	return 0;
}

/* ---- The statements ------------------------------------------------------------ */

void
db_inserter_done(struct db_inserter *inserter)
{
	sqlite3_finalize(inserter->stmt);
	free(inserter->told);
}

static int
tell_default(sqlite3_stmt *stmt, int n, struct db_field *field, struct smd_error *err)
{
	struct db_value value = { .is = DB_TEXT, .text = field->dflt_text };

	if (field->dflt_text)
		value.len = strlen(field->dflt_text);
	else if (db_value(field->api, field->dflt, &value, err) != 0)
		return -1;
	return db_bind_value(stmt, n, field->api, &value, err);
}

/* Columns of a row, which its values are told in the order of. */
static int
n_columns(const struct db_class *cls)
{
	return db_created_column(cls) + 2;
}

/* OR FAIL: that a uuid is taken is found before anything of the row is changed, so that there
 * is nothing to undo, and sqlite need not keep the pages that a statement changes. Where many
 * are made at once, no trigger may follow: with one, sqlite writes them to a table first. */
static int
prepare(struct db *db, struct db_class *cls, struct db_inserter *ins, struct smd_error *err)
{
	CLEANUP_FREE char *columns = db_record_columns(cls);
	sqlite3_str *marks = sqlite3_str_new(NULL);
	int n = n_columns(cls);

	for (size_t row = 0; row < ins->n_rows; row++) {
		for (int i = 0; i < n; i++)
			sqlite3_str_appendall(marks, i > 0 ? ", ?" : row > 0 ? "), (?" : "?");
	}
	db_prepare(db, &ins->stmt, err, "INSERT OR FAIL INTO \"%w\" (%s) VALUES (%s)",
		   cls->api->name, columns, sqlite3_str_value(marks));
	sqlite3_free(sqlite3_str_finish(marks));
	if (!ins->stmt)
		return -1;
	/* Every field has been told another value: each is told its default, or its own. */
	ins->n_told = 1;
	ins->told = smd_calloc(ins->n_rows * cls->n_fields, sizeof *ins->told);
	for (size_t i = 0; i < ins->n_rows * cls->n_fields; i++)
		ins->told[i] = ins->n_told;
	return 0;
}

/* It keeps what it was told: most fields have their defaults, and are told of them once. */
static int
tell(struct db_inserter *ins, size_t row, const struct db_made *made, struct smd_error *err)
{
	struct db_class *cls = made->cls;
	int first = (int)row * n_columns(cls) + 1;
	uint64_t *told = ins->told + row * cls->n_fields;

	for (size_t i = 0; i < made->n; i++) {
		struct db_field *field = made->values[i].field;

		told[field - cls->fields] = ins->n_told;
		if (db_bind_value(ins->stmt, first + field->column, field->api,
				  &made->values[i].value, err) != 0)
			return -1;
	}
	for (size_t i = 0; i < cls->n_fields; i++) {
		struct db_field *field = &cls->fields[i];

		if (field->column < 0 || told[i] == 0 || told[i] == ins->n_told)
			continue;
		told[i] = 0;
		if (tell_default(ins->stmt, first + field->column, field, err) != 0)
			return -1;
	}
	sqlite3_bind_text(ins->stmt, first, made->ref, -1, SQLITE_STATIC);
	return 0;
}

static void
tell_generation(struct db *db, struct db_inserter *ins, size_t row, struct db_class *cls)
{
	int end = (int)(row + 1) * n_columns(cls);
	sqlite3_int64 gen = (sqlite3_int64)db_next_generation(db, cls);

	sqlite3_bind_int64(ins->stmt, end - 1, gen);
	sqlite3_bind_int64(ins->stmt, end, gen);
}

/* *ret_n: rows that it made. */
static int
run(struct db *db, struct db_inserter *ins, size_t *ret_n, struct smd_error *err)
{
	int rc = sqlite3_step(ins->stmt);

	*ret_n = (size_t)sqlite3_changes(db->sql);
	if (rc != SQLITE_DONE && sqlite3_extended_errcode(db->sql) != SQLITE_CONSTRAINT_UNIQUE)
		return db_fail(db, sqlite3_sql(ins->stmt), err);
	return 0;
}

static int
touch_given(struct db *db, const struct db_made *made, struct smd_error *err)
{
	for (size_t i = 0; i < made->n; i++) {
		const struct db_made_value *given = &made->values[i];

		if (given->field->target &&
		    db_touch_target(db, given->field, given->value.text, err) != 0)
			return -1;
	}
	return 0;
}

/* As many rows as the statement has. */
static int
insert_rows(struct db *db, struct db_inserter *ins, struct db_made *const *made, size_t *ret_n,
	    struct smd_error *err)
{
	struct db_class *cls = made[0]->cls;
	int r;

	if (!ins->stmt && prepare(db, cls, ins, err) != 0)
		return -1;
	ins->n_told++;
	for (size_t i = 0; i < ins->n_rows; i++) {
		if (tell(ins, i, made[i], err) != 0)
			return -1;
		tell_generation(db, ins, i, cls);
	}
	r = run(db, ins, ret_n, err);
	sqlite3_reset(ins->stmt);
	for (size_t i = 0; r == 0 && i < *ret_n; i++)
		r = touch_given(db, made[i], err);
	return r == 0 ? db_sizes_made(db, made, *ret_n, err) : -1;
}

static int
insert_all(struct db *db, struct db_made *const *made, size_t n, size_t *ret_n,
	   struct smd_error *err)
{
	size_t some, done;

	for (*ret_n = 0; *ret_n < n; *ret_n += some) {
		struct db_class *cls = made[*ret_n]->cls;
		struct db_inserter *ins = n - *ret_n >= DB_ROWS_A_STATEMENT ? &cls->many : &cls->one;

		some = ins->n_rows;
		if (insert_rows(db, ins, made + *ret_n, &done, err) != 0)
			return -1;
		if (done < some) {
			*ret_n += done;
			break;
		}
	}
	return 0;
}

int
db_insert_made(struct db *db, struct db_made *const *made, size_t n, size_t *ret_n,
	       struct smd_error *err)
{
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, insert_all(db, made, n, ret_n, err), err);
}

int
db_insert(struct db *db, const char *class_name, const char *ref, json *record,
	  struct smd_error *err)
{
	CLEANUP(cleanup_made) struct db_made *made = NULL;
	size_t n;

	if (db_make(db, class_name, ref, record, &made, err) != 0 ||
	    db_insert_made(db, &made, 1, &n, err) != 0)
		return -1;
	if (n == 1)
		return 0;
	return smd_fail_UUID_INVALID(err, class_name, smd_json_str(record, "uuid", ""),
				     "there is a %s with this uuid already", class_name);
}
