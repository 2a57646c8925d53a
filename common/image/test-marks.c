/* SPDX-License-Identifier: BSD-2-Clause */
/* Digests, marks, and copies that are stopped, gone on with, or get wrong bits. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/image/copy.h"
#include "common/image/io-test.h"
#include "common/image/test-model.h"
#include "common/mem.h"

#define U MODEL_UNIT
#define UNITS 1000u
#define SIZE (UNITS * (uint64_t)U - 512)
#define MARK_SIZE 128u

/* Data of its own in each unit, but for zeroes here and there. */
static struct smd_chain *
source(void)
{
	struct smd_io *io = smd_io_memory(NULL, SIZE, "source", SMD_IO_WRITABLE);
	struct smd_chain *chain = open_format(&flat_format, io, SMD_CHAIN_WRITE);
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	for (uint64_t at = 0; at < SIZE; at += U) {
		uint64_t words[U / 8];

		for (size_t i = 0; i < U / 8; i++)
			words[i] = at / U % 7 == 3 ? 0 : (at + i + 1) * UINT64_C(0x9e3779b97f4a7c15);
		assert_int_equal(smd_io_pwrite(io, words, at + U > SIZE ? SIZE - at : U, at, &err), 0);
	}
	return chain;
}

static struct smd_chain *
empty_model(void)
{
	return open_format(&model_format, model_new(SIZE, 0, 2, 0), SMD_CHAIN_WRITE);
}

static void
text_of(struct smd_chain *chain, char ret[SMD_DIGEST_TEXT_MAX])
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_copy_options options = { .n_threads = 3 };
	struct smd_digest d;

	assert_int_equal(smd_digest_chain(chain, 0, smd_chain_size(chain), &options, &d, &err), 0);
	smd_digest_text(&d, smd_chain_size(chain), ret);
}

/* ---- Digests ---- */

static void
test_digest_is_of_the_content(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *src CLEANUP_CHAIN = source();
	CLEANUP_FREE uint8_t *disk = smd_malloc(SIZE);
	struct smd_digest all = { 0, 0 }, parts = { 0, 0 }, last = { 0, 0 };
	char a[SMD_DIGEST_TEXT_MAX], b[SMD_DIGEST_TEXT_MAX];

	(void)state;
	assert_int_equal(smd_chain_pread(src, disk, SIZE, 0, &err), 0);
	text_of(src, a);
	/* Other programs compute it too: it may not change. */
	assert_string_equal(a, "xxh3-pages:69d163df24f9be66a54a941fb3ad8a8d");
	smd_digest_add(&all, disk, SIZE, 0);
	for (uint64_t at = 0; at < SIZE; at += 3 * U)
		smd_digest_add(&parts, disk + at, at + 3 * U > SIZE ? SIZE - at : 3 * U, at);
	assert_memory_equal(&all, &parts, sizeof all);
	smd_digest_text(&all, SIZE, b);
	assert_string_equal(a, b);
	smd_digest_text(&all, SIZE + 1, b);
	assert_string_not_equal(a, b);

	smd_digest_add(&last, disk + 9 * U, SIZE - 9 * U, 9 * U);
	smd_digest_take(&all, &last);
	last = (struct smd_digest){ 0, 0 };
	smd_digest_add(&last, disk, 9 * U, 0);
	assert_memory_equal(&all, &last, sizeof all);

	disk[777777] ^= 1;
	last = (struct smd_digest){ 0, 0 };
	smd_digest_add(&last, disk, SIZE, 0);
	assert_memory_not_equal(&last, &parts, sizeof last);
}

/* ---- Marks ---- */

static const uint8_t ours[16] = "a copy", theirs[16] = "another copy";

static size_t
marks_in(struct smd_io *io, const uint8_t identity[16], uint64_t *ret_position)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_MARKS struct smd_marks *marks = NULL;
	const struct smd_mark *list;
	size_t n;

	assert_int_equal(smd_marks_open(io, &marks, &err), 0);
	n = smd_marks_of(marks, identity, &list);
	*ret_position = n ? list[n - 1].position : 0;
	return n;
}

static void
add_marks(struct smd_io *io, const uint8_t identity[16], uint64_t first, uint64_t n)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_MARKS struct smd_marks *marks = NULL;

	assert_int_equal(smd_marks_open(io, &marks, &err), 0);
	for (uint64_t i = first; i < first + n; i++) {
		struct smd_mark mark = { .position = i * U, .done = i, .has_digest = true };

		assert_int_equal(smd_marks_add(marks, identity, &mark, &err), 0);
	}
}

static void
test_marks_end_where_they_are_not_good(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO =
		smd_io_memory(NULL, 0, "marks", SMD_IO_WRITABLE | SMD_IO_CAN_GROW);
	uint64_t position;

	(void)state;
	assert_int_equal(marks_in(io, ours, &position), 0);
	add_marks(io, ours, 1, 5);
	assert_int_equal(io->size, 5 * MARK_SIZE);
	assert_int_equal(marks_in(io, ours, &position), 5);
	assert_int_equal(position, 5 * U);
	assert_int_equal(marks_in(io, theirs, &position), 0);
	for (uint64_t size = 4 * MARK_SIZE; size < 5 * MARK_SIZE; size += 31) {
		struct smd_bytes_view all = smd_io_memory_bytes(io);
		struct smd_io *torn CLEANUP_IO = smd_io_memory(all.data, size, "torn", 0);

		assert_int_equal(marks_in(torn, ours, &position), 4);
		assert_int_equal(position, 4 * U);
	}
	for (uint64_t byte = 2 * MARK_SIZE; byte < 3 * MARK_SIZE; byte++) {
		struct smd_bytes_view all = smd_io_memory_bytes(io);
		CLEANUP_FREE uint8_t *bytes = smd_malloc(all.len);
		struct smd_io *bad CLEANUP_IO = NULL;

		memcpy(bytes, all.data, all.len);
		bytes[byte] ^= 1;
		bad = smd_io_memory(bytes, all.len, "bad", 0);
		assert_int_equal(marks_in(bad, ours, &position), 2);
	}
	/* What an earlier run left behind a mark of this one is not this one's. */
	assert_int_equal(smd_io_pwrite(io, "?", 1, 2 * MARK_SIZE, &err), 0);
	add_marks(io, ours, 7, 1);
	assert_int_equal(marks_in(io, ours, &position), 3);
	assert_int_equal(position, 7 * U);
}

/* ---- Copies ---- */

struct stopping {
	struct smd_copy_control control;
	unsigned after, calls;
};

static int
stop_after(void *opaque, uint64_t done, uint64_t total)
{
	struct stopping *s = opaque;

	(void)total;
	if (done > 0 && ++s->calls == s->after)
		smd_copy_control_stop(&s->control);
	return 0;
}

static int
copy_marked(struct smd_chain *src, struct smd_chain *dst, struct smd_io *io,
	    struct stopping *stopping, bool verify, struct smd_copy_stats *ret,
	    struct smd_error *err)
{
	CLEANUP_MARKS struct smd_marks *marks = NULL;
	struct smd_copy_options options = {
		.n_threads = 3, .target_is_zero = true, .verify = verify, .mark_bytes = 1,
		.progress = stop_after, .opaque = stopping, .control = &stopping->control,
	};

	if (smd_marks_open(io, &marks, err) != 0)
		return -1;
	options.marks = marks;
	return smd_copy(src, dst, &options, ret, err);
}

static void
test_stopped_copies_go_on(void **state)
{
	struct smd_chain *src CLEANUP_CHAIN = source();
	char text[SMD_DIGEST_TEXT_MAX], other[SMD_DIGEST_TEXT_MAX];

	(void)state;
	text_of(src, text);
	for (unsigned after = 2; after < 40; after++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		struct smd_chain *dst CLEANUP_CHAIN = empty_model();
		struct smd_io *io CLEANUP_IO =
			smd_io_memory(NULL, 0, "marks", SMD_IO_WRITABLE | SMD_IO_CAN_GROW);
		struct smd_copy_stats stats = { 0 };
		unsigned runs = 0;	/* reading back begins anew each time: not with few steps */
		int r;

		do {
			struct stopping stopping = { .after = after };

			smd_error_clear(&err);
			smd_copy_control_init(&stopping.control);
			r = copy_marked(src, dst, io, &stopping, after > 25, &stats, &err);
			smd_copy_control_done(&stopping.control);
			if (r != 0)
				assert_string_equal(err.code, "JOB_STOPPED");
		} while (r != 0 && ++runs < 100);
		assert_int_equal(r, 0);
		assert_int_equal(stats.resumed_at > 0, runs > 0);
		assert_true(stats.has_digest);
		smd_digest_text(&stats.digest, SIZE, other);
		assert_string_equal(other, text);
		text_of(dst, other);
		assert_string_equal(other, text);
	}
}

static void
test_marks_of_another_copy_are_dropped(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO =
		smd_io_memory(NULL, 0, "marks", SMD_IO_WRITABLE | SMD_IO_CAN_GROW);
	struct smd_chain *src CLEANUP_CHAIN = source();
	struct smd_chain *dst CLEANUP_CHAIN = empty_model();
	struct stopping stopping = { .after = 0 };
	struct smd_copy_stats stats;
	uint64_t position;

	(void)state;
	add_marks(io, ours, 1, 5);
	smd_copy_control_init(&stopping.control);
	assert_int_equal(copy_marked(src, dst, io, &stopping, true, &stats, &err), 0);
	smd_copy_control_done(&stopping.control);
	assert_int_equal(stats.resumed_at, 0);
	assert_int_equal(marks_in(io, ours, &position), 0);
}

/* A bit of any write of data that comes out another is found, and where. Without
 * verifying the digests tell. */
static void
test_wrong_bits_are_found(void **state)
{
	struct smd_chain *src CLEANUP_CHAIN = source();
	char text[SMD_DIGEST_TEXT_MAX], other[SMD_DIGEST_TEXT_MAX];

	(void)state;
	text_of(src, text);
	for (uint64_t n = 1; n < 2000; n += 1 + n / 2) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		struct smd_error again CLEANUP_ERROR = SMD_ERROR_INIT;
		struct smd_io *memory CLEANUP_IO =
			smd_io_memory(NULL, SIZE, "wrong", SMD_IO_WRITABLE);
		struct smd_io *io = smd_io_test(memory);
		struct smd_chain *dst CLEANUP_CHAIN = open_format(&flat_format, io, SMD_CHAIN_WRITE);
		struct smd_copy_options options = { .n_threads = 2, .verify = n % 2 };
		const struct smd_test_plan plan = {
			.fail_at = n, .ops = SMD_TEST_OP(PWRITE), .how = SMD_TEST_FLIP,
		};
		struct smd_copy_stats stats;
		uint64_t offset, told;
		char *at;

		smd_io_test_plan(io, &plan);
		if (smd_copy(src, dst, &options, &stats, &err) == 0) {
			smd_digest_text(&stats.digest, SIZE, other);
			assert_string_equal(other, text);
			text_of(dst, other);
			assert_int_equal(strcmp(other, text) == 0, smd_io_test_count(io) < n);
			continue;
		}
		assert_string_equal(err.code, "VDI_COPY_FAILED");
		assert_int_equal(smd_compare(src, dst, true, &(struct smd_copy_options){ 0 },
					     &offset, &again), 0);
		at = strstr(err.message, "byte ");
		assert_non_null(at);
		assert_int_equal(sscanf(at, "byte %" SCNu64, &told), 1);
		assert_int_equal(told, offset);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digest_is_of_the_content),
		cmocka_unit_test(test_marks_end_where_they_are_not_good),
		cmocka_unit_test(test_stopped_copies_go_on),
		cmocka_unit_test(test_marks_of_another_copy_are_dropped),
		cmocka_unit_test(test_wrong_bits_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
