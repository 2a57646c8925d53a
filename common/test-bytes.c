/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"

static const uint8_t eight[8] = { 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88 };

static void
test_big_endian(void **state)
{
	struct smd_bytes b = smd_bytes(eight, sizeof eight);
	uint8_t v8;
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	(void)state;
	assert_true(smd_get_u8(b, 7, &v8));
	assert_int_equal(v8, 0x88);
	assert_true(smd_get_be16(b, 1, &v16));
	assert_int_equal(v16, 0x8283);
	assert_true(smd_get_be32(b, 3, &v32));
	assert_int_equal(v32, 0x84858687);
	assert_true(smd_get_be64(b, 0, &v64));
	assert_int_equal(v64, 0x8182838485868788ULL);
}

/* A read past the end is refused at every offset, and touches nothing. */
static void
test_past_the_end(void **state)
{
	struct smd_bytes b = smd_bytes(eight, sizeof eight);
	uint8_t v8 = 1;
	uint16_t v16 = 2;
	uint32_t v32 = 3;
	uint64_t v64 = 4;

	(void)state;
	assert_false(smd_get_u8(b, 8, &v8));
	assert_false(smd_get_be16(b, 7, &v16));
	assert_false(smd_get_be32(b, 5, &v32));
	assert_false(smd_get_be64(b, 1, &v64));
	assert_false(smd_get_be64(b, SIZE_MAX - 3, &v64));
	assert_false(smd_get_u8(smd_bytes(eight, 0), 0, &v8));
	assert_true(v8 == 1 && v16 == 2 && v32 == 3 && v64 == 4);
	assert_true(smd_bytes_has(b, 8, 0));
	assert_false(smd_bytes_has(b, 9, 0));
	assert_false(smd_bytes_has(b, 1, SIZE_MAX));
}

static void
test_store(void **state)
{
	uint8_t out[14];
	static const uint8_t want[14] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14 };

	(void)state;
	smd_store_be16(out, 0x0102);
	smd_store_be32(out + 2, 0x03040506);
	smd_store_be64(out + 6, 0x0708090a0b0c0d0eULL);
	assert_memory_equal(out, want, sizeof want);
	assert_int_equal(smd_load_be64(out + 6), 0x0708090a0b0c0d0eULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_big_endian), cmocka_unit_test(test_past_the_end),
		cmocka_unit_test(test_store),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
