/* SPDX-License-Identifier: BSD-2-Clause */
/* Footer, header, batmap and locators, byte by byte. */
#include "plugins/format/vhd/test-disk.h"

#include <stdlib.h>

static void
test_geometry(void **state)
{
	static const struct {
		uint64_t size;
		struct vhd_geometry g;
	} table[] = {
		{ 512, { 0, 4, 17 } },
		{ 64 * MIB, { 963, 8, 17 } },
		{ 2 * MIB, { 60, 4, 17 } },
		{ 1024 * MIB, { 2080, 16, 63 } },
		{ UINT64_C(2040) << 30, { 65535, 16, 255 } },
		{ UINT64_C(127) << 30, { 65278, 16, 255 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct vhd_geometry g = vhd_geometry_of(table[i].size);

		assert_int_equal(g.cylinders, table[i].g.cylinders);
		assert_int_equal(g.heads, table[i].g.heads);
		assert_int_equal(g.sectors, table[i].g.sectors);
	}
	for (uint64_t size = 512; size < UINT64_C(2040) << 30; size += size / 3 / 512 * 512 + 512)
		assert_true(vhd_geometry_size(vhd_geometry_of(size)) <= size);
}

static void
test_batmap_sectors_above_8_gib(void **state)
{
	const uint64_t gib = 1024 * MIB;

	(void)state;
	assert_int_equal(vhd_batmap_sectors(2 * MIB), 1);
	assert_int_equal(vhd_batmap_sectors(8 * gib), 1);
	/* 4097 blocks need a second sector, which only 16 MiB more bring. */
	assert_int_equal(vhd_batmap_sectors(8 * gib + 2 * MIB), 1);
	assert_int_equal(vhd_batmap_sectors(8 * gib + 14 * MIB), 1);
	assert_int_equal(vhd_batmap_sectors(8 * gib + 16 * MIB), 2);
	assert_int_equal(vhd_batmap_sectors(2040 * gib), 255);
	assert_int_equal(vhd_batmap_room(4097), 2);
}

static void
footer_example(struct vhd_footer *f)
{
	*f = (struct vhd_footer){ .version = 0x00010000, .type = VHD_TYPE_FIXED,
				  .data_offset = VHD_NO_OFFSET, .current_size = MIB,
				  .creator_app = VHD_APP_TAP,
				  .creator_version = VHD_TAP_VERSION_1_1 };
	vhd_footer_seal(f);
}

static void
test_footer_of_tapdisk_1_1_hidden_after_its_sum(void **state)
{
	struct vhd_footer f, g;

	(void)state;
	footer_example(&f);
	f.raw[85] = 1;
	assert_int_equal(vhd_footer_parse(f.raw, &g), -1);
	assert_int_equal(g.hidden, 1);
	f.raw[84] = 1;
	assert_int_equal(vhd_footer_parse(f.raw, &g), SMD_REASON_BAD_CHECKSUM);
}

static void
test_footer_of_511_bytes(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO = smd_io_memory(NULL, 0, "511", RW);
	struct smd_image_info info;
	struct vhd_footer f;
	void *img;

	(void)state;
	footer_example(&f);
	assert_int_equal(io->ops->pwrite(io, f.raw, 511, MIB, &err), 0);
	assert_int_equal(vhd->open(io, SMD_OPEN_WRITE, &img, &err), 0);
	assert_int_equal(vhd->info(img, &info, &err), 0);
	assert_int_equal(info.virtual_size, MIB);
	free(info.details);
	vhd->close(img);
}

static void
test_parent_names(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO = smd_io_memory(NULL, 0, "names", RW);
	/* a, e acute, euro, an emoji */
	const char *name = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80.vhd";
	struct smd_create params = disk_params(4 * MIB, name);
	struct smd_image_info info;
	uint8_t bytes[8];
	void *img;

	(void)state;
	assert_int_equal(vhd->create(io, &params, &err), 0);
	assert_int_equal(io->ops->pread(io, bytes, 8, VHD_OWN_LOCATORS_OFFSET, &err), 0);
	assert_memory_equal(bytes, "file://.", 8);
	assert_int_equal(io->ops->pread(io, bytes, 8, VHD_OWN_LOCATORS_OFFSET + 1024, &err), 0);
	assert_memory_equal(bytes, ".\0\\\0a\0\xe9\0", 8);
	assert_int_equal(io->ops->pread(io, bytes, 8, 512 + 64, &err), 0);
	assert_memory_equal(bytes, "\0a\0\xe9\x20\xac\xd8\x3d", 8);
	assert_int_equal(vhd->open(io, 0, &img, &err), 0);
	assert_int_equal(vhd->info(img, &info, &err), 0);
	assert_string_equal(info.parent_name, name);
	assert_string_equal(info.parent_format, "vhd");
	assert_true(info.flags & SMD_INFO_HAS_PARENT);
	free(info.details);
	vhd->close(img);
}

static void
test_parent_names_refused(void **state)
{
	static const char *names[] = { "", "\xff.vhd", "\xed\xa0\x80" };
	struct vhd_parent_text text;
	char longest[300];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		assert_int_equal(vhd_parent_text(names[i], NULL, &text, &err), -1);
		assert_string_equal(err.params[1], "BACKING_NAME");
	}
	memset(longest, 'x', sizeof longest);
	longest[254] = '\0';
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	assert_int_equal(vhd_parent_text(longest, NULL, &text, &err), 0);
	longest[254] = 'x';
	longest[255] = '\0';
	assert_int_equal(vhd_parent_text(longest, NULL, &text, &err), -1);
}

static void
test_limits_before_anything_is_written(void **state)
{
	static const struct {
		uint64_t size;
		const char *reason, *text;
	} table[] = {
		{ (UINT64_C(2040) << 30) + 512, "SIZE_LIMIT",
		  "2190433321472 bytes are over VHD's limit of 2190433320960 (2040 GiB): another" },
		{ 0, "BAD_SIZE", "the least is 512 bytes" },
		{ 1000001, "BAD_SIZE", "a multiple of 512, not 1000001: round it up" },
	};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		struct smd_io *io CLEANUP_IO = smd_io_memory(NULL, 0, "limit", RW);
		struct smd_create params = disk_params(table[i].size, NULL);
		struct smd_measure measure;

		assert_int_equal(vhd->create(io, &params, &err), -1);
		assert_string_equal(err.params[1], table[i].reason);
		assert_non_null(strstr(err.message, table[i].text));
		assert_int_equal(io->size, 0);
		smd_error_clear(&err);
		assert_int_equal(vhd->measure(&params, 0, 0, &measure, &err), -1);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_geometry),
		cmocka_unit_test(test_batmap_sectors_above_8_gib),
		cmocka_unit_test(test_footer_of_tapdisk_1_1_hidden_after_its_sum),
		cmocka_unit_test(test_footer_of_511_bytes),
		cmocka_unit_test(test_parent_names),
		cmocka_unit_test(test_parent_names_refused),
		cmocka_unit_test(test_limits_before_anything_is_written),
	};

	return cmocka_run_group_tests(tests, disk_module, NULL);
}
