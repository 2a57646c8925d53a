/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing back. The order, with a flush between any two:
 *
 *	data and raised refcounts | refcount table | L2 tables | L1 table |
 *	lowered refcounts, holes
 *
 * so that whatever is pointed at is on the disk before its pointer, and what is
 * given back has lost its last pointer there. A crash leaks at worst. A step
 * that fails in writing can be tried again: what it wrote is still dirty.
 */
#include <stdlib.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

#define FREES_MAX 65536u
/* Tables that one step may dirty, of a cache that holds max. */
#define CACHE_SLACK(max) ((max) / 4)

int
qcow2_flush_io(struct qcow2_image *img, struct smd_error *err)
{
	if (img->io->ops->flush(img->io, err) == 0)
		return 0;
	/* Nobody knows what the store kept: trying again might lose it quietly. */
	img->failed = true;
	return -1;
}

void
qcow2_free_later(struct qcow2_image *img, uint64_t cluster, uint64_t n)
{
	struct qcow2_free *last = img->n_frees ? &img->frees[img->n_frees - 1] : NULL;
	size_t max = img->frees_max ? img->frees_max * 2 : 64;
	struct qcow2_free *frees;

	if (n == 0)
		return;
	if (last && last->cluster + last->n == cluster) {
		last->n += n;
		return;
	}
	if (img->n_frees == img->frees_max) {
		frees = realloc(img->frees, max * sizeof *frees);
		if (!frees)
			return;
		img->frees = frees;
		img->frees_max = max;
	}
	img->frees[img->n_frees++] = (struct qcow2_free){ cluster, n };
}

static int
punch(struct qcow2_image *img, uint64_t cluster, uint64_t n, struct smd_error *err)
{
	uint64_t offset = cluster << img->g.cluster_bits;

	if (n == 0 || offset >= img->io->size)
		return 0;
	return img->io->ops->zero(img->io, offset,
				  smd_min_u64(n << img->g.cluster_bits, img->io->size - offset),
				  err);
}

int
qcow2_punch_unused(struct qcow2_image *img, uint64_t cluster, uint64_t n, struct smd_error *err)
{
	uint64_t unused = 0, count;

	for (uint64_t c = cluster; c < cluster + n; c++) {
		if (qcow2_refcount_get(img, c, &count, err) < 0)
			return -1;
		if (count == 0) {
			unused++;
			continue;
		}
		if (punch(img, c - unused, unused, err) < 0)
			return -1;
		unused = 0;
	}
	return punch(img, cluster + n - unused, unused, err);
}

static int
apply_frees(struct qcow2_image *img, struct smd_error *err)
{
	int r = 0;

	if (img->n_frees == 0)
		return 0;
	for (size_t i = 0; r == 0 && i < img->n_frees; i++) {
		const struct qcow2_free *run = &img->frees[i];

		r = qcow2_refcount_add(img, run->cluster, run->n, -1, err);
		if (r == 0)
			r = qcow2_punch_unused(img, run->cluster, run->n, err);
	}
	/* What could not be lowered is a leak, no more. */
	img->n_frees = 0;
	if (r < 0 || qcow2_cache_write(&img->rb_cache, img->io, err) < 0)
		return -1;
	qcow2_cache_clean(&img->rb_cache);
	return 0;
}

static int
write_array(struct qcow2_image *img, struct qcow2_array *array, struct smd_error *err)
{
	if (array->dirty_end == 0)
		return 0;
	if (qcow2_array_write_dirty(array, img->io, err) < 0 || qcow2_flush_io(img, err) < 0)
		return -1;
	qcow2_array_clean(array);
	return 0;
}

static int
write_l2(struct qcow2_image *img, struct smd_error *err)
{
	if (img->l2_cache.n_dirty == 0)
		return 0;
	if (qcow2_cache_write(&img->l2_cache, img->io, err) < 0 || qcow2_flush_io(img, err) < 0)
		return -1;
	qcow2_cache_clean(&img->l2_cache);
	return 0;
}

int
qcow2_sync(struct qcow2_image *img, struct smd_error *err)
{
	if (img->failed)
		return smd_fail(err, SMD_REASON_IO, img->io->name,
				"an earlier flush failed: reopen and check the image");
	if (qcow2_cache_write(&img->rb_cache, img->io, err) < 0 || qcow2_flush_io(img, err) < 0)
		return -1;
	qcow2_cache_clean(&img->rb_cache);
	if (write_array(img, &img->rt, err) < 0 || write_l2(img, err) < 0 ||
	    write_array(img, &img->l1, err) < 0)
		return -1;
	return apply_frees(img, err);
}

int
qcow2_sync_if_full(struct qcow2_image *img, struct smd_error *err)
{
	if (img->l2_cache.n_dirty < img->l2_cache.max - CACHE_SLACK(img->l2_cache.max) &&
	    img->rb_cache.n_dirty < img->rb_cache.max - CACHE_SLACK(img->rb_cache.max) &&
	    img->n_frees < FREES_MAX)
		return 0;
	return qcow2_sync(img, err);
}
