/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading, feature by feature: images are made by the module and then changed by
 * hand, at the offsets that a new image of 64 KiB clusters has.
 */
#include "plugins/format/qcow2/test-image.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/bytes.h"
#include "common/error.h"
#include "plugins/format/qcow2/layout.h"

#define CLUSTER 65536u
#define L1_OFFSET (3u * CLUSTER)	/* behind header, refcount table and block */
#define DISK (16u * CLUSTER)

static void
put(struct smd_io *io, uint64_t offset, uint64_t value, unsigned bytes)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint8_t b[8];

	smd_store_be64(b, value);
	assert_int_equal(io->ops->pwrite(io, b + 8 - bytes, bytes, offset, &err), 0);
}

static uint64_t
get64(struct smd_io *io, uint64_t offset)
{
	return smd_load_be64(smd_io_memory_bytes(io).data + offset);
}

/* A disk with data in its first clusters, closed again. */
static struct smd_io *
make(const char *const *options, unsigned n_clusters)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = test_create(DISK, options);
	void *img = test_open(io, SMD_OPEN_WRITE);

	for (unsigned i = 0; i < n_clusters; i++)
		assert_int_equal(test_write(img, io, i * CLUSTER, CLUSTER, (uint8_t)(i + 1), &err),
				 0);
	assert_int_equal(qcow2->flush(img, &err), 0);
	qcow2->close(img);
	return io;
}

static uint64_t
l2_offset(struct smd_io *io)
{
	return get64(io, L1_OFFSET) & QCOW2_OFFSET_MASK;
}

/* What the first sector of a cluster holds; -2: reading fails with reason. */
static int
read_cluster(struct smd_io *io, unsigned cluster, const char *reason)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	void *img = test_open(io, 0);
	uint64_t size;
	uint8_t *disk = test_read(img, io, &size, &err);
	int value = -2;

	if (disk)
		value = test_sector(disk, cluster * (CLUSTER / SMD_SECTOR));
	else
		assert_string_equal(err.params[1], reason);
	free(disk);
	qcow2->close(img);
	return value;
}

static void
refused(struct smd_io *io, uint32_t flags, const char *reason)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_error look_err CLEANUP_ERROR = SMD_ERROR_INIT;
	void *img;

	assert_int_equal(qcow2->open(io, flags, &img, &err), -1);
	assert_string_equal(err.params[1], reason);
	assert_int_equal(qcow2->open(io, flags | SMD_OPEN_LOOK, &img, &look_err), -1);
	assert_string_equal(look_err.params[1], reason);
}

static void
test_plain(void **state)
{
	struct smd_io *io = make(NULL, 3);

	(void)state;
	assert_int_equal(read_cluster(io, 0, ""), 1);
	assert_int_equal(read_cluster(io, 2, ""), 3);
	assert_int_equal(read_cluster(io, 3, ""), 0);
	smd_io_close(io);
}

/* Put bytes at the end of the file and an entry for them in cluster 0. */
static void
put_compressed(struct smd_io *io, const void *data, size_t size)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t host = io->size, sectors = (size + 511) / 512;

	assert_int_equal(io->ops->pwrite(io, data, size, host, &err), 0);
	/* 64 KiB: 54 bits of offset, then 8 of further sectors. */
	put(io, l2_offset(io), QCOW2_COMPRESSED | (sectors - 1) << 54 | host, 8);
}

static size_t
deflate_run(uint8_t *out, size_t out_size, uint8_t fill, size_t count)
{
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
	uint8_t *in = malloc(count);
	size_t size;

	memset(in, fill, count);
	size = libdeflate_deflate_compress(c, in, count, out, out_size);
	assert_true(size > 0);
	libdeflate_free_compressor(c);
	free(in);
	return size;
}

static void
test_zlib(void **state)
{
	struct smd_io *io = make(NULL, 1);
	uint8_t out[4096];
	size_t size;

	(void)state;
	size = deflate_run(out, sizeof out, 77, CLUSTER);
	put_compressed(io, out, size);
	assert_int_equal(read_cluster(io, 0, ""), 77);
	memset(out + size, 0xff, 100);
	put_compressed(io, out, size + 100);	/* trailing input is ignored */
	assert_int_equal(read_cluster(io, 0, ""), 77);
	size = deflate_run(out, sizeof out, 78, CLUSTER + 5000);
	put_compressed(io, out, size);		/* a longer stream is cut */
	assert_int_equal(read_cluster(io, 0, ""), 78);
	size = deflate_run(out, sizeof out, 79, CLUSTER - 1);
	put_compressed(io, out, size);
	assert_int_equal(read_cluster(io, 0, "DECOMPRESS"), -2);
	memset(out, 0xff, sizeof out);
	put_compressed(io, out, 100);
	assert_int_equal(read_cluster(io, 0, "DECOMPRESS"), -2);
	smd_io_close(io);
}

static void
test_zstd(void **state)
{
	static const char *const options[] = { "compression_type=zstd", NULL };
	struct smd_io *io = make(options, 1);
	uint8_t *in = malloc(2 * CLUSTER), out[4096];
	size_t size, half;

	(void)state;
	memset(in, 55, 2 * CLUSTER);
	size = ZSTD_compress(out, sizeof out, in, CLUSTER, 3);
	put_compressed(io, out, size);
	assert_int_equal(read_cluster(io, 0, ""), 55);
	half = ZSTD_compress(out, sizeof out, in, CLUSTER / 2, 3);
	size = half + ZSTD_compress(out + half, sizeof out - half, in, CLUSTER / 2, 3);
	put_compressed(io, out, size);		/* two frames */
	assert_int_equal(read_cluster(io, 0, ""), 55);
	size = ZSTD_compress(out, sizeof out, in, CLUSTER + 1, 3);
	put_compressed(io, out, size);		/* unlike zlib, too long is an error */
	assert_int_equal(read_cluster(io, 0, "DECOMPRESS"), -2);
	put_compressed(io, out, half);
	assert_int_equal(read_cluster(io, 0, "DECOMPRESS"), -2);
	free(in);
	smd_io_close(io);
}

static void
test_zero_flag(void **state)
{
	struct smd_io *io = make(NULL, 2);
	uint64_t l2 = l2_offset(io);

	(void)state;
	put(io, l2, get64(io, l2) | QCOW2_L2_ZERO, 8);	/* stale data stay hidden */
	put(io, l2 + 8, QCOW2_L2_ZERO, 8);
	assert_int_equal(read_cluster(io, 0, ""), 0);
	assert_int_equal(read_cluster(io, 1, ""), 0);
	put(io, QCOW2_HEADER_VERSION, 2, 4);
	assert_int_equal(read_cluster(io, 0, "RESERVED_BITS"), -2);
	smd_io_close(io);
}

static void
test_extended_l2(void **state)
{
	static const char *const options[] = { "extended_l2=on", NULL };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = test_create(DISK, options);
	void *img = test_open(io, SMD_OPEN_WRITE);
	uint64_t size;
	uint8_t *disk;

	(void)state;
	/* Subclusters of 2 KiB: 4 sectors. */
	assert_int_equal(test_write(img, io, 4096, 2048, 9, &err), 0);
	assert_int_equal(test_write(img, io, CLUSTER - 2048, 4096, 8, &err), 0);
	assert_int_equal(qcow2->zero(img, 4096, 2048, 0, &err), 0);
	assert_int_equal(test_write(img, io, 8192, 2048, 7, &err), 0);
	assert_int_equal(qcow2->flush(img, &err), 0);
	disk = test_read(img, io, &size, &err);
	assert_int_equal(test_sector(disk, 8), 0);
	assert_int_equal(test_sector(disk, 16), 7);
	assert_int_equal(test_sector(disk, 20), 0);
	assert_int_equal(test_sector(disk, 127), 8);
	assert_int_equal(test_sector(disk, 128), 8);
	free(disk);
	qcow2->close(img);
	assert_int_equal(test_check(io, 0).corruptions, 0);
	put(io, l2_offset(io) + 8, UINT64_MAX, 8);
	assert_int_equal(read_cluster(io, 0, "BAD_L2_ENTRY"), -2);
	smd_io_close(io);
}

static void
test_cut_last_cluster(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = make(NULL, 1);
	uint64_t host = get64(io, l2_offset(io)) & QCOW2_OFFSET_MASK, end = io->size, size;
	uint8_t *disk;
	void *img;

	(void)state;
	/* Move the data behind everything, and cut them amid a sector. */
	put(io, l2_offset(io), end | QCOW2_COPIED, 8);
	assert_int_equal(io->ops->pwrite(io, smd_io_memory_bytes(io).data + host, 700, end, &err),
			 0);
	img = test_open(io, 0);
	disk = test_read(img, io, &size, &err);
	assert_non_null(disk);
	assert_int_equal(disk[699], 1);
	assert_int_equal(disk[700], 0);
	assert_int_equal(disk[CLUSTER - 1], 0);
	free(disk);
	qcow2->close(img);
	smd_io_close(io);
}

static void
test_refused_at_open(void **state)
{
	static const struct {
		uint64_t offset, value;
		unsigned bytes;
		const char *reason;
	} cases[] = {
		{ 0, 0, 4, "BAD_MAGIC" },
		{ QCOW2_HEADER_VERSION, 4, 4, "BAD_VERSION" },
		{ QCOW2_HEADER_CLUSTER_BITS, 22, 4, "BAD_CLUSTER_SIZE" },
		{ QCOW2_HEADER_SIZE, 1000, 8, "BAD_SIZE" },
		{ QCOW2_HEADER_SIZE, 1ull << 60, 8, "SIZE_LIMIT" },
		{ QCOW2_HEADER_CRYPT_METHOD, 2, 4, "UNSUPPORTED" },
		{ QCOW2_HEADER_L1_SIZE, 0, 4, "L1_TOO_SMALL" },
		{ QCOW2_HEADER_L1_SIZE, 0x400001, 4, "TABLE_TOO_LARGE" },
		{ QCOW2_HEADER_L1_OFFSET, L1_OFFSET + 8, 8, "TABLE_MISALIGNED" },
		{ QCOW2_HEADER_L1_OFFSET, 0, 8, "TABLE_OVERLAP" },
		{ QCOW2_HEADER_L1_OFFSET, CLUSTER, 8, "TABLE_OVERLAP" },
		{ QCOW2_HEADER_L1_OFFSET, 1ull << 40, 8, "TABLE_BOUNDS" },
		{ QCOW2_HEADER_RT_CLUSTERS, 0, 4, "BAD_HEADER" },
		{ QCOW2_HEADER_RT_CLUSTERS, 0x20001, 4, "TABLE_TOO_LARGE" },
		{ QCOW2_HEADER_N_SNAPSHOTS, 1, 4, "SNAPSHOT_TABLE" },
		{ QCOW2_HEADER_INCOMPATIBLE, 0x20, 8, "UNKNOWN_INCOMPAT" },
		{ QCOW2_HEADER_INCOMPATIBLE, QCOW2_INCOMPAT_DATA_FILE, 8, "EXTERNAL_REF" },
		{ QCOW2_HEADER_INCOMPATIBLE, QCOW2_INCOMPAT_COMPRESSION, 8, "BAD_HEADER" },
		{ QCOW2_HEADER_REFCOUNT_ORDER, 7, 4, "BAD_REFCOUNT_ORDER" },
		{ QCOW2_HEADER_LENGTH, 108, 4, "BAD_HEADER" },
		{ QCOW2_HEADER_BACKING_OFFSET, 40, 8, "BACKING_NAME" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct smd_io *io = make(NULL, 1);

		put(io, cases[i].offset, cases[i].value, cases[i].bytes);
		refused(io, 0, cases[i].reason);
		smd_io_close(io);
	}
}

static void
test_marks(void **state)
{
	struct smd_io *io = make(NULL, 1);

	(void)state;
	put(io, QCOW2_HEADER_INCOMPATIBLE, QCOW2_INCOMPAT_DIRTY, 8);
	assert_int_equal(read_cluster(io, 0, ""), 1);
	refused(io, SMD_OPEN_WRITE, "NEEDS_REPAIR");
	put(io, QCOW2_HEADER_INCOMPATIBLE, QCOW2_INCOMPAT_CORRUPT, 8);
	assert_int_equal(read_cluster(io, 0, ""), 1);	/* one's own can be rescued */
	refused(io, SMD_OPEN_WRITE, "CORRUPT_BIT");
	refused(io, SMD_OPEN_FOREIGN, "CORRUPT_BIT");
	smd_io_close(io);
}

/* Extensions we do not know, and header bytes, outlive set_parent and set_hidden;
 * autoclear bits do not outlive a write. */
static void
test_what_is_kept(void **state)
{
	static const uint8_t uuid[16];
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_io *io = make(NULL, 1);
	struct smd_image_info info;
	const uint8_t *b;
	char name[700];
	void *img;

	(void)state;
	put(io, QCOW2_HEADER_COMPATIBLE, 0x8000, 8);
	put(io, QCOW2_HEADER_AUTOCLEAR, 0x8000, 8);
	put(io, 105, 0xabcd, 2);
	put(io, QCOW2_HEADER_OUR_LENGTH, 0x4d48494e, 4);
	put(io, QCOW2_HEADER_OUR_LENGTH + 4, 5, 4);
	put(io, QCOW2_HEADER_OUR_LENGTH + 8, 0x1122334455000000, 8);
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	for (int i = 0; i < 2; i++) {
		img = test_open(io, SMD_OPEN_WRITE);
		assert_int_equal(qcow2->set_parent(img, i ? "base" : name, "raw", uuid, &err), 0);
		assert_int_equal(qcow2->set_hidden(img, true, &err), 0);
		qcow2->close(img);
	}
	img = test_open(io, 0);
	assert_int_equal(qcow2->info(img, &info, &err), 0);
	assert_string_equal(info.parent_name, "base");
	assert_string_equal(info.parent_format, "raw");
	assert_true(info.flags & SMD_INFO_HIDDEN);
	free(info.details);
	qcow2->close(img);
	b = smd_io_memory_bytes(io).data;
	assert_int_equal(smd_load_be64(b + QCOW2_HEADER_COMPATIBLE), 0x8000);
	assert_int_equal(smd_load_be64(b + QCOW2_HEADER_AUTOCLEAR), 0);
	assert_int_equal(smd_load_be16(b + 105), 0xabcd);
	assert_non_null(memmem(b, 512, "MHIN\0\0\0\5\x11\x22\x33\x44\x55", 13));
	assert_int_equal(test_check(io, 0).corruptions, 0);
	smd_io_close(io);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_zlib),
		cmocka_unit_test(test_zstd),
		cmocka_unit_test(test_zero_flag),
		cmocka_unit_test(test_extended_l2),
		cmocka_unit_test(test_cut_last_cluster),
		cmocka_unit_test(test_refused_at_open),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_what_is_kept),
	};

	return cmocka_run_group_tests(tests, test_load, NULL);
}
