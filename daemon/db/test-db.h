/* SPDX-License-Identifier: BSD-2-Clause */
/* What the tests of the database share: one in a directory of its own. */
#ifndef SMD_DAEMON_DB_TEST_DB_H
#define SMD_DAEMON_DB_TEST_DB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/mem.h"
#include "common/uuid.h"
#include "daemon/db/private.h"

struct test_db {
	char dir[32];
	char *path;
	struct db *db;
};

static inline void
assert_ok(int rc, struct smd_error *err)
{
	if (rc != 0)
		fail_msg("%s: %s", err->code, err->message);
}

static inline int
test_db_setup(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = smd_calloc(1, sizeof *t);

	strcpy(t->dir, "/tmp/smd-test-db-XXXXXX");
	if (!mkdtemp(t->dir))
		return -1;
	t->path = smd_asprintf("%s/smd.db", t->dir);
	*state = t;
	assert_ok(db_open(t->path, &t->db, &err), &err);
	return 0;
}

static inline int
test_db_teardown(void **state)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };
	struct test_db *t = *state;

	db_close(t->db);
	for (size_t i = 0; i < 3; i++) {
		CLEANUP_FREE char *path = smd_asprintf("%s%s", t->path, suffixes[i]);

		unlink(path);
	}
	rmdir(t->dir);
	free(t->path);
	free(t);
	return 0;
}

static inline void
test_db_reopen(struct test_db *t)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	db_close(t->db);
	t->db = NULL;
	assert_ok(db_open(t->path, &t->db, &err), &err);
}

/* A row of nothing but defaults and the members of text. */
static inline void
test_insert(struct db *db, const char *cls, const char *ref, const char *text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *record = json_tokener_parse(text);

	assert_non_null(record);
	assert_ok(db_insert(db, cls, ref, record, &err), &err);
}

static inline void
assert_json(json *value, const char *text)
{
	CLEANUP_FREE char *got = smd_json_print(value);

	assert_string_equal(got, text);
}

#endif
