/* SPDX-License-Identifier: BSD-2-Clause */
/* Which VDI's image lies on which: a table the API never shows. */
#include "daemon/db/private.h"

#include "common/mem.h"

static int
tree_set(struct db *db, const char *child, const char *parent, struct smd_error *err)
{
	sqlite3_stmt *stmt;

	if (parent)
		stmt = db_prepare(db, &db->stmts[DB_STMT_TREE_SET], err,
				  "INSERT OR REPLACE INTO tree (child, parent) VALUES (?, ?)");
	else
		stmt = db_prepare(db, &db->stmts[DB_STMT_TREE_CLEAR], err,
				  "DELETE FROM tree WHERE child = ?");
	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, child);
	if (parent)
		db_bind_text(stmt, 2, parent);
	return db_run(db, stmt, err);
}

int
db_tree_set(struct db *db, const char *child, const char *parent, struct smd_error *err)
{
	if (db_begin_call(db, err) != 0)
		return -1;
	return db_end_call(db, tree_set(db, child, parent, err), err);
}

int
db_tree_parent(struct db *db, const char *child, char **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_TREE_PARENT], err,
				   "SELECT parent FROM tree WHERE child = ?");
	int rc;

	*ret = NULL;
	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, child);
	rc = db_step(db, stmt, err);
	if (rc == 1)
		*ret = smd_strdup(db_column_text(stmt, 0));
	return rc < 0 ? -1 : 0;
}

static int
collect(struct db *db, sqlite3_stmt *stmt, const char *text, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *refs = json_object_new_array();
	int rc;

	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, text);
	while ((rc = db_step(db, stmt, err)) == 1)
		json_object_array_add(refs, json_object_new_string(db_column_text(stmt, 0)));
	if (rc == 0)
		*ret = TAKE_PTR(refs);
	return rc;
}

int
db_tree_children(struct db *db, const char *parent, json **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_TREE_CHILDREN], err,
				   "SELECT child FROM tree WHERE parent = ? ORDER BY child");

	return collect(db, stmt, parent, ret, err);
}

int
db_tree_unmanaged(struct db *db, const char *sr, json **ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_TREE_UNMANAGED], err,
				   "SELECT ref FROM \"VDI\" INDEXED BY \"VDI_unmanaged\""
				   " WHERE \"SR\" = ? AND managed = 0 ORDER BY rowid");

	return collect(db, stmt, sr, ret, err);
}
