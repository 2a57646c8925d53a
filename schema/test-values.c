/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schema/api.h"
#include "schema/datetime.h"

static const struct api_type vdi_record = { API_RECORD, .name = "VDI" };
static const struct api_type colour = {
	API_ENUM, .name = "colour", .values = API_VALUES("red", "green"),
};

/* text, read as JSON and accepted, prints as want; or fails with the code want. */
static void
accepts(const struct api_type *type, const char *text, const char *want)
{
	CLEANUP_JSON json *value = json_tokener_parse(text), *got = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (api_value_accept(type, value, "p", &got, &err) < 0)
		assert_string_equal(err.code, want);
	else
		assert_string_equal(json_object_to_json_string_ext(got, JSON_C_TO_STRING_PLAIN),
				    want);
}

static void
test_int(void **state)
{
	(void)state;
	accepts(&api_int, "5", "5");
	accepts(&api_int, "\"5\"", "5");
	accepts(&api_int, "\"-9223372036854775808\"", "-9223372036854775808");
	accepts(&api_int, "9223372036854775807", "9223372036854775807");
	accepts(&api_int, "9223372036854775808", "INVALID_VALUE");
	accepts(&api_int, "99999999999999999999999", "INVALID_VALUE");
	accepts(&api_int, "\"9223372036854775808\"", "INVALID_VALUE");
	accepts(&api_int, "\"\"", "INVALID_VALUE");
	accepts(&api_int, "\" 5\"", "INVALID_VALUE");
	accepts(&api_int, "\"5 \"", "INVALID_VALUE");
	accepts(&api_int, "\"-\"", "INVALID_VALUE");
	accepts(&api_int, "\"0x10\"", "INVALID_VALUE");
	accepts(&api_int, "\"5\\u0000\"", "INVALID_VALUE");
	accepts(&api_int, "5.5", "INTERNAL_ERROR");
	accepts(&api_int, "true", "INTERNAL_ERROR");
	accepts(&api_int, "null", "INTERNAL_ERROR");
	accepts(&api_int32, "2147483648", "INVALID_VALUE");
}

static void
test_float_and_bool(void **state)
{
	(void)state;
	accepts(&api_float, "60.5", "60.5");
	accepts(&api_float, "60", "60.0");
	accepts(&api_float, "\"0.25\"", "0.25");
	accepts(&api_float, "\"nan\"", "INVALID_VALUE");
	accepts(&api_float, "\"1e999\"", "INVALID_VALUE");
	accepts(&api_float, "\"x\"", "INVALID_VALUE");
	accepts(&api_float, "[]", "INTERNAL_ERROR");
	accepts(&api_bool, "true", "true");
	accepts(&api_bool, "\"true\"", "INTERNAL_ERROR");
	accepts(&api_bool, "1", "INTERNAL_ERROR");
}

static void
test_text(void **state)
{
	(void)state;
	accepts(&api_string, "\"a\"", "\"a\"");
	accepts(&api_string, "5", "INTERNAL_ERROR");
	accepts(&api_string, "\"a\\u0000b\"", "INVALID_VALUE");
	accepts(&api_ref_VDI, "\"OpaqueRef:x\"", "\"OpaqueRef:x\"");
	accepts(&api_ref_VDI, "{}", "INTERNAL_ERROR");
	accepts(&colour, "\"green\"", "\"green\"");
	accepts(&colour, "\"Green\"", "INVALID_VALUE");
}

static void
test_datetime(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "20261121T04:00:00Z", "20261121T04:00:00Z" },
		{ "20261121T04:00:00", "20261121T04:00:00Z" },
		{ "2026-11-21T04:00:00Z", "20261121T04:00:00Z" },
		{ "2026-11-21 04:00:00.123Z", "20261121T04:00:00Z" },
		{ "2026-11-21T04:00:00+02:00", "20261121T02:00:00Z" },
		{ "2026-12-31T23:30:00-0100", "20270101T00:30:00Z" },
		{ "20240229T00:00:00Z", "20240229T00:00:00Z" },
		{ "20250229T00:00:00Z", NULL }, { "20261321T04:00:00Z", NULL },
		{ "20261121T24:00:00Z", NULL }, { "20261121", NULL }, { "", NULL },
		{ "2026-1121T04:00:00Z", NULL }, { "20261121T04:00:00ZZ", NULL },
		{ "20261121T04:00:00.Z", NULL }, { "20261121T04:00:00+99:00", NULL },
	};
	char got[API_DATETIME_LEN + 1];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(api_datetime_normal(cases[i].text, got), cases[i].want != NULL);
		if (cases[i].want)
			assert_string_equal(got, cases[i].want);
	}
	accepts(&api_datetime, "\"2026-11-21T04:00:00Z\"", "\"20261121T04:00:00Z\"");
	accepts(&api_datetime, "\"tomorrow\"", "INVALID_VALUE");
	accepts(&api_datetime, "0", "INTERNAL_ERROR");
}

static void
test_collections(void **state)
{
	(void)state;
	accepts(&api_string_set, "[\"a\",\"b\"]", "[\"a\",\"b\"]");
	accepts(&api_string_set, "[\"a\",1]", "INTERNAL_ERROR");
	accepts(&api_string_set, "{}", "INTERNAL_ERROR");
	accepts(&api_int_set, "[\"1\",2]", "[1,2]");
	accepts(&api_string_map, "{\"k\":\"v\"}", "{\"k\":\"v\"}");
	accepts(&api_string_map, "{\"k\":1}", "INTERNAL_ERROR");
	accepts(&api_string_map, "[]", "{}");
	accepts(&api_string_map, "[1]", "INTERNAL_ERROR");
	accepts(&api_string_int_map, "{\"k\":\"7\"}", "{\"k\":7}");
}

static void
test_constructor(void **state)
{
	CLEANUP_JSON json *given = json_tokener_parse(
		"{\"SR\":\"OpaqueRef:s\",\"virtual_size\":\"1024\",\"type\":\"user\",\"sharable\":false,"
		"\"read_only\":false,\"other_config\":{},\"uuid\":\"mine\",\"nonsense\":[1]}");
	CLEANUP_JSON json *got = NULL, *again = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	assert_int_equal(api_value_accept(&vdi_record, given, "args", &got, &err), 0);
	assert_int_equal(smd_json_int(got, "virtual_size", 0), 1024);
	/* The server's fields are the server's; the rest has its defaults. */
	assert_string_equal(smd_json_str(got, "uuid", "?"), "");
	assert_true(smd_json_bool(got, "managed", false));
	assert_string_equal(smd_json_str(got, "on_boot", "?"), "persist");
	assert_null(smd_json_member(got, "nonsense"));
	assert_null(smd_json_member(got, "VBDs"));

	json_object_object_del(given, "SR");
	assert_int_equal(api_value_accept(&vdi_record, given, "args", &again, &err), -1);
	assert_string_equal(err.code, "INTERNAL_ERROR");
}

static bool
checks(const struct api_type *type, const char *text)
{
	CLEANUP_JSON json *value = json_tokener_parse(text);
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	int r = api_value_check(type, value, "result", &err);

	assert_int_equal(r < 0, err.code != NULL);
	return r == 0;
}

static void
test_check(void **state)
{
	(void)state;
	assert_true(checks(&api_void, "null"));
	assert_true(checks(&api_void, "\"\""));
	assert_false(checks(&api_void, "\"x\""));
	assert_true(checks(&api_int, "1"));
	assert_false(checks(&api_int, "\"1\""));
	assert_true(checks(&api_float, "0.5"));
	assert_false(checks(&api_ref_VDI, "\"\""));
	assert_false(checks(&api_datetime, "\"2026-11-21T04:00:00Z\""));
	assert_false(checks(&api_string_set, "[null]"));
	assert_true(checks(&api_string_map, "{\"a\":\"b\"}"));
	assert_false(checks(&api_string_map, "{\"a\":true}"));
	assert_false(checks(&vdi_record, "{\"uuid\":\"x\"}"));
}

/* An event carries a record of the class it names, or none. */
static void
test_check_event(void **state)
{
	const struct api_type *batch = api_message_find("event.from")->result;
	CLEANUP_JSON json *value = json_tokener_parse(
		"{\"events\":[{\"id\":\"1\",\"timestamp\":\"0.0\",\"class\":\"host_metrics\","
		"\"operation\":\"mod\",\"ref\":\"OpaqueRef:x\"}],"
		"\"valid_ref_counts\":{\"vdi\":0},\"token\":\"t\"}");
	json *event = json_object_array_get_idx(smd_json_member(value, "events"), 0);
	json *snapshot = json_object_new_object();
	const struct api_class *cls = api_class_find("host_metrics", false);
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	assert_int_equal(api_value_check(batch, value, "r", &err), 0);
	for (const struct api_field *f = cls->fields; f->name; f++)
		smd_json_set(snapshot, f->name, api_value_default(f->type, f->dflt));
	smd_json_set(event, "snapshot", snapshot);
	assert_int_equal(api_value_check(batch, value, "r", &err), 0);
	json_object_object_del(snapshot, "live");
	assert_int_equal(api_value_check(batch, value, "r", &err), -1);
}

static void
test_type_text(void **state)
{
	const struct api_message *m = api_message_find("VDI.get_all_records");
	CLEANUP_FREE char *text = api_type_text(m->result);

	(void)state;
	assert_string_equal(text, "(VDI ref -> VDI record) map");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_int), cmocka_unit_test(test_float_and_bool),
		cmocka_unit_test(test_text), cmocka_unit_test(test_datetime),
		cmocka_unit_test(test_collections), cmocka_unit_test(test_constructor),
		cmocka_unit_test(test_check), cmocka_unit_test(test_check_event),
		cmocka_unit_test(test_type_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
