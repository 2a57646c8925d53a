/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/db/test-db.h"

#define SR1 "OpaqueRef:sr1"
#define VDI1 "OpaqueRef:vdi1"
#define VDI2 "OpaqueRef:vdi2"

static void
collect(void *opaque, const struct db_change *change)
{
	static const char *const names[] = { "add", "mod", "del" };
	CLEANUP_FREE char *text = smd_asprintf("%s %s", names[change->what],
					       change->ref + strlen("OpaqueRef:"));

	assert_true((change->record == NULL) == (change->what == DB_DELETED));
	json_object_array_add(opaque, json_object_new_string(text));
}

/* What changed after since, as ["add vdi1", …]; since moves on. */
static void
assert_changes(struct db *db, uint64_t *since, const struct db_interest *interests, size_t n,
	       const char *want)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *got = json_object_new_array();
	bool lost;

	assert_ok(db_changes(db, *since, interests, n, collect, got, since, &lost, &err), &err);
	assert_false(lost);
	assert_json(got, want);
}

static struct db_interest
interest(const char *cls, const char *ref)
{
	return (struct db_interest){ cls ? api_class_find(cls, false) : NULL, ref };
}

static void
test_changes(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	struct db_interest vdis = interest("VDI", NULL);
	uint64_t since = 0, start;

	test_insert(t->db, "VDI", VDI1, "{}");
	test_insert(t->db, "SR", SR1, "{}");
	assert_changes(t->db, &since, &vdis, 1, "[\"add vdi1\"]");
	assert_changes(t->db, &since, &vdis, 1, "[]");
	start = since;
	assert_ok(db_set_int(t->db, "VDI", VDI1, "virtual_size", 1, &err), &err);
	assert_ok(db_set_int(t->db, "VDI", VDI1, "virtual_size", 2, &err), &err);
	test_insert(t->db, "VDI", VDI2, "{}");
	assert_changes(t->db, &since, &vdis, 1, "[\"add vdi2\",\"mod vdi1\"]");
	assert_ok(db_delete(t->db, "VDI", VDI2, &err), &err);
	assert_changes(t->db, &since, &vdis, 1, "[\"del vdi2\"]");
	assert_changes(t->db, &start, &vdis, 1, "[\"mod vdi1\"]");	/* made and gone since */
}

static void
test_same_value_is_no_change(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	struct db_interest all = interest(NULL, NULL);
	uint64_t since = 0;

	test_insert(t->db, "VDI", VDI1, "{\"virtual_size\":7}");
	assert_changes(t->db, &since, &all, 1, "[\"add vdi1\"]");
	assert_ok(db_set_int(t->db, "VDI", VDI1, "virtual_size", 7, &err), &err);
	assert_changes(t->db, &since, &all, 1, "[]");
	assert_ok(db_touch(t->db, "VDI", VDI1, &err), &err);
	assert_changes(t->db, &since, &all, 1, "[\"mod vdi1\"]");
}

static void
test_single_objects(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	struct db_interest two[] = { interest("VDI", VDI1), interest("VDI", VDI1) };
	uint64_t since = 0;

	test_insert(t->db, "VDI", VDI1, "{}");
	test_insert(t->db, "VDI", VDI2, "{}");
	assert_changes(t->db, &since, two, 2, "[\"add vdi1\"]");
	assert_ok(db_delete(t->db, "VDI", VDI2, &err), &err);
	assert_changes(t->db, &since, two, 2, "[]");
	assert_ok(db_delete(t->db, "VDI", VDI1, &err), &err);
	assert_changes(t->db, &since, two, 2, "[\"del vdi1\"]");
}

static void
test_pointer_changes_its_target(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	struct db_interest srs = interest("SR", NULL);
	uint64_t since = 0;

	test_insert(t->db, "SR", SR1, "{}");
	assert_changes(t->db, &since, &srs, 1, "[\"add sr1\"]");
	test_insert(t->db, "VDI", VDI1, "{\"SR\":\"" SR1 "\"}");
	assert_changes(t->db, &since, &srs, 1, "[\"mod sr1\"]");
	assert_ok(db_set_int(t->db, "VDI", VDI1, "virtual_size", 1, &err), &err);
	assert_changes(t->db, &since, &srs, 1, "[]");
	assert_ok(db_delete(t->db, "VDI", VDI1, &err), &err);
	assert_changes(t->db, &since, &srs, 1, "[\"mod sr1\"]");
}

static void
test_generation_survives_a_restart(void **state)
{
	struct test_db *t = *state;
	struct db_interest all = interest(NULL, NULL);
	uint64_t before, since;

	test_insert(t->db, "VDI", VDI1, "{}");
	since = before = db_generation(t->db);
	test_db_reopen(t);
	assert_true(db_generation(t->db) > before);
	test_insert(t->db, "VDI", VDI2, "{}");
	assert_changes(t->db, &since, &all, 1, "[\"add vdi2\"]");
}

static void
test_lost(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	struct db_interest all = interest(NULL, NULL);
	CLEANUP_JSON json *got = json_object_new_array();
	uint64_t start = db_generation(t->db), now;
	bool lost = false;

	assert_ok(db_begin(t->db, DB_RELAXED, &err), &err);
	for (int i = 0; i < 11002; i++) {
		test_insert(t->db, "host_metrics", "OpaqueRef:m", "{}");
		assert_ok(db_delete(t->db, "host_metrics", "OpaqueRef:m", &err), &err);
	}
	assert_ok(db_commit(t->db, &err), &err);
	assert_ok(db_changes(t->db, start, &all, 1, collect, got, &now, &lost, &err), &err);
	assert_true(lost);
	assert_ok(db_changes(t->db, 0, &all, 1, collect, got, &now, &lost, &err), &err);
	assert_false(lost);
	test_db_reopen(t);
	assert_ok(db_changes(t->db, start, &all, 1, collect, got, &now, &lost, &err), &err);
	assert_true(lost);
	assert_ok(db_changes(t->db, UINT64_MAX / 4, &all, 1, collect, got, &now, &lost, &err), &err);
	assert_true(lost);	/* never given out */
}

static void
test_counts(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;

	for (int i = 0; i < 3; i++) {
		char ref[32];
		CLEANUP_JSON json *counts = NULL;

		assert_ok(db_counts(t->db, &counts, &err), &err);
		assert_int_equal(smd_json_int(counts, "vdi", -1), i);
		assert_int_equal(smd_json_int(counts, "task", -1), 0);
		snprintf(ref, sizeof ref, "OpaqueRef:%d", i);
		test_insert(t->db, "VDI", ref, "{}");
	}
}

struct waiter {
	struct db *db;
	uint64_t wakes;
	struct db_interest interest;
	uint64_t since;
	int result;
};

static void *
wait_long(void *opaque)
{
	struct waiter *w = opaque;

	w->result = db_wait(w->db, w->since, &w->interest, 1, 60000, &w->wakes);
	return NULL;
}

static void
test_wait(void **state)
{
	struct test_db *t = *state;
	struct waiter w[2];
	pthread_t threads[2];

	for (int i = 0; i < 2; i++) {
		w[i] = (struct waiter){ t->db, 0, interest(i == 0 ? "VDI" : "SR", NULL),
					db_generation(t->db), -1 };
		assert_int_equal(pthread_create(&threads[i], NULL, wait_long, &w[i]), 0);
	}
	test_insert(t->db, "VDI", VDI1, "{}");
	pthread_join(threads[0], NULL);
	assert_int_equal(w[0].result, 1);
	assert_true(db_concerned(t->db, w[0].since, &w[0].interest, 1));
	assert_false(db_concerned(t->db, w[1].since, &w[1].interest, 1));
	db_wake(t->db);
	pthread_join(threads[1], NULL);
	assert_int_equal(w[1].result, 0);
	/* A wake before the wait counts, once; then only the time ends it. */
	w[1].wakes = 0;
	for (int i = 0; i < 2; i++)
		assert_int_equal(db_wait(t->db, db_generation(t->db), &w[0].interest, 1,
					 i == 0 ? 60000 : 1, &w[1].wakes), 0);
	assert_int_equal(w[1].wakes, 1);
}

#define DB_TEST(f) cmocka_unit_test_setup_teardown(f, test_db_setup, test_db_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		DB_TEST(test_changes),
		DB_TEST(test_same_value_is_no_change),
		DB_TEST(test_single_objects),
		DB_TEST(test_pointer_changes_its_target),
		DB_TEST(test_generation_survives_a_restart),
		DB_TEST(test_lost),
		DB_TEST(test_counts),
		DB_TEST(test_wait),
	};

	return cmocka_run_group_tests_name("db/events", tests, NULL, NULL);
}
