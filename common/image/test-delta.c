/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/image/copy.h"
#include "common/image/test-model.h"
#include "common/mem.h"

#define U MODEL_UNIT
#define UNITS 700u
#define DEPTH 3u
#define N_SEEDS 20u

/* A layer of random runs: nothing, data, data that is zeroes, zeroes, encoded. Few
 * values, so that layers agree here and there; the same seed gives the same layer. */
static struct smd_io *
layer_new(unsigned seed, uint64_t units, unsigned level, bool parent)
{
	struct smd_io *io = model_new(units * U, parent ? MODEL_HAS_PARENT : 0,
				      (uint8_t)(level + 1), parent ? (uint8_t)(level + 2) : 0);

	for (uint64_t u = 0; u < units;) {
		uint64_t n = 1 + (uint64_t)rand_r(&seed) % 20;
		int kind = rand_r(&seed) % 7;
		uint8_t byte = (uint8_t)(1 + rand_r(&seed) % 2);

		for (; n > 0 && u < units; n--, u++) {
			if (kind == 0)
				model_put(io, u, byte);
			else if (kind == 1)
				model_put(io, u, 0);
			else if (kind == 2)
				model_set(io, u, MODEL_ZERO);
			else if (kind == 3)
				model_set(io, u, MODEL_FILL(byte));
		}
	}
	return io;
}

/* The layers from one level on, leaf (level 0) the largest. */
static void
layers_of(unsigned seed, unsigned from, struct smd_layer *ret)
{
	for (unsigned level = from; level < DEPTH; level++)
		ret[level - from] = (struct smd_layer){ &model_format,
			layer_new(seed * DEPTH + level, UNITS - 100 * level, level,
				  level + 1 < DEPTH) };
}

static struct smd_chain *
open_layers(const struct smd_layer *layers, size_t n, uint32_t flags)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *chain = NULL;

	if (smd_chain_open(layers, n, flags, &chain, &err) < 0)
		fail_msg("%s", err.message);
	return chain;
}

static struct smd_chain *
open_chain(unsigned seed)
{
	struct smd_layer layers[DEPTH];

	layers_of(seed, 0, layers);
	return open_layers(layers, DEPTH, 0);
}

/* An empty overlay over a copy of a chain's layers from a level on. */
static struct smd_chain *
open_overlay(unsigned seed, unsigned from, struct smd_io **ret_leaf)
{
	struct smd_layer layers[DEPTH + 1];

	*ret_leaf = model_new(UNITS * U, from < DEPTH ? MODEL_HAS_PARENT : 0, 9,
			      from < DEPTH ? (uint8_t)(from + 1) : 0);
	layers[0] = (struct smd_layer){ &model_format, *ret_leaf };
	layers_of(seed, from, layers + 1);
	return open_layers(layers, 1 + DEPTH - from, SMD_CHAIN_WRITE);
}

static void
read_all(struct smd_chain *chain, uint8_t *buf)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (smd_chain_pread(chain, buf, smd_chain_size(chain), 0, &err) < 0)
		fail_msg("%s", err.message);
}

static void
assert_same(struct smd_chain *a, struct smd_chain *b)
{
	CLEANUP_FREE uint8_t *x = smd_malloc(UNITS * U);
	CLEANUP_FREE uint8_t *y = smd_malloc(UNITS * U);

	assert_int_equal(smd_chain_size(a), smd_chain_size(b));
	read_all(a, x);
	read_all(b, y);
	assert_memory_equal(x, y, UNITS * U);
}

static void
copy(struct smd_chain *src, struct smd_chain *dst, struct smd_copy_options options)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	options.n_threads = 3;
	if (smd_copy(src, dst, &options, NULL, &err) < 0)
		fail_msg("%s", err.message);
	assert_same(src, dst);
}

static bool
upper_has(struct smd_chain *src, unsigned upper, uint64_t unit)
{
	for (unsigned level = 0; level < upper; level++) {
		if (unit >= UNITS - 100 * level)
			return true;	/* past its end: zeroes, whatever is below */
		if (model_get(smd_chain_io(src, level), unit) != MODEL_PARENT)
			return true;
	}
	return false;
}

/* Every number of upper layers, over a copy of the others. */
static void
test_upper_layers_go_over_the_lower_ones(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= N_SEEDS; seed++)
		for (unsigned upper = 1; upper <= DEPTH; upper++) {
			struct smd_io *leaf;
			struct smd_chain *src CLEANUP_CHAIN = open_chain(seed);
			struct smd_chain *dst CLEANUP_CHAIN = open_overlay(seed, upper, &leaf);

			copy(src, dst, (struct smd_copy_options){ .upper = upper,
								  .verify = seed % 2 });
			for (uint64_t u = 0; u < UNITS; u++)
				if (!upper_has(src, upper, u))
					assert_int_equal(model_get(leaf, u), MODEL_PARENT);
		}
}

static void
test_delta_counts_what_upper_layers_hold(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_layer layers[2];
	struct smd_chain *chain CLEANUP_CHAIN = NULL;
	uint64_t bytes, runs;

	(void)state;
	layers[0] = (struct smd_layer){ &model_format, model_new(16 * U, MODEL_HAS_PARENT, 1, 2) };
	layers[1] = (struct smd_layer){ &model_format, model_new(16 * U, 0, 2, 0) };
	for (uint64_t u = 0; u < 4; u++)
		model_put(layers[1].io, u, 7);
	model_put(layers[0].io, 1, 8);
	model_set(layers[0].io, 3, MODEL_ZERO);		/* hides data */
	model_set(layers[0].io, 9, MODEL_ZERO);		/* hides nothing */
	chain = open_layers(layers, 2, 0);
	assert_int_equal(smd_count_delta(chain, 1, NULL, &bytes, &runs, &err), 0);
	assert_int_equal(bytes, 2 * U);
	assert_int_equal(runs, 2);
	assert_int_equal(smd_count_data(chain, &bytes, &runs, &err), 0);
	assert_int_equal(bytes, 3 * U);
}

static void
test_only_what_differs_is_written(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= N_SEEDS; seed++) {
		CLEANUP_FREE uint8_t *a = smd_malloc(UNITS * U);
		CLEANUP_FREE uint8_t *b = smd_malloc(UNITS * U);
		struct smd_io *leaf;
		struct smd_chain *src CLEANUP_CHAIN = open_chain(seed);
		struct smd_chain *base CLEANUP_CHAIN = open_chain(seed + N_SEEDS);
		struct smd_chain *dst CLEANUP_CHAIN = open_overlay(seed + N_SEEDS, 0, &leaf);

		copy(src, dst, (struct smd_copy_options){ .base = base, .verify = seed % 2 });
		read_all(src, a);
		read_all(base, b);
		for (uint64_t u = 0; u < UNITS; u++)
			assert_int_equal(model_get(leaf, u) == MODEL_PARENT,
					 memcmp(a + u * U, b + u * U, U) == 0);
	}
}

static void
test_compressed_delta(void **state)
{
	struct smd_io *leaf;
	struct smd_chain *src CLEANUP_CHAIN = open_chain(3);
	struct smd_chain *dst CLEANUP_CHAIN = open_overlay(3, 1, &leaf);
	bool encoded = false;

	(void)state;
	copy(src, dst, (struct smd_copy_options){ .upper = 1, .compress = true, .verify = true });
	for (uint64_t u = 0; u < UNITS; u++)
		encoded |= (model_get(leaf, u) & 0xff) == 2;
	assert_true(encoded);
}

/* Verification: rubbish in what is left to the parent is found. */
static void
test_verify_looks_between(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *leaf;
	struct smd_chain *src CLEANUP_CHAIN = open_chain(1);
	struct smd_chain *dst CLEANUP_CHAIN = open_overlay(1, 1, &leaf);
	const struct smd_copy_options options = { .upper = 1, .verify = true };
	uint64_t u = 0;

	(void)state;
	while (upper_has(src, 1, u))
		u++;
	model_set(leaf, u, MODEL_FILL(5));
	assert_int_equal(smd_copy(src, dst, &options, NULL, &err), -1);
	assert_true(smd_error_is(&err, SMD_E_VDI_COPY_FAILED));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_upper_layers_go_over_the_lower_ones),
		cmocka_unit_test(test_delta_counts_what_upper_layers_hold),
		cmocka_unit_test(test_only_what_differs_is_written),
		cmocka_unit_test(test_compressed_delta),
		cmocka_unit_test(test_verify_looks_between),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
