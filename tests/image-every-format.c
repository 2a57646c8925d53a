/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * image-every-format DIR
 *
 * What every format must do, for each that the loader finds: be made, written, read
 * back, checked, resized and streamed, have snapshots, be converted to each format
 * there is, and be the base of overlays that are merged with it, either way. An image
 * of each stays in DIR/NAME, its disk in DIR/disk.raw, for other programs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/checked.h"
#include "common/image/merge.h"
#include "common/mem.h"
#include "tests/image-case.h"

#define RW (SMD_IO_WRITABLE | SMD_IO_CAN_GROW)
#define SIZE (5u << 20)
#define CANNOT(f, cap) (!((f)->caps & SMD_CAP_##cap))

static const struct smd_copy_options two_threads = { .n_threads = 2 };

static struct smd_io *
store_new(void)
{
	return smd_io_memory(NULL, 0, "store", RW);
}

static struct smd_io *
copy_of(struct smd_io *store)
{
	struct smd_bytes_view v = smd_io_memory_bytes(store);

	return smd_io_memory(v.data, v.len, "copy", RW);
}

static struct smd_chain *
open_chain(const struct smd_format *f, struct smd_io *store, const struct smd_format *below,
	   struct smd_io *below_store)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_layer layers[] = { { f, store }, { below, below_store } };
	struct smd_chain *chain;

	if (smd_chain_open(layers, below ? 2 : 1, SMD_CHAIN_WRITE, &chain, &err) != 0)
		image_die(&err, "%s: open", f->name);
	return chain;
}

static void
expect(struct smd_chain *chain, const uint8_t *disk, uint64_t size, const char *what)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE uint8_t *got = smd_malloc(size);

	if (smd_chain_pread(chain, got, size, 0, &err) != 0)
		image_die(&err, "%s", what);
	image_same(got, disk, size, 0, what);
}

static void
found(void *opaque, const struct smd_finding *f)
{
	image_die(NULL, "%s: the check finds %s", (const char *)opaque, f->text);
}

static void
expect_sound(const struct smd_format *f, struct smd_io *store)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_IO struct smd_io *copy = copy_of(store);
	struct smd_check result;

	if (!CANNOT(f, CHECK) &&
	    f->check(copy, SMD_REPAIR_NONE, found, (void *)f->name, &result, &err) != 0)
		image_die(&err, "%s: check", f->name);
}

/* A few writes of all sizes, and zeroes. */
static void
scribble(struct smd_chain *chain, uint8_t *disk, uint64_t size, uint64_t seed)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct image_random random = { seed };

	for (int i = 0; i < 40; i++) {
		uint64_t offset = image_below(&random, size);
		uint64_t count = 1 + image_below(&random, i % 4 ? 5000 : 300000);
		int rc;

		count = smd_min_u64(count, size - offset);
		if (i % 5 == 4) {
			memset(disk + offset, 0, count);
			rc = smd_chain_zero(chain, offset, count, i % 2, &err);
		} else {
			image_fill(&random, disk + offset, count);
			rc = smd_chain_pwrite(chain, disk + offset, count, offset, &err);
		}
		if (rc != 0)
			image_die(&err, "write");
	}
	if (smd_chain_flush(chain, &err) != 0)
		image_die(&err, "flush");
}

static struct smd_io *
create(const struct smd_format *f, uint64_t size, struct smd_chain *parent)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct image_spec spec = { .format = f, .size = size };
	struct smd_io *store = store_new();

	if (image_create(&spec, store, parent, "parent", &err) != 0)
		image_die(&err, "%s: create", f->name);
	return store;
}

/* ---- One format -------------------------------------------------------------- */

static void
resizes(const struct smd_format *f, struct smd_io *store, const uint8_t *disk)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *chain = open_chain(f, copy_of(store), NULL, NULL);
	CLEANUP_FREE uint8_t *larger = smd_calloc(1, SIZE * 2);

	memcpy(larger, disk, SIZE / 2);
	if (smd_chain_resize(chain, SIZE / 2, false, &err) == 0)
		image_die(NULL, "%s: it shrank unasked", f->name);
	smd_error_clear(&err);
	if (smd_chain_resize(chain, SIZE / 2, true, &err) != 0 ||
	    smd_chain_resize(chain, SIZE * 2, false, &err) != 0)
		image_die(&err, "%s: resize", f->name);
	expect(chain, larger, SIZE * 2, "after resizes");
	expect_sound(f, smd_chain_io(chain, 0));
	smd_chain_close(chain);
}

static void
snapshots(const struct smd_format *f, struct smd_io *store, const uint8_t *disk)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *chain = open_chain(f, copy_of(store), NULL, NULL);
	void *img = smd_chain_image(chain, 0);
	CLEANUP_FREE uint8_t *other = smd_malloc(SIZE);

	memcpy(other, disk, SIZE);
	if (f->snapshot_create(img, "one", 1, &err) != 0)
		image_die(&err, "%s: snapshot", f->name);
	scribble(chain, other, SIZE, 3);
	expect(chain, other, SIZE, "after a snapshot");
	if (f->snapshot_apply(img, "one", &err) != 0)
		image_die(&err, "%s: going back", f->name);
	expect(chain, disk, SIZE, "the snapshot");
	if (f->snapshot_delete(img, "one", &err) != 0)
		image_die(&err, "%s: deleting", f->name);
	expect(chain, disk, SIZE, "without the snapshot");
	expect_sound(f, smd_chain_io(chain, 0));
	smd_chain_close(chain);
}

static int
sink(void *opaque, const void *buf, size_t count, struct smd_error *err)
{
	struct smd_io *io = opaque;

	return smd_io_pwrite(io, buf, count, io->size, err);
}

static void
streams(const struct smd_format *f, struct smd_io *store, const uint8_t *disk)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *chain = open_chain(f, copy_of(store), NULL, NULL);
	const struct smd_create params = { .virtual_size = SIZE, .timestamp_unix = 1700000000,
					   .uuid = { 1 } };
	struct smd_io *streamed = store_new();

	if (smd_stream_to(chain, f, &params, sink, streamed, NULL, &two_threads, NULL,
			  &err) != 0)
		image_die(&err, "%s: stream", f->name);
	smd_chain_close(chain);
	expect_sound(f, streamed);
	chain = open_chain(f, streamed, NULL, NULL);
	expect(chain, disk, SIZE, "what was streamed");
	smd_chain_close(chain);
}

/* ---- Pairs ---------------------------------------------------------------------- */

static void
converts(const struct smd_format *from, struct smd_io *store, const struct smd_format *to,
	 const uint8_t *disk)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *src = open_chain(from, copy_of(store), NULL, NULL);
	struct smd_chain *dst = open_chain(to, create(to, SIZE, NULL), NULL, NULL);
	struct smd_copy_stats stats;

	if (smd_copy(src, dst, &two_threads, &stats, &err) != 0)
		image_die(&err, "%s to %s", from->name, to->name);
	expect(dst, disk, SIZE, "what was converted");
	expect_sound(to, smd_chain_io(dst, 0));
	smd_chain_close(dst);
	smd_chain_close(src);
}

/* An overlay of the one over the other, merged either way. */
static void
overlays(const struct smd_format *f, const struct smd_format *below, struct smd_io *below_store,
	 const uint8_t *disk)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_chain *parent = open_chain(below, copy_of(below_store), NULL, NULL);
	CLEANUP_IO struct smd_io *store = create(f, SIZE, parent);
	CLEANUP_FREE uint8_t *other = smd_malloc(SIZE);
	struct smd_chain *leaf = open_chain(f, copy_of(store), below, copy_of(below_store));

	memcpy(other, disk, SIZE);
	expect(leaf, disk, SIZE, "a new overlay");
	scribble(leaf, other, SIZE, 4);
	expect(leaf, other, SIZE, "an overlay");
	if (smd_merge_into_parent(leaf, parent, &two_threads, NULL, &err) != 0)
		image_die(&err, "%s into %s", f->name, below->name);
	expect(parent, other, SIZE, "the parent after a merge");
	if (smd_merge_into_child(leaf, &two_threads, NULL, &err) != 0 ||
	    f->set_parent(smd_chain_image(leaf, 0), NULL, NULL, (const uint8_t[16]){ 0 }, &err) != 0)
		image_die(&err, "%s out of %s", f->name, below->name);
	smd_chain_close(parent);
	parent = open_chain(f, copy_of(smd_chain_io(leaf, 0)), NULL, NULL);
	expect(parent, other, SIZE, "the child after a merge");
	expect_sound(f, smd_chain_io(parent, 0));
	smd_chain_close(parent);
	smd_chain_close(leaf);
}

/* ---- All -------------------------------------------------------------------------- */

static void
keep(const char *dir, const char *name, const void *bytes, size_t count)
{
	CLEANUP_FREE char *path = smd_asprintf("%s/%s", dir, name);
	CLEANUP(cleanup_fclose) FILE *f = fopen(path, "w");

	if (!f || fwrite(bytes, 1, count, f) != count || fflush(f) != 0)
		image_die(NULL, "%s", path);
}

static void
run(const struct smd_format *f, const char *dir)
{
	CLEANUP_IO struct smd_io *store = create(f, SIZE, NULL);
	CLEANUP_FREE uint8_t *disk = smd_calloc(1, SIZE);
	struct smd_bytes_view bytes;
	struct smd_chain *chain;

	/* The store outlives the chain that is given a copy. */
	chain = open_chain(f, copy_of(store), NULL, NULL);
	scribble(chain, disk, SIZE, 2);
	expect(chain, disk, SIZE, "what was written");
	smd_io_close(store);
	store = copy_of(smd_chain_io(chain, 0));
	smd_chain_close(chain);
	expect_sound(f, store);
	if (!CANNOT(f, RESIZE))
		resizes(f, store, disk);
	if (!CANNOT(f, SNAPSHOTS))
		snapshots(f, store, disk);
	if (!CANNOT(f, STREAM))
		streams(f, store, disk);
	for (const struct smd_format *const *g = smd_formats(); *g; g++) {
		if (CANNOT(*g, CREATE) || CANNOT(*g, WRITE))
			continue;
		converts(f, store, *g, disk);
		/* Chains are of one format, but for a base that can have no parent. */
		if (smd_format_lies_on(*g, f) && (*g == f || CANNOT(f, PARENT)))
			overlays(*g, f, store, disk);
	}
	bytes = smd_io_memory_bytes(store);
	keep(dir, f->name, bytes.data, bytes.len);
	keep(dir, "disk.raw", disk, SIZE);
	printf("%s\n", f->name);
}

int
main(int argc, char **argv)
{
	size_t n = 0;

	image_modules();
	if (argc != 2)
		image_die(NULL, "usage: see image-every-format.c");
	for (const struct smd_format *const *f = smd_formats(); *f; f++) {
		if (CANNOT(*f, CREATE) || CANNOT(*f, WRITE))
			continue;
		run(*f, argv[1]);
		n++;
	}
	if (n < 3)
		image_die(NULL, "only %zu formats", n);
	return 0;
}
