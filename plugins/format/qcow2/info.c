/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an image says of itself, in qemu-img's words where it has them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

static const char *
json_bool(bool value)
{
	return value ? "true" : "false";
}

static uint32_t
count_bitmaps(const struct qcow2_image *img)
{
	const struct qcow2_ext *ext = qcow2_ext_find(img, QCOW2_EXT_BITMAPS);

	if (!(img->h.autoclear & QCOW2_AUTOCLEAR_BITMAPS) || !ext || ext->length < 4)
		return 0;
	return smd_load_be32(img->head + ext->offset + QCOW2_BITMAPS_EXT_COUNT);
}

static char *
details(const struct qcow2_image *img)
{
	const struct qcow2_header *h = &img->h;
	char *text = NULL;

	if (asprintf(&text,
		     "cluster-size\t%" PRIu64 "\n"
		     "compat\t\"%s\"\n"
		     "compression-type\t\"%s\"\n"
		     "lazy-refcounts\t%s\n"
		     "refcount-bits\t%u\n"
		     "corrupt\t%s\n"
		     "extended-l2\t%s\n"
		     "dirty\t%s\n"
		     "snapshots\t%" PRIu32 "\n"
		     "bitmaps\t%" PRIu32 "\n"
		     "hidden\t%s\n",
		     img->g.cluster_size, h->version == 2 ? "0.10" : "1.1",
		     h->compression == QCOW2_COMPRESSION_ZSTD ? "zstd" : "zlib",
		     json_bool(h->compatible & QCOW2_COMPAT_LAZY_REFCOUNTS),
		     1u << h->refcount_order,
		     json_bool(h->incompatible & QCOW2_INCOMPAT_CORRUPT),
		     json_bool(h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2),
		     json_bool(h->incompatible & QCOW2_INCOMPAT_DIRTY),
		     h->n_snapshots, count_bitmaps(img), json_bool(img->hidden)) < 0)
		return NULL;
	return text;
}

int
qcow2_info(struct qcow2_image *img, struct smd_image_info *ret, struct smd_error *err)
{
	struct smd_image_info info = { .virtual_size = img->h.size };

	info.write_unit = img->g.sub_size;
	info.alloc_unit = img->g.cluster_size;
	info.host_align = img->g.sub_size;
	info.n_snapshots = img->h.n_snapshots;
	/* A cluster that the end of the file cuts is told as encoded, too. */
	info.flags = SMD_INFO_COMPRESSED;
	if (img->backing_name[0])
		info.flags |= SMD_INFO_HAS_PARENT;
	if (img->hidden)
		info.flags |= SMD_INFO_HIDDEN;
	if (img->h.incompatible & QCOW2_INCOMPAT_DIRTY)
		info.flags |= SMD_INFO_DIRTY;
	if (img->h.incompatible & QCOW2_INCOMPAT_CORRUPT)
		info.flags |= SMD_INFO_DEGRADED;
	if (img->h.incompatible & (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT))
		info.flags |= SMD_INFO_READ_ONLY;
	memcpy(info.parent_name, img->backing_name, sizeof info.parent_name);
	memcpy(info.parent_format, img->backing_format, sizeof info.parent_format);
	info.details = img->look ? NULL : details(img);
	if (!img->look && !info.details)
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	*ret = info;
	return 0;
}
