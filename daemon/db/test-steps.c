/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/db/test-db.h"

#define OWN_TABLES "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER);" \
	"CREATE TABLE deleted (gen INTEGER PRIMARY KEY, created_gen INTEGER, cls TEXT, ref TEXT);"
#define THING "CREATE TABLE thing (ref TEXT, uuid TEXT, created_gen INTEGER, modified_gen INTEGER"

static const struct api_class thing = {
	.name = "thing",
	.fields = API_LIST(struct api_field,
		{ "uuid", &api_string, API_DYNAMIC_RO, .doc = "" },
		{ "size", &api_int, API_DYNAMIC_RO, .doc = "" }),
};
static const struct api_class *const things[] = { &thing, NULL };

static const struct db_step good[] = {
	{ 1, "001-a.sql", OWN_TABLES THING ");" },
	{ 2, "002-b.sql", "ALTER TABLE thing ADD COLUMN size INTEGER NOT NULL DEFAULT 5;" },
	{ 0, NULL, NULL },
};

static int
open_error(struct test_db *t, const struct db_step *steps, const char *want)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct db *db = NULL;
	int rc;

	db_close(t->db);
	t->db = NULL;
	rc = db_open_with(t->path, things, steps, &db, &err);
	if (want && (rc == 0 || !strstr(err.message, want)))
		fail_msg("wanted \"%s\", got \"%s\"", want, rc == 0 ? "success" : err.message);
	if (!want)
		assert_ok(rc, &err);
	t->db = db;
	return rc;
}

static int
setup(void **state)
{
	struct test_db *t;

	if (test_db_setup(state) != 0)
		return -1;
	t = *state;
	db_close(t->db);	/* smd's own; the tests make another in its place */
	t->db = NULL;
	return unlink(t->path);
}

static void
test_upgrade_keeps_rows(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	sqlite3 *raw;
	int64_t size;

	assert_int_equal(sqlite3_open(t->path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, OWN_TABLES THING "); PRAGMA user_version = 1;"
		"PRAGMA application_id = 0x736d6462;"
		"INSERT INTO thing VALUES ('r', 'u', 7, 9);", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(raw);
	open_error(t, good, NULL);
	assert_ok(db_get_int(t->db, "thing", "r", "size", &size, &err), &err);
	assert_int_equal(size, 5);
	assert_true(db_generation(t->db) > 9);
}

static void
test_newer_is_refused(void **state)
{
	static const struct db_step older[] = { { 1, "001-a.sql", "SELECT 1;" }, { 0, NULL, NULL } };
	struct test_db *t = *state;

	open_error(t, good, NULL);
	open_error(t, older, "written by a newer smd");
	open_error(t, good, NULL);
}

static void
test_failed_step_changes_nothing(void **state)
{
	static const struct db_step broken[] = {
		{ 1, "001-a.sql", OWN_TABLES THING ");" },
		{ 2, "002-b.sql", "ALTER TABLE thing ADD COLUMN size INTEGER; SELECT nonsense;" },
		{ 0, NULL, NULL },
	};
	struct test_db *t = *state;

	open_error(t, broken, "002-b.sql");
	open_error(t, good, NULL);
}

static void
test_columns_are_checked(void **state)
{
	static const struct db_step lacks[] = {
		{ 1, "001-a.sql", OWN_TABLES THING ");" }, { 0, NULL, NULL } };
	static const struct db_step wrong[] = {
		{ 1, "001-a.sql", OWN_TABLES THING ", size TEXT);" }, { 0, NULL, NULL } };
	static const struct db_step extra[] = {
		{ 1, "001-a.sql", OWN_TABLES THING ", size INTEGER, colour TEXT);" },
		{ 0, NULL, NULL } };
	static const struct db_step *const all[] = { lacks, wrong, extra };
	static const char *const messages[] = { "is missing", "is TEXT", "column colour" };
	struct test_db *t = *state;

	for (size_t i = 0; i < 3; i++) {
		open_error(t, all[i], messages[i]);
		unlink(t->path);
	}
}

static void
test_not_ours(void **state)
{
	struct test_db *t = *state;
	sqlite3 *raw;

	assert_int_equal(sqlite3_open(t->path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, "CREATE TABLE a (b); PRAGMA user_version = 1;", NULL, NULL,
				      NULL), SQLITE_OK);
	sqlite3_close(raw);
	open_error(t, good, "not a database of smd");
}

#define DB_TEST(f) cmocka_unit_test_setup_teardown(f, setup, test_db_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		DB_TEST(test_upgrade_keeps_rows),
		DB_TEST(test_newer_is_refused),
		DB_TEST(test_failed_step_changes_nothing),
		DB_TEST(test_columns_are_checked),
		DB_TEST(test_not_ours),
	};

	return cmocka_run_group_tests_name("db/steps", tests, NULL, NULL);
}
