/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/image/format.h"
#include "common/image/ops.h"

static int
no_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	(void)flags;
	(void)ret_img;
	return smd_image_fail(err, SMD_REASON_BAD_MAGIC, io->name, "nothing opens here");
}

static void
no_close(void *img)
{
	(void)img;
}

static int
no_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	(void)img;
	(void)ret;
	(void)err;
	return 0;
}

static int
no_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
	   struct smd_error *err)
{
	(void)img;
	(void)offset;
	(void)count;
	(void)add;
	(void)opaque;
	(void)err;
	return 0;
}

static const struct smd_option options[] = {
	{ "cluster_size", SMD_OPTION_SIZE, "64k", "512..2M", "unit" },
	{ "refcount_bits", SMD_OPTION_INT, "16", "1..64", "width" },
	{ "lazy", SMD_OPTION_BOOL, "off", NULL, "lazy" },
	{ "compat", SMD_OPTION_ENUM, "1.1", "0.10|1.1", "level" },
	{ .name = NULL },
};

static const struct smd_format good = {
	.abi = SMD_FORMAT_ABI,
	.struct_size = sizeof(struct smd_format),
	.name = "good",
	.alias = "fine",
	.options = options,
	.open = no_open,
	.close = no_close,
	.info = no_info,
	.extents = no_extents,
};

static void
test_add_and_find(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *found;

	(void)state;
	assert_int_equal(smd_formats_add(&good, &err), 0);
	assert_ptr_equal(smd_format_find("good"), &good);
	assert_ptr_equal(smd_format_find("fine"), &good);
	assert_null(smd_format_find("Good"));
	assert_int_equal(smd_format_get("bad", &found, &err), -1);
	assert_string_equal(err.code, "FORMAT_UNKNOWN");
	assert_string_equal(err.params[0], "bad");
	assert_string_equal(err.params[1], "good");
}

static void
test_missing_callback_is_named(void **state)
{
	struct smd_format f = good;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	f.name = "lame";
	f.caps = SMD_CAP_WRITE;
	assert_int_equal(smd_formats_add(&f, &err), -1);
	assert_non_null(strstr(err.message, "reserve"));
	smd_error_clear(&err);
	f.caps = 0;
	f.extents = NULL;
	assert_int_equal(smd_formats_add(&f, &err), -1);
	assert_non_null(strstr(err.message, "extents"));
	assert_null(smd_format_find("lame"));
}

static void
test_bad_names_are_refused(void **state)
{
	static const char *const names[] = { "", "UP", "a/b", "a b", "..", NULL };

	(void)state;
	for (size_t i = 0; names[i]; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		struct smd_format f = good;

		f.name = names[i];
		assert_int_equal(smd_formats_add(&f, &err), -1);
	}
}

static void
test_other_abi_is_refused(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_format f = good;

	(void)state;
	f.name = "newer";
	f.abi = SMD_FORMAT_ABI + 1;
	assert_int_equal(smd_formats_add(&f, &err), -1);
	assert_non_null(strstr(err.message, "ABI 2"));
}

static void
test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
	} ok[] = {
		{ "0", 0 }, { "512", 512 }, { "1k", 1024 }, { "64K", 65536 }, { "1.5G", 1610612736 },
		{ "2T", 2199023255552 }, { "0.5k", 512 }, { "7E", UINT64_C(7) << 60 },
		{ "1b", 1 },
	};
	static const char *const bad[] = {
		"", "k", "-1", "1.", "1.5", "8E", "1kk", " 1", "99999999999999999999", "0x10",
		"1.5b", "1e3",
	};

	(void)state;
	for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		uint64_t size = 1;

		assert_int_equal(smd_size_parse(ok[i].text, &size, &err), 0);
		assert_true(size == ok[i].size);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		uint64_t size;

		assert_int_equal(smd_size_parse(bad[i], &size, &err), -1);
		assert_string_equal(err.code, "INVALID_VALUE");
	}
}

static void
test_options(void **state)
{
	static const struct {
		const char *name, *value, *canonical;
	} cases[] = {
		{ "cluster_size", "4k", "4096" }, { "cluster_size", "4M", NULL },
		{ "cluster_size", "256", NULL }, { "refcount_bits", "64", "64" },
		{ "refcount_bits", "65", NULL }, { "refcount_bits", "1k", NULL },
		{ "lazy", "true", "on" }, { "lazy", "off", "off" }, { "lazy", "maybe", NULL },
		{ "compat", "1.1", "1.1" }, { "compat", "0.1", NULL }, { "compat", "", NULL },
		{ "nothing", "1", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		struct smd_options o = { 0 };
		int r = smd_options_add(&o, &good, cases[i].name, cases[i].value, &err);

		assert_int_equal(r, cases[i].canonical ? 0 : -1);
		if (cases[i].canonical)
			assert_string_equal(o.values[0], cases[i].canonical);
		else
			assert_string_equal(err.params[0], cases[i].name);
		smd_options_free(&o);
	}
}

static void
test_reasons_choose_the_code(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	smd_image_fail(&err, SMD_REASON_BAD_MAGIC, "i", "m");
	assert_string_equal(err.code, "IMAGE_CORRUPT");
	assert_string_equal(err.params[1], "BAD_MAGIC");
	smd_error_clear(&err);
	smd_image_fail(&err, SMD_REASON_EXTERNAL_REF, "i", "m");
	assert_string_equal(err.code, "IMAGE_UNSUPPORTED");
	smd_error_clear(&err);
	smd_image_fail(&err, SMD_REASON_IO, "i", "m");
	assert_string_equal(err.code, "IMAGE_IO");
}

/* However a stream is cut, its ends are the same. */
static void
test_ends_of_a_stream(void **state)
{
	static const size_t sizes[] = { 0, 1, 700, SMD_ENDS_MAX, SMD_ENDS_MAX + 1, 20000 };
	static const size_t pieces[] = { 1, 511, SMD_ENDS_MAX, SMD_ENDS_MAX + 9, 20000 };
	uint8_t bytes[20000];

	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 256);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (size_t j = 0; j < sizeof pieces / sizeof *pieces; j++) {
			size_t len = sizes[i] < SMD_ENDS_MAX ? sizes[i] : SMD_ENDS_MAX;
			struct smd_ends ends = { .size = 0 };

			for (size_t at = 0; at < sizes[i]; at += pieces[j])
				smd_ends_add(&ends, bytes + at, at + pieces[j] <= sizes[i] ?
					     pieces[j] : sizes[i] - at);
			assert_int_equal(ends.size, sizes[i]);
			assert_int_equal(ends.len, len);
			assert_memory_equal(ends.head, bytes, len);
			assert_memory_equal(ends.tail, bytes + sizes[i] - len, len);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_of_a_stream),
		cmocka_unit_test(test_add_and_find),
		cmocka_unit_test(test_missing_callback_is_named),
		cmocka_unit_test(test_bad_names_are_refused),
		cmocka_unit_test(test_other_abi_is_refused),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_reasons_choose_the_code),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
