/* SPDX-License-Identifier: BSD-2-Clause */
/* Operations on one image of a chain, alone: what it holds itself, its mark as an
 * inner node. */
#include "common/image/ops.h"

#include <string.h>

#include "common/checked.h"
#include "common/image/io.h"

/* The first layer of a source, open without those below it. */
struct alone {
	struct smd_layer layer;
	void *img;
};

static void
alone_close(struct alone *alone)
{
	if (alone->img)
		alone->layer.format->close(alone->img);
	smd_io_close(alone->layer.io);
}

static int
alone_open(struct smd_source *source, uint32_t flags, struct alone *ret, struct smd_error *err)
{
	struct smd_layer layers[SMD_CHAIN_MAX];

	source->write = flags & SMD_OPEN_WRITE;
	if (smd_source_layers(source, layers, err) != 0)
		return -1;
	for (size_t i = 1; i < source->n; i++)
		smd_io_close(layers[i].io);
	ret->layer = layers[0];
	return ret->layer.format->open(ret->layer.io, flags, &ret->img, err);
}

static int
alone_info(struct alone *alone, struct smd_image_info *ret, struct smd_error *err)
{
	memset(ret, 0, sizeof *ret);
	if (alone->layer.format->info(alone->img, ret, err) != 0)
		return -1;
	free(ret->details);
	ret->details = NULL;
	return 0;
}

/* ---- own ---- */

struct own {
	uint64_t data, zero;
};

static int
own_add(void *opaque, const struct smd_extent *extent, struct smd_error *err)
{
	struct own *own = opaque;

	(void)err;
	if (extent->kind == SMD_EXTENT_ZERO)
		own->zero += extent->count;
	else if (extent->kind != SMD_EXTENT_PARENT)
		own->data += extent->count;
	return 0;
}

int
smd_op_own(struct smd_source *source, json **ret, struct smd_error *err)
{
	CLEANUP(alone_close) struct alone alone = { .img = NULL };
	struct smd_image_info info;
	struct own own = { 0, 0 };
	uint64_t sectors;

	if (alone_open(source, 0, &alone, err) != 0 || alone_info(&alone, &info, err) != 0)
		return -1;
	sectors = smd_div_round_up_u64(info.virtual_size, SMD_SECTOR);
	if (alone.layer.format->extents(alone.img, 0, sectors * SMD_SECTOR, own_add, &own, err) != 0)
		return -1;
	*ret = json_object_new_object();
	smd_json_set_int(*ret, "data", (int64_t)own.data);
	smd_json_set_int(*ret, "zero", (int64_t)own.zero);
	return 0;
}

/* ---- hide ---- */

int
smd_op_hide(struct smd_source *source, bool hidden, struct smd_error *err)
{
	CLEANUP(alone_close) struct alone alone = { .img = NULL };
	struct smd_image_info info;

	if (alone_open(source, SMD_OPEN_WRITE, &alone, err) != 0 ||
	    alone_info(&alone, &info, err) != 0)
		return -1;
	if (!(alone.layer.format->caps & SMD_CAP_HIDDEN) ||
	    (bool)(info.flags & SMD_INFO_HIDDEN) == hidden)
		return 0;
	return alone.layer.format->set_hidden(alone.img, hidden, err);
}
