/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/json.h"
#include "common/mem.h"

/* text parses, and prints as want; NULL: it is refused. */
static void
parses(const char *text, const char *want)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *value = smd_json_parse(text, strlen(text), 8, &err);
	CLEANUP_FREE char *got = NULL;

	if (!want) {
		assert_null(value);
		assert_true(smd_error_is(&err, SMD_E_INVALID_VALUE));
		return;
	}
	assert_null(err.code);
	got = smd_json_print(value);
	assert_string_equal(got, want);
}

static void
test_values(void **state)
{
	(void)state;
	parses("{\"a\":[1,true,null,\"x/y\"],\"b\":-1.5}", "{\"a\":[1,true,null,\"x/y\"],\"b\":-1.5}");
	parses(" 7 ", "7");
	parses("9223372036854775807", "9223372036854775807");
	parses("\"\\u00e9\"", "\"\xc3\xa9\"");
	parses("", NULL);
	parses("{", NULL);
	parses("[1,]", NULL);
	parses("true", "true");
	parses("null", "null");
	parses("-1.5", "-1.5");
	parses("tru", NULL);
	parses("'a'", NULL);
	parses("{'a':1}", NULL);
	parses("NaN", NULL);
	parses("[NaN]", NULL);
	parses("[-Infinity]", NULL);
	parses("[\"it's NaN, Infinity\"]", "[\"it's NaN, Infinity\"]");
	parses("1 2", NULL);
	parses("{} x", NULL);
	parses("[1] // c", NULL);
}

static void
test_duplicates(void **state)
{
	(void)state;
	parses("{\"a\":1,\"a\":2}", NULL);
	parses("{\"a\":1,\"\\u0061\":2}", NULL);
	parses("[{\"b\":{\"c\":1,\"c\":1}}]", NULL);
	parses("{\"a\":\"a\",\"b\":\"a\"}", "{\"a\":\"a\",\"b\":\"a\"}");
	parses("{\"a\":{\"a\":1},\"b\":{\"a\":2}}", "{\"a\":{\"a\":1},\"b\":{\"a\":2}}");
	parses("[{\"a\":1},{\"a\":1}]", "[{\"a\":1},{\"a\":1}]");
	parses("{\"a\":[\"a\",\"a\"]}", "{\"a\":[\"a\",\"a\"]}");
	parses("{\"a\\\"\":1,\"a\":2}", "{\"a\\\"\":1,\"a\":2}");
	parses("{\"a{\":1,\"a}\":2,\"a,\":3}", "{\"a{\":1,\"a}\":2,\"a,\":3}");
}

static void
test_depth(void **state)
{
	char *deep = smd_malloc(20001);

	(void)state;
	parses("[[[[[[1]]]]]]", "[[[[[[1]]]]]]");
	parses("[[[[[[[[[1]]]]]]]]]", NULL);
	memset(deep, '[', 10000);
	memset(deep + 10000, ']', 10000);
	deep[20000] = '\0';
	parses(deep, NULL);
	free(deep);
}

static void
test_utf8(void **state)
{
	static const char *const good[] = {
		"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
		"\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf",
	};
	static const char *const bad[] = {
		"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2" "a", "\xe0\x9f\xbf", "\xed\xa0\x80",
		"\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_true(smd_utf8_valid(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(smd_utf8_valid(bad[i], strlen(bad[i])));
	parses("\"\xff\"", NULL);
}

/* Bytes that are no text at all: a NUL, and a length that ends a value early. */
static void
test_length(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *value = smd_json_parse("[1]garbage", 3, 8, &err);

	(void)state;
	assert_non_null(value);
	assert_null(smd_json_parse("[1]\0", 4, 8, &err));
	assert_true(smd_error_is(&err, SMD_E_INVALID_VALUE));
	smd_error_clear(&err);
	assert_null(smd_json_parse("[12]", 3, 8, &err));
	assert_true(smd_error_is(&err, SMD_E_INVALID_VALUE));
}

static void
test_members(void **state)
{
	CLEANUP_JSON json *obj = json_object_new_object();

	(void)state;
	smd_json_set_str(obj, "s", "text");
	smd_json_set_str(obj, "n", NULL);
	smd_json_set_int(obj, "i", INT64_MIN);
	smd_json_set_bool(obj, "b", true);
	assert_string_equal(smd_json_str(obj, "s", "-"), "text");
	assert_string_equal(smd_json_str(obj, "n", "-"), "");
	assert_string_equal(smd_json_str(obj, "i", "-"), "-");
	assert_string_equal(smd_json_str(obj, "absent", "-"), "-");
	assert_string_equal(smd_json_str(NULL, "s", "-"), "-");
	assert_true(smd_json_int(obj, "i", 1) == INT64_MIN);
	assert_int_equal(smd_json_int(obj, "s", 1), 1);
	assert_true(smd_json_bool(obj, "b", false));
	assert_false(smd_json_bool(obj, "i", false));
	assert_null(smd_json_member(obj, "absent"));
}

/* An error comes out of a pipe as it went in. */
static void
test_copy_and_has(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *array = smd_json_parse("[\"a\",\"b\"]", 9, 8, &err);
	CLEANUP_JSON json *copy = smd_json_copy(array);

	(void)state;
	json_object_array_add(array, json_object_new_string("c"));
	assert_true(smd_json_has_str(array, "c"));
	assert_true(smd_json_has_str(copy, "b"));
	assert_false(smd_json_has_str(copy, "c"));
	assert_false(smd_json_has_str(NULL, "c"));
	assert_null(smd_json_copy(NULL));
}

static void
test_error_and_back(void **state)
{
	struct smd_error in CLEANUP_ERROR = SMD_ERROR_INIT, out CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *obj = NULL, *odd = json_tokener_parse("{\"params\":7}");

	(void)state;
	smd_fail_IMAGE_CORRUPT(&in, "a\"b", "BAD_MAGIC", "text");
	in.errnum = 5;
	obj = smd_json_from_error(&in);
	assert_int_equal(smd_json_to_error(obj, &out), -1);
	assert_ptr_equal(out.code, in.code);
	assert_string_equal(out.params[0], "a\"b");
	assert_string_equal(out.params[1], "BAD_MAGIC");
	assert_null(out.params[2]);
	assert_string_equal(out.message, "text");
	assert_int_equal(out.errnum, 5);
	smd_error_clear(&out);
	assert_int_equal(smd_json_to_error(odd, &out), -1);
	assert_true(smd_error_is(&out, SMD_E_INTERNAL_ERROR));
}

/* Whoever looks at a parameter of a code finds one, whatever a worker wrote. */
static void
test_error_lacks_parameters(void **state)
{
	static const char *const texts[] = {
		"{\"code\":\"IMAGE_CORRUPT\"}",
		"{\"code\":\"IMAGE_CORRUPT\",\"params\":[null]}",
		"{\"code\":\"IMAGE_CORRUPT\",\"params\":[\"\",\"\",\"more\"]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		CLEANUP_JSON json *obj = json_tokener_parse(texts[i]);

		assert_int_equal(smd_json_to_error(obj, &err), -1);
		assert_true(smd_error_is(&err, SMD_E_IMAGE_CORRUPT));
		assert_string_equal(err.params[0], "");
		assert_string_equal(err.params[1], "");
		assert_null(err.params[2]);
	}
}

/* Floats are made in C too, where the tree has no text to go back to. */
static void
test_floats(void **state)
{
	CLEANUP_JSON json *value = json_object_new_double(0.3);
	CLEANUP_FREE char *text = smd_json_print(value);

	(void)state;
	assert_string_equal(text, "0.3");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_floats), cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_depth), cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_length), cmocka_unit_test(test_members),
		cmocka_unit_test(test_copy_and_has), cmocka_unit_test(test_error_and_back),
		cmocka_unit_test(test_error_lacks_parameters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
