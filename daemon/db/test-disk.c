/* SPDX-License-Identifier: BSD-2-Clause */
/* A disk that fails: syncs that are refused, and the power cut after them. */
#include "daemon/db/test-db.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* ---- sqlite's syncs, and ours, end here ---- */

#define IN_PLACE_OF_LIBC __attribute__((visibility("default")))

static struct {
	const char *suffix;	/* of the file whose syncs fail; NULL: none */
	bool seen;		/* … and one did */
	off_t log_size;		/* of the log, when it was last really synced */
	unsigned slow_us;	/* what each takes besides */
	unsigned n_log;		/* of the log */
} disk;

static int
sync_fd(int fd, long syscall_number)
{
	char link[64], path[256];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof path - 1);
	assert_true(n > 0);
	path[n] = '\0';
	usleep(disk.slow_us);
	if (disk.suffix && n >= (ssize_t)strlen(disk.suffix) &&
	    strcmp(path + n - strlen(disk.suffix), disk.suffix) == 0) {
		disk.seen = true;
		errno = ENOSPC;
		return -1;
	}
	if (n > 4 && strcmp(path + n - 4, "-wal") == 0) {
		struct stat st;

		assert_int_equal(fstat(fd, &st), 0);
		disk.log_size = st.st_size;
		disk.n_log++;
	}
	return (int)syscall(syscall_number, fd);
}

IN_PLACE_OF_LIBC int
fdatasync(int fd)
{
	return sync_fd(fd, SYS_fdatasync);
}

IN_PLACE_OF_LIBC int
fsync(int fd)
{
	return sync_fd(fd, SYS_fsync);
}

static void
fail_syncs(const char *suffix)
{
	disk.suffix = suffix;
	disk.seen = false;
}

static int
setup(void **state)
{
	fail_syncs(NULL);
	return test_db_setup(state);
}

/* ---- What the tests share ---- */

static void
assert_failed(struct test_db *t, int rc, struct smd_error *err)
{
	assert_int_equal(rc, -1);
	assert_string_equal(err->code, "INTERNAL_ERROR");
	assert_int_equal(err->errnum, ENOSPC);
	assert_non_null(strstr(err->message, t->dir));
	assert_non_null(strstr(err->message, strerror(ENOSPC)));
}

static void
assert_read_only(struct test_db *t)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *uuid = NULL;

	assert_non_null(db_failure(t->db));
	assert_failed(t, db_begin(t->db, DB_DURABLE, &err), &err);
	smd_error_clear(&err);
	assert_failed(t, db_begin(t->db, DB_RELAXED, &err), &err);
	smd_error_clear(&err);
	assert_failed(t, db_set_str(t->db, "VDI", "old", "name_label", "new", &err), &err);
	smd_error_clear(&err);
	assert_ok(db_get_str(t->db, "VDI", "old", "uuid", &uuid, &err), &err);
}

static int
rename_vdi(struct test_db *t, enum db_durability durability, const char *name,
	   struct smd_error *err)
{
	if (db_begin(t->db, durability, err) != 0)
		return -1;
	assert_ok(db_set_str(t->db, "VDI", "old", "name_label", name, err), err);
	return db_commit(t->db, err);
}

static void
assert_name(struct test_db *t, const char *name)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *got = NULL;

	assert_ok(db_get_str(t->db, "VDI", "old", "name_label", &got, &err), &err);
	assert_string_equal(got, name);
}

static off_t
file_size(struct test_db *t, const char *suffix)
{
	CLEANUP_FREE char *path = smd_asprintf("%s%s", t->path, suffix);
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : -1;
}

/* ---- The tests ---- */

static void
test_commit(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;

	test_insert(t->db, "VDI", "old", "{\"name_label\":\"first\"}");
	fail_syncs("-wal");
	assert_ok(rename_vdi(t, DB_RELAXED, "second", &err), &err);
	assert_false(disk.seen);
	assert_null(db_failure(t->db));
	assert_failed(t, rename_vdi(t, DB_DURABLE, "third", &err), &err);
	assert_read_only(t);
	/* Not by closing either: sqlite would trust pages it reads again. */
	db_close(t->db);
	t->db = NULL;
	assert_true(file_size(t, "-wal") > 0);
	/* The power stays: the next start reads it, and makes it durable first. */
	fail_syncs(NULL);
	assert_ok(db_open(t->path, &t->db, &err), &err);
	assert_name(t, "third");
	assert_ok(rename_vdi(t, DB_DURABLE, "fourth", &err), &err);
}

/* The power goes, too: what the failed sync was to write never came. */
static void
test_power_cut(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;
	CLEANUP_FREE char *log = smd_asprintf("%s-wal", t->path);

	test_insert(t->db, "VDI", "old", "{\"name_label\":\"first\"}");
	fail_syncs("-wal");
	assert_failed(t, rename_vdi(t, DB_DURABLE, "lost", &err), &err);
	smd_error_clear(&err);
	db_close(t->db);
	t->db = NULL;
	assert_true(file_size(t, "-wal") > disk.log_size);
	assert_int_equal(truncate(log, disk.log_size), 0);
	fail_syncs(NULL);
	assert_ok(db_open(t->path, &t->db, &err), &err);
	assert_name(t, "first");
}

/* A log that has its room already: no commit makes it longer, and what is behind the last
 * one is none. */
static void
test_log_with_room(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct test_db *t = *state;

	test_insert(t->db, "VDI", "old", "{\"name_label\":\"first\"}");
	db_reserve_log(t->db);
	if (file_size(t, "-wal") < DB_LOG_SIZE) {
		print_message("too little room for a log\n");
		return;
	}
	assert_ok(rename_vdi(t, DB_DURABLE, "second", &err), &err);
	/* As a kill leaves it. */
	fail_syncs("-wal");
	assert_failed(t, rename_vdi(t, DB_DURABLE, "third", &err), &err);
	smd_error_clear(&err);
	assert_int_equal(file_size(t, "-wal"), DB_LOG_SIZE);
	db_close(t->db);
	t->db = NULL;
	fail_syncs(NULL);
	assert_ok(db_open(t->path, &t->db, &err), &err);
	assert_name(t, "third");
	/* One that begins anew, over old frames. */
	db_reserve_log(t->db);
	assert_ok(rename_vdi(t, DB_DURABLE, "fourth", &err), &err);
	assert_int_equal(file_size(t, "-wal"), DB_LOG_SIZE);
	test_db_reopen(t);
	assert_name(t, "fourth");
}

/* Until a sync fails; 16 pages each time. */
static void
rename_many(struct test_db *t, int n)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *name = smd_calloc(1, 65536);

	for (int i = 0; i < n && !disk.seen; i++) {
		memset(name, 'a' + i % 26, 65535);
		assert_ok(rename_vdi(t, DB_RELAXED, name, &err), &err);
	}
}

/* sqlite's own checkpoint would have told nobody. */
static void
test_checkpoint(void **state)
{
	struct test_db *t = *state;

	test_insert(t->db, "VDI", "old", "{\"name_label\":\"first\"}");
	fail_syncs("-wal");
	db_checkpoint(t->db);
	assert_false(disk.seen);	/* there is nothing to do */
	rename_many(t, 300);
	assert_false(disk.seen);
	db_checkpoint(t->db);
	assert_true(disk.seen);
	assert_read_only(t);
}

/* Where nobody finds the time, those that write wait for it. */
static void
test_checkpoint_that_is_late(void **state)
{
	struct test_db *t = *state;

	test_insert(t->db, "VDI", "old", "{\"name_label\":\"first\"}");
	fail_syncs("-wal");
	rename_many(t, 1600);
	assert_true(disk.seen);
	assert_read_only(t);
}

static off_t
log_size(const struct test_db *t)
{
	CLEANUP_FREE char *path = smd_asprintf("%s-wal", t->path);
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

/* What is in the database is not kept in the log. */
static void
test_log_is_used_again(void **state)
{
	struct test_db *t = *state;
	off_t size;

	test_insert(t->db, "VDI", "old", "{\"name_label\":\"first\"}");
	rename_many(t, 300);
	size = log_size(t);
	for (int i = 0; i < 4; i++) {
		db_checkpoint(t->db);
		rename_many(t, 250);
	}
	assert_true(log_size(t) <= size);
}

/* The open that cannot make it durable fails, and so does what would follow it. */
static void
test_open(void **state)
{
	static const char *const suffixes[] = { "-wal", "smd.db", "" };
	struct test_db *t = *state;

	for (size_t i = 0; i < 3; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		CLEANUP_FREE char *ref = smd_asprintf("%zu", i);
		const char *suffix = *suffixes[i] ? suffixes[i] : t->dir;

		/* Something in the log, as a kill leaves it. */
		test_insert(t->db, "VDI", ref, "{}");
		sqlite3_db_config(t->db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		db_close(t->db);
		t->db = NULL;
		fail_syncs(suffix);
		assert_failed(t, db_open(t->path, &t->db, &err), &err);
		assert_true(disk.seen);
		smd_error_clear(&err);
		fail_syncs(NULL);
		assert_ok(db_open(t->path, &t->db, &err), &err);
		assert_true(db_exists(t->db, "VDI", ref));
	}
}

#define DB_TEST(f) cmocka_unit_test_setup_teardown(f, setup, test_db_teardown)

/* ---- Commits that come together ---- */

#define N_THREADS 8
#define N_COMMITS 10

struct committer {
	struct db *db;
	pthread_t thread;
	unsigned n_failed;
};

static void *
commit_some(void *opaque)
{
	static _Atomic int size;
	struct committer *c = opaque;

	for (int i = 0; i < N_COMMITS; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

		c->n_failed += db_set_int(c->db, "VDI", "old", "virtual_size", ++size, &err) != 0;
	}
	return NULL;
}

static unsigned
commit_in_threads(struct test_db *t)
{
	struct committer committers[N_THREADS];
	unsigned n_failed = 0;

	for (int i = 0; i < N_THREADS; i++) {
		committers[i] = (struct committer){ .db = t->db };
		assert_int_equal(pthread_create(&committers[i].thread, NULL, commit_some,
						&committers[i]), 0);
	}
	for (int i = 0; i < N_THREADS; i++) {
		pthread_join(committers[i].thread, NULL);
		n_failed += committers[i].n_failed;
	}
	return n_failed;
}

static void
test_commits_share_a_sync(void **state)
{
	struct test_db *t = *state;

	test_insert(t->db, "VDI", "old", "{}");
	disk.slow_us = 2000;
	disk.n_log = 0;
	assert_int_equal(commit_in_threads(t), 0);
	assert_true(disk.n_log < N_THREADS * N_COMMITS / 2);
	/* Whoever shares one that fails hears of it. */
	fail_syncs("-wal");
	assert_int_equal(commit_in_threads(t), N_THREADS * N_COMMITS);
	assert_non_null(db_failure(t->db));
	disk.slow_us = 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		DB_TEST(test_commit),
		DB_TEST(test_power_cut),
		DB_TEST(test_log_with_room),
		DB_TEST(test_checkpoint),
		DB_TEST(test_checkpoint_that_is_late),
		DB_TEST(test_log_is_used_again),
		DB_TEST(test_open),
		DB_TEST(test_commits_share_a_sync),
	};

	return cmocka_run_group_tests_name("db/disk", tests, NULL, NULL);
}
