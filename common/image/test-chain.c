/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/image/chain.h"
#include "common/image/io-test.h"
#include "common/image/test-model.h"
#include "common/mem.h"

#define U MODEL_UNIT

static struct smd_chain *
open_chain(uint32_t flags, size_t n, struct smd_io **ios)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_layer layers[SMD_CHAIN_MAX];
	struct smd_chain *chain = NULL;

	for (size_t i = 0; i < n; i++)
		layers[i] = (struct smd_layer){ &model_format, ios[i] };
	if (smd_chain_open(layers, n, flags, &chain, &err) < 0)
		fail_msg("%s", err.message);
	return chain;
}

static uint8_t
byte_at(struct smd_chain *chain, uint64_t offset)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint8_t b = 0xee;

	if (smd_chain_pread(chain, &b, 1, offset, &err) < 0)
		fail_msg("%s", err.message);
	return b;
}

static void
test_layers_merge(void **state)
{
	struct smd_io *leaf = model_new(4 * U, MODEL_HAS_PARENT, 1, 2);
	struct smd_io *base = model_new(4 * U, 0, 2, 0);
	struct smd_chain *chain CLEANUP_CHAIN = NULL;

	(void)state;
	model_put(leaf, 0, 'l');
	model_put(base, 0, 'x');
	model_put(base, 1, 'b');
	model_set(leaf, 2, MODEL_ZERO);
	model_put(base, 2, 'x');
	model_set(base, 3, MODEL_FILL('e'));
	chain = open_chain(0, 2, (struct smd_io *[]){ leaf, base });
	assert_int_equal(byte_at(chain, 0), 'l');
	assert_int_equal(byte_at(chain, U + 7), 'b');
	assert_int_equal(byte_at(chain, 2 * U), 0);
	assert_int_equal(byte_at(chain, 4 * U - 1), 'e');
}

static void
test_shorter_middle_hides_the_base(void **state)
{
	struct smd_io *leaf = model_new(4 * U, MODEL_HAS_PARENT, 1, 2);
	struct smd_io *middle = model_new(2 * U - 512, MODEL_HAS_PARENT, 2, 3);
	struct smd_io *base = model_new(4 * U, 0, 3, 0);
	struct smd_chain *chain CLEANUP_CHAIN = NULL;

	(void)state;
	for (uint64_t u = 0; u < 4; u++)
		model_put(base, u, 'b');
	chain = open_chain(0, 3, (struct smd_io *[]){ leaf, middle, base });
	assert_int_equal(byte_at(chain, 2 * U - 513), 'b');
	assert_int_equal(byte_at(chain, 2 * U - 512), 0);
	assert_int_equal(byte_at(chain, 3 * U), 0);
}

struct count {
	size_t n;
	struct smd_run last;
};

static int
count_add(void *opaque, const struct smd_run *run, struct smd_error *err)
{
	struct count *c = opaque;

	(void)err;
	assert_int_equal(run->offset, c->n ? c->last.offset + c->last.count : 0);
	c->n++;
	c->last = *run;
	return 0;
}

static void
test_runs_join_over_batches(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = model_new(1500 * U, 0, 1, 0);
	struct smd_chain *chain CLEANUP_CHAIN = NULL;
	struct count c = { 0 };

	(void)state;
	for (uint64_t u = 0; u < 1000; u++)
		model_put(io, u, 'd');
	chain = open_chain(0, 1, &io);
	assert_int_equal(smd_chain_extents(chain, 0, 1500 * U, count_add, &c, &err), 0);
	assert_int_equal(c.n, 2);
	assert_int_equal(c.last.kind, SMD_EXTENT_ZERO);
	assert_int_equal(c.last.count, 500 * U);
}

static int
open_fails(size_t n, struct smd_io **ios, const char *reason)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_layer layers[3];
	struct smd_chain *chain = NULL;

	for (size_t i = 0; i < n; i++)
		layers[i] = (struct smd_layer){ &model_format, ios[i] };
	assert_int_equal(smd_chain_open(layers, n, 0, &chain, &err), -1);
	assert_string_equal(err.params[1], reason);
	return 0;
}

static void
test_links_are_checked(void **state)
{
	struct smd_io *child CLEANUP_IO = model_new(U, MODEL_HAS_PARENT, 1, 9);
	struct smd_io *base CLEANUP_IO = model_new(U, 0, 2, 0);
	struct smd_io *junk CLEANUP_IO = smd_io_memory(NULL, 100, "junk", 0);

	(void)state;
	open_fails(1, (struct smd_io *[]){ child }, "EXTERNAL_REF");
	open_fails(2, (struct smd_io *[]){ child, base }, "PARENT_MISMATCH");
	open_fails(2, (struct smd_io *[]){ base, child }, "PARENT_MISMATCH");
	open_fails(1, (struct smd_io *[]){ junk }, "BAD_MAGIC");
	open_fails(0, NULL, "CHAIN_DEPTH");
}

static void
test_read_only_is_refused(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = model_new(U, 0, 1, 0);
	struct smd_chain *chain CLEANUP_CHAIN = open_chain(0, 1, &io);

	(void)state;
	assert_int_equal(smd_chain_pwrite(chain, "x", 1, 0, &err), -1);
	assert_string_equal(err.code, "VDI_READONLY");
}

/* Random reads, writes and zeroes against a flat array; an odd disk size, a
 * parent, encoded units and space that comes dirty. */
static void
model_run(uint8_t flags, unsigned seed)
{
	enum { SIZE = 64 * MODEL_UNIT - 512 };
	struct smd_io *leaf = model_new(SIZE, MODEL_HAS_PARENT | flags, 1, 2);
	struct smd_io *base = model_new(50 * U, 0, 2, 0);
	CLEANUP_FREE uint8_t *flat = smd_calloc(1, SIZE);
	CLEANUP_FREE uint8_t *buf = smd_malloc(SIZE);
	struct smd_chain *chain CLEANUP_CHAIN = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	for (uint64_t u = 0; u < 40; u++) {
		model_put(base, u, (uint8_t)(u + 1));
		memset(flat + u * U, (int)(u + 1), U);
	}
	for (uint64_t u = 10; u < 14; u++) {
		model_set(leaf, u, MODEL_FILL(u * 3));
		memset(flat + u * U, (int)(u * 3), U);
	}
	chain = open_chain(SMD_CHAIN_WRITE, 2, (struct smd_io *[]){ leaf, base });
	for (int i = 0; i < 3000; i++) {
		uint64_t offset = (uint64_t)rand_r(&seed) % SIZE;
		uint64_t count = (uint64_t)rand_r(&seed) % (i % 10 ? 6000 : 60000);
		int op = rand_r(&seed) % 3;

		count = count > SIZE - offset ? SIZE - offset : count;
		if (op == 0) {
			memset(flat + offset, i, count);
			assert_int_equal(smd_chain_pwrite(chain, flat + offset, count, offset, &err), 0);
		} else if (op == 1) {
			memset(flat + offset, 0, count);
			assert_int_equal(smd_chain_zero(chain, offset, count, i & 1, &err), 0);
		} else {
			assert_int_equal(smd_chain_pread(chain, buf, count, offset, &err), 0);
			assert_memory_equal(buf, flat + offset, count);
		}
	}
	assert_int_equal(smd_chain_pread(chain, buf, SIZE, 0, &err), 0);
	assert_memory_equal(buf, flat, SIZE);
}

static void
test_random_against_an_array(void **state)
{
	(void)state;
	model_run(0, 1);
	model_run(MODEL_DIRTY_SPACE, 2);
}

static void
test_past_the_end_is_refused(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = model_new(U, 0, 1, 0);
	struct smd_chain *chain CLEANUP_CHAIN = open_chain(SMD_CHAIN_WRITE, 1, &io);
	char buf[2];

	(void)state;
	assert_int_equal(smd_chain_pread(chain, buf, 2, U - 1, &err), -1);
	smd_error_clear(&err);
	assert_int_equal(smd_chain_pwrite(chain, buf, 2, U - 1, &err), -1);
	smd_error_clear(&err);
	assert_int_equal(smd_chain_zero(chain, UINT64_MAX, 2, true, &err), -1);
}

/* A write that fails at any I/O leaves all that was there, and the next works. */
static void
test_failing_writes_lose_nothing(void **state)
{
	(void)state;
	for (uint64_t n = 1; n < 8; n++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		struct smd_io *memory CLEANUP_IO = model_new(8 * U, 0, 1, 0);
		struct smd_chain *chain CLEANUP_CHAIN = NULL;
		const struct smd_test_plan plan = {
			.fail_at = n, .ops = SMD_TEST_ALL, .how = SMD_TEST_SHORT,
		};
		struct smd_io *io;

		model_put(memory, 0, 'a');
		io = smd_io_test(memory);
		chain = open_chain(SMD_CHAIN_WRITE, 1, &io);
		smd_io_test_plan(io, &plan);
		if (smd_chain_pwrite(chain, "xyz", 3, 3 * U + 5, &err) < 0)
			assert_string_equal(err.code, "IMAGE_IO");
		smd_error_clear(&err);
		smd_io_test_plan(io, &(struct smd_test_plan){ 0 });
		assert_int_equal(byte_at(chain, 0), 'a');
		assert_int_equal(smd_chain_pwrite(chain, "xyz", 3, 3 * U + 5, &err), 0);
		assert_int_equal(byte_at(chain, 3 * U + 5), 'x');
		assert_int_equal(byte_at(chain, 3 * U + 8), 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layers_merge),
		cmocka_unit_test(test_shorter_middle_hides_the_base),
		cmocka_unit_test(test_runs_join_over_batches),
		cmocka_unit_test(test_links_are_checked),
		cmocka_unit_test(test_read_only_is_refused),
		cmocka_unit_test(test_random_against_an_array),
		cmocka_unit_test(test_past_the_end_is_refused),
		cmocka_unit_test(test_failing_writes_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
