/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/db/test-db.h"

static int
setup(void **state)
{
	struct test_db *t;

	if (test_db_setup(state) != 0)
		return -1;
	t = *state;
	test_insert(t->db, "VDI", "OpaqueRef:a", "{\"name_label\":\"one\",\"virtual_size\":10,"
		    "\"managed\":true,\"tags\":[\"x\",\"it's\"],\"sm_config\":{\"k\":\"v\"}}");
	test_insert(t->db, "VDI", "OpaqueRef:b", "{\"name_label\":\"two \\\"2\\\"\","
		    "\"virtual_size\":20,\"managed\":false}");
	test_insert(t->db, "VDI", "OpaqueRef:c", "{\"name_label\":\"one\",\"virtual_size\":20,"
		    "\"managed\":false}");
	return 0;
}

/* The last letters of the refs found, or the error's code. */
static void
assert_found(struct test_db *t, const char *expr, const char *want)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *refs = NULL;
	char got[8] = "";

	if (db_where(t->db, "VDI", expr, &refs, &err) != 0) {
		assert_string_equal(err.code, want);
		return;
	}
	for (size_t i = 0; i < json_object_array_length(refs); i++) {
		const char *ref = json_object_get_string(json_object_array_get_idx(refs, i));

		strcat(got, ref + strlen("OpaqueRef:"));
	}
	assert_string_equal(got, want);
}

/* Nothing is a value, too, though no index of the pointer has it. */
static void
test_pointers(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	static const char *const found[][2] = {
		{ API_NULL_REF, "[\"OpaqueRef:a\",\"OpaqueRef:b\"]" },
		{ "OpaqueRef:a", "[\"OpaqueRef:c\"]" }, { "OpaqueRef:b", "[]" },
	};
	struct test_db *t = *state;

	assert_ok(db_set_str(t->db, "VDI", "OpaqueRef:c", "snapshot_of", "OpaqueRef:a", &err), &err);
	for (size_t i = 0; i < 3; i++) {
		CLEANUP_JSON json *refs = NULL;
		CLEANUP_FREE char *text = NULL;

		assert_ok(db_find(t->db, "VDI", "snapshot_of", found[i][0], &refs, &err), &err);
		text = smd_json_print(refs);
		assert_string_equal(text, found[i][1]);
	}
	assert_found(t, "field \"snapshot_of\" = \"OpaqueRef:NULL\"", "ab");
	assert_found(t, "field \"snapshot_of\" = \"OpaqueRef:a\"", "c");
	assert_found(t, "not field \"snapshot_of\" = \"OpaqueRef:NULL\"", "c");
}

static void
test_grammar(void **state)
{
	struct test_db *t = *state;

	assert_found(t, "true", "abc");
	assert_found(t, " not true", "");
	assert_found(t, "field \"name_label\" = \"one\"", "ac");
	assert_found(t, "field\"name__label\"='one'", "ac");
	assert_found(t, "field \"name_label\" = \"two \\\"2\\\"\"", "b");
	assert_found(t, "field \"name_label\" = \"one\" and field \"virtual_size\" = \"20\"", "c");
	assert_found(t, "field \"virtual_size\"=\"20\" and not field \"name_label\"=\"one\"", "b");
	assert_found(t, "false or true and field \"managed\" = \"true\"", "a");
	assert_found(t, "(true or false) and not (field \"managed\" = \"true\")", "bc");
	assert_found(t, "field \"_ref\" = \"OpaqueRef:b\"", "b");
	assert_found(t, "\"one\" = field \"name_label\"", "ac");
	assert_found(t, "\"x\" = \"x\"", "abc");
	assert_found(t, "field \"tags\" = \"('x' 'it\\\\'s')\"", "a");
	assert_found(t, "field \"sm_config\" = \"(('k' 'v'))\"", "a");
	assert_found(t, "field \"tags\" = \"()\"", "bc");
}

static void
test_bad(void **state)
{
	struct test_db *t = *state;
	char deep[2001];

	assert_found(t, "", "INVALID_VALUE");
	assert_found(t, "tru", "INVALID_VALUE");
	assert_found(t, "true false", "INVALID_VALUE");
	assert_found(t, "(true", "INVALID_VALUE");
	assert_found(t, "field \"nope\" = \"x\"", "INVALID_VALUE");
	assert_found(t, "field \"name_label\"", "INVALID_VALUE");
	assert_found(t, "field \"name_label\" = \"x", "INVALID_VALUE");
	memset(deep, '(', 2000);
	deep[2000] = '\0';
	assert_found(t, deep, "INVALID_VALUE");
	for (int i = 0; i < 500; i++)
		memcpy(deep + 4 * i, "not ", 4);
	assert_found(t, deep, "INVALID_VALUE");
}

#define DB_TEST(f) cmocka_unit_test_setup_teardown(f, setup, test_db_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		DB_TEST(test_grammar),
		DB_TEST(test_pointers),
		DB_TEST(test_bad),
	};

	return cmocka_run_group_tests_name("db/where", tests, NULL, NULL);
}
