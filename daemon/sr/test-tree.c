/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/tree.h"

#include "daemon/db/test-db.h"

static void
insert(struct db *db, const char *ref, const char *sr)
{
	CLEANUP_FREE char *text = smd_asprintf("{\"SR\":\"%s\",\"location\":\"%s\"}", sr, ref);

	test_insert(db, "VDI", ref, text);
}

static int
setup(void **state)
{
	static const char *const refs[] = { "a", "b", "c", "d" };
	int r = test_db_setup(state);

	for (size_t i = 0; r == 0 && i < sizeof refs / sizeof refs[0]; i++)
		insert(((struct test_db *)*state)->db, refs[i], "sr");
	return r;
}

static void
link_ok(struct db *db, const char *child, const char *parent)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	assert_ok(tree_set_parent(db, child, parent, &err), &err);
}

static void
link_fails(struct db *db, const char *child, const char *parent, const char *code)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	assert_int_equal(tree_set_parent(db, child, parent, &err), -1);
	assert_string_equal(err.code, code);
}

static void
expect_chain(struct db *db, const char *ref, const char *text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *chain = NULL;

	assert_ok(tree_chain(db, ref, &chain, &err), &err);
	assert_json(chain, text);
}

static void
expect_children(struct db *db, const char *ref, const char *text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *children = NULL;
	bool has;

	assert_ok(tree_children(db, ref, &children, &err), &err);
	assert_json(children, text);
	assert_ok(tree_has_children(db, ref, &has, &err), &err);
	assert_int_equal(has, strcmp(text, "[]") != 0);
}

/* What clients see of the link; parent NULL: nothing. */
static void
expect_mirror(struct db *db, const char *ref, const char *parent)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *uuid = NULL, *shown = NULL;

	assert_ok(db_map_get(db, "VDI", ref, "sm_config", TREE_PARENT_KEY, &shown, &err), &err);
	if (!parent) {
		assert_null(shown);
		return;
	}
	assert_ok(db_get_str(db, "VDI", parent, "uuid", &uuid, &err), &err);
	assert_string_equal(shown, uuid);
}

static void
test_links(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	char *parent;

	link_ok(t->db, "b", "a");
	link_ok(t->db, "c", "a");
	link_ok(t->db, "d", "c");
	expect_chain(t->db, "a", "[\"a\"]");
	expect_chain(t->db, "d", "[\"d\",\"c\",\"a\"]");
	expect_children(t->db, "a", "[\"b\",\"c\"]");
	expect_children(t->db, "d", "[]");
	expect_mirror(t->db, "d", "c");
	expect_mirror(t->db, "a", NULL);
	/* What a client writes there counts for nothing. */
	assert_ok(db_map_set(t->db, "VDI", "d", "sm_config", TREE_PARENT_KEY, "x", &err), &err);
	expect_chain(t->db, "d", "[\"d\",\"c\",\"a\"]");
	test_db_reopen(t);
	expect_chain(t->db, "d", "[\"d\",\"c\",\"a\"]");
	link_ok(t->db, "d", NULL);
	expect_mirror(t->db, "d", NULL);
	assert_ok(tree_parent(t->db, "d", &parent, &err), &err);
	assert_null(parent);
}

static void
test_refuses_nonsense(void **state)
{
	struct test_db *t = *state;

	insert(t->db, "far", "another sr");
	link_ok(t->db, "b", "a");
	link_ok(t->db, "c", "b");
	link_fails(t->db, "a", "c", "INTERNAL_ERROR");
	link_fails(t->db, "a", "a", "INTERNAL_ERROR");
	link_fails(t->db, "a", "far", "INTERNAL_ERROR");
	link_fails(t->db, "a", "nobody", "HANDLE_INVALID");
	link_fails(t->db, "nobody", "a", "HANDLE_INVALID");
	expect_chain(t->db, "c", "[\"c\",\"b\",\"a\"]");
}

static void
test_rolls_back(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;

	link_ok(t->db, "b", "a");
	assert_ok(db_begin(t->db, DB_DURABLE, &err), &err);
	link_ok(t->db, "b", "c");
	expect_chain(t->db, "b", "[\"b\",\"c\"]");
	db_rollback(t->db);
	expect_chain(t->db, "b", "[\"b\",\"a\"]");
	expect_mirror(t->db, "b", "a");
}

/* A row that goes takes its own link along, never those of others. */
static void
test_rows_go(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;

	link_ok(t->db, "b", "a");
	link_ok(t->db, "c", "b");
	assert_ok(db_delete(t->db, "VDI", "b", &err), &err);
	expect_children(t->db, "a", "[]");
	expect_chain(t->db, "c", "[\"c\",\"b\"]");
	insert(t->db, "b", "sr");
	expect_chain(t->db, "c", "[\"c\",\"b\"]");
}

static void
test_children_move(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;

	link_ok(t->db, "b", "a");
	link_ok(t->db, "c", "a");
	assert_ok(tree_move_children(t->db, "a", "d", &err), &err);
	expect_children(t->db, "a", "[]");
	expect_children(t->db, "d", "[\"b\",\"c\"]");
	expect_mirror(t->db, "c", "d");
	/* One of them takes the parent's place. */
	assert_ok(tree_move_children(t->db, "d", "b", &err), &err);
	expect_chain(t->db, "c", "[\"c\",\"b\",\"d\"]");
	assert_ok(tree_move_children(t->db, "b", NULL, &err), &err);
	expect_chain(t->db, "c", "[\"c\"]");
	expect_mirror(t->db, "c", NULL);
}

static void
test_leaves_base(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *base = NULL, *chain = NULL;
	struct test_db *t = *state;
	CLEANUP_JSON json *row = NULL, *unmanaged = NULL, *none = NULL;
	bool read_only;

	test_insert(t->db, "VDI", "v", "{\"SR\":\"sr\",\"location\":\"v.raw\",\"virtual_size\":7,"
		    "\"name_label\":\"mine\",\"tags\":[\"t\"],\"sharable\":true,"
		    "\"read_only\":true,\"sm_config\":{\"image-format\":\"raw\",\"mine\":\"too\"}}");
	link_ok(t->db, "v", "a");
	link_ok(t->db, "b", "v");
	link_ok(t->db, "c", "v");
	assert_ok(tree_leave_base(t->db, "v", 5, &base, &err), &err);
	chain = smd_asprintf("[\"c\",\"%s\",\"a\"]", base);
	expect_chain(t->db, "c", chain);
	expect_mirror(t->db, "b", base);
	expect_chain(t->db, "v", "[\"v\"]");
	expect_children(t->db, "v", "[]");
	assert_ok(db_get_bool(t->db, "VDI", "v", "read_only", &read_only, &err), &err);
	assert_false(read_only);
	assert_ok(db_get_record(t->db, "VDI", base, &row, &err), &err);
	assert_false(smd_json_bool(row, "managed", true));
	assert_ok(tree_unmanaged(t->db, "sr", &unmanaged, &err), &err);
	assert_int_equal(json_object_array_length(unmanaged), 1);
	assert_true(smd_json_has_str(unmanaged, base));
	assert_ok(tree_unmanaged(t->db, "another", &none, &err), &err);
	assert_json(none, "[]");
	assert_true(smd_json_bool(row, "read_only", false));
	assert_string_equal(smd_json_str(row, "location", ""), "v.raw");
	assert_string_equal(smd_json_str(row, "name_label", ""), "base copy");
	assert_int_equal(smd_json_int(row, "virtual_size", 0), 7);
	assert_int_equal(smd_json_int(row, "physical_utilisation", 0), 5);
	assert_json(smd_json_member(row, "tags"), "[]");
	assert_string_equal(smd_json_str(smd_json_member(row, "sm_config"), "image-format", ""), "raw");
	assert_null(smd_json_member(smd_json_member(row, "sm_config"), "mine"));
}

static void
test_depth(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *below = smd_strdup("a");
	struct test_db *t = *state;
	CLEANUP_JSON json *chain = NULL;
	size_t depth;

	for (size_t i = 2; i <= TREE_LAYERS_MAX + 1; i++) {
		CLEANUP_FREE char *ref = smd_asprintf("n%zu", i);
		int r = tree_check_depth(t->db, below, &err);

		assert_int_equal(r, i <= TREE_DEPTH_MAX ? 0 : -1);
		if (r < 0)
			assert_string_equal(err.code, "SR_BACKEND_FAILURE_109");
		smd_error_clear(&err);
		insert(t->db, ref, "sr");
		link_ok(t->db, ref, below);
		free(below);
		below = TAKE_PTR(ref);
		if (i > TREE_LAYERS_MAX)
			continue;
		assert_ok(tree_depth(t->db, below, &depth, &err), &err);
		assert_int_equal(depth, i);
	}
	/* One more than can be opened: found, if it came from outside, and said. */
	assert_int_equal(tree_chain(t->db, below, &chain, &err), -1);
	assert_string_equal(err.code, "SR_BACKEND_FAILURE_109");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_links, setup, test_db_teardown),
		cmocka_unit_test_setup_teardown(test_refuses_nonsense, setup, test_db_teardown),
		cmocka_unit_test_setup_teardown(test_rolls_back, setup, test_db_teardown),
		cmocka_unit_test_setup_teardown(test_rows_go, setup, test_db_teardown),
		cmocka_unit_test_setup_teardown(test_children_move, setup, test_db_teardown),
		cmocka_unit_test_setup_teardown(test_leaves_base, setup, test_db_teardown),
		cmocka_unit_test_setup_teardown(test_depth, setup, test_db_teardown),
	};

	return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
