/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/image/copy.h"
#include "common/image/io-test.h"
#include "common/image/test-model.h"
#include "common/mem.h"

#define U MODEL_UNIT
#define UNITS 1200u			/* more than a window, in all kinds */
#define SIZE (UNITS * (uint64_t)U)

/* Data, zeroes as data, encoded units, holes; runs of uneven length. */
static struct smd_io *
source_io(void)
{
	struct smd_io *io = model_new(SIZE - 512, 0, 1, 0);
	unsigned seed = 7;

	for (uint64_t u = 0; u < UNITS;) {
		uint64_t n = 1 + (uint64_t)rand_r(&seed) % 40;
		int kind = rand_r(&seed) % 4;

		for (; n > 0 && u < UNITS; n--, u++) {
			if (kind == 0)
				model_put(io, u, (uint8_t)(u | 1));
			else if (kind == 1)
				model_put(io, u, 0);
			else if (kind == 2)
				model_set(io, u, MODEL_FILL((u | 1) & 0xff));
		}
	}
	return io;
}

static void
assert_same(struct smd_chain *a, struct smd_chain *b)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE uint8_t *x = smd_malloc(SIZE);
	CLEANUP_FREE uint8_t *y = smd_malloc(SIZE);
	uint64_t size = smd_chain_size(a);

	assert_int_equal(smd_chain_pread(a, x, size, 0, &err), 0);
	assert_int_equal(smd_chain_pread(b, y, size, 0, &err), 0);
	assert_memory_equal(x, y, size);
}

/* Into an image that is fresh, of dirty space, and full of old data. */
static void
copy_into(struct smd_io *dst_io, bool zero, bool verify)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *src CLEANUP_CHAIN = open_format(&model_format, source_io(), 0);
	struct smd_chain *dst CLEANUP_CHAIN = open_format(&model_format, dst_io, SMD_CHAIN_WRITE);
	struct model_steps steps = { 0 };
	const struct smd_copy_options options = {
		.n_threads = 3, .target_is_zero = zero, .verify = verify,
		.progress = model_step, .opaque = &steps,
	};
	struct smd_copy_stats stats;
	uint64_t offset;

	if (smd_copy(src, dst, &options, &stats, &err) < 0)
		fail_msg("%s", err.message);
	assert_same(src, dst);
	assert_int_equal(steps.last, steps.total);
	assert_int_equal(steps.total, stats.bytes_data * (verify ? 2 : 1));
	steps = (struct model_steps){ 0 };
	assert_int_equal(smd_compare(src, dst, true, &options, &offset, &err), 0);
	assert_true(offset == UINT64_MAX);
}

static void
test_copy_to_every_kind_of_place(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		uint8_t flags = i & 2 ? MODEL_LARGE_UNITS : 0;
		struct smd_io *old = model_new(SIZE - 512, flags, 2, 0);
		bool verify = i & 1;

		for (uint64_t u = 0; u < UNITS; u += 1 + u % 3)
			model_put(old, u, 0x55);
		copy_into(model_new(SIZE - 512, flags, 2, 0), true, verify);
		copy_into(model_new(SIZE - 512, flags | MODEL_DIRTY_SPACE, 2, 0), true, verify);
		copy_into(old, false, verify);
	}
}

static void
test_zero_units_take_no_place(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *src CLEANUP_CHAIN = open_format(&model_format, source_io(), 0);
	struct smd_io *io = model_new(SIZE - 512, 0, 2, 0);
	struct smd_chain *dst CLEANUP_CHAIN = open_format(&model_format, io, SMD_CHAIN_WRITE);
	const struct smd_copy_options options = { .target_is_zero = true };
	uint8_t b;

	(void)state;
	assert_int_equal(smd_copy(src, dst, &options, NULL, &err), 0);
	for (uint64_t u = 0; u < UNITS; u++) {
		assert_int_equal(smd_chain_pread(src, &b, 1, u * U, &err), 0);
		assert_int_equal(model_get(io, u) != MODEL_PARENT, b != 0);
	}
}

static void
copy_compressed(struct smd_io *io, bool zero)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *src CLEANUP_CHAIN = open_format(&model_format, source_io(), 0);
	struct smd_chain *dst CLEANUP_CHAIN = open_format(&model_format, io, SMD_CHAIN_WRITE);
	const struct smd_copy_options options = {
		.n_threads = 3, .target_is_zero = zero, .verify = true, .compress = true,
	};
	uint8_t b;

	if (smd_copy(src, dst, &options, NULL, &err) < 0)
		fail_msg("%s", err.message);
	assert_same(src, dst);
	for (uint64_t u = 0; u < UNITS - 1; u++) {
		assert_int_equal(smd_chain_pread(src, &b, 1, u * U, &err), 0);
		if (b != 0)
			assert_int_equal(model_get(io, u) == MODEL_FILL(b),
					 !(b & (MODEL_NO_ENCODE | MODEL_NO_WRITE_ENCODED)));
	}
}

static void
test_compress(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *src CLEANUP_CHAIN = open_format(&model_format, source_io(), 0);
	struct smd_chain *flat CLEANUP_CHAIN =
		open_format(&flat_format, smd_io_memory(NULL, SIZE, "flat", SMD_IO_WRITABLE),
			 SMD_CHAIN_WRITE);
	struct smd_io *old = model_new(SIZE - 512, 0, 2, 0);

	(void)state;
	for (uint64_t u = 0; u < UNITS; u += 1 + u % 3)
		model_put(old, u, 0x55);
	copy_compressed(model_new(SIZE - 512, 0, 2, 0), true);
	copy_compressed(model_new(SIZE - 512, MODEL_DIRTY_SPACE, 2, 0), true);
	copy_compressed(old, false);
	assert_int_equal(smd_copy(src, flat, &(struct smd_copy_options){ .compress = true }, NULL,
				  &err), -1);
	assert_string_equal(err.code, "IMAGE_UNSUPPORTED");
}

static void
test_smaller_destination_is_refused(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *src CLEANUP_CHAIN = open_format(&model_format, source_io(), 0);
	struct smd_chain *dst CLEANUP_CHAIN =
		open_format(&model_format, model_new(U, 0, 2, 0), SMD_CHAIN_WRITE);

	(void)state;
	assert_int_equal(smd_copy(src, dst, &(struct smd_copy_options){ 0 }, NULL, &err), -1);
	assert_string_equal(err.code, "VDI_TOO_SMALL");
}

static void
test_cancel(void **state)
{
	(void)state;
	for (size_t at = 1; at < 3; at++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		struct smd_chain *src CLEANUP_CHAIN = open_format(&model_format, source_io(), 0);
		struct smd_chain *dst CLEANUP_CHAIN =
			open_format(&model_format, model_new(SIZE, 0, 2, 0), SMD_CHAIN_WRITE);
		struct model_steps steps = { .stop_at = at };
		const struct smd_copy_options options = { .progress = model_step, .opaque = &steps };

		assert_int_equal(smd_copy(src, dst, &options, NULL, &err), -1);
		assert_string_equal(err.code, "TASK_CANCELLED");
	}
}

/* Whichever I/O fails, the copy says so, and never with another's words. */
static void
test_failures_are_reported(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 400; n += n < 20 ? 1 : 37) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		struct smd_io *memory CLEANUP_IO = model_new(SIZE, 0, 2, 0);
		struct smd_io *io = smd_io_test(memory);
		struct smd_chain *src CLEANUP_CHAIN = open_format(&model_format, source_io(), 0);
		struct smd_chain *dst CLEANUP_CHAIN = open_format(&model_format, io, SMD_CHAIN_WRITE);
		const struct smd_copy_options options = { .n_threads = 3, .target_is_zero = true };
		const struct smd_test_plan plan = {
			.fail_at = n, .ops = SMD_TEST_CHANGES, .sticky = n & 1, .errnum = ENOSPC,
			.how = SMD_TEST_SHORT,
		};

		smd_io_test_plan(io, &plan);
		if (smd_copy(src, dst, &options, NULL, &err) == 0) {
			assert_true(smd_io_test_count(io) < n);
			continue;
		}
		assert_string_equal(err.code, "IMAGE_IO");
		assert_int_equal(err.errnum, ENOSPC);
	}
}

/* A destination that changes bytes on their way is found out. */
static int
lie(struct smd_io *io, void *buf, size_t count, uint64_t offset, struct smd_error *err)
{
	(void)io;
	(void)err;
	memset(buf, (int)offset, count);
	return 0;
}

static void
test_verify_finds_a_lie(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *src CLEANUP_CHAIN = open_format(&model_format, source_io(), 0);
	struct smd_io *io = smd_io_memory(NULL, SIZE, "liar", SMD_IO_WRITABLE);
	const struct smd_io_ops honest = *io->ops;
	struct smd_io_ops ops = honest;
	struct smd_chain *dst CLEANUP_CHAIN = open_format(&flat_format, io, SMD_CHAIN_WRITE);
	const struct smd_copy_options options = { .verify = true };

	(void)state;
	ops.pread = lie;
	io->ops = &ops;
	assert_int_equal(smd_copy(src, dst, &options, NULL, &err), -1);
	assert_string_equal(err.code, "VDI_COPY_FAILED");
	io->ops = &honest;
	smd_chain_close(TAKE_PTR(dst));
}

static void
test_compare_finds_the_first_byte(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *a CLEANUP_CHAIN =
		open_format(&flat_format, smd_io_memory(NULL, 1000003, "a", SMD_IO_WRITABLE),
			 SMD_CHAIN_WRITE);
	struct smd_chain *b CLEANUP_CHAIN =
		open_format(&flat_format, smd_io_memory(NULL, 2000001, "b", SMD_IO_WRITABLE),
			 SMD_CHAIN_WRITE);
	const struct smd_copy_options options = { .n_threads = 2 };
	uint64_t offset;

	(void)state;
	assert_int_equal(smd_compare(a, b, false, &options, &offset, &err), 0);
	assert_true(offset == UINT64_MAX);
	assert_int_equal(smd_compare(a, b, true, &options, &offset, &err), 0);
	assert_true(offset == 1000003);
	assert_int_equal(smd_chain_pwrite(b, "x", 1, 1999999, &err), 0);
	assert_int_equal(smd_compare(a, b, false, &options, &offset, &err), 0);
	assert_true(offset == 1999999);
	assert_int_equal(smd_chain_pwrite(a, "x", 1, 777777, &err), 0);
	assert_int_equal(smd_compare(a, b, false, &options, &offset, &err), 0);
	assert_true(offset == 777777);
}

static void
test_count_data(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = model_new(100 * U, 0, 1, 0);
	struct smd_chain *chain CLEANUP_CHAIN = NULL;
	uint64_t bytes, runs;

	(void)state;
	model_put(io, 3, 1);
	model_put(io, 4, 1);
	model_set(io, 90, MODEL_FILL(9));
	chain = open_format(&model_format, io, 0);
	assert_int_equal(smd_count_data(chain, &bytes, &runs, &err), 0);
	assert_int_equal(bytes, 3 * U);
	assert_int_equal(runs, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy_to_every_kind_of_place),
		cmocka_unit_test(test_zero_units_take_no_place),
		cmocka_unit_test(test_compress),
		cmocka_unit_test(test_smaller_destination_is_refused),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_failures_are_reported),
		cmocka_unit_test(test_verify_finds_a_lie),
		cmocka_unit_test(test_compare_finds_the_first_byte),
		cmocka_unit_test(test_count_data),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
