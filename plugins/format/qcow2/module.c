/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of callbacks (plugins/smd-format.h says what each does). Each takes
 * the image's lock, for read_encoded may run at any time.
 */
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "plugins/format/qcow2/qcow2.h"

static int
probe(const uint8_t *head, size_t head_len, const uint8_t *tail, size_t tail_len, uint64_t size)
{
	uint32_t version;

	(void)tail;
	(void)tail_len;
	(void)size;
	if (head_len < 8 || smd_load_be32(head) != QCOW2_MAGIC)
		return 0;
	version = smd_load_be32(head + QCOW2_HEADER_VERSION);
	return version == 2 || version == 3 ? 100 : 60;
}

static int
module_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	struct qcow2_image *img;

	if (qcow2_open(io, flags, &img, err) < 0)
		return -1;
	*ret_img = img;
	return 0;
}

static void
module_close(void *opaque)
{
	qcow2_close(opaque);
}

static int
info(void *opaque, struct smd_image_info *ret, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_info(img, ret, err);
}

static int
extents(void *opaque, uint64_t offset, uint64_t count, smd_extent_fn *add, void *add_opaque,
	struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_extents(img, offset, count, add, add_opaque, err);
}

static int
reserve(void *opaque, uint64_t offset, uint64_t count, smd_place_fn *add, void *add_opaque,
	void **ret_res, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	struct qcow2_reservation *res;
	LOCK_SCOPE(&img->lock);

	if (qcow2_reserve(img, offset, count, add, add_opaque, &res, err) < 0)
		return -1;
	*ret_res = res;
	return 0;
}

static int
commit(void *opaque, void *res, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_commit(img, res, err);
}

static void
abandon(void *opaque, void *res)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	qcow2_abandon(img, res);
}

static int
zero(void *opaque, uint64_t offset, uint64_t count, uint32_t flags, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_zero(img, offset, count, flags, err);
}

static int
flush(void *opaque, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_sync(img, err);
}

static int
resize(void *opaque, uint64_t virtual_size, uint32_t flags, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_resize(img, virtual_size, flags, err);
}

static int
set_parent(void *opaque, const char *name, const char *format, const uint8_t uuid[16],
	   struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	(void)uuid;	/* qcow2 has no place for one */
	if (qcow2_mark_begin(img, err) < 0 || qcow2_sync(img, err) < 0)
		return -1;
	return qcow2_header_rewrite(img, name, name ? format : NULL, img->hidden, err);
}

static int
set_hidden(void *opaque, bool hidden, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	CLEANUP_FREE char *name = NULL, *format = NULL;
	LOCK_SCOPE(&img->lock);

	if (qcow2_mark_begin(img, err) < 0)
		return -1;
	if (hidden == img->hidden)
		return 0;
	/* Copies, as the rewrite reads them anew. */
	name = img->backing_name[0] ? strdup(img->backing_name) : NULL;
	format = img->backing_format[0] ? strdup(img->backing_format) : NULL;
	if ((img->backing_name[0] && !name) || (img->backing_format[0] && !format))
		return smd_fail(err, SMD_REASON_IO, img->io->name, "out of memory");
	return qcow2_header_rewrite(img, name, format, hidden, err);
}

static int
snapshot_list(void *opaque, smd_snapshot_fn *add, void *add_opaque, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_snapshot_list(img, add, add_opaque, err);
}

static int
snapshot_create(void *opaque, const char *name, uint64_t date_ns, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_snapshot_create(img, name, date_ns, err);
}

static int
snapshot_delete(void *opaque, const char *id_or_name, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_snapshot_delete(img, id_or_name, err);
}

static int
snapshot_apply(void *opaque, const char *id_or_name, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_snapshot_apply(img, id_or_name, err);
}

static int
write_encoded(void *opaque, uint64_t offset, const void *data, size_t len, struct smd_error *err)
{
	struct qcow2_image *img = opaque;
	LOCK_SCOPE(&img->lock);

	return qcow2_write_encoded(img, offset, data, len, err);
}

static const struct smd_format qcow2_format = {
	.name = "qcow2",
	.doc = "QEMU's copy-on-write format, versions 2 and 3",
	.caps = SMD_CAP_WRITE | SMD_CAP_CREATE | SMD_CAP_RESIZE | SMD_CAP_PARENT |
		SMD_CAP_HIDDEN | SMD_CAP_CHECK | SMD_CAP_STREAM | SMD_CAP_SNAPSHOTS |
		SMD_CAP_PROBE | SMD_CAP_NEEDS_GROW | SMD_CAP_ENCODE,
	.max_virtual_size = QCOW2_MAX_VIRTUAL_SIZE,
	.size_unit = SMD_SECTOR,
	.options = qcow2_options,
	.probe = probe,
	.create = qcow2_create,
	.measure = qcow2_measure,
	.usage = qcow2_usage,
	.taken = qcow2_taken,
	.open = module_open,
	.close = module_close,
	.info = info,
	.extents = extents,
	.read_encoded = qcow2_read_encoded,
	.reserve = reserve,
	.commit = commit,
	.abandon = abandon,
	.zero = zero,
	.flush = flush,
	.resize = resize,
	.set_parent = set_parent,
	.set_hidden = set_hidden,
	.check = qcow2_check,
	.stream = qcow2_stream,
	.snapshot_list = snapshot_list,
	.snapshot_create = snapshot_create,
	.snapshot_delete = snapshot_delete,
	.snapshot_apply = snapshot_apply,
	.encode = qcow2_encode,
	.write_encoded = write_encoded,
};
SMD_REGISTER_FORMAT(qcow2_format)
