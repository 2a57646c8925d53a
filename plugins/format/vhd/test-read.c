/* SPDX-License-Identifier: BSD-2-Clause */
/* Images of other makers, and what is refused for which reason. */
#include "plugins/format/vhd/test-disk.h"

#include <stdlib.h>

/* An image of 6 MiB, 4 KiB at 64 KiB of tag 1, block 1 full of tag 2. */
static void
image_make(struct disk *d, const char *parent)
{
	struct smd_create params = disk_params(6 * MIB, parent);

	disk_make(d, &params);
	disk_write(d, 64 * KIB, 4 * KIB, 1);
	disk_write(d, 2 * MIB, 2 * MIB, 2);
	disk_flush(d);
	assert_false(d->failed);
}

static void
put(struct disk *d, uint64_t offset, const void *bytes, size_t n)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	assert_int_equal(d->memory->ops->pwrite(d->memory, bytes, n, offset, &err), 0);
}

/* Change both footers. */
static void
footers_edit(struct disk *d, void (*edit)(struct vhd_footer *f))
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct vhd_footer f;
	uint8_t raw[VHD_FOOTER_SIZE];

	assert_int_equal(d->memory->ops->pread(d->memory, raw, sizeof raw, 0, &err), 0);
	assert_int_equal(vhd_footer_parse(raw, &f), -1);
	edit(&f);
	vhd_footer_seal(&f);
	put(d, 0, f.raw, sizeof f.raw);
	put(d, d->memory->size - VHD_FOOTER_SIZE, f.raw, sizeof f.raw);
}

static void
refused(struct disk *d, uint32_t flags, const char *reason)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	void *img;

	if (vhd->open(d->memory, flags, &img, &err) == 0)
		fail_msg("accepted; %s was expected", reason);
	assert_string_equal(err.params[1], reason);
	disk_done(d);
}

static void
as_qemu(struct vhd_footer *f)
{
	f->creator_app = 0x71656d75;
	f->geometry = (struct vhd_geometry){ 1, 1, 1 };
}

static void
as_tap_0_1(struct vhd_footer *f)
{
	f->creator_version = VHD_TAP_VERSION_0_1;
}

static void
as_type_5(struct vhd_footer *f)
{
	f->type = 5;
}

static void
as_version_2(struct vhd_footer *f)
{
	f->version = 0x00020000;
}

static void
as_too_large(struct vhd_footer *f)
{
	f->current_size = VHD_MAX_SIZE + 512;
}

static void
test_size_is_the_footers_not_the_geometrys(void **state)
{
	struct disk d;

	(void)state;
	image_make(&d, NULL);
	footers_edit(&d, as_qemu);
	disk_survives(&d, d.memory, disk_now(&d));
	disk_done(&d);
}

static void
test_footers_refused(void **state)
{
	static const struct {
		void (*edit)(struct vhd_footer *f);
		const char *reason;
	} table[] = {
		{ as_tap_0_1, "UNSUPPORTED" },
		{ as_type_5, "UNSUPPORTED" },
		{ as_version_2, "BAD_VERSION" },
		{ as_too_large, "SIZE_LIMIT" },
	};
	struct disk d;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		image_make(&d, NULL);
		footers_edit(&d, table[i].edit);
		refused(&d, 0, table[i].reason);
	}
}

static void
test_one_good_footer_serves_readers_alone(void **state)
{
	const uint8_t zeroes[VHD_FOOTER_SIZE] = { 0 };
	struct disk d;

	(void)state;
	for (int head = 0; head < 2; head++) {
		image_make(&d, NULL);
		put(&d, head ? 0 : d.memory->size - VHD_FOOTER_SIZE, zeroes, sizeof zeroes);
		disk_judge(&d, d.memory, disk_now(&d));
		refused(&d, SMD_OPEN_WRITE, "NEEDS_REPAIR");
		image_make(&d, NULL);
		put(&d, head ? 0 : d.memory->size - VHD_FOOTER_SIZE, zeroes, sizeof zeroes);
		disk_survives(&d, d.memory, disk_now(&d));
		disk_done(&d);
	}
}

static void
test_copies_that_disagree(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint8_t raw[VHD_FOOTER_SIZE];
	struct vhd_footer f;
	struct disk d;

	(void)state;
	image_make(&d, NULL);
	assert_int_equal(d.memory->ops->pread(d.memory, raw, sizeof raw, 0, &err), 0);
	assert_int_equal(vhd_footer_parse(raw, &f), -1);
	f.uuid[3] ^= 1;
	vhd_footer_seal(&f);
	put(&d, 0, f.raw, sizeof f.raw);
	refused(&d, 0, "AMBIGUOUS");
}

static void
test_blocks_refused(void **state)
{
	static const struct {
		uint8_t entry[4];
		const char *reason;
	} table[] = {
		{ { 0, 0, 0, 0 }, "DATA_OVERLAP" },
		{ { 0, 0, 0, 32 }, "DATA_OVERLAP" },
		{ { 0, 0, 0, 200 }, "DATA_OVERLAP" },
		{ { 0x7f, 0xff, 0xff, 0xff }, "DATA_BOUNDS" },
		{ { 0xff, 0xff, 0xff, 0xfe }, "DATA_BOUNDS" },
	};
	struct disk d;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		image_make(&d, NULL);
		put(&d, VHD_OWN_BAT_OFFSET + 8, table[i].entry, 4);
		refused(&d, 0, table[i].reason);
	}
}

static void
test_header_refused(void **state)
{
	const uint8_t bytes[1] = { 0x40 };
	struct disk d;

	(void)state;
	image_make(&d, NULL);
	put(&d, 512 + 700, bytes, 1);
	refused(&d, 0, "BAD_CHECKSUM");
	image_make(&d, NULL);
	put(&d, 512, bytes, 1);
	refused(&d, 0, "BAD_COOKIE");
}

/* A fixed disk's sector 0 is the guest's, a whole VHD in it included. */
static void
test_fixed_with_a_planted_header(void **state)
{
	static const char *names[] = { "subformat" }, *values[] = { "fixed" };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_create params = disk_params(2 * MIB, NULL);
	struct smd_image_info info;
	struct disk planted, d;
	uint8_t meta[20 * KIB];

	(void)state;
	image_make(&planted, NULL);
	assert_int_equal(planted.memory->ops->pread(planted.memory, meta, sizeof meta, 0, &err),
			 0);
	disk_done(&planted);
	params.n_options = 1;
	params.option_names = names;
	params.option_values = values;
	disk_make(&d, &params);
	put(&d, 0, meta, sizeof meta);
	vhd->close(d.img);
	assert_int_equal(vhd->open(d.memory, SMD_OPEN_WRITE, &d.img, &err), 0);
	assert_int_equal(vhd->info(d.img, &info, &err), 0);
	assert_int_equal(info.virtual_size, 2 * MIB);
	assert_int_equal(info.flags, 0);
	free(info.details);
	disk_done(&d);
}

static int
extent_keep(void *opaque, const struct smd_extent *e, struct smd_error *err)
{
	struct smd_extent *keep = opaque;

	(void)err;
	while (keep->count)
		keep++;
	*keep = *e;
	return 0;
}

static void
test_extents_of_a_child(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_extent e[16] = { 0 };
	struct disk d;

	(void)state;
	image_make(&d, "base.vhd");
	assert_int_equal(vhd->extents(d.img, 0, 6 * MIB, extent_keep, e, &err), 0);
	assert_int_equal(e[0].kind, SMD_EXTENT_PARENT);
	assert_int_equal(e[0].count, 64 * KIB);
	assert_int_equal(e[1].kind, SMD_EXTENT_DATA);
	assert_int_equal(e[1].count, 4 * KIB);
	assert_int_equal(e[1].host_offset % VHD_PAGE, 0);
	assert_int_equal(e[2].kind, SMD_EXTENT_PARENT);
	assert_int_equal(e[3].kind, SMD_EXTENT_DATA);
	assert_int_equal(e[3].count, 2 * MIB);
	assert_int_equal(e[4].kind, SMD_EXTENT_PARENT);
	assert_int_equal(e[4].count, 2 * MIB);
	assert_int_equal(e[5].count, 0);
	/* Zeroes must hide the parent, which only data can. */
	assert_int_equal(vhd->zero(d.img, 2 * MIB, 2 * MIB, 0, &err), 1);
	disk_done(&d);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size_is_the_footers_not_the_geometrys),
		cmocka_unit_test(test_footers_refused),
		cmocka_unit_test(test_one_good_footer_serves_readers_alone),
		cmocka_unit_test(test_copies_that_disagree),
		cmocka_unit_test(test_blocks_refused),
		cmocka_unit_test(test_header_refused),
		cmocka_unit_test(test_fixed_with_a_planted_header),
		cmocka_unit_test(test_extents_of_a_child),
	};

	return cmocka_run_group_tests(tests, disk_module, NULL);
}
