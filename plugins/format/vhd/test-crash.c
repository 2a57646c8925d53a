/* SPDX-License-Identifier: BSD-2-Clause */
/* Power cuts after every write, and every call of the io failing once. */
#include "plugins/format/vhd/test-disk.h"

#include <stdlib.h>

static void
judge_survives(const struct disk *d, struct smd_io *image, size_t now, void *opaque)
{
	(void)opaque;
	disk_survives(d, image, now);
}

/* Blocks whole and in part, one twice, zeroes over data, few and a hole of them, and data over
 * zeroes. */
static void
life(struct disk *d)
{
	disk_write(d, 64 * KIB, 8 * KIB, 1);
	disk_flush(d);
	disk_write(d, 2 * MIB, 2 * MIB, 2);
	disk_write(d, 68 * KIB, 8 * KIB, 3);
	disk_flush(d);
	disk_zero(d, 2 * MIB + 4 * KIB, 16 * KIB);
	disk_zero(d, 3 * MIB, 128 * KIB);
	disk_write(d, 4 * MIB - 4 * KIB, 8 * KIB, 4);
	disk_flush(d);
	disk_write(d, 2 * MIB + 8 * KIB, 4 * KIB, 5);
	disk_write(d, 3 * MIB + 8 * KIB, 4 * KIB, 7);
	disk_write(d, 0, 4 * KIB, 6);
	disk_flush(d);
}

static void
test_cut_while_writing(void **state)
{
	struct smd_create params = disk_params(6 * MIB, NULL);
	struct disk d;

	(void)state;
	disk_make(&d, &params);
	life(&d);
	assert_false(d.failed);
	disk_cut_everywhere(&d, judge_survives, NULL);
	disk_done(&d);
}

static void
test_each_call_fails_once(void **state)
{
	struct smd_create params = disk_params(6 * MIB, NULL);
	uint64_t n = 0;
	struct disk d;

	(void)state;
	do {
		struct smd_test_plan plan = { .fail_at = ++n, .ops = SMD_TEST_ALL,
					      .how = SMD_TEST_SHORT };
		struct smd_test_plan none = { 0 };

		disk_make(&d, &params);
		smd_io_test_plan(d.io, &plan);
		life(&d);
		smd_io_test_plan(d.io, &none);
		disk_survives(&d, d.memory, disk_now(&d));
		disk_done(&d);
		assert_true(n < 1000);
	} while (d.failed);
	assert_true(n > 20);
}

/* ---- Resize ---- */

struct sizes {
	uint64_t before, after;
	bool old_seen, new_seen;
};

static void
judge_size(const struct disk *d, struct smd_io *image, size_t now, void *opaque)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct sizes *s = opaque;
	struct smd_image_info info;
	void *img;

	disk_judge(d, image, now);
	assert_int_equal(vhd->open(image, 0, &img, &err), 0);
	assert_int_equal(vhd->info(img, &info, &err), 0);
	free(info.details);
	vhd->close(img);
	if (info.virtual_size == s->before && !s->new_seen)
		s->old_seen = true;
	else if (info.virtual_size == s->after)
		s->new_seen = s->new_seen || info.virtual_size != s->before;
	else
		assert_int_equal(info.virtual_size, s->before);
	disk_survives(d, image, now);
}

static void
resize_cut(const struct smd_create *params, uint64_t after, uint32_t flags)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct sizes s = { params->virtual_size, after, false, false };
	struct disk d;

	disk_make(&d, params);
	disk_write(&d, 0, 8 * KIB, 1);
	disk_write(&d, params->virtual_size - 4 * KIB, 4 * KIB, 2);
	disk_flush(&d);
	if (after < params->virtual_size)
		disk_zero(&d, params->virtual_size - 4 * KIB, 4 * KIB);
	assert_int_equal(vhd->resize(d.img, after, flags, &err), 0);
	disk_cut_everywhere(&d, judge_size, &s);
	assert_true(s.old_seen && s.new_seen);
	disk_done(&d);
}

static void
test_cut_while_growing_the_table(void **state)
{
	struct smd_create params = disk_params(3 * MIB, NULL);

	(void)state;
	resize_cut(&params, 40960 * MIB, 0);
}

static void
test_cut_while_growing_in_the_table(void **state)
{
	struct smd_create params = disk_params(3 * MIB, NULL);

	(void)state;
	resize_cut(&params, 3 * MIB + 512 * KIB, 0);
}

static void
test_cut_while_shrinking(void **state)
{
	struct smd_create params = disk_params(5 * MIB, NULL);

	(void)state;
	resize_cut(&params, 1 * MIB, SMD_RESIZE_SHRINK);
}

static void
test_cut_while_fixed_grows_and_shrinks(void **state)
{
	static const char *names[] = { "subformat" }, *values[] = { "fixed" };
	struct smd_create params = disk_params(1 * MIB, NULL);

	(void)state;
	params.n_options = 1;
	params.option_names = names;
	params.option_values = values;
	resize_cut(&params, 2 * MIB + 512, 0);
	resize_cut(&params, 512 * KIB, SMD_RESIZE_SHRINK);
}

/* ---- Parent ---- */

static void
judge_parent(const struct disk *d, struct smd_io *image, size_t now, void *opaque)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_image_info info;
	bool *changed = opaque;
	void *img;

	if (vhd->open(image, 0, &img, &err) < 0)
		fail_msg("after record %zu: %s", now, err.message);
	assert_int_equal(vhd->info(img, &info, &err), 0);
	free(info.details);
	vhd->close(img);
	if (strcmp(info.parent_name, "another-name.vhd") == 0) {
		assert_int_equal(info.parent_uuid[0], 0x33);
		*changed = true;
	} else {
		assert_string_equal(info.parent_name, "base.vhd");
		assert_int_equal(info.parent_uuid[15], 0x22);
		assert_false(*changed && now == SIZE_MAX);
	}
	disk_survives(d, image, now);
}

static void
test_cut_while_parent_changes(void **state)
{
	struct smd_create params = disk_params(3 * MIB, "base.vhd");
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	bool changed = false;
	uint8_t uuid[16];
	struct disk d;

	(void)state;
	memset(uuid, 0x33, sizeof uuid);
	disk_make(&d, &params);
	disk_write(&d, 0, 8 * KIB, 1);
	disk_flush(&d);
	assert_int_equal(vhd->set_parent(d.img, "another-name.vhd", "vhd", uuid, &err), 0);
	disk_cut_everywhere(&d, judge_parent, &changed);
	assert_true(changed);
	disk_done(&d);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cut_while_writing),
		cmocka_unit_test(test_each_call_fails_once),
		cmocka_unit_test(test_cut_while_growing_the_table),
		cmocka_unit_test(test_cut_while_growing_in_the_table),
		cmocka_unit_test(test_cut_while_shrinking),
		cmocka_unit_test(test_cut_while_fixed_grows_and_shrinks),
		cmocka_unit_test(test_cut_while_parent_changes),
	};

	return cmocka_run_group_tests(tests, disk_module, NULL);
}
