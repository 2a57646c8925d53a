/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/api/coding.h"

static void
test_choose(void **state)
{
	static const struct {
		const char *accept, *coding;
	} cases[] = {
		{ NULL, "" }, { "", "" }, { "identity", "" }, { "br, deflate", "" }, { "*", "" },
		{ "gzip", "gzip" }, { "GZip", "gzip" }, { "x-gzip", "gzip" }, { "zstd", "zstd" },
		{ "gzip, deflate, br, zstd", "zstd" }, { "zstd,gzip", "zstd" },
		{ "gzip;q=1.0, zstd;q=0.5", "gzip" }, { "zstd;q=0.4, gzip; q = 0.5", "gzip" },
		{ "zstd;q=0, gzip;q=0.001", "gzip" }, { "gzip;q=0", "" }, { "gzip;q=0.000", "" },
		{ "identity, gzip;q=0.9", "" }, { "gzip;q=0.9, identity;q=0.5, *;q=0", "gzip" },
		{ "identity;q=0, gzip", "gzip" }, { "gzipped", "" }, { " ,, gzip ,", "gzip" },
		{ ";q=1", "" }, { ",", "" }, { "gzip;q=x", "" }, { "gzip;", "gzip" },
		{ "gzip;a=b;q=0.1, zstd;q=0.09", "gzip" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_string_equal(coding_choose(cases[i].accept), cases[i].coding);
}

static void
test_known(void **state)
{
	const char *coding;

	(void)state;
	assert_true(coding_known(NULL, &coding));
	assert_string_equal(coding, "");
	assert_true(coding_known("identity", &coding));
	assert_string_equal(coding, "");
	assert_true(coding_known(" X-Gzip ", &coding));
	assert_string_equal(coding, "gzip");
	assert_true(coding_known("zstd", &coding));
	assert_string_equal(coding, "zstd");
	assert_false(coding_known("br", &coding));
	assert_false(coding_known("gzip, zstd", &coding));
	assert_false(coding_known("gzip,gzip", &coding));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
