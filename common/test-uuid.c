/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <ctype.h>

#include "common/uuid.h"

static void
test_new(void **state)
{
	struct smd_uuid_text a = smd_uuid_new(), b = smd_uuid_new();

	(void)state;
	assert_int_equal(strlen(a.text), SMD_UUID_LEN);
	assert_true(smd_uuid_ok(a.text));
	assert_string_not_equal(a.text, b.text);
	for (const char *p = a.text; *p; p++)
		assert_true(*p == '-' || isdigit((unsigned char)*p) || (*p >= 'a' && *p <= 'f'));
}

static void
test_from_bytes(void **state)
{
	static const uint8_t bytes[16] = {
		0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
	};

	(void)state;
	assert_string_equal(smd_uuid_from_bytes(bytes).text,
			    "deadbeef-0001-0203-0405-060708090a0b");
}

static void
test_ok(void **state)
{
	(void)state;
	assert_true(smd_uuid_ok("DEADBEEF-0001-0203-0405-060708090a0b"));
	assert_false(smd_uuid_ok(""));
	assert_false(smd_uuid_ok("deadbeef-0001-0203-0405-060708090a0"));
	assert_false(smd_uuid_ok("deadbeef-0001-0203-0405-060708090a0bb"));
	assert_false(smd_uuid_ok("deadbeef-0001-0203-0405-060708090a0g"));
	assert_false(smd_uuid_ok("deadbeef-00010203-0405-0607-08090a0b"));
	assert_false(smd_uuid_ok("../../../../../../../etc/shadow/abcd"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new), cmocka_unit_test(test_from_bytes),
		cmocka_unit_test(test_ok),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
