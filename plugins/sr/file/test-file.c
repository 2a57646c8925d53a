/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugins/sr/file/file.h"	/* before cmocka.h, whose macro fail() is a member there */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID_A "11111111-2222-3333-4444-555555555555"
#define UUID_B "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"

/* The test is the host: an error is the failure's number and its errno. */
struct smd_error {
	int failure;
	int errnum;
};

static void
host_fail(struct smd_error *err, enum smd_sr_failure failure, int errnum, const char *fmt,
	  va_list ap)
{
	char text[512];

	assert_int_equal(err->failure, 0);
	assert_true(vsnprintf(text, sizeof text, fmt, ap) > 0);
	err->failure = (int)failure;
	err->errnum = errnum;
}

static const struct smd_sr_host test_host = { .abi = SMD_SR_ABI, .fail = host_fail };
static const struct smd_sr_driver *driver;
static char base[64];
static char location[96];
static const char *const keys[] = { "location" };
static const char *const values[] = { location };
static const struct smd_sr_config config = { 1, keys, values };

static int
setup(void **state)
{
	(void)state;
	driver = smd_sr_init(&test_host);
	strcpy(base, "/tmp/smd-test-file-XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(location, sizeof location, "%s/sr", base);
	return 0;
}

static int
teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof command, "rm -rf '%s'", base);
	return system(command);
}

static void *
create_attach(void)
{
	struct smd_error err = { 0, 0 };
	void *sr = NULL;

	assert_int_equal(driver->create(UUID_A, &config, &err), 0);
	assert_int_equal(driver->attach(UUID_A, &config, &sr, &err), 0);
	assert_non_null(sr);
	return sr;
}

static void
touch(const char *name)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", location, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
}

static void
test_create(void **state)
{
	struct smd_error err = { 0, 0 };
	const struct smd_sr_config none = { 0, NULL, NULL };
	struct stat st;

	(void)state;
	assert_int_equal(driver->create(UUID_A, &none, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_NO_LOCATION);
	memset(&err, 0, sizeof err);
	assert_int_equal(driver->create(UUID_A, &config, &err), 0);
	assert_int_equal(stat(location, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	/* It holds an SR now. */
	assert_int_equal(driver->create(UUID_B, &config, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_CREATE_SR);
}

static void
test_create_in_empty(void **state)
{
	struct smd_error err = { 0, 0 };
	void *sr;

	(void)state;
	assert_int_equal(mkdir(location, 0755), 0);
	touch("a-file");
	assert_int_equal(driver->create(UUID_A, &config, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_CREATE_SR);
	memset(&err, 0, sizeof err);
	assert_int_equal(unlinkat(AT_FDCWD, location, AT_REMOVEDIR), -1);
	{
		char path[256];

		snprintf(path, sizeof path, "%s/a-file", location);
		assert_int_equal(unlink(path), 0);
	}
	sr = create_attach();
	driver->detach(sr);
}

static void
test_relative_location(void **state)
{
	struct smd_error err = { 0, 0 };
	const char *const relative[] = { "some/dir" };
	const struct smd_sr_config c = { 1, keys, relative };

	(void)state;
	assert_int_equal(driver->create(UUID_A, &c, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_NO_LOCATION);
}

static void
test_attach(void **state)
{
	struct smd_error err = { 0, 0 };
	void *sr, *second = NULL;

	(void)state;
	assert_int_equal(driver->attach(UUID_A, &config, &second, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_SR_UNAVAILABLE);
	sr = create_attach();
	/* Another attach meets the lock, another uuid the marker. */
	memset(&err, 0, sizeof err);
	assert_int_equal(driver->attach(UUID_A, &config, &second, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_IN_USE);
	memset(&err, 0, sizeof err);
	assert_int_equal(driver->attach(UUID_B, &config, &second, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_SR_UNAVAILABLE);
	assert_null(second);
	driver->detach(sr);
	memset(&err, 0, sizeof err);
	assert_int_equal(driver->attach(UUID_A, &config, &second, &err), 0);
	driver->detach(second);
}

struct seen {
	unsigned n;
	char names[8][64];
	uint64_t sizes[8];
};

static int
see(void *opaque, const struct smd_sr_volume *volume, struct smd_error *err)
{
	struct seen *seen = opaque;

	(void)err;
	assert_true(seen->n < 8);
	snprintf(seen->names[seen->n], sizeof seen->names[0], "%s", volume->name);
	seen->sizes[seen->n++] = volume->size;
	return 0;
}

static void
test_volumes(void **state)
{
	struct smd_error err = { 0, 0 };
	struct smd_sr_volume volume;
	struct seen seen = { 0 };
	void *sr = create_attach();
	int fd = -1;

	(void)state;
	assert_int_equal(driver->volume_create(sr, "one.raw", 0, &fd, &err), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(pwrite(fd, "hello", 5, 8192), 5);
	close(fd);
	assert_int_equal(driver->volume_stat(sr, "one.raw", &volume, &err), 0);
	assert_int_equal(volume.size, 8197);
	assert_int_equal(driver->volume_create(sr, "one.raw", 0, &fd, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_VOLUME_EXISTS);
	memset(&err, 0, sizeof err);
	assert_int_equal(driver->volume_create(sr, "two.raw", 0, &fd, &err), 0);
	close(fd);
	assert_int_equal(driver->volume_rename(sr, "two.raw", "one.raw", &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_VOLUME_EXISTS);
	memset(&err, 0, sizeof err);
	assert_int_equal(driver->volume_rename_soon(sr, "two.raw", "one.raw", &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_VOLUME_EXISTS);
	memset(&err, 0, sizeof err);
	assert_int_equal(driver->volume_rename_soon(sr, "two.raw", "soon.raw", &err), 0);
	assert_int_equal(driver->sync_names(sr, &err), 0);
	assert_int_equal(driver->volume_rename(sr, "soon.raw", "three.raw", &err), 0);
	assert_int_equal(driver->volume_delete(sr, "one.raw", &err), 0);
	assert_int_equal(driver->volume_delete(sr, "one.raw", &err), 0);
	assert_int_equal(driver->scan(sr, see, &seen, &err), 0);
	assert_int_equal(seen.n, 1);
	assert_string_equal(seen.names[0], "three.raw");
	assert_int_equal(driver->volume_open(sr, "one.raw", 0, &fd, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_VOLUME_UNAVAILABLE);
	assert_int_equal(err.errnum, ENOENT);
	driver->detach(sr);
}

/* Nothing outside the directory can be reached by a name, whatever it is. */
static void
test_names(void **state)
{
	static const char *const bad[] = {
		"", ".", "..", ".smd-sr", "../x", "a/b", "/etc/passwd", "a b", "a\n", "link",
		"fifo", "dir",
	};
	void *sr = create_attach();
	char path[256];

	(void)state;
	snprintf(path, sizeof path, "%s/link", location);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	snprintf(path, sizeof path, "%s/fifo", location);
	assert_int_equal(mkfifo(path, 0600), 0);
	snprintf(path, sizeof path, "%s/dir", location);
	assert_int_equal(mkdir(path, 0700), 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct smd_error err = { 0, 0 };
		int fd = -1;

		assert_int_equal(driver->volume_open(sr, bad[i], 0, &fd, &err), -1);
		assert_int_equal(fd, -1);
		assert_int_not_equal(err.failure, 0);
	}
	{
		struct smd_error err = { 0, 0 };
		struct seen seen = { 0 };

		assert_int_equal(driver->scan(sr, see, &seen, &err), 0);
		assert_int_equal(seen.n, 0);
	}
	/* A file that somebody put there is shown, though it is no volume. */
	snprintf(path, sizeof path, "%s/my disk.raw", location);
	fclose(fopen(path, "w"));
	{
		struct smd_error err = { 0, 0 };
		struct seen seen = { 0 };
		int fd;

		assert_int_equal(driver->scan(sr, see, &seen, &err), 0);
		assert_int_equal(seen.n, 1);
		assert_string_equal(seen.names[0], "my disk.raw");
		assert_int_equal(driver->volume_open(sr, "my disk.raw", 0, &fd, &err), -1);
	}
	unlink(path);
	driver->detach(sr);
}

#define MANY 1000

/* Which of them were seen, and how often; it wants no more than at_most. */
struct tally {
	unsigned n, at_most;
	unsigned char seen[MANY];
};

static int
count(void *opaque, const struct smd_sr_volume *volume, const char *stamp, struct smd_error *err)
{
	struct tally *tally = opaque;
	unsigned long i = strtoul(volume->name, NULL, 10);

	assert_string_equal(stamp, "");		/* they are new */
	assert_true(i < MANY && volume->size == i);
	tally->seen[i]++;
	if (++tally->n <= tally->at_most)
		return 0;
	return smd_sr_fail(err, SMD_SR_FAIL_OTHER, 0, "enough");
}

/* As many as there are, and no sizes. */
static int
count_name(void *opaque, const struct smd_sr_volume *volume, struct smd_error *err)
{
	struct tally *tally = opaque;
	unsigned long i = strtoul(volume->name, NULL, 10);

	(void)err;
	assert_true(i < MANY && volume->size == 0 && volume->allocated == 0);
	tally->seen[i]++;
	return 0;
}

static void
check_opened(void *sr, const char *name, uint64_t size, bool old)
{
	struct smd_error err = { 0, 0 };
	char stamp[SMD_SR_STAMP_MAX], same[SMD_SR_STAMP_MAX];
	struct smd_sr_volume volume;
	int fd;

	assert_int_equal(driver->volume_open_stamped(sr, name, &fd, &volume, stamp, &err), 0);
	assert_string_equal(volume.name, name);
	assert_int_equal(volume.size, size);
	assert_int_equal(driver->volume_stamp(sr, name, same, &err), 0);
	assert_string_equal(stamp, same);
	assert_int_equal(*stamp != '\0', old);
	close(fd);
}

static void
test_names_opened(void **state)
{
	struct timespec long_ago[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	struct smd_error err = { 0, 0 }, gone = { 0, 0 };
	struct tally tally = { 0 };
	void *sr = create_attach();
	struct smd_sr_volume volume;
	char stamp[SMD_SR_STAMP_MAX];
	int fd;

	(void)state;
	assert_int_equal(driver->volume_create(sr, "7.raw", 0, &fd, &err), 0);
	assert_int_equal(ftruncate(fd, 12345), 0);
	assert_int_equal(futimens(fd, long_ago), 0);
	close(fd);
	assert_int_equal(mkdirat(((struct file_sr *)sr)->dir, "8.raw", 0700), 0);
	assert_int_equal(symlinkat("7.raw", ((struct file_sr *)sr)->dir, "9.raw"), 0);
	assert_int_equal(driver->scan_names(sr, count_name, &tally, &err), 0);
	assert_int_equal(tally.seen[7], 1);
	assert_int_equal(tally.seen[8] + tally.seen[9], 0);
	check_opened(sr, "7.raw", 12345, false);	/* its ctime is of now */
	assert_int_equal(driver->volume_open_stamped(sr, "6.raw", &fd, &volume, stamp, &gone), -1);
	assert_int_equal(gone.failure, SMD_SR_FAIL_VOLUME_UNAVAILABLE);
	driver->detach(sr);
}

static void
test_many(void **state)
{
	struct smd_error err = { 0, 0 };
	struct tally tally = { .at_most = MANY };
	void *sr = create_attach();

	(void)state;
	for (int i = 0; i < MANY; i++) {
		char name[32];
		int fd = -1;

		snprintf(name, sizeof name, "%d.raw", i);
		assert_int_equal(driver->volume_create(sr, name, 0, &fd, &err), 0);
		assert_int_equal(ftruncate(fd, i), 0);
		close(fd);
	}
	assert_int_equal(driver->scan_stamped(sr, count, &tally, &err), 0);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(tally.seen[i], 1);
	tally = (struct tally){ .at_most = MANY / 2 };
	assert_int_equal(driver->scan_stamped(sr, count, &tally, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_OTHER);
	assert_int_equal(tally.n, MANY / 2 + 1);
	driver->detach(sr);
}

static void
test_records(void **state)
{
	struct smd_error err = { 0, 0 };
	void *sr = create_attach();
	char *text = (char *)"unset";

	(void)state;
	assert_int_equal(driver->records_load(sr, &text, &err), 0);
	assert_null(text);
	assert_int_equal(driver->records_save(sr, "{\"a\":1}", &err), 0);
	assert_int_equal(driver->records_save(sr, "{\"b\":2}", &err), 0);
	assert_int_equal(driver->records_load(sr, &text, &err), 0);
	assert_string_equal(text, "{\"b\":2}");
	free(text);
	driver->detach(sr);
}

struct found {
	unsigned n;
	char uuid[64];
	char location[128];
};

static int
find(void *opaque, const char *uuid, const struct smd_sr_config *c, uint64_t total,
     struct smd_error *err)
{
	struct found *found = opaque;

	(void)err;
	assert_true(total > 0);
	assert_int_equal(c->n, 1);
	found->n++;
	snprintf(found->uuid, sizeof found->uuid, "%s", uuid);
	snprintf(found->location, sizeof found->location, "%s", c->values[0]);
	return 0;
}

static void
test_probe(void **state)
{
	const char *base_value[] = { base };
	const struct smd_sr_config above = { 1, keys, base_value };
	struct smd_error err = { 0, 0 };
	struct found found = { 0 };
	void *sr = create_attach();

	(void)state;
	assert_int_equal(driver->probe(&config, find, &found, &err), 0);
	assert_int_equal(found.n, 1);
	assert_string_equal(found.uuid, UUID_A);
	assert_int_equal(driver->probe(&above, find, &found, &err), 0);
	assert_int_equal(found.n, 2);
	assert_string_equal(found.location, location);
	driver->detach(sr);
}

static void
test_destroy(void **state)
{
	struct smd_error err = { 0, 0 };
	void *sr = create_attach();
	int fd;

	(void)state;
	assert_int_equal(driver->volume_create(sr, "one.raw", 0, &fd, &err), 0);
	close(fd);
	assert_int_equal(driver->records_save(sr, "{}", &err), 0);
	assert_int_equal(driver->destroy(sr, &err), -1);
	assert_int_equal(err.failure, SMD_SR_FAIL_NOT_EMPTY);
	memset(&err, 0, sizeof err);
	assert_int_equal(driver->volume_delete(sr, "one.raw", &err), 0);
	assert_int_equal(driver->destroy(sr, &err), 0);
	assert_int_equal(access(location, F_OK), -1);
}

static void
test_stat(void **state)
{
	struct smd_error err = { 0, 0 };
	struct smd_sr_stat st = { 0 };
	void *sr = create_attach();

	(void)state;
	assert_int_equal(driver->stat(sr, &st, &err), 0);
	assert_true(st.total > 0);
	assert_true(st.free <= st.total);
	assert_true(st.used <= st.total);
	driver->detach(sr);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_create, setup, teardown),
		cmocka_unit_test_setup_teardown(test_create_in_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_relative_location, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attach, setup, teardown),
		cmocka_unit_test_setup_teardown(test_volumes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_opened, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_probe, setup, teardown),
		cmocka_unit_test_setup_teardown(test_destroy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stat, setup, teardown),
	};

	return cmocka_run_group_tests_name("sr-file", tests, NULL, NULL);
}
