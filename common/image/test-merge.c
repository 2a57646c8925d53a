/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/image/format.h"
#include "common/image/merge.h"
#include "common/image/test-model.h"
#include "common/mem.h"

#define U MODEL_UNIT
#define UNITS 1200u			/* more than a window, in all kinds */
#define SIZE (UNITS * (uint64_t)U - 512)

/* Leaf, parent and grandparent; copies, as chains close their stores. */
static struct smd_io *ios[3];

static struct smd_io *
random_io(uint8_t flags, uint8_t uuid, uint64_t size, unsigned seed)
{
	struct smd_io *io = model_new(size, flags, uuid, (uint8_t)(uuid + 1));
	uint64_t n_units = (size + U - 1) / U;

	for (uint64_t u = 0; u < n_units;) {
		uint64_t n = 1 + (uint64_t)rand_r(&seed) % 30;
		int kind = rand_r(&seed) % 6;

		for (; n > 0 && u < n_units; n--, u++) {
			if (kind < 2)
				model_put(io, u, (uint8_t)(1 + (u + uuid) % 200));
			else if (kind == 2)
				model_put(io, u, 0);
			else if (kind == 3)
				model_set(io, u, MODEL_FILL(1 + (u + uuid) % 250));
			else if (kind == 4)
				model_set(io, u, MODEL_ZERO);
		}
	}
	return io;
}

static int
setup(void **state)
{
	unsigned seed = 11;

	(void)state;
	ios[0] = random_io(MODEL_HAS_PARENT, 1, SIZE, seed);
	ios[1] = random_io(MODEL_HAS_PARENT, 2, SIZE - 100 * U, seed + 1);
	ios[2] = random_io(0, 3, SIZE, seed + 2);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++)
		smd_io_close(ios[i]);
	return 0;
}

static struct smd_io *
copy_of(struct smd_io *io)
{
	struct smd_bytes_view v = smd_io_memory_bytes(io);

	return smd_io_memory(v.data, v.len, "copy", SMD_IO_WRITABLE | SMD_IO_CAN_GROW);
}

/* The layers [first, end); *ret_leaf: the first one's store, borrowed. */
static struct smd_chain *
open_layers(size_t first, size_t end, uint32_t flags, struct smd_io **ret_leaf)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_layer layers[3];
	struct smd_chain *chain = NULL;

	for (size_t i = first; i < end; i++)
		layers[i - first] = (struct smd_layer){ &model_format, copy_of(ios[i]) };
	if (ret_leaf)
		*ret_leaf = layers[0].io;
	if (smd_chain_open(layers, end - first, flags, &chain, &err) < 0)
		fail_msg("%s", err.message);
	return chain;
}

/* Keep what a chain that was written has in its leaf. */
static void
keep(size_t layer, struct smd_io *written)
{
	smd_io_close(ios[layer]);
	ios[layer] = copy_of(written);
}

static void
set_parent(size_t layer, uint8_t parent_uuid)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint8_t flags = parent_uuid ? MODEL_HAS_PARENT : 0;

	assert_int_equal(smd_io_pwrite(ios[layer], &flags, 1, 16, &err), 0);
	assert_int_equal(smd_io_pwrite(ios[layer], &parent_uuid, 1, 48, &err), 0);
}

static uint8_t *
disk_of(struct smd_chain *chain)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint8_t *disk = smd_malloc(SIZE);

	assert_int_equal(smd_chain_size(chain), SIZE);
	assert_int_equal(smd_chain_pread(chain, disk, SIZE, 0, &err), 0);
	return disk;
}

static void
expect_disk(const uint8_t *want, struct smd_chain *chain)
{
	CLEANUP_FREE uint8_t *disk = disk_of(chain);

	assert_memory_equal(disk, want, SIZE);
}

static struct smd_merge_sizes
measured(void)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *chain CLEANUP_CHAIN = open_layers(0, 3, 0, NULL);
	struct smd_merge_sizes sizes = { 0 };

	assert_int_equal(smd_merge_measure(chain, &sizes, &err), 0);
	return sizes;
}

/* The model cannot grow: the parent is as large as its child here. */
static void
test_into_parent(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *child CLEANUP_CHAIN = NULL;
	struct smd_chain *parent CLEANUP_CHAIN = NULL;
	CLEANUP_FREE uint8_t *want = NULL;
	struct model_steps steps = { 0 };
	const struct smd_copy_options options = { .n_threads = 3, .progress = model_step,
						  .opaque = &steps };
	struct smd_copy_stats stats;

	(void)state;
	smd_io_close(ios[1]);
	ios[1] = random_io(MODEL_HAS_PARENT, 2, SIZE, 5);
	child = open_layers(0, 3, 0, NULL);
	parent = open_layers(1, 3, SMD_CHAIN_WRITE, NULL);
	want = disk_of(child);
	if (smd_merge_into_parent(child, parent, &options, &stats, &err) < 0)
		fail_msg("%s", err.message);
	expect_disk(want, parent);
	assert_int_equal(steps.last, steps.total);
	assert_int_equal(steps.total, measured().into_parent);
	assert_true(stats.bytes_written <= measured().into_parent);
	assert_true(stats.bytes_written > 0);
}

/* In place where the parent has data, encoded or not there at all: new space. */
static void
test_measure(void **state)
{
	struct smd_merge_sizes sizes;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		smd_io_close(ios[i]);
		ios[i] = model_new(SIZE, i < 2 ? MODEL_HAS_PARENT : 0, (uint8_t)(i + 1),
				   (uint8_t)(i + 2));
	}
	for (uint64_t u = 0; u < 10; u++)
		model_put(ios[0], u, 'c');
	model_set(ios[0], 20, MODEL_ZERO);
	for (uint64_t u = 4; u < 7; u++)
		model_put(ios[1], u, 'p');
	model_set(ios[1], 7, MODEL_FILL('e'));
	for (uint64_t u = 100; u < 105; u++)
		model_put(ios[1], u, 'p');
	model_put(ios[2], 200, 'g');
	sizes = measured();
	assert_int_equal(sizes.into_parent, 10 * U);
	assert_int_equal(sizes.into_child, 5 * U);
	assert_int_equal(sizes.parent_lacks, 7 * U);
}

static void
into_child(size_t n, bool cancel)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *leaf;
	struct smd_chain *child = open_layers(0, n, SMD_CHAIN_WRITE, &leaf);
	CLEANUP_FREE uint8_t *want = disk_of(child);
	struct model_steps steps = { .stop_at = cancel ? 2 : 0 };
	const struct smd_copy_options options = { .n_threads = 3, .progress = model_step,
						  .opaque = &steps };
	int r = smd_merge_into_child(child, &options, NULL, &err);

	assert_int_equal(r, cancel ? -1 : 0);
	if (cancel)
		assert_string_equal(err.code, "TASK_CANCELLED");
	else
		assert_int_equal(steps.last, steps.total);
	expect_disk(want, child);
	keep(0, leaf);
	smd_chain_close(child);
	if (cancel)
		return;
	/* Without the parent it shows the same. */
	set_parent(0, n > 2 ? 3 : 0);
	if (n > 2)
		keep(1, ios[2]);
	child = open_layers(0, n - 1, 0, NULL);
	expect_disk(want, child);
	smd_chain_close(child);
}

static void
test_into_child(void **state)
{
	(void)state;
	into_child(3, true);
	into_child(3, false);
}

static void
test_into_child_from_a_base(void **state)
{
	(void)state;
	set_parent(1, 0);
	into_child(2, true);
	into_child(2, false);
}

/* A merge that is done again has nothing left to do. */
static void
test_into_child_twice(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_copy_options options = { .n_threads = 0 };
	struct smd_chain *child CLEANUP_CHAIN = open_layers(0, 3, SMD_CHAIN_WRITE, NULL);
	struct smd_copy_stats stats;

	(void)state;
	assert_int_equal(smd_merge_into_child(child, &options, &stats, &err), 0);
	assert_true(stats.bytes_written > 0);
	assert_int_equal(smd_merge_into_child(child, &options, &stats, &err), 0);
	assert_int_equal(stats.bytes_data, 0);
	assert_int_equal(stats.bytes_written, 0);
}

/* Data of zeroes comes as zeroes, and what needs none takes no space. */
static void
test_zeroes_stay_away(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_copy_options options = { .n_threads = 1 };
	struct smd_chain *child CLEANUP_CHAIN = NULL;
	struct smd_io *leaf;
	struct smd_copy_stats stats;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		smd_io_close(ios[i]);
		ios[i] = model_new(SIZE, i < 2 ? MODEL_HAS_PARENT : 0, (uint8_t)(i + 1),
				   (uint8_t)(i + 2));
	}
	for (uint64_t u = 0; u < 64; u++)
		model_put(ios[1], u, 0);
	model_set(ios[1], 100, MODEL_ZERO);
	model_put(ios[2], 100, 'x');
	child = open_layers(0, 3, SMD_CHAIN_WRITE, &leaf);
	assert_int_equal(smd_merge_into_child(child, &options, &stats, &err), 0);
	assert_int_equal(stats.bytes_data, 64 * U);
	assert_int_equal(stats.bytes_written, 0);
	assert_int_equal(model_get(leaf, 0), MODEL_PARENT);
	assert_int_equal(model_get(leaf, 100), MODEL_ZERO);
	assert_int_equal(model_get(leaf, 101), MODEL_PARENT);
}

static void
test_another_parent(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_copy_options options = { .n_threads = 3 };
	struct smd_io *leaf;
	struct smd_chain *chain = open_layers(0, 3, SMD_CHAIN_WRITE, &leaf);
	CLEANUP_FREE uint8_t *want = disk_of(chain);
	struct smd_chain *other = NULL;
	struct smd_io *io = random_io(0, 9, SIZE - 30 * U, 77);

	(void)state;
	assert_int_equal(smd_chain_open(&(struct smd_layer){ &model_format, copy_of(io) }, 1, 0,
					&other, &err), 0);
	assert_int_equal(smd_merge_difference(chain, other, &options, NULL, &err), 0);
	smd_chain_close(other);
	keep(0, leaf);
	smd_chain_close(chain);
	set_parent(0, 9);
	keep(1, io);
	smd_io_close(io);
	chain = open_layers(0, 2, SMD_CHAIN_WRITE, &leaf);
	expect_disk(want, chain);
	assert_int_equal(smd_merge_difference(chain, NULL, &options, NULL, &err), 0);
	keep(0, leaf);
	smd_chain_close(chain);
	set_parent(0, 0);
	chain = open_layers(0, 1, 0, NULL);
	expect_disk(want, chain);
	smd_chain_close(chain);
}

static void
test_refusals(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_copy_options options = { .n_threads = 1 };
	struct smd_merge_sizes sizes;
	struct smd_chain *base CLEANUP_CHAIN = open_layers(2, 3, SMD_CHAIN_WRITE, NULL);
	struct smd_chain *middle CLEANUP_CHAIN = open_layers(1, 3, 0, NULL);

	(void)state;
	assert_int_equal(smd_merge_measure(base, &sizes, &err), -1);
	assert_string_equal(err.params[1], "MISSING_PARENT");
	smd_error_clear(&err);
	assert_int_equal(smd_merge_into_child(base, &options, NULL, &err), -1);
	assert_string_equal(err.params[1], "MISSING_PARENT");
	smd_error_clear(&err);
	/* The middle is smaller than the base. */
	assert_int_equal(smd_merge_into_parent(middle, base, &options, NULL, &err), -1);
	assert_string_equal(err.code, "IMAGE_UNSUPPORTED");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_into_parent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_measure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_into_child, setup, teardown),
		cmocka_unit_test_setup_teardown(test_into_child_from_a_base, setup, teardown),
		cmocka_unit_test_setup_teardown(test_into_child_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zeroes_stay_away, setup, teardown),
		cmocka_unit_test_setup_teardown(test_another_parent, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
