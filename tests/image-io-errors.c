/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * image-io-errors FORMAT,SIZE[,OPTION...] FAIL|SHORT
 *
 * The n-th call of the store fails, for every n: the operation on the chain says
 * IMAGE_IO, the ones after it work, and in the end the image is good and holds
 * what succeeded; what failed may have left old or new sectors. A flush that fails
 * is another matter: the kernel may have dropped what was written, and qcow2 wants
 * the image opened again.
 */
#include <errno.h>
#include <string.h>

#include "common/checked.h"
#include "common/image/io-test.h"
#include "common/mem.h"
#include "tests/image-case.h"

#define RW (SMD_IO_WRITABLE | SMD_IO_CAN_GROW)
#define N_OPS 40

struct run {
	struct image_spec spec;
	struct smd_chain *chain;
	uint64_t sectors, n;		/* of the disk; the call that fails */
	uint8_t *tags, *others;		/* a sector holds its tag, or another if unsure */
};

static int
operation(struct run *r, struct image_random *random, unsigned i, struct smd_error *err)
{
	uint64_t kind = image_below(random, 10), first = image_below(random, r->sectors);
	uint64_t n = smd_min_u64(1 + image_below(random, 200), r->sectors - first);
	uint8_t tag = kind < 5 ? (uint8_t)(1 + i) : 0;
	CLEANUP_FREE uint8_t *buf = smd_malloc(n * SMD_SECTOR);
	int rc;

	if (kind == 9)
		return smd_chain_flush(r->chain, err);
	if (kind == 8)
		return smd_chain_pread(r->chain, buf, n * SMD_SECTOR, first * SMD_SECTOR, err);
	memset(buf, tag, n * SMD_SECTOR);
	rc = kind < 5 ? smd_chain_pwrite(r->chain, buf, n * SMD_SECTOR, first * SMD_SECTOR, err)
		      : smd_chain_zero(r->chain, first * SMD_SECTOR, n * SMD_SECTOR, kind % 2, err);
	for (uint64_t s = first; s < first + n; s++) {
		if (rc == 0)
			r->tags[s] = r->others[s] = tag;
		else
			r->others[s] = tag;
	}
	return rc;
}

static void
found(void *opaque, const struct smd_finding *f)
{
	if (f->kind == SMD_FINDING_CORRUPTION)
		image_die(NULL, "call %zu failing: the check finds %s", *(size_t *)opaque, f->text);
}

static void
judge(struct run *r, struct smd_io *store, size_t n)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE uint8_t *disk = smd_malloc(r->sectors * SMD_SECTOR);
	struct smd_check result;

	if (smd_chain_pread(r->chain, disk, r->sectors * SMD_SECTOR, 0, &err) != 0)
		image_die(&err, "call %zu failing: read", n);
	for (uint64_t s = 0; s < r->sectors; s++) {
		uint8_t *at = disk + s * SMD_SECTOR;

		if (memcmp(at, at + 1, SMD_SECTOR - 1) != 0 ||
		    (*at != r->tags[s] && *at != r->others[s]))
			image_die(NULL, "call %zu failing: sector %zu holds %u, not %u or %u", n,
				  (size_t)s, *at, r->tags[s], r->others[s]);
	}
	if (r->spec.format->caps & SMD_CAP_CHECK &&
	    r->spec.format->check(store, SMD_REPAIR_NONE, found, &n, &result, &err) != 0)
		image_die(&err, "call %zu failing: check", n);
}

/* Returns whether there was an n-th call. */
static bool
fail_nth(struct run *r, size_t n, enum smd_test_how how, uint64_t seed)
{
	const struct smd_test_plan plan = { .fail_at = n, .how = how,
					    .ops = SMD_TEST_ALL & ~SMD_TEST_OP(FLUSH),
					    .errnum = n % 2 ? EIO : ENOSPC };
	const struct smd_test_plan none = { 0 };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct image_random random = { seed };
	CLEANUP_IO struct smd_io *store = smd_io_memory(NULL, 0, "store", RW);
	struct smd_layer layer = { r->spec.format, smd_io_test(store) };
	unsigned n_failed = 0;
	bool hit;

	memset(r->tags, 0, r->sectors);
	memset(r->others, 0, r->sectors);
	if (image_create(&r->spec, layer.io, NULL, NULL, &err) != 0 ||
	    smd_chain_open(&layer, 1, SMD_CHAIN_WRITE, &r->chain, &err) != 0)
		image_die(&err, "open");
	smd_io_test_plan(layer.io, &plan);
	for (unsigned i = 0; i < N_OPS; i++) {
		if (operation(r, &random, i, &err) == 0)
			continue;
		if (!smd_error_is(&err, SMD_E_IMAGE_IO) || n_failed++ > 0)
			image_die(&err, "call %zu failing: operation %u", n, i);
		smd_error_clear(&err);
	}
	hit = smd_io_test_count(layer.io) >= n;
	smd_io_test_plan(layer.io, &none);
	if (smd_chain_flush(r->chain, &err) != 0)
		image_die(&err, "call %zu failing: the last flush", n);
	judge(r, store, n);
	smd_chain_close(r->chain);
	return hit;
}

int
main(int argc, char **argv)
{
	struct run r = { .n = 1 };
	enum smd_test_how how;

	image_modules();
	if (argc != 3)
		image_die(NULL, "usage: see image-io-errors.c");
	image_spec_parse(argv[1], &r.spec);
	how = strcmp(argv[2], "SHORT") == 0 ? SMD_TEST_SHORT : SMD_TEST_FAIL;
	r.sectors = r.spec.size / SMD_SECTOR;
	r.tags = smd_malloc(r.sectors);
	r.others = smd_malloc(r.sectors);
	while (fail_nth(&r, r.n, how, 1))
		r.n++;
	if (r.n < 10)
		image_die(NULL, "only %zu calls", (size_t)r.n);
	smd_options_free(&r.spec.options);
	free(r.tags);
	free(r.others);
	return 0;
}
