/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/checked.h"

static void
test_add_and_mul(void **state)
{
	uint64_t r = 5;

	(void)state;
	assert_true(smd_add_u64(UINT64_MAX - 1, 1, &r));
	assert_int_equal(r, UINT64_MAX);
	r = 5;
	assert_false(smd_add_u64(UINT64_MAX, 1, &r));
	assert_false(smd_mul_u64(1ULL << 32, 1ULL << 32, &r));
	assert_int_equal(r, 5);
	assert_true(smd_mul_u64(1ULL << 32, 0xffffffffULL, &r));
	assert_int_equal(r, 0xffffffff00000000ULL);
	assert_true(smd_mul_u64(0, UINT64_MAX, &r));
	assert_int_equal(r, 0);
}

static void
test_round(void **state)
{
	uint64_t r = 5;

	(void)state;
	assert_true(smd_round_up_u64(0, 4096, &r));
	assert_int_equal(r, 0);
	assert_true(smd_round_up_u64(1, 4096, &r));
	assert_int_equal(r, 4096);
	assert_true(smd_round_up_u64(4096, 4096, &r));
	assert_int_equal(r, 4096);
	assert_true(smd_round_up_u64(7, 1, &r));
	assert_int_equal(r, 7);
	assert_false(smd_round_up_u64(UINT64_MAX - 4094, 4096, &r));
	assert_int_equal(r, 7);
	assert_int_equal(smd_round_down_u64(8191, 4096), 4096);
	assert_int_equal(smd_div_round_up_u64(UINT64_MAX, 2), 1ULL << 63);
	assert_int_equal(smd_div_round_up_u64(0, 3), 0);
	assert_int_equal(smd_div_round_up_u64(3, 3), 1);
	assert_int_equal(smd_div_round_up_u64(4, 3), 2);
}

static void
test_range(void **state)
{
	(void)state;
	assert_true(smd_range_ok(0, 0, 0));
	assert_true(smd_range_ok(10, 0, 10));
	assert_true(smd_range_ok(4, 6, 10));
	assert_false(smd_range_ok(4, 7, 10));
	assert_false(smd_range_ok(11, 0, 10));
	assert_false(smd_range_ok(8, UINT64_MAX - 4, 10));
}

static void
test_pow2_and_bounds(void **state)
{
	(void)state;
	assert_false(smd_is_pow2_u64(0));
	assert_true(smd_is_pow2_u64(1));
	assert_true(smd_is_pow2_u64(1ULL << 63));
	assert_false(smd_is_pow2_u64(3));
	assert_int_equal(smd_min_u64(1, 2), 1);
	assert_int_equal(smd_max_u64(1, 2), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_and_mul), cmocka_unit_test(test_round),
		cmocka_unit_test(test_range), cmocka_unit_test(test_pow2_and_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
