/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>

#include <cmocka.h>

#include "common/lock.h"

static char path[] = "test-lock.XXXXXX";

static int
lock(int *ret_fd, bool write)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	*ret_fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	assert_true(*ret_fd >= 0);
	return smd_image_lock(*ret_fd, write, path, &err);
}

static void
test_readers_share(void **state)
{
	int a, b;

	(void)state;
	assert_int_equal(lock(&a, false), 0);
	assert_int_equal(lock(&b, false), 0);
	close(a);
	close(b);
}

static void
test_writer_is_alone(void **state)
{
	int a, b;

	(void)state;
	assert_int_equal(lock(&a, true), 0);
	assert_int_equal(lock(&b, true), 1);
	close(b);
	assert_int_equal(lock(&b, false), 1);
	close(b);
	close(a);
	assert_int_equal(lock(&b, true), 0);
	close(b);
}

static void
test_reader_keeps_the_writer_out(void **state)
{
	int a, b;

	(void)state;
	assert_int_equal(lock(&a, false), 0);
	assert_int_equal(lock(&b, true), 1);
	close(b);
	/* Losing left nothing behind. */
	assert_int_equal(lock(&b, false), 0);
	close(b);
	close(a);
}

static void
test_writer_is_seen(void **state)
{
	int a, b, c;

	(void)state;
	assert_int_equal(lock(&a, false), 0);
	b = open(path, O_RDONLY | O_CLOEXEC);
	assert_false(smd_image_has_writer(b));	/* a reader is none */
	close(a);
	assert_int_equal(lock(&a, true), 0);
	assert_true(smd_image_has_writer(b));
	assert_false(smd_image_has_writer(a));	/* itself */
	close(a);
	/* Looking kept nobody out. */
	assert_int_equal(lock(&c, true), 0);
	close(c);
	close(b);
}

static void
test_lock_taken_again_by_the_same_descriptor(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	int a;

	(void)state;
	assert_int_equal(lock(&a, true), 0);
	assert_int_equal(smd_image_lock(a, true, path, &err), 0);
	close(a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_readers_share),
		cmocka_unit_test(test_writer_is_alone),
		cmocka_unit_test(test_reader_keeps_the_writer_out),
		cmocka_unit_test(test_writer_is_seen),
		cmocka_unit_test(test_lock_taken_again_by_the_same_descriptor),
	};
	int fd = mkstemp(path);
	int r;

	if (fd < 0)
		return 1;
	close(fd);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return r;
}
