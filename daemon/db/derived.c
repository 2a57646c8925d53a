/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Derived fields: SR.VDIs is the refs of the VDIs whose SR is this one. They are
 * no columns; an index on the pointer answers for one object, one pass over the
 * pointers for all objects of a class.
 */
#include "daemon/db/private.h"

#include "common/mem.h"

#define DB_ONE_BY_ONE_MAX 64	/* single look-ups before a pass over all is cheaper */

static int
inverse_one(struct db *db, struct db_field *field, const char *ref, json **ret,
	    struct smd_error *err)
{
	return db_find(db, field->from->api->name, field->pointer->api->name, ref, ret, err);
}

/* {ref: [refs]} of every object that is pointed at. */
static int
inverse_all(struct db *db, struct db_field *field, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *all = json_object_new_object();
	DB_STMT *stmt = db_prepare(db, &field->pairs, err,
				   "SELECT \"%w\", ref FROM \"%w\" ORDER BY rowid",
				   field->pointer->api->name, field->from->api->name);
	int rc = -1;

	while (stmt && (rc = db_step(db, stmt, err)) == 1) {
		const char *target = db_column_text(stmt, 0);
		json *refs = smd_json_member(all, target);

		if (!refs) {
			refs = json_object_new_array();
			json_object_object_add_ex(all, target, refs, JSON_C_OBJECT_ADD_KEY_IS_NEW);
		}
		json_object_array_add(refs, json_object_new_string(db_column_text(stmt, 1)));
	}
	if (rc == 0)
		*ret = TAKE_PTR(all);
	return rc;
}

int
db_inverse(struct db *db, struct db_class *cls, struct db_field *field, const char *ref,
	   struct db_inverses *inverses, json **ret, struct smd_error *err)
{
	size_t i = (size_t)(field - cls->fields);
	json *refs;

	if (!field->from) {
		*ret = json_object_new_array_ext(0);
		return 0;
	}
	if (!inverses || inverses->n_asked++ < DB_ONE_BY_ONE_MAX)
		return inverse_one(db, field, ref, ret, err);
	if (!inverses->all)
		inverses->all = smd_calloc(cls->n_fields, sizeof *inverses->all);
	if (!inverses->all[i] && inverse_all(db, field, &inverses->all[i], err) != 0)
		return -1;
	refs = smd_json_member(inverses->all[i], ref);
	*ret = refs ? json_object_get(refs) : json_object_new_array_ext(0);
	return 0;
}

void
db_inverses_done(const struct db_class *cls, struct db_inverses *inverses)
{
	for (size_t i = 0; inverses->all && i < cls->n_fields; i++)
		json_object_put(inverses->all[i]);
	free(inverses->all);
}
