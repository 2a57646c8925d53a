/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The checker: what it finds, what it mends and what it leaves alone. Images are
 * the module's own, changed by hand; in one of 512-byte clusters the L2 table's
 * first entries are data clusters in order.
 */
#include "plugins/format/qcow2/test-image.h"

#include <stdlib.h>

#include "common/bytes.h"
#include "common/error.h"
#include "plugins/format/qcow2/layout.h"

#define CLUSTER 512u
#define DISK (64u * CLUSTER)

static const char *const small[] = { "cluster_size=512", NULL };

static uint64_t
get64(struct smd_io *io, uint64_t offset)
{
	return smd_load_be64(smd_io_memory_bytes(io).data + offset);
}

static void
put(struct smd_io *io, uint64_t offset, uint64_t value, unsigned bytes)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint8_t b[8];

	smd_store_be64(b, value);
	assert_int_equal(io->ops->pwrite(io, b + 8 - bytes, bytes, offset, &err), 0);
}

static struct smd_io *
make(const char *const *options)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = test_create(DISK, options);
	void *img = test_open(io, SMD_OPEN_WRITE);

	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(test_write(img, io, i * CLUSTER, CLUSTER, (uint8_t)(i + 1), &err),
				 0);
	assert_int_equal(qcow2->flush(img, &err), 0);
	qcow2->close(img);
	return io;
}

static uint64_t
l1_offset(struct smd_io *io)
{
	return get64(io, QCOW2_HEADER_L1_OFFSET);
}

static uint64_t
l2_offset(struct smd_io *io)
{
	return get64(io, l1_offset(io)) & QCOW2_OFFSET_MASK;
}

/* Where the 16-bit refcount of a host offset is. */
static uint64_t
refcount_at(struct smd_io *io, uint64_t host)
{
	return get64(io, get64(io, QCOW2_HEADER_RT_OFFSET)) + host / CLUSTER * 2;
}

static void
contents_are_whole(struct smd_io *io)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	void *img = test_open(io, SMD_OPEN_WRITE);
	uint64_t size;
	uint8_t *disk = test_read(img, io, &size, &err);

	assert_non_null(disk);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(test_sector(disk, i), i + 1);
	free(disk);
	qcow2->close(img);
}

static void
test_clean(void **state)
{
	struct smd_io *io = make(small);
	struct test_findings t = test_check(io, SMD_REPAIR_ALL);

	(void)state;
	assert_int_equal(t.corruptions + t.leaks + t.repaired, 0);
	smd_io_close(io);
}

static void
test_leak(void **state)
{
	struct smd_io *io = make(small);
	uint64_t at = refcount_at(io, 40 * CLUSTER);
	struct test_findings t;

	(void)state;
	put(io, at, 3, 2);
	t = test_check(io, SMD_REPAIR_LEAKS | SMD_REPAIR_DRY_RUN);
	assert_int_equal(t.leaks, 1);
	assert_int_equal(t.repaired, 0);
	t = test_check(io, SMD_REPAIR_LEAKS);
	assert_int_equal(t.repaired, 1);
	assert_int_equal(smd_load_be16(smd_io_memory_bytes(io).data + at), 0);
	assert_int_equal(test_check(io, 0).leaks, 0);
	smd_io_close(io);
}

static void
test_low_and_flags(void **state)
{
	struct smd_io *io = make(small);
	uint64_t l2 = l2_offset(io);
	struct test_findings t;

	(void)state;
	put(io, refcount_at(io, get64(io, l2) & QCOW2_OFFSET_MASK), 0, 2);
	put(io, l2 + 8, get64(io, l2 + 8) & ~QCOW2_COPIED, 8);
	t = test_check(io, SMD_REPAIR_LEAKS);
	assert_true(t.corruptions >= 2);
	assert_int_equal(t.reason, SMD_REASON_REFCOUNT_LOW);
	assert_int_equal(t.repaired, 0);	/* more than leaks was not asked for */
	assert_true(test_check(io, SMD_REPAIR_ALL).repaired >= 2);
	assert_int_equal(test_check(io, 0).corruptions, 0);
	contents_are_whole(io);
	smd_io_close(io);
}

static void
test_rebuild(void **state)
{
	struct smd_io *io = make(small);
	struct test_findings t;

	(void)state;
	put(io, get64(io, QCOW2_HEADER_RT_OFFSET), 1ull << 50, 8);
	t = test_check(io, SMD_REPAIR_NONE);
	assert_int_equal(t.reason, SMD_REASON_TABLE_BOUNDS);
	assert_true(test_check(io, SMD_REPAIR_ALL).repaired > 0);
	t = test_check(io, 0);
	assert_int_equal(t.corruptions + t.leaks, 0);
	contents_are_whole(io);
	smd_io_close(io);
}

/* What nobody may guess about: reported with its reason, marked, and else kept. */
static void
test_unsafe(void **state)
{
	static const enum smd_reason reasons[] = {
		SMD_REASON_TABLE_OVERLAP, SMD_REASON_TABLE_OVERLAP, SMD_REASON_DUP_REF,
		SMD_REASON_DATA_BOUNDS, SMD_REASON_RESERVED_BITS, SMD_REASON_BAD_L2_ENTRY,
	};

	(void)state;
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
		struct smd_io *io = make(small);
		uint64_t l2 = l2_offset(io), entry = get64(io, l2);
		const uint64_t entries[] = {
			l1_offset(io) | QCOW2_COPIED, l2 | QCOW2_COPIED, get64(io, l2 + 8),
			(1ull << 55) | QCOW2_COPIED, entry | 1ull << 60, QCOW2_COPIED,
		};
		struct test_findings t;
		uint64_t kept;

		put(io, l2, entries[i], 8);
		t = test_check(io, SMD_REPAIR_ALL);
		assert_true(t.corruptions > 0);
		assert_int_equal(t.reason, reasons[i]);
		assert_int_equal(t.repaired, 0);
		kept = get64(io, l2);
		assert_true(kept == entries[i]);
		assert_true(get64(io, QCOW2_HEADER_INCOMPATIBLE) & QCOW2_INCOMPAT_CORRUPT);
		smd_io_close(io);
	}
}

static void
test_dirty_is_cleared(void **state)
{
	struct smd_io *io = make(small);

	(void)state;
	put(io, QCOW2_HEADER_INCOMPATIBLE, QCOW2_INCOMPAT_DIRTY, 8);
	assert_int_equal(test_check(io, SMD_REPAIR_ALL).corruptions, 0);
	contents_are_whole(io);
	smd_io_close(io);
}

/* A refcount that says a table's cluster is free must not cost the table. */
static void
test_write_keeps_off_tables(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = make(small);
	void *img;

	(void)state;
	put(io, refcount_at(io, l2_offset(io)), 0, 2);
	img = test_open(io, SMD_OPEN_WRITE);
	assert_int_equal(test_write(img, io, 20 * CLUSTER, CLUSTER, 99, &err), -1);
	assert_string_equal(err.params[1], "TABLE_OVERLAP");
	qcow2->close(img);
	assert_true(get64(io, QCOW2_HEADER_INCOMPATIBLE) & QCOW2_INCOMPAT_CORRUPT);
	smd_io_close(io);
}

static void
test_snapshot_that_does_not_fit(void **state)
{
	static const char *const one_bit[] = { "cluster_size=512", "refcount_bits=1", NULL };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = make(one_bit);
	void *img = test_open(io, SMD_OPEN_WRITE);
	struct test_findings t;

	(void)state;
	assert_int_equal(qcow2->snapshot_create(img, "one", 1, &err), -1);
	assert_string_equal(err.params[1], "UNSUPPORTED");
	qcow2->close(img);
	t = test_check(io, 0);
	assert_int_equal(t.corruptions + t.leaks, 0);
	smd_io_close(io);
}

/* A table of 2^17 names of one block, of 2^19 counts: each is read once. Reading
 * them as the table says would not end. */
static void
test_one_block_for_all(void **state)
{
	static const char *const options[] = { "cluster_size=64k", "refcount_bits=1", NULL };
	struct smd_io *io = test_create(DISK, options);
	uint64_t block = get64(io, get64(io, QCOW2_HEADER_RT_OFFSET));
	uint64_t table = (io->size + 0xffff) / 0x10000 * 0x10000;
	struct test_findings t;

	(void)state;
	for (uint64_t i = 0; i < 1u << 17; i++)
		put(io, table + i * 8, block, 8);
	put(io, QCOW2_HEADER_RT_OFFSET, table, 8);
	put(io, QCOW2_HEADER_RT_CLUSTERS, 16, 4);
	t = test_check(io, SMD_REPAIR_ALL);
	assert_true(t.corruptions > 0);
	assert_int_equal(t.reason, SMD_REASON_TABLE_OVERLAP);
	assert_int_equal(t.repaired, 0);
	smd_io_close(io);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_leak),
		cmocka_unit_test(test_low_and_flags),
		cmocka_unit_test(test_rebuild),
		cmocka_unit_test(test_unsafe),
		cmocka_unit_test(test_dirty_is_cleared),
		cmocka_unit_test(test_write_keeps_off_tables),
		cmocka_unit_test(test_snapshot_that_does_not_fit),
		cmocka_unit_test(test_one_block_for_all),
	};

	return cmocka_run_group_tests(tests, test_load, NULL);
}
