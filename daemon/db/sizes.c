/* SPDX-License-Identifier: BSD-2-Clause */
/* What the VDIs of an SR add up to: a table the API never shows, kept by triggers
 * (schema/db/006-sr-sizes.sql, 009), but for rows that are made: those come by thousands, and
 * a trigger takes half as long as they do (011). */
#include "daemon/db/private.h"

#include <string.h>

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

/* The sum of those at the beginning that are of one SR: how many. */
static size_t
sum_alike(struct db_made *const *made, size_t n, const struct db_field *sr,
	  const struct db_field *size, sqlite3_int64 *ret_units, sqlite3_int64 *ret_bytes)
{
	const struct db_value *first = db_made_value(made[0], sr);
	size_t i;

	*ret_units = *ret_bytes = 0;
	for (i = 0; i < n; i++) {
		const struct db_value *of = db_made_value(made[i], sr);
		const struct db_value *bytes = db_made_value(made[i], size);

		if (of != first && (!of || !first || strcmp(of->text, first->text) != 0))
			break;
		*ret_units += bytes ? bytes->integer / UNIT : 0;
		*ret_bytes += bytes ? bytes->integer % UNIT : 0;
	}
	return i;
}

static int
sr_grows(struct db *db, const char *sr, sqlite3_int64 units, sqlite3_int64 bytes,
	 struct smd_error *err)
{
	DB_STMT *stmt = db_prepare(db, &db->stmts[DB_STMT_SR_GROWS], err,
				   "UPDATE sr_sizes SET units = units + ?, bytes = bytes + ?"
				   " WHERE sr = ?");

	if (!stmt)
		return -1;
	sqlite3_bind_int64(stmt, 1, units);
	sqlite3_bind_int64(stmt, 2, bytes);
	db_bind_text(stmt, 3, sr);
	return db_run(db, stmt, err);
}

int
db_sizes_made(struct db *db, struct db_made *const *made, size_t n, struct smd_error *err)
{
	struct db_field *sr, *size;
	sqlite3_int64 units, bytes;
	size_t some;

	if (n == 0 || strcmp(made[0]->cls->api->name, "VDI") != 0)
		return 0;
	sr = db_field(made[0]->cls, "SR", err);
	size = db_field(made[0]->cls, "virtual_size", err);
	if (!sr || !size)
		return -1;
	for (size_t i = 0; i < n; i += some) {
		const struct db_value *of = db_made_value(made[i], sr);

		some = sum_alike(made + i, n - i, sr, size, &units, &bytes);
		if (of && sr_grows(db, of->text, units, bytes, err) != 0)
			return -1;
	}
	return 0;
}
