/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Opening: header, extensions, L1 and the snapshot table are checked and the
 * caches made. What may be large is read when it is needed: L2 tables one by one,
 * the refcounts by the first writer.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "common/checked.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

#define L2_CACHE_BYTES (16u << 20)
#define RB_CACHE_BYTES (4u << 20)
#define CACHE_TABLES_MIN 8u

void
qcow2_geometry_init(struct qcow2_geometry *g, unsigned cluster_bits, bool extended_l2,
		    unsigned refcount_order)
{
	g->cluster_bits = cluster_bits;
	g->cluster_size = UINT64_C(1) << cluster_bits;
	g->n_sub = extended_l2 ? QCOW2_SUBCLUSTERS : 1;
	g->sub_size = g->cluster_size / g->n_sub;
	g->l2_entry_size = extended_l2 ? 16 : 8;
	g->l2_entries = g->cluster_size / g->l2_entry_size;
	g->l2_span = g->cluster_size * g->l2_entries;
	g->refcount_order = refcount_order;
	g->rb_entries = g->cluster_size * 8 >> refcount_order;
	g->refcount_max = refcount_order == 6 ? UINT64_MAX :
		(UINT64_C(1) << (1u << refcount_order)) - 1;
}

static struct qcow2_image *
image_new(struct smd_io *io, struct smd_error *err)
{
	struct qcow2_image *img = calloc(1, sizeof *img);
	pthread_mutexattr_t attr;

	if (!img) {
		smd_fail(err, SMD_REASON_IO, io->name, "out of memory");
		return NULL;
	}
	img->io = io;
	/* The host may call read_encoded from within the extents it is told. */
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&img->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	pthread_mutex_init(&img->codec_lock, NULL);
	return img;
}

static size_t
cache_tables(const struct qcow2_image *img, size_t bytes)
{
	return smd_max_u64(bytes >> img->g.cluster_bits, CACHE_TABLES_MIN);
}

static int
load_tables(struct qcow2_image *img, struct smd_error *err)
{
	if (qcow2_cache_init(&img->l2_cache, img->g.cluster_size,
			     cache_tables(img, L2_CACHE_BYTES), img->io, err) < 0 ||
	    qcow2_cache_init(&img->rb_cache, img->g.cluster_size,
			     cache_tables(img, RB_CACHE_BYTES), img->io, err) < 0)
		return -1;
	return qcow2_array_load(&img->l1, img->io, img->h.l1_offset, img->h.l1_size, err);
}

/* What the header says about the image's state, against what is wanted. */
static int
check_state(const struct qcow2_image *img, uint32_t flags, struct smd_error *err)
{
	if ((img->h.incompatible & QCOW2_INCOMPAT_CORRUPT) &&
	    (flags & (SMD_OPEN_WRITE | SMD_OPEN_FOREIGN)))
		return smd_fail(err, SMD_REASON_CORRUPT_BIT, img->io->name,
				"marked corrupt by its last writer");
	if ((img->h.incompatible & QCOW2_INCOMPAT_DIRTY) && (flags & SMD_OPEN_WRITE))
		return smd_fail(err, SMD_REASON_NEEDS_REPAIR, img->io->name,
				"was not closed cleanly, its refcounts may be wrong: "
				"repair it before writing");
	return 0;
}

int
qcow2_open(struct smd_io *io, uint32_t flags, struct qcow2_image **ret, struct smd_error *err)
{
	CLEANUP_QCOW2 struct qcow2_image *img = image_new(io, err);
	uint64_t table_size;

	/* Where L1 is, the header says; what is in it, nobody checks here. */
	if (!img || qcow2_header_load(img, err) < 0 ||
	    (!(flags & SMD_OPEN_LOOK) && load_tables(img, err) < 0) ||
	    check_state(img, flags, err) < 0 || qcow2_snapshots_check(img, &table_size, err) < 0)
		return -1;
	img->look = flags & SMD_OPEN_LOOK;
	img->writable = (flags & SMD_OPEN_WRITE) && (io->flags & SMD_IO_WRITABLE);
	img->small = flags & SMD_OPEN_SMALL;
	*ret = TAKE_PTR(img);
	return 0;
}

int
qcow2_open_for_check(struct smd_io *io, struct qcow2_image **ret, struct smd_error *err)
{
	CLEANUP_QCOW2 struct qcow2_image *img = image_new(io, err);

	if (!img || qcow2_header_load(img, err) < 0 || load_tables(img, err) < 0)
		return -1;
	img->writable = io->flags & SMD_IO_WRITABLE;
	*ret = TAKE_PTR(img);
	return 0;
}

void
qcow2_close(struct qcow2_image *img)
{
	if (!img)
		return;
	qcow2_codecs_free(img);
	qcow2_encoders_free(img);
	if (img->l2_cache.buckets)
		qcow2_cache_done(&img->l2_cache);
	if (img->rb_cache.buckets)
		qcow2_cache_done(&img->rb_cache);
	free(img->l1.entries);
	free(img->rt.entries);
	free(img->frees);
	free(img->pending);
	free(img->exts);
	free(img->head);
	pthread_mutex_destroy(&img->lock);
	pthread_mutex_destroy(&img->codec_lock);
	free(img);
}
