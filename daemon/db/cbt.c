/* SPDX-License-Identifier: BSD-2-Clause */
/* Which VDIs are tracked, and from whose state each counts: a table the API never
 * shows. */
#include "daemon/db/private.h"

#include "common/mem.h"

static int
cbt_set(struct db *db, const char *vdi, const char *parent, const char *log,
	struct smd_error *err)
{
	sqlite3_stmt *stmt = db_prepare(db, &db->stmts[DB_STMT_CBT_SET], err,
					"INSERT OR REPLACE INTO cbt (vdi, parent, log) VALUES (?, ?, ?)");

	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, vdi);
	db_bind_text(stmt, 2, parent);
	db_bind_text(stmt, 3, log);
	return db_run(db, stmt, err);
}

int
db_cbt_set(struct db *db, const char *vdi, const char *parent, const char *log,
	   struct smd_error *err)
{
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, cbt_set(db, vdi, parent, log, err), err);
}

static int
cbt_clear(struct db *db, const char *vdi, struct smd_error *err)
{
	sqlite3_stmt *stmt = db_prepare(db, &db->stmts[DB_STMT_CBT_CLEAR], err,
					"DELETE FROM cbt WHERE vdi = ?");

	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, vdi);
	return db_run(db, stmt, err);
}

int
db_cbt_clear(struct db *db, const char *vdi, struct smd_error *err)
{
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, cbt_clear(db, vdi, err), err);
}

int
db_cbt_get(struct db *db, const char *vdi, char **ret_parent, char **ret_log,
	   struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_CBT_GET], err,
				   "SELECT parent, log FROM cbt WHERE vdi = ?");
	int rc;

	*ret_parent = *ret_log = NULL;
	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, vdi);
	rc = db_step(db, stmt, err);
	if (rc == 1) {
		*ret_parent = smd_strdup(db_column_text(stmt, 0));
		*ret_log = smd_strdup(db_column_text(stmt, 1));
	}
	return rc < 0 ? -1 : 0;
}

static int
collect(struct db *db, sqlite3_stmt *stmt, const char *value, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *found = json_object_new_array();
	int rc;

	db_bind_text(stmt, 1, value);
	while ((rc = db_step(db, stmt, err)) == 1)
		json_object_array_add(found, json_object_new_string(db_column_text(stmt, 0)));
	if (rc == 0)
		*ret = TAKE_PTR(found);
	return rc;
}

int
db_cbt_children(struct db *db, const char *parent, json **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_CBT_CHILDREN], err,
				   "SELECT vdi FROM cbt WHERE parent = ? ORDER BY vdi");

	return stmt ? collect(db, stmt, parent, ret, err) : -1;
}

int
db_cbt_logs(struct db *db, const char *sr, json **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_CBT_LOGS], err,
				   "SELECT log FROM cbt JOIN \"VDI\" ON \"VDI\".ref = cbt.vdi "
				   "WHERE \"VDI\".\"SR\" = ? AND log != ''");

	return stmt ? collect(db, stmt, sr, ret, err) : -1;
}
