/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "common/json.h"
#include "daemon/sr/names.h"

#define MANY 5000

static void
test_many(void **state)
{
	struct names names CLEANUP_NAMES = { 0 };
	static char texts[MANY][16];
	size_t at = MANY;

	(void)state;
	assert_false(names_find(&names, "0", &at));
	for (size_t i = 0; i < MANY; i++) {
		snprintf(texts[i], sizeof texts[i], "%zu", i);
		assert_true(names_add(&names, texts[i], i));
	}
	assert_int_equal(lh_table_length(names.table), MANY);
	assert_false(names_add(&names, "17", 4711));
	assert_int_equal(lh_table_length(names.table), MANY);
	for (size_t i = 0; i < MANY; i++) {
		assert_true(names_find(&names, texts[i], &at));
		assert_int_equal(at, i);
	}
	assert_false(names_find(&names, "5000", &at));
	assert_false(names_find(&names, "", &at));
	assert_true(names_add(&names, "", 1));
	assert_true(names_find(&names, "", &at));
	assert_int_equal(at, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
