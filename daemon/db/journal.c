/* SPDX-License-Identifier: BSD-2-Clause */
/* The journal of jobs: their plans, in a table the API never shows. */
#include "daemon/db/private.h"

#include "common/mem.h"

static int
job_put(struct db *db, const char *id, json *plan, struct smd_error *err)
{
	CLEANUP_FREE char *text = smd_json_print(plan);
	sqlite3_stmt *stmt = db_prepare(db, &db->stmts[DB_STMT_JOB_PUT], err,
					"INSERT OR REPLACE INTO jobs (id, plan) VALUES (?, ?)");

	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, id);
	db_bind_text(stmt, 2, text);
	return db_run(db, stmt, err);
}

int
db_job_put(struct db *db, const char *id, json *plan, struct smd_error *err)
{
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, job_put(db, id, plan, err), err);
}

static int
job_delete(struct db *db, const char *id, struct smd_error *err)
{
	sqlite3_stmt *stmt = db_prepare(db, &db->stmts[DB_STMT_JOB_DELETE], err,
					"DELETE FROM jobs WHERE id = ?");

	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, id);
	return db_run(db, stmt, err);
}

int
db_job_delete(struct db *db, const char *id, struct smd_error *err)
{
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, job_delete(db, id, err), err);
}

/* Column n of the current row. */
static json *
column_plan(sqlite3_stmt *stmt, int n, struct smd_error *err)
{
	const char *text = db_column_text(stmt, n);

	return smd_json_parse(text, (size_t)sqlite3_column_bytes(stmt, n), API_DEPTH_MAX, err);
}

int
db_job_get(struct db *db, const char *id, json **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_JOB_GET], err,
				   "SELECT plan FROM jobs WHERE id = ?");
	int rc;

	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, id);
	rc = db_step(db, stmt, err);
	if (rc == 1 && !(*ret = column_plan(stmt, 0, err)))
		return smd_error_prefix(err, "job %s", id);
	if (rc == 0)
		*ret = NULL;
	return rc < 0 ? -1 : 0;
}

int
db_jobs(struct db *db, json **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	CLEANUP_JSON json *jobs = json_object_new_object();
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_JOBS], err,
				   "SELECT id, plan FROM jobs ORDER BY id");
	int rc = -1;

	while (stmt && (rc = db_step(db, stmt, err)) == 1) {
		json *plan = column_plan(stmt, 1, err);

		if (!plan)
			return smd_error_prefix(err, "job %s", db_column_text(stmt, 0));
		smd_json_set(jobs, db_column_text(stmt, 0), plan);
	}
	if (rc == 0)
		*ret = TAKE_PTR(jobs);
	return rc;
}
