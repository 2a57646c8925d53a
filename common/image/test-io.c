/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "common/image/io-queue.h"
#include "common/image/io-test.h"
#include "common/mem.h"

#define RW (SMD_IO_WRITABLE | SMD_IO_CAN_GROW)

/* A nameless file in the build directory. */
static struct smd_io *
temp_file(void)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	char path[] = "test-io.XXXXXX";
	struct smd_io *io = NULL;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(smd_io_file(fd, "temp", SMD_IO_WRITABLE, &io, &err), 0);
	return io;
}

static void
store_behaves(struct smd_io *io)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	char buf[8];

	assert_int_equal(smd_io_pwrite(io, "hello", 5, 4096, &err), 0);
	assert_int_equal(io->size, 4101);
	assert_int_equal(smd_io_pread(io, buf, 8, 4093, &err), 0);
	assert_memory_equal(buf, "\0\0\0hello", 8);
	assert_int_equal(io->ops->zero(io, 4097, 1u << 20, &err), 0);
	assert_int_equal(io->size, 4101);
	assert_int_equal(smd_io_pread(io, buf, 5, 4096, &err), 0);
	assert_memory_equal(buf, "h\0\0\0\0", 5);
	assert_int_equal(io->ops->truncate(io, 4097, &err), 0);
	assert_int_equal(io->ops->truncate(io, 8192, &err), 0);
	assert_int_equal(smd_io_flush(io, &err), 0);
	assert_int_equal(smd_io_pread(io, buf, 1, 8192, &err), -1);
	assert_string_equal(err.params[1], "TRUNCATED");
}

static void
test_stores_behave_alike(void **state)
{
	struct smd_io *file CLEANUP_IO = temp_file();
	struct smd_io *memory CLEANUP_IO = smd_io_memory(NULL, 0, "memory", RW);

	(void)state;
	store_behaves(file);
	store_behaves(memory);
}

/* Of a file of which nobody knows the rest. */
static void
test_head(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io_head h;
	char buf[8];

	(void)state;
	smd_io_head_init(&h, "head", 100, (struct smd_bytes_view){ (const uint8_t *)"head", 4 });
	assert_int_equal(smd_io_pread(&h.io, buf, 3, 1, &err), 0);
	assert_memory_equal(buf, "ead", 3);
	assert_int_equal(smd_io_pread(&h.io, buf, 5, 96, &err), -1);
	assert_string_equal(err.params[1], "TRUNCATED");
	assert_false(h.lacked);
	for (uint64_t offset = 1; offset <= 96; offset++) {
		smd_error_clear(&err);
		h.lacked = false;
		assert_int_equal(smd_io_pread(&h.io, buf, 4, offset, &err), -1);
		assert_true(h.lacked);
	}
	assert_int_equal(smd_io_pwrite(&h.io, buf, 4, 0, &err), -1);
}

static void
test_fixed_store_does_not_grow(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO = smd_io_memory(NULL, 512, "fixed", SMD_IO_WRITABLE);

	(void)state;
	assert_int_equal(smd_io_pwrite(io, "x", 1, 512, &err), -1);
	assert_int_equal(err.errnum, ENOSPC);
	assert_int_equal(io->size, 512);
}

static void
test_not_a_file(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = NULL;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_int_equal(smd_io_file(fd, "null", 0, &io, &err), -1);
	assert_string_equal(err.params[1], "NOT_REGULAR");
	close(fd);
}

static void
test_holes(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO = temp_file();
	CLEANUP_FREE char *block = smd_calloc(1, 65536);
	uint64_t data, end;

	(void)state;
	memset(block, 'x', 65536);
	assert_int_equal(smd_io_pwrite(io, block, 65536, 1u << 20, &err), 0);
	assert_int_equal(io->ops->truncate(io, 4u << 20, &err), 0);
	assert_int_equal(smd_io_next_data(io, 0, 4u << 20, &data, &end, &err), 0);
	assert_int_equal(data, 1u << 20);
	assert_int_equal(end, (1u << 20) + 65536);
	assert_int_equal(smd_io_next_data(io, end, (4u << 20) - end, &data, &end, &err), 0);
	assert_int_equal(data, 4u << 20);
	assert_int_equal(end, 4u << 20);
}

static void *
grow_writer(void *opaque)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = opaque;

	for (uint64_t i = 0; i < 2000; i++)
		assert_int_equal(smd_io_pwrite(io, "x", 1, i * 97, &err), 0);
	return NULL;
}

static void
test_size_is_true_under_parallel_writes(void **state)
{
	struct smd_io *io CLEANUP_IO = temp_file();
	pthread_t threads[3];
	struct stat st;

	(void)state;
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, grow_writer, io);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(fstat(smd_io_fd(io), &st), 0);
	assert_int_equal(io->size, st.st_size);
	assert_int_equal(io->size, 1999 * 97 + 1);
}

static void
test_test_io_fails_the_nth(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *memory CLEANUP_IO = smd_io_memory(NULL, 0, "m", RW);
	struct smd_io *io CLEANUP_IO = smd_io_test(memory);
	const struct smd_test_plan plan = {
		.fail_at = 2, .ops = SMD_TEST_CHANGES, .how = SMD_TEST_SHORT, .errnum = ENOSPC,
	};
	char sectors[2048];

	(void)state;
	memset(sectors, 'y', sizeof sectors);
	smd_io_test_plan(io, &plan);
	assert_int_equal(smd_io_pwrite(io, sectors, 512, 0, &err), 0);
	assert_int_equal(smd_io_pwrite(io, sectors, 2048, 512, &err), -1);
	assert_int_equal(err.errnum, ENOSPC);
	assert_int_equal(memory->size, 512 + 1024);
	smd_error_clear(&err);
	assert_int_equal(smd_io_flush(io, &err), 0);
	assert_int_equal(smd_io_test_count(io), 3);
}

static void
test_recording_replays(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *memory CLEANUP_IO = smd_io_memory(NULL, 0, "m", RW);
	struct smd_io *again CLEANUP_IO = smd_io_memory(NULL, 0, "again", RW);
	struct smd_io *io CLEANUP_IO = smd_io_test(memory);
	const struct smd_test_record *records;
	size_t n;

	(void)state;
	smd_io_test_record(io);
	assert_int_equal(smd_io_pwrite(io, "abcdef", 6, 3, &err), 0);
	assert_int_equal(smd_io_flush(io, &err), 0);
	assert_int_equal(io->ops->zero(io, 4, 2, &err), 0);
	assert_int_equal(io->ops->truncate(io, 8, &err), 0);
	records = smd_io_test_records(io, &n);
	assert_int_equal(n, 4);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(smd_test_replay(&records[i], again, &err), 0);
	assert_int_equal(again->size, 8);
	assert_memory_equal(smd_io_memory_bytes(again).data, smd_io_memory_bytes(memory).data, 8);
}

static void
test_mapped_bytes(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *memory CLEANUP_IO = smd_io_memory("x", 1, "memory", RW);
	struct smd_io *io CLEANUP_IO = temp_file();
	struct smd_seen seen = { .limit = 1 << 20 };
	const uint8_t *p;

	(void)state;
	assert_int_equal(smd_io_pwrite(io, "abc", 3, 3 * 4096, &err), 0);
	assert_null(smd_io_mapped(io, 0, 1));
	smd_io_map(memory);
	assert_null(smd_io_mapped(memory, 0, 1));
	smd_io_map(io);
	assert_null(smd_io_mapped(io, 3 * 4096, 4));
	p = smd_io_mapped(io, 100, 3 * 4096 + 3 - 100);
	assert_non_null(p);
	assert_int_equal(smd_mapped_equal(p, NULL, 3 * 4096 - 100), 1);
	assert_int_equal(smd_mapped_equal(p, NULL, 3 * 4096 - 100 + 1), 0);
	assert_int_equal(smd_mapped_equal(p + 3 * 4096 - 100, (const uint8_t *)"abc", 3), 1);
	smd_io_mapped_seen(io, 100, 3 * 4096, &seen);
	smd_seen_let_go(&seen);
	assert_int_equal(smd_mapped_equal(p + 3 * 4096 - 100, (const uint8_t *)"abd", 3), 0);
	/* Cut by somebody else: its pages are gone, and nothing ends but the look at them. */
	assert_int_equal(ftruncate(smd_io_fd(io), 4096), 0);
	assert_int_equal(smd_mapped_equal(p, NULL, 3 * 4096 - 100), -1);
	assert_int_equal(smd_mapped_equal(p, NULL, 4096 - 100), 1);
	assert_null(smd_io_mapped(io, 4096, 4096));
}

/* A nameless file that is written past the page cache. */
static struct smd_io *
direct_file(void)
{
	struct smd_io *io = temp_file();
	CLEANUP_FREE char *path = smd_asprintf("/proc/self/fd/%d", smd_io_fd(io));
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

	if (fd < 0)	/* a file system that knows no such thing */
		skip();
	smd_io_set_direct(io, fd);
	return io;
}

static void
test_queue_writes_all(void **state)
{
	enum { N = 300, STEP = 3 * 4096 };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO = direct_file();
	uint8_t *buf = smd_malloc_pages(N * 4096), page[4096];
	struct smd_queue *queue = smd_queue_new(io);
	struct smd_writes odd = { 0 }, even = { 0 };
	uint64_t data, end;

	(void)state;
	assert_non_null(queue);
	assert_int_equal(io->ops->truncate(io, N * STEP, &err), 0);
	for (unsigned i = 0; i < N; i++) {
		memset(buf + i * 4096, (int)i | 1, 4096);
		/* More than a queue takes at a time; every tenth lies across pages. */
		assert_int_equal(smd_queue_pwrite(queue, i % 2 ? &odd : &even, buf + i * 4096, 4096,
						  i * STEP + (i % 10 == 0 ? 512 : 0), &err), 0);
	}
	assert_int_equal(smd_queue_wait(queue, &odd, &err), 0);
	assert_int_equal(odd.under_way, 0);
	assert_int_equal(smd_queue_wait(queue, &even, &err), 0);
	assert_int_equal(io->size, N * STEP);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(smd_io_pread(io, page, 4096,
					      i * STEP + (i % 10 == 0 ? 512 : 0), &err), 0);
		assert_memory_equal(page, buf + i * 4096, 4096);
	}
	/* Between them are holes. */
	assert_int_equal(smd_io_next_data(io, STEP + 4096, STEP - 4096, &data, &end, &err), 0);
	assert_int_equal(data, 2 * STEP);
	/* The end of a disk need not be a page's; the file becomes longer. */
	assert_int_equal(smd_queue_pwrite(queue, &odd, buf, 4096 + 512, N * STEP, &err), 0);
	assert_int_equal(smd_queue_wait(queue, &odd, &err), 0);
	assert_int_equal(io->size, N * STEP + 4096 + 512);
	smd_queue_free(queue);
	free(buf);
}

static void
test_queue_says_what_failed(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT, again CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *memory CLEANUP_IO = smd_io_memory(NULL, 0, "memory", RW);
	struct smd_io *io CLEANUP_IO = direct_file();
	struct smd_io *reads CLEANUP_IO = NULL;
	uint8_t *buf = smd_malloc_pages(8192);
	struct smd_writes writes = { 0 };
	struct smd_queue *queue;
	CLEANUP_FREE char *path = smd_asprintf("/proc/self/fd/%d", smd_io_fd(io));

	(void)state;
	memset(buf, 1, 8192);
	assert_null(smd_queue_new(memory));
	/* Neither way can it be written. */
	assert_int_equal(smd_io_file(open(path, O_RDONLY | O_CLOEXEC), "temp", SMD_IO_WRITABLE, &reads,
				     &err), 0);
	smd_io_set_direct(reads, open(path, O_RDONLY | O_DIRECT | O_CLOEXEC));
	queue = smd_queue_new(reads);
	assert_non_null(queue);
	assert_int_equal(smd_queue_pwrite(queue, &writes, buf, 8192, 0, &err), 0);
	assert_int_equal(smd_queue_wait(queue, &writes, &err), -1);
	assert_int_equal(writes.under_way, 0);
	assert_int_equal(err.errnum, EBADF);
	assert_int_equal(smd_queue_wait(queue, &writes, &again), -1);
	assert_non_null(again.code);
	smd_queue_free(queue);
	free(buf);
}

/* A file may be what a descriptor was not opened for: then it is written through the cache. */
static void
test_queue_goes_another_way(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io CLEANUP_IO = temp_file();
	CLEANUP_FREE char *path = smd_asprintf("/proc/self/fd/%d", smd_io_fd(io));
	uint8_t *buf = smd_malloc_pages(8192), back[8192];
	struct smd_writes writes = { 0 };
	struct smd_queue *queue;

	(void)state;
	memset(buf, 7, 8192);
	smd_io_set_direct(io, open(path, O_RDONLY | O_CLOEXEC));
	queue = smd_queue_new(io);
	assert_non_null(queue);
	assert_int_equal(smd_queue_pwrite(queue, &writes, buf, 8192, 4096, &err), 0);
	smd_queue_free(queue);
	assert_int_equal(writes.under_way, 0);
	assert_int_equal(smd_io_pread(io, back, 8192, 4096, &err), 0);
	assert_memory_equal(back, buf, 8192);
	free(buf);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stores_behave_alike),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_fixed_store_does_not_grow),
		cmocka_unit_test(test_not_a_file),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_size_is_true_under_parallel_writes),
		cmocka_unit_test(test_test_io_fails_the_nth),
		cmocka_unit_test(test_recording_replays),
		cmocka_unit_test(test_mapped_bytes),
		cmocka_unit_test(test_queue_writes_all),
		cmocka_unit_test(test_queue_says_what_failed),
		cmocka_unit_test(test_queue_goes_another_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
