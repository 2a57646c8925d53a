/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The tables: how classes and fields become tables and columns, the numbered
 * steps that make them, and the check that both agree.
 */
#include "daemon/db/private.h"

#include <string.h>

#include "common/log.h"
#include "common/mem.h"

#define DB_APPLICATION_ID 0x736d6462	/* "smdb" in the file's header */

const char *
db_column_type(const struct api_type *type)
{
	switch (type->kind) {
	case API_INT:
	case API_INT32:
	case API_BOOL:
		return "INTEGER";
	case API_FLOAT:
		return "REAL";
	default:
		return "TEXT";
	}
}

struct db_class *
db_class(struct db *db, const char *name, struct smd_error *err)
{
	for (size_t i = 0; i < db->n_classes; i++) {
		if (strcmp(db->classes[i].api->name, name) == 0)
			return &db->classes[i];
	}
	smd_fail_INTERNAL_ERROR(err, name, "class %s is not in the database", name);
	return NULL;
}

struct db_field *
db_field(struct db_class *cls, const char *name, struct smd_error *err)
{
	for (size_t i = 0; i < cls->n_fields; i++) {
		if (strcmp(cls->fields[i].api->name, name) == 0)
			return &cls->fields[i];
	}
	smd_fail_INTERNAL_ERROR(err, name, "class %s has no field %s", cls->api->name, name);
	return NULL;
}

static void
field_init(struct db_field *field, const struct api_field *api, int *column)
{
	bool is_text = strcmp(db_column_type(api->type), "TEXT") == 0;

	field->api = api;
	field->column = -1;
	if (api->flags & API_DERIVED)
		return;
	field->column = (*column)++;
	field->dflt = api_value_default(api->type, api->dflt);
	if (json_object_is_type(field->dflt, json_type_string))
		field->dflt_text = smd_strdup(json_object_get_string(field->dflt));
	else if (is_text)
		field->dflt_text = smd_json_print(field->dflt);
}

static void
class_init(struct db_class *cls, const struct api_class *api)
{
	size_t n = 0;
	int column = 1;		/* 0 is the ref */

	while (api->fields && api->fields[n].name)
		n++;
	cls->api = api;
	cls->n_fields = n;
	cls->fields = smd_calloc(n + 1, sizeof *cls->fields);
	cls->one.n_rows = 1;
	cls->many.n_rows = DB_ROWS_A_STATEMENT;
	for (size_t i = 0; i < n; i++)
		field_init(&cls->fields[i], &api->fields[i], &column);
}

/* "VDI.SR" of SR.VDIs: let both ends know of each other. */
static int
link_inverse(struct db *db, struct db_class *cls, struct db_field *field, struct smd_error *err)
{
	const char *inverse = field->api->inverse;
	const char *dot = inverse ? strchr(inverse, '.') : NULL;
	CLEANUP_FREE char *name = dot ? smd_strndup(inverse, (size_t)(dot - inverse)) : NULL;

	if (!dot)
		return 0;	/* a class this API does not have */
	for (size_t i = 0; i < db->n_classes && !field->from; i++) {
		if (strcmp(db->classes[i].api->name, name) == 0)
			field->from = &db->classes[i];
	}
	if (!field->from)
		return 0;
	field->pointer = db_field(field->from, dot + 1, err);
	if (!field->pointer)
		return -1;
	if (field->pointer->api->type->kind != API_REF || field->pointer->column < 0)
		return smd_fail_INTERNAL_ERROR(err, inverse, "%s.%s: %s is not a stored reference",
					       cls->api->name, field->api->name, inverse);
	field->pointer->target = cls;
	return 0;
}

int
db_tables_init(struct db *db, const struct api_class *const *api, struct smd_error *err)
{
	size_t n = 0;

	while (api[n])
		n++;
	db->classes = smd_calloc(n + 1, sizeof *db->classes);
	for (size_t i = 0; i < n; i++) {
		if (!(api[i]->flags & (API_NO_RECORDS | API_IN_MEMORY)))
			class_init(&db->classes[db->n_classes++], api[i]);
	}
	for (size_t i = 0; i < db->n_classes; i++) {
		struct db_class *cls = &db->classes[i];

		for (size_t j = 0; j < cls->n_fields; j++) {
			if (cls->fields[j].column < 0 &&
			    link_inverse(db, cls, &cls->fields[j], err) != 0)
				return -1;
		}
	}
	return 0;
}

void
db_tables_done(struct db *db)
{
	for (size_t i = 0; i < db->n_classes; i++) {
		struct db_class *cls = &db->classes[i];

		for (size_t j = 0; j < DB_N_CLASS_STMTS; j++)
			sqlite3_finalize(cls->stmts[j]);
		db_inserter_done(&cls->one);
		db_inserter_done(&cls->many);
		for (size_t j = 0; j < cls->n_fields; j++) {
			sqlite3_finalize(cls->fields[j].get);
			sqlite3_finalize(cls->fields[j].set);
			sqlite3_finalize(cls->fields[j].find);
			sqlite3_finalize(cls->fields[j].find_null);
			sqlite3_finalize(cls->fields[j].pairs);
			json_object_put(cls->fields[j].dflt);
			free(cls->fields[j].dflt_text);
		}
		free(cls->fields);
	}
	free(db->classes);
}

/* ---- Steps --------------------------------------------------------------------- */

static int
pragma_get(struct db *db, const char *pragma, int64_t *ret, struct smd_error *err)
{
	sqlite3_stmt *stmt = NULL;
	int rc = -1;

	if (db_prepare(db, &stmt, err, "PRAGMA %s", pragma) && db_step(db, stmt, err) == 1) {
		*ret = sqlite3_column_int64(stmt, 0);
		rc = 0;
	}
	sqlite3_finalize(stmt);
	return rc;
}

static int
pragma_set(struct db *db, const char *pragma, int64_t value, struct smd_error *err)
{
	CLEANUP_FREE char *text = smd_asprintf("PRAGMA %s = %lld", pragma, (long long)value);

	if (sqlite3_exec(db->sql, text, NULL, NULL, NULL) != SQLITE_OK)
		return db_fail(db, text, err);
	return 0;
}

static int
check_owner(struct db *db, const char *path, int64_t version, unsigned newest,
	    struct smd_error *err)
{
	int64_t id;

	if (pragma_get(db, "application_id", &id, err) != 0)
		return -1;
	if (id != DB_APPLICATION_ID && (id != 0 || version != 0))
		return smd_fail_INTERNAL_ERROR(err, path, "%s is not a database of smd", path);
	if (version > newest)
		return smd_fail_INTERNAL_ERROR(err, path,
				"%s was written by a newer smd: it is at step %lld of the schema,"
				" this smd knows %u; install the newer smd again, or give this one"
				" another state directory", path, (long long)version, newest);
	return 0;
}

static int
run_steps(struct db *db, const struct db_step *steps, int64_t version, struct smd_error *err)
{
	for (const struct db_step *step = steps; step->sql; step++) {
		if (step->number <= version)
			continue;
		smd_log(SMD_LOG_DEBUG, "database: step %s", step->name);
		if (sqlite3_exec(db->sql, step->sql, NULL, NULL, NULL) != SQLITE_OK) {
			db_fail(db, step->name, err);
			return -1;
		}
		version = step->number;
	}
	if (pragma_set(db, "user_version", version, err) != 0)
		return -1;
	return pragma_set(db, "application_id", DB_APPLICATION_ID, err);
}

int
db_upgrade(struct db *db, const char *path, const struct db_step *steps, struct smd_error *err)
{
	unsigned newest = 0;
	int64_t version;

	for (const struct db_step *step = steps; step->sql; step++)
		newest = step->number;
	if (pragma_get(db, "user_version", &version, err) != 0 ||
	    check_owner(db, path, version, newest, err) != 0)
		return -1;
	if (version == newest)
		return 0;
	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	return db_end(db, run_steps(db, steps, version, err), err);
}

/* ---- The check ----------------------------------------------------------------- */

static int
table_columns(struct db *db, const char *table, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *columns = json_object_new_object();
	sqlite3_stmt *stmt = NULL;
	int rc = -1;

	if (db_prepare(db, &stmt, err, "SELECT name, type FROM pragma_table_info(%Q)", table)) {
		while ((rc = db_step(db, stmt, err)) == 1)
			smd_json_set_str(columns, db_column_text(stmt, 0), db_column_text(stmt, 1));
	}
	sqlite3_finalize(stmt);
	if (rc == 0)
		*ret = TAKE_PTR(columns);
	return rc;
}

static int
check_column(json *columns, const char *table, const char *name, const char *type,
	     struct smd_error *err)
{
	const char *found = smd_json_str(columns, name, NULL);

	if (!found || strcmp(found, type) != 0)
		return smd_fail_INTERNAL_ERROR(err, table,
				"the database and the API disagree: table %s, column %s should be"
				" %s, is %s", table, name, type, found ? found : "missing");
	json_object_object_del(columns, name);
	return 0;
}

static int
check_table(struct db *db, const struct db_class *cls, struct smd_error *err)
{
	static const char *const own[][2] = {
		{ "ref", "TEXT" }, { "created_gen", "INTEGER" }, { "modified_gen", "INTEGER" },
	};
	CLEANUP_JSON json *columns = NULL;

	if (table_columns(db, cls->api->name, &columns, err) != 0)
		return -1;
	for (size_t i = 0; i < 3; i++) {
		if (check_column(columns, cls->api->name, own[i][0], own[i][1], err) != 0)
			return -1;
	}
	for (size_t i = 0; i < cls->n_fields; i++) {
		const struct api_field *field = cls->fields[i].api;

		if (cls->fields[i].column >= 0 &&
		    check_column(columns, cls->api->name, field->name,
				 db_column_type(field->type), err) != 0)
			return -1;
	}
	json_object_object_foreach(columns, name, type) {
		(void)type;
		return smd_fail_INTERNAL_ERROR(err, cls->api->name,
				"the database and the API disagree: table %s has a column %s, the"
				" class no such stored field", cls->api->name, name);
	}
	return 0;
}

int
db_tables_check(struct db *db, struct smd_error *err)
{
	for (size_t i = 0; i < db->n_classes; i++) {
		if (check_table(db, &db->classes[i], err) != 0)
			return -1;
	}
	return 0;
}
