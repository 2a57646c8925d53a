/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/image/format.h"
#include "common/image/io.h"

#define RW (SMD_IO_WRITABLE | SMD_IO_CAN_GROW)

static const struct smd_format *raw;

struct pieces {
	struct smd_piece list[8];
	size_t n;
};

static int
piece_add(void *opaque, const struct smd_piece *piece, struct smd_error *err)
{
	struct pieces *p = opaque;

	(void)err;
	assert_true(p->n < 8);
	p->list[p->n++] = *piece;
	return 0;
}

static int
extent_keep(void *opaque, const struct smd_extent *extent, struct smd_error *err)
{
	(void)err;
	*(struct smd_extent *)opaque = *extent;
	return 0;
}

static void
test_odd_size_is_kept(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_create params = { .virtual_size = 1000001 };
	struct smd_io *io CLEANUP_IO = smd_io_memory(NULL, 0, "odd", RW);
	struct smd_image_info info = { 0 };
	void *img;

	(void)state;
	assert_int_equal(raw->create(io, &params, &err), 0);
	assert_int_equal(io->size, 1000001);
	assert_int_equal(raw->open(io, SMD_OPEN_WRITE, &img, &err), 0);
	assert_int_equal(raw->info(img, &info, &err), 0);
	assert_int_equal(info.virtual_size, 1000001);
	raw->close(img);
}

static void
test_extents_are_identity(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO = smd_io_memory(NULL, 8192, "id", RW);
	struct smd_extent extent;
	void *img;

	(void)state;
	assert_int_equal(raw->open(io, 0, &img, &err), 0);
	assert_int_equal(raw->extents(img, 512, 1024, extent_keep, &extent, &err), 0);
	assert_int_equal(extent.kind, SMD_EXTENT_DATA);
	assert_int_equal(extent.offset, 512);
	assert_int_equal(extent.count, 1024);
	assert_int_equal(extent.host_offset, 512);
	raw->close(img);
}

static void
test_shrinks_only_when_asked(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO = smd_io_memory("abcdefgh", 8, "shrink", RW);
	void *img;

	(void)state;
	assert_int_equal(raw->open(io, SMD_OPEN_WRITE, &img, &err), 0);
	assert_int_equal(raw->resize(img, 4, 0, &err), -1);
	assert_string_equal(err.params[1], "BAD_SIZE");
	assert_non_null(strstr(err.message, "4 bytes are less than the present 8: smd-img resize"));
	assert_int_equal(io->size, 8);
	smd_error_clear(&err);
	assert_int_equal(raw->resize(img, 4, SMD_RESIZE_SHRINK, &err), 0);
	assert_int_equal(io->size, 4);
	assert_int_equal(raw->resize(img, 12, 0, &err), 0);
	assert_memory_equal(smd_io_memory_bytes(io).data, "abcd\0\0\0\0\0\0\0\0", 12);
	raw->close(img);
}

static void
test_fixed_store_must_fit(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO = smd_io_memory(NULL, 1024, "device", SMD_IO_WRITABLE);
	const struct smd_create fits = { .virtual_size = 1024 };
	const struct smd_create large = { .virtual_size = 1025 };

	(void)state;
	assert_int_equal(raw->create(io, &fits, &err), 0);
	assert_int_equal(raw->create(io, &large, &err), -1);
	assert_string_equal(err.params[1], "SIZE_LIMIT");
	assert_non_null(strstr(err.message, "a disk of 1025 bytes does not fit in a store of 1024: "));
}

static void
test_stream_covers_the_disk(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_create params = { .virtual_size = 1000 };
	const struct smd_extent data[] = {
		{ SMD_EXTENT_DATA, 512, 512, 0 },
	};
	struct pieces p = { .n = 0 };

	(void)state;
	assert_int_equal(raw->stream(&params, data, 1, piece_add, &p, &err), 0);
	assert_int_equal(p.n, 2);
	assert_int_equal(p.list[0].kind, SMD_PIECE_ZERO);
	assert_int_equal(p.list[0].count, 512);
	assert_int_equal(p.list[1].kind, SMD_PIECE_GUEST);
	assert_int_equal(p.list[1].guest_offset, 512);
	assert_int_equal(p.list[1].count, 488);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_odd_size_is_kept),
		cmocka_unit_test(test_extents_are_identity),
		cmocka_unit_test(test_shrinks_only_when_asked),
		cmocka_unit_test(test_fixed_store_must_fit),
		cmocka_unit_test(test_stream_covers_the_disk),
	};

	raw = smd_format_init(&smd_the_format_host);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
