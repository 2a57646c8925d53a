/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * image-io-errors [--parent] [--every N] FAIL|SHORT|LATE LAYER...
 *
 * The n-th call of the leaf's store, or with --parent of the one below, fails,
 * for every n, or every N-th: the operation says IMAGE_IO and the errno, the ones after it work,
 * and in the end the image is good and holds what succeeded; what failed may have
 * left old or new. An image that will not go on has to be opened again: what was
 * not flushed then is old or new, too.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "common/image/io-test.h"
#include "common/mem.h"
#include "tests/image-case.h"

#define RW (SMD_IO_WRITABLE | SMD_IO_CAN_GROW)
#define N_OPS 36
#define ROOM (256u << 10)	/* bytes the leaf may grow by */

struct run {
	struct image_spec specs[IMAGE_LAYERS_MAX];
	struct smd_io *stores[IMAGE_LAYERS_MAX];	/* base first */
	size_t n_layers;
	bool at_parent;
	struct smd_chain *chain;
	struct smd_io *faulty;
	struct image_random random;
	uint64_t size, other_size, room;	/* sectors */
	uint64_t n;			/* the call that fails */
	uint8_t *tags;			/* what a sector holds … */
	uint8_t (*old)[32];		/* … or may, since the last flush: a bit per tag */
	unsigned names;
	bool snapshot, hidden;
};

static void
may_hold(struct run *r, uint64_t sector, uint8_t tag)
{
	r->old[sector][tag / 8] |= (uint8_t)(1u << tag % 8);
}

static bool
holds(const struct run *r, uint64_t sector, uint8_t tag)
{
	return tag == r->tags[sector] || r->old[sector][tag / 8] >> tag % 8 & 1;
}

/* ---- The chain ---- */

static void
found(void *opaque, const struct smd_finding *f)
{
	if (f->kind == SMD_FINDING_CORRUPTION && !f->repaired)
		image_die(NULL, "call %zu failing: the check finds %s", *(size_t *)opaque, f->text);
}

static void
check(struct run *r, size_t layer, uint32_t repair)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *f = r->specs[layer].format;
	struct smd_check result;
	size_t n = r->n;

	if (f->caps & SMD_CAP_CHECK &&
	    f->check(r->stores[layer], repair, found, &n, &result, &err) != 0)
		image_die(&err, "call %zu failing: check", n);
}

static struct smd_chain *
open_over(struct run *r, size_t n, struct smd_error *err)
{
	struct smd_layer layers[IMAGE_LAYERS_MAX] = { 0 };
	size_t faulty = r->at_parent ? 1 : 0;
	struct smd_chain *chain = NULL;

	for (size_t i = 0; i < n; i++) {
		layers[i].format = r->specs[n - 1 - i].format;
		layers[i].io = smd_io_test(r->stores[n - 1 - i]);
	}
	if (smd_chain_open(layers, n, SMD_CHAIN_WRITE, &chain, err) != 0) {
		smd_error_clear(err);
		check(r, n - 1, SMD_REPAIR_ALL);
		for (size_t i = 0; i < n; i++)
			layers[i].io->size = r->stores[n - 1 - i]->size;
		if (smd_chain_open(layers, n, SMD_CHAIN_WRITE, &chain, err) != 0)
			image_die(err, "call %zu failing: open", (size_t)r->n);
	}
	r->faulty = layers[smd_min_u64(faulty, n - 1)].io;
	return chain;
}

/* All sectors hold what they may; that they hold is all they may from now on. */
static int
settle(struct run *r, struct smd_error *err)
{
	CLEANUP_FREE uint8_t *disk = smd_malloc(r->size * SMD_SECTOR);

	if (smd_chain_pread(r->chain, disk, r->size * SMD_SECTOR, 0, err) != 0)
		return -1;
	for (uint64_t s = 0; s < r->size; s++) {
		const uint8_t *at = disk + s * SMD_SECTOR;

		if (memcmp(at, at + 1, SMD_SECTOR - 1) != 0 || !holds(r, s, *at))
			image_die(NULL, "call %zu failing: sector %zu holds %u, not %u", (size_t)r->n,
				  (size_t)s, *at, r->tags[s]);
		r->tags[s] = *at;
	}
	memset(r->old, 0, r->room * sizeof *r->old);
	return 0;
}

static int
count_snapshot(void *opaque, const struct smd_snapshot *snapshot, struct smd_error *err)
{
	(void)snapshot;
	(void)err;
	*(bool *)opaque = true;
	return 0;
}

static void
look_for_snapshot(struct run *r)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct smd_format *f = smd_chain_format(r->chain, 0);

	r->snapshot = false;
	if (f->caps & SMD_CAP_SNAPSHOTS &&
	    f->snapshot_list(smd_chain_image(r->chain, 0), count_snapshot, &r->snapshot, &err) != 0)
		image_die(&err, "call %zu failing: snapshots", (size_t)r->n);
}

/* Nothing was flushed on the way. */
static void
open_again(struct run *r)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t size;

	smd_chain_close(r->chain);
	r->chain = open_over(r, r->n_layers, &err);
	size = smd_chain_size(r->chain) / SMD_SECTOR;
	if (size != r->size && size != r->other_size)
		image_die(NULL, "call %zu failing: %zu sectors, not %zu or %zu", (size_t)r->n,
			  (size_t)size, (size_t)r->size, (size_t)r->other_size);
	r->size = size;
	look_for_snapshot(r);
	r->other_size = size;
	if (settle(r, &err) != 0)
		image_die(&err, "call %zu failing: read", (size_t)r->n);
}

/* ---- Operations ---- */

static int
change(struct run *r, unsigned i, struct smd_error *err)
{
	uint64_t kind = image_below(&r->random, 8), first = image_below(&r->random, r->size);
	uint64_t n = smd_min_u64(1 + image_below(&r->random, 200), r->size - first);
	uint8_t tag = kind < 5 ? (uint8_t)(1 + i) : 0;
	CLEANUP_FREE uint8_t *buf = smd_malloc(n * SMD_SECTOR);
	int rc;

	memset(buf, tag, n * SMD_SECTOR);
	rc = kind < 5 ? smd_chain_pwrite(r->chain, buf, n * SMD_SECTOR, first * SMD_SECTOR, err)
		      : smd_chain_zero(r->chain, first * SMD_SECTOR, n * SMD_SECTOR, kind % 2, err);
	for (uint64_t s = first; s < first + n; s++) {
		may_hold(r, s, rc == 0 ? r->tags[s] : tag);
		if (rc == 0)
			r->tags[s] = tag;
	}
	return rc;
}

static int
read_some(struct run *r, struct smd_error *err)
{
	uint64_t first = image_below(&r->random, r->size);
	uint64_t n = smd_min_u64(1 + image_below(&r->random, 200), r->size - first);
	CLEANUP_FREE uint8_t *buf = smd_malloc(n * SMD_SECTOR);

	return smd_chain_pread(r->chain, buf, n * SMD_SECTOR, first * SMD_SECTOR, err);
}

static int
flush(struct run *r, struct smd_error *err)
{
	if (smd_chain_flush(r->chain, err) != 0)
		return -1;
	return settle(r, err);
}

static int
resize(struct run *r, struct smd_error *err)
{
	uint64_t by = 1 + image_below(&r->random, 100);
	bool shrink = r->n_layers == 1 && !r->snapshot && r->size > r->room / 2 &&
		      image_below(&r->random, 2);
	uint64_t size = shrink ? r->size - by : r->size + by;
	uint64_t larger = smd_max_u64(size, r->size);

	if (larger > r->room)
		return 0;
	for (uint64_t s = larger - by; s < larger; s++)
		may_hold(r, s, 0);
	if (smd_chain_resize(r->chain, size * SMD_SECTOR, shrink, err) != 0) {
		if ((r->n_layers > 1 || r->snapshot) && smd_error_is(err, SMD_E_IMAGE_UNSUPPORTED)) {
			smd_error_clear(err);
			return 0;
		}
		if (r->other_size == r->size)	/* else it was refused at once */
			r->other_size = size;
		r->size = smd_chain_size(r->chain) / SMD_SECTOR;
		return -1;
	}
	memset(r->tags + smd_min_u64(size, r->size), 0, by);
	r->size = r->other_size = size;
	return 0;
}

static int
rewrite_header(struct run *r, struct smd_error *err)
{
	const struct smd_format *f = smd_chain_format(r->chain, 0);
	const struct smd_image_info *info = smd_chain_info(r->chain, 0);
	void *img = smd_chain_image(r->chain, 0);
	char name[100] = { 0 };

	if (r->n_layers > 1 && image_below(&r->random, 2)) {
		r->names++;
		memset(name, 'a' + (int)(r->names % 26), 1 + r->names % 3 * 40);
		return f->set_parent(img, name, info->parent_format, info->parent_uuid, err);
	}
	r->hidden = !r->hidden;
	return f->caps & SMD_CAP_HIDDEN ? f->set_hidden(img, r->hidden, err) : 0;
}

static int
snapshot(struct run *r, struct smd_error *err)
{
	const struct smd_format *f = smd_chain_format(r->chain, 0);
	void *img = smd_chain_image(r->chain, 0);
	int rc;

	if (!(f->caps & SMD_CAP_SNAPSHOTS))
		return 0;
	rc = r->snapshot ? f->snapshot_delete(img, "one", err)
			 : f->snapshot_create(img, "one", 1, err);
	if (rc == 0)
		r->snapshot = !r->snapshot;
	return rc;
}

static int
operation(struct run *r, unsigned i, struct smd_error *err)
{
	switch (image_below(&r->random, 16)) {
	case 0: return flush(r, err);
	case 1: return read_some(r, err);
	case 2: return resize(r, err);
	case 3: return rewrite_header(r, err);
	case 4: return snapshot(r, err);
	default: return change(r, i, err);
	}
}

/* ---- One call ---- */

/* The operation, again on the image opened anew where it will not go on. */
static void
operate(struct run *r, unsigned i, int errnum, unsigned *n_failed)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const struct image_random random = r->random;

	for (;;) {
		r->random = random;
		if (operation(r, i, &err) == 0)
			return;
		if (!smd_error_is(&err, SMD_E_IMAGE_IO) || ++*n_failed > 2 ||
		    (*n_failed == 1 && err.errnum != errnum))
			image_die(&err, "call %zu failing: operation %u", (size_t)r->n, i);
		smd_error_clear(&err);
		look_for_snapshot(r);
		if (*n_failed == 1)
			return;
		open_again(r);
	}
}

static void
make_layers(struct run *r)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint8_t content[3 * SMD_SECTOR];

	memset(content, 255, sizeof content);
	r->chain = NULL;
	for (size_t i = 0; i < r->n_layers; i++) {
		struct smd_chain *below = r->chain;

		r->stores[i] = smd_io_memory(NULL, 0, "store", RW);
		if (image_create(&r->specs[i], r->stores[i], below, "parent", &err) != 0)
			image_die(&err, "create");
		smd_chain_close(below);
		r->chain = open_over(r, i + 1, &err);
		for (uint64_t at = (i + 1) * 20480; i + 1 < r->n_layers && at < 250000; at += 51200)
			if (smd_chain_pwrite(r->chain, content, sizeof content, at, &err) != 0)
				image_die(&err, "content");
		if (smd_chain_flush(r->chain, &err) != 0)
			image_die(&err, "content");
	}
	r->size = smd_chain_size(r->chain) / SMD_SECTOR;
	r->names = 0;
	r->snapshot = r->hidden = false;
	memset(r->tags, 0, r->room);
	memset(r->old, 0, r->room * sizeof *r->old);
}

/* Returns whether there was an n-th call. */
static bool
fail_nth(struct run *r, enum smd_test_how how)
{
	const struct smd_test_plan plan = { .fail_at = r->n, .how = how, .ops = SMD_TEST_ALL,
					    .errnum = r->n % 2 ? EIO : ENOSPC };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	unsigned n_failed = 0;

	r->random.state = 1;
	make_layers(r);
	for (uint64_t s = 0; s < r->size; s++)
		may_hold(r, s, 255);
	if (settle(r, &err) != 0)
		image_die(&err, "read");
	r->other_size = r->size;
	smd_io_test_plan(r->faulty, &plan);
	for (unsigned i = 0; i < N_OPS; i++)
		operate(r, i, plan.errnum, &n_failed);
	if (flush(r, &err) != 0) {
		n_failed++;
		smd_error_clear(&err);
		open_again(r);
		if (flush(r, &err) != 0)
			image_die(&err, "call %zu failing: the last flush", (size_t)r->n);
	}
	open_again(r);
	for (size_t i = 0; i < r->n_layers; i++)
		check(r, i, SMD_REPAIR_NONE);
	smd_chain_close(r->chain);
	for (size_t i = 0; i < r->n_layers; i++)
		smd_io_close(r->stores[i]);
	return n_failed > 0;
}

int
main(int argc, char **argv)
{
	static const char *const hows[] = { "FAIL", "SHORT", "LATE" };
	static const enum smd_test_how how[] = { SMD_TEST_FAIL, SMD_TEST_SHORT, SMD_TEST_LATE };
	static const struct option options[] = {
		{ "every", required_argument, NULL, 'e' },
		{ "parent", no_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	struct run r = { .n = 1 };
	uint64_t every = 1;
	size_t kind = 0;
	int c;

	image_modules();
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1)
		switch (c) {
		case 'e': every = strtoull(optarg, NULL, 10); break;
		case 'p': r.at_parent = true; break;
		default: image_die(NULL, "usage: see image-io-errors.c");
		}
	argv += optind;
	argc -= optind;
	while (argc > 1 && kind < 3 && strcmp(argv[0], hows[kind]) != 0)
		kind++;
	if (argc < 2 || argc - 1 > IMAGE_LAYERS_MAX || kind == 3 || every == 0)
		image_die(NULL, "usage: see image-io-errors.c");
	for (int i = 1; i < argc; i++)
		image_spec_parse(argv[i], &r.specs[r.n_layers++]);
	r.room = (r.specs[r.n_layers - 1].size + ROOM) / SMD_SECTOR;
	r.tags = smd_malloc(r.room);
	r.old = smd_calloc(r.room, sizeof *r.old);
	while (fail_nth(&r, how[kind]))
		r.n += every;
	if (r.n < (r.at_parent ? 2u : 5u))
		image_die(NULL, "only %zu calls", (size_t)r.n);
	for (size_t i = 0; i < r.n_layers; i++)
		smd_options_free(&r.specs[i].options);
	free(r.tags);
	free(r.old);
	return 0;
}
