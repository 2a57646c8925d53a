/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/names.h"

#include <stdint.h>
#include <stdlib.h>

#include "common/json.h"

#define FIRST_SIZE 64

bool
names_add(struct names *names, const char *name, size_t at)
{
	unsigned long hash;

	if (!names->table && !(names->table = lh_kchar_table_new(FIRST_SIZE, NULL)))
		abort();
	hash = lh_get_hash(names->table, name);
	if (lh_table_lookup_entry_w_hash(names->table, name, hash))
		return false;
	if (lh_table_insert_w_hash(names->table, name, (void *)(uintptr_t)at, hash,
				   JSON_C_OBJECT_ADD_CONSTANT_KEY) != 0)
		abort();	/* as where any memory is missing */
	return true;
}

bool
names_find(const struct names *names, const char *name, size_t *ret_at)
{
	void *at;

	if (!names->table || !lh_table_lookup_ex(names->table, name, &at))
		return false;
	*ret_at = (size_t)(uintptr_t)at;
	return true;
}

void
names_done(struct names *names)
{
	if (names->table)
		lh_table_free(names->table);
	names->table = NULL;
}
