/* SPDX-License-Identifier: BSD-2-Clause */
/* What the VDIs of an SR add up to: a table the API never shows, kept by triggers
 * (schema/db/006-sr-sizes.sql, 009). */
#include "daemon/db/private.h"

#define UNIT 65536

int
db_sr_size(struct db *db, const char *sr, int64_t *ret, struct smd_error *err)
{
	DB_LOCK_SCOPE(db);
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_SR_SIZE], err,
				   "SELECT units, bytes FROM sr_sizes WHERE sr = ?");
	int rc;

	if (!stmt)
		return -1;
	db_bind_text(stmt, 1, sr);
	rc = db_step(db, stmt, err);
	if (rc < 0)
		return -1;
	if (rc == 0)
		*ret = 0;
	else if (__builtin_mul_overflow(sqlite3_column_int64(stmt, 0), (int64_t)UNIT, ret) ||
		 __builtin_add_overflow(*ret, sqlite3_column_int64(stmt, 1), ret))
		*ret = INT64_MAX;
	return 0;
}
