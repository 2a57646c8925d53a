/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Rows one by one, of a class with many of them. They are read through a connection
 * of their own, in one read transaction: a writer neither waits for their reader nor
 * changes what it sees. Connections are kept for the next reader.
 */
#include "daemon/db/private.h"

#include "common/mem.h"

/* What a reader keeps of the file; all rows pass through it once. */
#define READER_PRAGMAS "PRAGMA cache_size = -1024;"
#define READER_BUSY_MS 10000

struct db_rows {
	struct db *db;		/* whose reader it is */
	struct db *reader;
	struct db_class *cls;
	struct db_where *where;
	struct db_inverses inverses;
	sqlite3_stmt *stmt;
	bool begun;
};

static int
reader_open(struct db *db, struct db **ret, struct smd_error *err)
{
	struct db *reader = db_new(db->path);

	if (sqlite3_open_v2(db->path, &reader->sql, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
			    NULL) != SQLITE_OK ||
	    sqlite3_busy_timeout(reader->sql, READER_BUSY_MS) != SQLITE_OK ||
	    sqlite3_exec(reader->sql, READER_PRAGMAS, NULL, NULL, NULL) != SQLITE_OK)
		db_fail(reader, "a reader", err);
	else if (db_tables_init(reader, db->api, err) == 0) {
		*ret = reader;
		return 0;
	}
	db_close(reader);
	return -1;
}

static int
reader_take(struct db *db, struct db **ret, struct smd_error *err)
{
	pthread_mutex_lock(&db->readers_lock);
	*ret = db->n_readers > 0 ? db->readers[--db->n_readers] : NULL;
	pthread_mutex_unlock(&db->readers_lock);
	return *ret ? 0 : reader_open(db, ret, err);
}

static void
reader_give(struct db *db, struct db *reader)
{
	pthread_mutex_lock(&db->readers_lock);
	/* One that could not end its transaction would keep the log from ever shrinking. */
	if (db->n_readers < DB_READERS_MAX && sqlite3_get_autocommit(reader->sql))
		db->readers[db->n_readers++] = TAKE_PTR(reader);
	pthread_mutex_unlock(&db->readers_lock);
	db_close(reader);
}

void
db_rows_close(struct db_rows *rows)
{
	if (!rows)
		return;
	sqlite3_finalize(rows->stmt);
	if (rows->cls)
		db_inverses_done(rows->cls, &rows->inverses);
	db_where_free(rows->where);
	if (rows->begun)
		sqlite3_exec(rows->reader->sql, "COMMIT", NULL, NULL, NULL);
	if (rows->reader)
		reader_give(rows->db, rows->reader);
	free(rows);
}

static void
cleanup_rows(struct db_rows **rows)
{
	db_rows_close(*rows);
}

int
db_rows_open(struct db *db, const char *class_name, const char *expr, struct db_rows **ret,
	     struct smd_error *err)
{
	CLEANUP(cleanup_rows) struct db_rows *rows = smd_calloc(1, sizeof *rows);

	rows->db = db;
	if (reader_take(db, &rows->reader, err) != 0)
		return -1;
	rows->cls = db_class(rows->reader, class_name, err);
	if (!rows->cls || db_where_parse(expr ? expr : "true", rows->cls, &rows->where, err) != 0)
		return -1;
	if (sqlite3_exec(rows->reader->sql, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
		return db_fail(rows->reader, "BEGIN", err);
	rows->begun = true;
	rows->stmt = db_where_stmt(rows->reader, rows->cls, rows->where, err);
	if (!rows->stmt)
		return -1;
	*ret = TAKE_PTR(rows);
	return 0;
}

int
db_rows_next(struct db_rows *rows, const char **ret_ref, json **ret_record, struct smd_error *err)
{
	int rc;

	while ((rc = db_step(rows->reader, rows->stmt, err)) == 1) {
		json *record;

		if (db_row_record(rows->reader, rows->cls, rows->stmt, &rows->inverses, &record,
				  err) != 0)
			return -1;
		*ret_ref = db_column_text(rows->stmt, 0);
		if (db_where_match(rows->where, *ret_ref, record)) {
			*ret_record = record;
			return 1;
		}
		json_object_put(record);
	}
	return rc;
}
