/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disks compared by several processes, of which all may end but the first.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/image/copy.h"
#include "common/image/test-model.h"

#define MIB (UINT64_C(1) << 20)
#define SIZE (36 * MIB)
#define CHUNK (8 * MIB)			/* of two processes; of more, a multiple */
#define UNIT 65536u

enum fate { WORKS, FAILS, DIES, HANGS };

/* What is known in all processes. */
static struct {
	pid_t first;
	enum fate helpers;
	atomic_uint helped;
} *all;

/* A flat image that is all encoded: who reads it passes here. The first process waits for
 * another to come by. */
static int
watched_read(void *img, uint64_t offset, void *buf, struct smd_error *err)
{
	const struct timespec nap = { 0, 1000000 };

	if (getpid() != all->first) {
		atomic_fetch_add(&all->helped, 1);
		if (all->helpers == DIES)
			raise(SIGKILL);
		if (all->helpers == HANGS)
			poll(NULL, 0, 60000);
		if (all->helpers == FAILS)
			return smd_fail_IMAGE_IO(err, "watched", "as wanted");
	}
	for (int i = 0; i < 30000 && atomic_load(&all->helped) == 0; i++)
		nanosleep(&nap, NULL);
	return smd_io_pread(img, buf, UNIT, offset, err);
}

static int
watched_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	if (flat_format.info(img, ret, err) < 0)
		return -1;
	ret->flags |= SMD_INFO_COMPRESSED;
	ret->alloc_unit = UNIT;
	return 0;
}

static int
watched_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
		struct smd_error *err)
{
	const struct smd_extent e = { SMD_EXTENT_ENCODED, offset, count, offset };

	(void)img;
	return add(opaque, &e, err);
}

static struct smd_io *
file(uint8_t byte)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	char path[] = "test-compare.XXXXXX";
	struct smd_io *io = NULL;
	int fd = mkstemp(path);
	uint8_t buf[4096];

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(smd_io_file(fd, "file", SMD_IO_WRITABLE, &io, &err), 0);
	memset(buf, byte, sizeof buf);
	for (uint64_t at = 0; at < SIZE; at += sizeof buf)
		assert_int_equal(smd_io_pwrite(io, buf, sizeof buf, at, &err), 0);
	return io;
}

/* Of two equal disks, the one watched and the other not. */
struct pair {
	struct smd_format watched;
	struct smd_io *io;		/* the other's */
	struct smd_chain *a, *b;
};

static void
pair_open(struct pair *p, enum fate helpers)
{
	all->first = getpid();
	all->helpers = helpers;
	atomic_store(&all->helped, 0);
	p->watched = flat_format;
	p->watched.info = watched_info;
	p->watched.extents = watched_extents;
	p->watched.read_encoded = watched_read;
	p->a = open_format(&p->watched, file(7), 0);
	p->io = file(7);
	p->b = open_format(&flat_format, p->io, 0);
}

static void
pair_close(struct pair *p)
{
	smd_chain_close(p->a);
	smd_chain_close(p->b);
	/* No process is left behind. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void
pair_differs(struct pair *p, unsigned n, uint64_t first)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct model_steps steps = { 0 };
	const struct smd_copy_options options = {
		.n_threads = n, .progress = model_step, .opaque = &steps,
	};
	uint64_t offset;

	atomic_store(&all->helped, 0);
	if (smd_compare(p->a, p->b, true, &options, &offset, &err) < 0)
		fail_msg("%s", err.message);
	assert_true(offset == first);
	assert_true(atomic_load(&all->helped) > 0);
	if (first == UINT64_MAX)
		assert_true(steps.last == steps.total && steps.total == 2 * SIZE);
}

static void
pairs_differ(enum fate helpers)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct pair p;

	pair_open(&p, helpers);
	for (unsigned n = 2; n <= 4; n++)
		pair_differs(&p, n, UINT64_MAX);
	/* The last first: each is then before those that were found. */
	for (uint64_t at = SIZE - 1; at < SIZE; at -= CHUNK - 4099) {
		assert_int_equal(smd_io_pwrite(p.io, "x", 1, at, &err), 0);
		for (unsigned n = 2; n <= 4; n++)
			pair_differs(&p, n, at);
	}
	pair_close(&p);
}

static void
test_helpers_look_too(void **state)
{
	(void)state;
	pairs_differ(WORKS);
}

static void
test_helpers_that_fail_tell_nothing(void **state)
{
	(void)state;
	pairs_differ(FAILS);
}

static void
test_helpers_that_die_tell_nothing(void **state)
{
	(void)state;
	pairs_differ(DIES);
}

static void
test_cancel_ends_them(void **state)
{
	struct model_steps steps = { .stop_at = 2 };
	const struct smd_copy_options options = {
		.n_threads = 2, .progress = model_step, .opaque = &steps,
	};
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct pair p;
	uint64_t offset;

	(void)state;
	pair_open(&p, WORKS);
	assert_int_equal(smd_compare(p.a, p.b, true, &options, &offset, &err), -1);
	assert_string_equal(err.code, "TASK_CANCELLED");
	pair_close(&p);
}

/* They hold the pipe's other end as long as there is one of them. */
static void
test_none_outlives_the_first(void **state)
{
	struct pollfd hangup = { 0 };
	int fds[2];
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	atomic_store(&all->helped, 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const struct smd_copy_options options = { .n_threads = 3 };
		struct smd_error err = SMD_ERROR_INIT;
		struct pair p;
		uint64_t offset;

		pair_open(&p, HANGS);
		(void)smd_compare(p.a, p.b, true, &options, &offset, &err);
		_exit(1);
	}
	close(fds[1]);
	hangup.fd = fds[0];
	while (atomic_load(&all->helped) < 2)
		assert_int_equal(poll(&hangup, 1, 1), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(poll(&hangup, 1, 30000), 1);
	close(fds[0]);
}

/* Cut by somebody else while it is open: whoever comes to its end, that is the error. */
static void
test_what_cannot_be_read(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 4; n++) {
		for (uint64_t end = 4096; end < SIZE; end += CHUNK) {
			struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
			const struct smd_copy_options options = { .n_threads = n };
			struct pair p;
			uint64_t offset;

			pair_open(&p, WORKS);
			atomic_store(&all->helped, 1);
			assert_int_equal(ftruncate(smd_io_fd(p.io), (off_t)end), 0);
			assert_int_equal(smd_compare(p.a, p.b, true, &options, &offset, &err), -1);
			assert_string_equal(err.code, "IMAGE_CORRUPT");
			pair_close(&p);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_helpers_look_too),
		cmocka_unit_test(test_helpers_that_fail_tell_nothing),
		cmocka_unit_test(test_helpers_that_die_tell_nothing),
		cmocka_unit_test(test_cancel_ends_them),
		cmocka_unit_test(test_none_outlives_the_first),
		cmocka_unit_test(test_what_cannot_be_read),
	};

	all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (all == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
