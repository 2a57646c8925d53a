/* SPDX-License-Identifier: BSD-2-Clause */
/* What is printed: layout, columns, values, errors, progress. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/describe.h"
#include "daemon/cli/errors.h"
#include "daemon/cli/print.h"
#include "daemon/cli/progress.h"
#include "daemon/cli/test-api.h"

#define SR_REF "OpaqueRef:11111111-1111-1111-1111-111111111111"
#define SR_UUID "aaaaaaaa-1111-1111-1111-111111111111"

static json *
parse(const char *text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	json *j = smd_json_parse(text, strlen(text), 16, &err);

	assert_non_null(j);
	return j;
}

/* ---- Layout --------------------------------------------------------------------- */

static void
test_record_layout(void **state)
{
	char uuid[] = "uuid ( RO)", label[] = "name-label ( RW)", empty[] = "", u[] = "1234", l[] = "x";
	char description[] = "name-description ( RW)";
	struct print_row rows[] = { { uuid, u }, { label, l }, { description, empty } };
	CLEANUP_FREE char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	print_record(f, rows, 3);
	fclose(f);
	assert_string_equal(text, "uuid ( RO)                : 1234\n"
				  "          name-label ( RW): x\n"
				  "    name-description ( RW): \n"
				  "\n\n");
}

static void
test_minimal_escapes(void **state)
{
	const char *values[] = { "a,b", "c\\d", "" };
	CLEANUP_FREE char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	(void)state;
	print_minimal(f, values, 3);
	print_minimal(f, NULL, 0);
	fclose(f);
	assert_string_equal(text, "a\\,b,c\\\\d,\n\n");
}

/* ---- Columns ---------------------------------------------------------------------- */

/* The labels of the selected columns, a line each. */
static char *
labels(const char *cls, const char *params)
{
	struct columns *columns = columns_new(describe_class(api, cls));
	char *all = smd_strdup("");

	columns_select(columns, params);
	for (size_t i = 0; i < columns->n; i++) {
		CLEANUP_FREE char *label = column_label(&columns->list[i]);
		char *longer;

		if (!columns->list[i].selected)
			continue;
		longer = smd_asprintf("%s%s\n", all, label);
		free(all);
		all = longer;
	}
	columns_free(columns);
	return all;
}

static void
test_sm_columns(void **state)
{
	CLEANUP_FREE char *all = labels("sm", "all"), *dflt = labels("SM", NULL);

	(void)state;
	assert_string_equal(all,
			    "uuid ( RO)\n" "name-label ( RO)\n" "name-description ( RO)\n"
			    "type ( RO)\n" "vendor ( RO)\n" "copyright ( RO)\n"
			    "required-api-version ( RO)\n" "capabilities ( RO) [DEPRECATED]\n"
			    "features (MRO)\n" "configuration ( RO)\n" "driver-filename ( RO)\n"
			    "required-cluster-stack ( RO)\n" "supported-image-formats ( RO)\n");
	assert_string_equal(dflt, "uuid ( RO)\n" "name-label ( RO)\n" "name-description ( RO)\n"
				  "type ( RO)\n" "vendor ( RO)\n" "copyright ( RO)\n"
				  "configuration ( RO)\n");
}

static void
test_default_columns_keep_the_record_order(void **state)
{
	CLEANUP_FREE char *vdi = labels("VDI", NULL), *sr = labels("SR", NULL);
	CLEANUP_FREE char *chosen = labels("VDI", "sr-name-label,uuid,no-such-field");

	(void)state;
	assert_string_equal(vdi, "uuid ( RO)\n" "name-label ( RW)\n" "name-description ( RW)\n"
				 "sr-uuid ( RO)\n" "virtual-size ( RO)\n" "sharable ( RW)\n"
				 "read-only ( RW)\n");
	assert_string_equal(sr, "uuid ( RO)\n" "name-label ( RW)\n" "name-description ( RW)\n"
				"host ( RO)\n" "type ( RO)\n" "content-type ( RO)\n");
	assert_string_equal(chosen, "uuid ( RO)\n" "sr-name-label ( RO)\n");
}

static void
test_shapes_and_rights(void **state)
{
	CLEANUP_FREE char *got =
		labels("VDI", "tags,sm-config,allowed-operations,current-operations,vbd-uuids,parent");
	CLEANUP_FREE char *task = labels("task", "other-config,progress");

	(void)state;
	assert_string_equal(got, "allowed-operations (SRO)\n" "current-operations (SRO)\n"
				 "vbd-uuids (SRO)\n" "parent ( RO) [DEPRECATED]\n"
				 "sm-config (MRW)\n" "tags (SRW)\n");
	assert_string_equal(task, "progress ( RW)\n" "other-config (MRW)\n");
}

/* Every field of every class has a column, and no two share a name. */
static void
test_columns_are_unique(void **state)
{
	(void)state;
	for (size_t c = 0; c < describe_count(api, "classes"); c++) {
		json *cls = describe_item(api, "classes", c);
		struct columns *columns = columns_new(cls);

		assert_true(columns->n >= describe_count(cls, "fields"));
		for (size_t i = 0; i < columns->n; i++)
			assert_ptr_equal(columns_find(columns, columns->list[i].name),
					 &columns->list[i]);
		columns_free(columns);
	}
}

/* ---- Values ------------------------------------------------------------------------- */

static struct names *
some_names(void)
{
	struct names *names = names_new(NULL, api);
	CLEANUP_JSON json *srs = parse("{\"" SR_REF "\": {\"uuid\": \"" SR_UUID "\","
				       " \"name_label\": \"fast\"}}");

	names_learn(names, "SR", srs);
	return names;
}

static void
expect_column(const char *cls, const char *name, json *record, const char *want)
{
	struct columns *columns = columns_new(describe_class(api, cls));
	struct column *column = columns_find(columns, name);
	struct names *names = some_names();
	char *text;

	assert_non_null(column);
	text = column_text(column, record, names);
	assert_string_equal(text, want);
	free(text);
	names_free(names);
	columns_free(columns);
}

static void
test_values(void **state)
{
	CLEANUP_JSON json *vdi = parse(
		"{\"uuid\": \"u\", \"SR\": \"" SR_REF "\", \"parent\": \"OpaqueRef:NULL\","
		" \"virtual_size\": 9007199254740993, \"sharable\": false, \"tags\": [\"a\", \"b\"],"
		" \"allowed_operations\": [\"copy\", \"destroy\"],"
		" \"current_operations\": {\"OpaqueRef:x\": \"copy\"},"
		" \"sm_config\": {\"image-format\": \"vhd\", \"k\": \"v\"}}");
	CLEANUP_JSON json *sm = parse("{\"supported_image_formats\": [\"vhd\", \"qcow2\"],"
				      " \"features\": {\"VDI_CREATE\": 1, \"SR_SCAN\": 2}}");
	CLEANUP_JSON json *task = parse("{\"progress\": 0.25}");

	(void)state;
	expect_column("VDI", "sr-uuid", vdi, SR_UUID);
	expect_column("VDI", "sr-name-label", vdi, "fast");
	expect_column("VDI", "parent", vdi, "<not in database>");
	expect_column("VDI", "virtual-size", vdi, "9007199254740993");
	expect_column("VDI", "sharable", vdi, "false");
	expect_column("VDI", "tags", vdi, "a, b");
	expect_column("VDI", "allowed-operations", vdi, "copy; destroy");
	expect_column("VDI", "current-operations", vdi, "copy");
	expect_column("VDI", "sm-config", vdi, "image-format: vhd; k: v");
	expect_column("SM", "supported-image-formats", sm, "vhd; qcow2");
	expect_column("SM", "features", sm, "VDI_CREATE: 1; SR_SCAN: 2");
	expect_column("task", "progress", task, "0.250");
}

/* A field the record lacks (an older server) and one of another kind show as
 * nothing and harm nothing. */
static void
test_odd_records(void **state)
{
	CLEANUP_JSON json *empty = parse("{}");
	CLEANUP_JSON json *odd = parse("{\"SR\": 7, \"tags\": \"x\", \"sm_config\": [], \"PBDs\": 3}");

	(void)state;
	expect_column("VDI", "sr-uuid", empty, "");
	expect_column("VDI", "sr-name-label", empty, "<not in database>");
	expect_column("VDI", "tags", empty, "");
	expect_column("SR", "host", odd, "<not in database>");
	expect_column("VDI", "sr-uuid", odd, "7");
	expect_column("VDI", "tags", odd, "x");
	expect_column("VDI", "sm-config", odd, "");
}

/* ---- Errors, tasks, progress ---------------------------------------------------------- */

static void
expect_error(struct smd_error *err, const char *want)
{
	struct names *names = some_names();
	CLEANUP_FREE char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	errors_print(f, err, names);
	fclose(f);
	assert_string_equal(text, want);
	names_free(names);
	smd_error_clear(err);
}

static void
test_errors(void **state)
{
	struct smd_error err = SMD_ERROR_INIT;
	CLEANUP_JSON json *has_pbd = parse("[\"" SR_REF "\"]"), *in_use = parse("[\"v\", \"destroy\"]");
	CLEANUP_JSON json *one = parse("[\"Image format zip is not supported by x\"]");
	CLEANUP_JSON json *backend = parse("[\"\", \"no room\", \"opterr\"]");

	(void)state;
	server_fail("SR_HAS_PBD", has_pbd, 0, &err);
	expect_error(&err, "The SR is attached: unplug its PBDs first.\nsr: " SR_UUID " (fast)\n");
	server_fail("VDI_IN_USE", in_use, 0, &err);
	expect_error(&err, "The VDI is in use.\nvdi: v\noperation: destroy\n");
	server_fail("VDI_INCOMPATIBLE_TYPE", one, 0, &err);
	expect_error(&err, "The operation cannot be done on this kind of VDI.\n"
			   "vdi: Image format zip is not supported by x\n");
	server_fail("SR_BACKEND_FAILURE_44", backend, 0, &err);
	expect_error(&err, "Error code: SR_BACKEND_FAILURE_44\n"
			   "Error parameters: , no room, opterr\n");
	server_fail("FROM_THE_FUTURE", in_use, 0, &err);
	expect_error(&err, "Error code: FROM_THE_FUTURE\nError parameters: v, destroy\n");
	/* a task brings the server's message: shown where it says more */
	smd_fail_VDI_TOO_LARGE(&err, "v", "2040", "3 TiB is over vhd's 2040 GiB");
	expect_error(&err, "The VDI is too large.\nvdi: v\nmaximum: 2040\n"
			   "message: 3 TiB is over vhd's 2040 GiB\n");
	smd_fail_SR_NOT_EMPTY(&err, "the SR holds VDIs");
	expect_error(&err, "The SR holds VDIs: destroy or forget them first.\n");
	cli_fail(&err, "Required parameter not found: %s", "uuid");
	expect_error(&err, "Required parameter not found: uuid\n");
}

static void
expect_result(const char *xml, const char *want)
{
	CLEANUP_FREE char *text = task_result_text(xml);

	assert_string_equal(text, want);
}

static void
test_task_results(void **state)
{
	(void)state;
	expect_result("<value>OpaqueRef:x</value>", "OpaqueRef:x");
	expect_result("<value></value>", "");
	expect_result("<value>&lt;a b=&quot;1&quot;/&gt; &amp;lt;</value>", "<a b=\"1\"/> &lt;");
	expect_result("", "");
	expect_result("<value>", "");
	expect_result("</value>", "");
}

static void
expect_bar(struct progress_state s, const char *want)
{
	CLEANUP_FREE char *text = progress_text(&s);

	assert_string_equal(text, want);
}

static void
test_progress(void **state)
{
	(void)state;
	expect_bar((struct progress_state){ .share = 0.5, .done = 512 << 20, .total = 1 << 30,
					    .rate = 100 << 20, .left_s = 5 },
		   " 50% [===============>              ] 512.0 MiB of 1.0 GiB, 100.0 MiB/s, "
		   "0:05 left");
	expect_bar((struct progress_state){ .share = 1, .left_s = 0 },
		   "100% [==============================]");
	expect_bar((struct progress_state){ .share = 7, .left_s = -1 },
		   "100% [==============================]");
	expect_bar((struct progress_state){ .share = 0, .left_s = 3700 },
		   "  0% [                              ], 1:01:40 left");
	expect_bar((struct progress_state){ .share = -1, .done = 100, .left_s = -1 }, " 100 bytes");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_record_layout),
		cmocka_unit_test(test_minimal_escapes),
		cmocka_unit_test(test_sm_columns),
		cmocka_unit_test(test_default_columns_keep_the_record_order),
		cmocka_unit_test(test_shapes_and_rights),
		cmocka_unit_test(test_columns_are_unique),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_odd_records),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_task_results),
		cmocka_unit_test(test_progress),
	};

	return cmocka_run_group_tests(tests, api_setup, api_teardown);
}
