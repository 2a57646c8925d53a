/* SPDX-License-Identifier: BSD-2-Clause */
#include <sys/syscall.h>

#include "daemon/db/test-db.h"

/* sqlite's calls end here, and are counted. */
static int n_syncs;

__attribute__((visibility("default"))) int
fdatasync(int fd)
{
	n_syncs++;
	return (int)syscall(SYS_fdatasync, fd);
}

__attribute__((visibility("default"))) int
fsync(int fd)
{
	n_syncs++;
	return (int)syscall(SYS_fsync, fd);
}

#define SR1 "OpaqueRef:sr1"
#define SR2 "OpaqueRef:sr2"
#define VDI1 "OpaqueRef:vdi1"
#define UUID1 "00000000-0000-0000-0000-000000000001"

static void
test_record(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	CLEANUP_JSON json *record = NULL, *missing = NULL;

	test_insert(t->db, "SR", SR1, "{\"uuid\":\"" UUID1 "\",\"type\":\"file\",\"shared\":true,"
		    "\"physical_size\":9007199254740993,\"sm_config\":{\"a\":\"b\"},\"tags\":[\"x\"]}");
	test_db_reopen(t);
	assert_ok(db_get_record(t->db, "SR", SR1, &record, &err), &err);
	assert_string_equal(smd_json_str(record, "type", ""), "file");
	assert_true(smd_json_bool(record, "shared", false));
	assert_int_equal(smd_json_int(record, "physical_size", 0), 9007199254740993);
	assert_json(smd_json_member(record, "sm_config"), "{\"a\":\"b\"}");
	assert_json(smd_json_member(record, "tags"), "[\"x\"]");
	assert_json(smd_json_member(record, "VDIs"), "[]");
	assert_int_equal(api_value_check(&(struct api_type){ API_RECORD, .name = "SR" }, record,
					 "record", &err), 0);

	assert_int_equal(db_get_record(t->db, "SR", SR2, &missing, &err), -1);
	assert_string_equal(err.code, "HANDLE_INVALID");
	assert_string_equal(err.params[0], "SR");
	assert_string_equal(err.params[1], SR2);
}

static void
test_every_class_takes_defaults(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;

	for (size_t i = 0; i < t->db->n_classes; i++) {
		const char *name = t->db->classes[i].api->name;
		const struct api_type type = { API_RECORD, .name = name };
		CLEANUP_JSON json *record = NULL;

		test_insert(t->db, name, "OpaqueRef:x", "{}");
		assert_ok(db_get_record(t->db, name, "OpaqueRef:x", &record, &err), &err);
		assert_ok(api_value_check(&type, record, name, &err), &err);
		assert_true(smd_uuid_ok(smd_json_str(record, "uuid", "")));
	}
}

static void
test_set_and_maps(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	CLEANUP_FREE char *value = NULL, *none = NULL;
	int64_t n;
	bool b;

	test_insert(t->db, "VDI", VDI1, "{}");
	assert_ok(db_set_int(t->db, "VDI", VDI1, "virtual_size", 4096, &err), &err);
	assert_ok(db_get_int(t->db, "VDI", VDI1, "virtual_size", &n, &err), &err);
	assert_int_equal(n, 4096);
	assert_ok(db_set_bool(t->db, "VDI", VDI1, "missing", true, &err), &err);
	assert_ok(db_get_bool(t->db, "VDI", VDI1, "missing", &b, &err), &err);
	assert_true(b);
	assert_ok(db_map_set(t->db, "VDI", VDI1, "sm_config", "image-format", "vhd", &err), &err);
	assert_ok(db_map_get(t->db, "VDI", VDI1, "sm_config", "image-format", &value, &err), &err);
	assert_string_equal(value, "vhd");
	assert_ok(db_map_remove(t->db, "VDI", VDI1, "sm_config", "image-format", &err), &err);
	assert_ok(db_map_remove(t->db, "VDI", VDI1, "sm_config", "image-format", &err), &err);
	assert_ok(db_map_get(t->db, "VDI", VDI1, "sm_config", "image-format", &none, &err), &err);
	assert_null(none);
	assert_int_equal(db_set_str(t->db, "VDI", VDI1, "virtual_size", "many", &err), -1);
	assert_string_equal(err.code, "INTERNAL_ERROR");
}

/* The statement keeps what it was told of the row before. */
static void
test_rows_share_nothing(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_error taken CLEANUP_ERROR = SMD_ERROR_INIT;
	static const char all[] = "{\"uuid\":\"" UUID1 "\",\"type\":\"file\",\"shared\":true,"
				  "\"physical_size\":5,\"tags\":[\"x\"],\"sm_config\":{\"a\":\"b\"}}";
	struct test_db *t = *state;
	CLEANUP_JSON json *first = NULL, *plain = NULL, *record = json_tokener_parse(all);
	struct db_made *made = NULL, *again = NULL;
	size_t n;

	test_insert(t->db, "SR", "OpaqueRef:first", "{}");
	assert_ok(db_make(t->db, "SR", SR1, record, &made, &err), &err);
	assert_ok(db_make(t->db, "SR", SR2, record, &again, &err), &err);
	json_object_put(TAKE_PTR(record));
	assert_ok(db_insert_made(t->db, &made, 1, &n, &err), &err);
	assert_int_equal(n, 1);
	assert_ok(db_begin(t->db, DB_DURABLE, &err), &err);
	assert_ok(db_insert_made(t->db, &again, 1, &n, &err), &err);
	assert_int_equal(n, 0);
	record = json_tokener_parse(all);
	assert_int_equal(db_insert(t->db, "SR", SR2, record, &taken), -1);
	assert_string_equal(taken.code, "UUID_INVALID");
	json_object_put(TAKE_PTR(record));
	assert_ok(db_commit(t->db, &err), &err);
	db_made_free(made);
	db_made_free(again);
	test_insert(t->db, "SR", "OpaqueRef:plain", "{}");

	assert_ok(db_get_record(t->db, "SR", "OpaqueRef:first", &first, &err), &err);
	assert_ok(db_get_record(t->db, "SR", "OpaqueRef:plain", &plain, &err), &err);
	assert_string_not_equal(smd_json_str(plain, "uuid", ""), UUID1);
	json_object_object_del(first, "uuid");
	json_object_object_del(plain, "uuid");
	assert_true(json_object_equal(first, plain));
	assert_ok(db_get_record(t->db, "SR", SR1, &record, &err), &err);
	assert_json(smd_json_member(record, "tags"), "[\"x\"]");
	assert_false(db_exists(t->db, "SR", SR2));
}

#define N_ALIKE 73	/* statements of many, and what is left */

static void
make_alike(struct db_made *model, struct db_made **made, char (*uuids)[SMD_UUID_LEN + 1])
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	for (int i = 0; i < N_ALIKE; i++) {
		struct db_difference differs[] = {
			{ .field = "uuid", .text = uuids[i] },
			{ .field = "virtual_size", .integer = i },
		};
		char ref[40];

		snprintf(ref, sizeof ref, "OpaqueRef:%d", i);
		snprintf(uuids[i], sizeof uuids[i], "%s", smd_uuid_new().text);
		if (i == 33 || i == 71)		/* in a statement of many, in one of its own */
			snprintf(uuids[i], sizeof uuids[i], "%s", uuids[3]);
		assert_ok(db_make_like(model, ref, differs, 2, &made[i], &err), &err);
	}
}

static void
insert_alike(struct db *db, struct db_made *const *made)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	size_t n;

	assert_ok(db_insert_made(db, made, N_ALIKE, &n, &err), &err);
	assert_int_equal(n, 33);
	assert_ok(db_insert_made(db, made + 34, N_ALIKE - 34, &n, &err), &err);
	assert_int_equal(34 + n, 71);
	assert_ok(db_insert_made(db, made + 72, N_ALIKE - 72, &n, &err), &err);
	assert_int_equal(72 + n, N_ALIKE);
}

static void
test_many_at_once(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	static const char all[] = "{\"SR\":\"" SR1 "\",\"uuid\":\"" UUID1 "\",\"virtual_size\":1,"
				  "\"sm_config\":{\"a\":\"b\"}}";
	CLEANUP_JSON json *record = json_tokener_parse(all), *got = NULL, *refs = NULL;
	static char uuids[N_ALIKE][SMD_UUID_LEN + 1];
	struct db_made *model = NULL, *made[N_ALIKE] = { NULL };
	struct test_db *t = *state;
	int64_t sum;

	test_insert(t->db, "SR", SR1, "{}");
	assert_ok(db_make(t->db, "VDI", "OpaqueRef:model", record, &model, &err), &err);
	make_alike(model, made, uuids);
	assert_ok(db_begin(t->db, DB_RELAXED, &err), &err);
	insert_alike(t->db, made);
	assert_ok(db_commit(t->db, &err), &err);
	for (int i = 0; i < N_ALIKE; i++)
		db_made_free(made[i]);
	db_made_free(model);

	assert_false(db_exists(t->db, "VDI", "OpaqueRef:33"));
	assert_false(db_exists(t->db, "VDI", "OpaqueRef:71"));
	assert_ok(db_get_record(t->db, "VDI", "OpaqueRef:60", &got, &err), &err);
	assert_string_equal(smd_json_str(got, "uuid", ""), uuids[60]);
	assert_int_equal(smd_json_int(got, "virtual_size", 0), 60);
	assert_json(smd_json_member(got, "sm_config"), "{\"a\":\"b\"}");
	assert_ok(db_get(t->db, "SR", SR1, "VDIs", &refs, &err), &err);
	assert_int_equal(json_object_array_length(refs), N_ALIKE - 2);
	assert_ok(db_sr_size(t->db, SR1, &sum, &err), &err);
	assert_int_equal(sum, N_ALIKE * (N_ALIKE - 1) / 2 - 33 - 71);
}

static void
test_no_such_difference(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *record = json_tokener_parse("{\"virtual_size\":1}");
	struct db_difference text = { .field = "virtual_size", .text = "1" };
	struct db_difference default_ = { .field = "location", .text = "x" };
	struct smd_error other CLEANUP_ERROR = SMD_ERROR_INIT;
	struct db_made *model = NULL, *made = NULL;
	struct test_db *t = *state;

	assert_ok(db_make(t->db, "VDI", VDI1, record, &model, &err), &err);
	assert_int_equal(db_make_like(model, VDI1, &text, 1, &made, &err), -1);
	assert_string_equal(err.code, "INTERNAL_ERROR");
	assert_int_equal(db_make_like(model, VDI1, &default_, 1, &made, &other), -1);
	assert_null(made);
	db_made_free(model);
}

static void
test_misspelt_member(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	CLEANUP_JSON json *record = json_tokener_parse("{\"virtual-size\":1}");

	assert_int_equal(db_insert(t->db, "VDI", VDI1, record, &err), -1);
	assert_string_equal(err.code, "INTERNAL_ERROR");
	assert_false(db_exists(t->db, "VDI", VDI1));
}

static void
test_inverse(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	CLEANUP_JSON json *one = NULL, *moved = NULL, *gone = NULL;

	test_insert(t->db, "SR", SR1, "{}");
	test_insert(t->db, "SR", SR2, "{}");
	test_insert(t->db, "VDI", VDI1, "{\"SR\":\"" SR1 "\"}");
	assert_ok(db_get(t->db, "SR", SR1, "VDIs", &one, &err), &err);
	assert_json(one, "[\"" VDI1 "\"]");
	assert_ok(db_set_str(t->db, "VDI", VDI1, "SR", SR2, &err), &err);
	assert_ok(db_get(t->db, "SR", SR2, "VDIs", &moved, &err), &err);
	assert_json(moved, "[\"" VDI1 "\"]");
	assert_ok(db_delete(t->db, "VDI", VDI1, &err), &err);
	assert_ok(db_get(t->db, "SR", SR2, "VDIs", &gone, &err), &err);
	assert_json(gone, "[]");
}

/* Enough objects that single look-ups turn into one pass: both must agree. */
static void
test_many(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	CLEANUP_JSON json *records = NULL;
	size_t seen = 0;

	assert_ok(db_begin(t->db, DB_RELAXED, &err), &err);
	for (int i = 0; i < 200; i++) {
		char sr[40], vdi[40], record[64];

		snprintf(sr, sizeof sr, "OpaqueRef:s%d", i);
		snprintf(record, sizeof record, "{\"SR\":\"%s\"}", sr);
		test_insert(t->db, "SR", sr, "{}");
		for (int j = 0; j < i % 3; j++) {
			snprintf(vdi, sizeof vdi, "OpaqueRef:v%d.%d", i, j);
			test_insert(t->db, "VDI", vdi, record);
		}
	}
	assert_ok(db_commit(t->db, &err), &err);
	assert_ok(db_all_records(t->db, "SR", NULL, &records, &err), &err);
	assert_int_equal(json_object_object_length(records), 200);
	json_object_object_foreach(records, ref, record) {
		CLEANUP_JSON json *single = NULL;

		assert_ok(db_get_record(t->db, "SR", ref, &single, &err), &err);
		assert_true(json_object_equal(single, record));
		assert_int_equal(json_object_array_length(smd_json_member(record, "VDIs")),
				 atoi(ref + strlen("OpaqueRef:s")) % 3);
		seen += json_object_array_length(smd_json_member(record, "VDIs"));
	}
	assert_int_equal(seen, 199);
}

static void
test_transactions(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;

	assert_ok(db_begin(t->db, DB_RELAXED, &err), &err);
	test_insert(t->db, "SR", SR1, "{}");
	assert_ok(db_begin(t->db, DB_DURABLE, &err), &err);
	test_insert(t->db, "SR", SR2, "{}");
	db_rollback(t->db);
	assert_false(db_exists(t->db, "SR", SR2));
	assert_ok(db_commit(t->db, &err), &err);
	assert_true(db_exists(t->db, "SR", SR1));

	assert_ok(db_begin(t->db, DB_DURABLE, &err), &err);
	assert_ok(db_delete(t->db, "SR", SR1, &err), &err);
	db_rollback(t->db);
	assert_true(db_exists(t->db, "SR", SR1));
}

/* It fails when its row is there already: its SR cannot be touched. */
static void
fail_half_way(struct db *db)
{
	struct smd_error broken CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *record = json_tokener_parse("{\"SR\":\"" SR1 "\"}");

	assert_int_equal(sqlite3_exec(db->sql, "CREATE TEMP TRIGGER broken BEFORE UPDATE ON \"SR\" "
				      "BEGIN SELECT RAISE(FAIL, 'broken'); END", NULL, NULL, NULL), 0);
	assert_int_equal(db_insert(db, "VDI", "OpaqueRef:second", record, &broken), -1);
	assert_non_null(strstr(broken.message, "broken"));
	assert_int_equal(sqlite3_exec(db->sql, "DROP TRIGGER broken", NULL, NULL, NULL), 0);
}

static void
test_half_a_call_cannot_be_committed(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT, half CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_error half_nested CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;

	test_insert(t->db, "SR", SR1, "{}");
	assert_ok(db_begin(t->db, DB_RELAXED, &err), &err);
	test_insert(t->db, "SR", SR2, "{}");
	fail_half_way(t->db);
	assert_int_equal(db_commit(t->db, &half), -1);
	assert_false(db_exists(t->db, "SR", SR2));

	/* What a nested one did goes alone; a call that changed nothing is in nobody's way. */
	assert_ok(db_begin(t->db, DB_RELAXED, &err), &err);
	test_insert(t->db, "SR", SR2, "{}");
	assert_int_equal(db_touch(t->db, "SR", "OpaqueRef:none", &gone), -1);
	assert_ok(db_begin(t->db, DB_RELAXED, &err), &err);
	test_insert(t->db, "SR", "OpaqueRef:third", "{}");
	fail_half_way(t->db);
	assert_int_equal(db_commit(t->db, &half_nested), -1);
	assert_ok(db_commit(t->db, &err), &err);
	assert_true(db_exists(t->db, "SR", SR2));
	assert_false(db_exists(t->db, "SR", "OpaqueRef:third"));
}

/* A transaction in another; whether the disk was waited for. */
static bool
synced(struct db *db, enum db_durability outer, enum db_durability inner)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	int before = n_syncs;

	assert_ok(db_begin(db, outer, &err), &err);
	assert_ok(db_begin(db, inner, &err), &err);
	assert_ok(db_touch(db, "SR", SR1, &err), &err);
	assert_ok(db_commit(db, &err), &err);
	assert_int_equal(n_syncs, before);
	assert_ok(db_commit(db, &err), &err);
	return n_syncs > before;
}

static void
test_durable_commits_wait_for_the_disk(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	int before;

	test_insert(t->db, "SR", SR1, "{}");
	assert_false(synced(t->db, DB_RELAXED, DB_RELAXED));
	assert_true(synced(t->db, DB_DURABLE, DB_RELAXED));
	assert_true(synced(t->db, DB_RELAXED, DB_DURABLE));
	assert_false(synced(t->db, DB_RELAXED, DB_RELAXED));
	before = n_syncs;
	assert_ok(db_touch(t->db, "SR", SR1, &err), &err);
	assert_true(n_syncs > before);	/* a call of its own */
}

static void
test_sums(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	int64_t sum = -1;

	test_insert(t->db, "SR", SR1, "{}");
	assert_ok(db_sr_size(t->db, SR1, &sum, &err), &err);
	assert_int_equal(sum, 0);
	test_insert(t->db, "VDI", "OpaqueRef:a", "{\"SR\":\"" SR1 "\",\"virtual_size\":100000}");
	test_insert(t->db, "VDI", "OpaqueRef:b", "{\"SR\":\"" SR1 "\",\"virtual_size\":7}");
	test_insert(t->db, "VDI", "OpaqueRef:c", "{\"virtual_size\":5}");
	assert_ok(db_sr_size(t->db, SR1, &sum, &err), &err);
	assert_int_equal(sum, 100007);
	/* What passes an integer is no error. */
	test_insert(t->db, "VDI", "OpaqueRef:d",
		    "{\"SR\":\"" SR1 "\",\"virtual_size\":9223372036854775807}");
	assert_ok(db_sr_size(t->db, SR1, &sum, &err), &err);
	assert_int_equal(sum, INT64_MAX);
	assert_ok(db_delete(t->db, "VDI", "OpaqueRef:d", &err), &err);
	assert_ok(db_set_int(t->db, "VDI", "OpaqueRef:b", "virtual_size", 200000, &err), &err);
	assert_ok(db_set_str(t->db, "VDI", "OpaqueRef:c", "SR", SR1, &err), &err);
	assert_ok(db_sr_size(t->db, SR1, &sum, &err), &err);
	assert_int_equal(sum, 300005);
	assert_ok(db_begin(t->db, DB_RELAXED, &err), &err);
	assert_ok(db_set_str(t->db, "VDI", "OpaqueRef:a", "SR", "OpaqueRef:other", &err), &err);
	assert_ok(db_sr_size(t->db, SR1, &sum, &err), &err);
	assert_int_equal(sum, 200005);
	db_rollback(t->db);
	assert_ok(db_sr_size(t->db, SR1, &sum, &err), &err);
	assert_int_equal(sum, 300005);
}

static void
test_uuids(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_error bad CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	CLEANUP_FREE char *by_uuid = NULL, *by_ref = NULL, *none = NULL;

	test_insert(t->db, "SR", SR1, "{\"uuid\":\"" UUID1 "\"}");
	assert_ok(db_resolve(t->db, "SR", UUID1, &by_uuid, &err), &err);
	assert_string_equal(by_uuid, SR1);
	assert_ok(db_resolve(t->db, "SR", SR1, &by_ref, &err), &err);
	assert_string_equal(by_ref, SR1);
	assert_int_equal(db_by_uuid(t->db, "VDI", UUID1, &none, &err), -1);
	assert_string_equal(err.code, "UUID_INVALID");
	assert_int_equal(db_resolve(t->db, "SR", "nonsense", &none, &bad), -1);
	assert_string_equal(bad.code, "HANDLE_INVALID");
}

static void
test_journal(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	CLEANUP_JSON json *plan = json_tokener_parse("{\"undo\":[1]}");
	CLEANUP_JSON json *jobs = NULL, *none = NULL;

	assert_ok(db_job_put(t->db, "j1", plan, &err), &err);
	test_db_reopen(t);
	assert_ok(db_jobs(t->db, &jobs, &err), &err);
	assert_json(jobs, "{\"j1\":{\"undo\":[1]}}");
	assert_ok(db_job_delete(t->db, "j1", &err), &err);
	assert_ok(db_jobs(t->db, &none, &err), &err);
	assert_json(none, "{}");
}

/* A disk of a VM goes with the VM and with its VDI, as its object says. */
static void
test_goes_with(void **state)
{
	struct test_db *t = *state;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *left = NULL, *disks = NULL;

	test_insert(t->db, "VM", "OpaqueRef:vm", "{}");
	test_insert(t->db, "VDI", "OpaqueRef:d", "{}");
	test_insert(t->db, "VBD", "OpaqueRef:1", "{\"VM\":\"OpaqueRef:vm\"}");
	test_insert(t->db, "VBD", "OpaqueRef:2",
		    "{\"VM\":\"OpaqueRef:vm\",\"VDI\":\"OpaqueRef:d\"}");
	assert_ok(db_delete(t->db, "VDI", "OpaqueRef:d", &err), &err);
	assert_false(db_exists(t->db, "VBD", "OpaqueRef:2"));
	assert_ok(db_get(t->db, "VM", "OpaqueRef:vm", "VBDs", &disks, &err), &err);
	assert_json(disks, "[\"OpaqueRef:1\"]");
	assert_ok(db_delete(t->db, "VM", "OpaqueRef:vm", &err), &err);
	assert_ok(db_all(t->db, "VBD", &left, &err), &err);
	assert_json(left, "[]");
}

#define DB_TEST(f) cmocka_unit_test_setup_teardown(f, test_db_setup, test_db_teardown)

/* Rows one by one: as they were when the first was read, with what points at them. */
static void
test_rows(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct db *db = ((struct test_db *)*state)->db;
	CLEANUP_JSON json *all = NULL, *record = NULL, *none = NULL;
	struct db_rows *rows = NULL;
	const char *ref;

	test_insert(db, "SR", "OpaqueRef:s", "{\"name_label\":\"s\"}");
	for (int i = 0; i < 100; i++) {
		CLEANUP_FREE char *vdi = smd_asprintf("OpaqueRef:%d", i);

		test_insert(db, "VDI", vdi, "{\"SR\":\"OpaqueRef:s\"}");
	}
	assert_ok(db_all_records(db, "VDI", NULL, &all, &err), &err);
	assert_ok(db_rows_open(db, "VDI", NULL, &rows, &err), &err);
	for (int i = 0; i < 100; i++) {
		CLEANUP_JSON json *one = NULL;

		assert_int_equal(db_rows_next(rows, &ref, &one, &err), 1);
		assert_true(json_object_equal(one, smd_json_member(all, ref)));
		/* A writer does not wait, and is not seen. */
		if (i == 0)
			assert_ok(db_delete(db, "VDI", "OpaqueRef:99", &err), &err);
	}
	assert_int_equal(db_rows_next(rows, &ref, &none, &err), 0);
	db_rows_close(rows);

	assert_ok(db_rows_open(db, "VDI", "field \"uuid\" = \"none\"", &rows, &err), &err);
	assert_int_equal(db_rows_next(rows, &ref, &none, &err), 0);
	db_rows_close(rows);
	assert_ok(db_rows_open(db, "SR", NULL, &rows, &err), &err);
	assert_int_equal(db_rows_next(rows, &ref, &record, &err), 1);
	assert_int_equal(json_object_array_length(smd_json_member(record, "VDIs")), 99);
	db_rows_close(rows);
	assert_int_equal(db_rows_open(db, "VDI", "field", &rows, &err), -1);
	assert_string_equal(err.code, "INVALID_VALUE");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		DB_TEST(test_record),
		DB_TEST(test_every_class_takes_defaults),
		DB_TEST(test_set_and_maps),
		DB_TEST(test_rows_share_nothing),
		DB_TEST(test_many_at_once),
		DB_TEST(test_no_such_difference),
		DB_TEST(test_misspelt_member),
		DB_TEST(test_inverse),
		DB_TEST(test_goes_with),
		DB_TEST(test_many),
		DB_TEST(test_rows),
		DB_TEST(test_transactions),
		DB_TEST(test_half_a_call_cannot_be_committed),
		DB_TEST(test_durable_commits_wait_for_the_disk),
		DB_TEST(test_sums),
		DB_TEST(test_uuids),
		DB_TEST(test_journal),
	};

	return cmocka_run_group_tests_name("db/objects", tests, NULL, NULL);
}
