/* SPDX-License-Identifier: BSD-2-Clause */
/* Operations that shorten chains: merge a parent and its child, name another parent. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/image/io.h"
#include "common/image/merge.h"
#include "common/image/ops-impl.h"
#include "common/mem.h"

/* ---- Opening what an earlier job may have left cut off ---- */

/* The layers from first on, with descriptors of their own. */
int
ops_source_copy(const struct smd_source *from, size_t first, struct smd_source *ret,
		struct smd_error *err)
{
	memset(ret, 0, sizeof *ret);
	for (size_t i = first; i < from->n; i++) {
		ret->layers[ret->n] = from->layers[i];
		ret->layers[ret->n].fd = fcntl(from->layers[i].fd, F_DUPFD_CLOEXEC, 0);
		if (ret->layers[ret->n++].fd < 0) {
			ops_source_close(ret);
			return smd_image_fail(err, SMD_REASON_IO, from->layers[i].name,
					      "no descriptor is free");
		}
	}
	return 0;
}

static bool
needs_repair(const struct smd_error *err)
{
	return smd_error_is(err, SMD_E_IMAGE_CORRUPT) &&
	       strcmp(err->params[1], smd_reason_name(SMD_REASON_NEEDS_REPAIR)) == 0;
}

/* Mend what is safe to mend in an image of ours that a power cut left. */
int
ops_source_repair(const struct smd_source *source, bool *ret_sound, struct smd_error *err)
{
	CLEANUP_JSON json *found = NULL;
	int fd = fcntl(source->layers[0].fd, F_DUPFD_CLOEXEC, 0);
	int verdict;

	if (smd_op_check(fd, source->layers[0].name, source->layers[0].format, SMD_REPAIR_ALL,
			 &found, &verdict, err) != 0)
		return -1;
	if (ret_sound)
		*ret_sound = verdict != 2;
	return 0;
}

int
smd_source_open_mended(struct smd_source *source, struct smd_chain **ret, struct smd_error *err)
{
	CLEANUP(ops_source_close) struct smd_source again;
	int rc;

	if (ops_source_copy(source, 0, &again, err) != 0) {
		ops_source_close(source);
		return -1;
	}
	again.write = source->write = true;
	again.foreign = source->foreign;
	rc = smd_source_open(source, ret, err);
	if (rc == 0 || !needs_repair(err))
		return rc;
	smd_error_clear(err);
	return ops_source_repair(&again, NULL, err) == 0 ? smd_source_open(&again, ret, err) : -1;
}

/* ---- Merging ---- */

int
smd_op_merge_measure(struct smd_source *source, json **ret, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *child = NULL;
	struct smd_merge_sizes sizes;

	if (smd_source_open(source, &child, err) != 0 ||
	    smd_merge_measure(child, &sizes, err) != 0)
		return -1;
	*ret = json_object_new_object();
	smd_json_set_int(*ret, "into-parent", (int64_t)sizes.into_parent);
	smd_json_set_int(*ret, "into-child", (int64_t)sizes.into_child);
	smd_json_set_int(*ret, "parent-lacks", (int64_t)sizes.parent_lacks);
	return 0;
}

/* The parent takes the child's place, so it is what the child was. */
static int
take_mark(struct smd_chain *parent, const struct smd_chain *child, struct smd_error *err)
{
	const struct smd_format *f = smd_chain_format(parent, 0);
	bool hidden = smd_chain_info(child, 0)->flags & SMD_INFO_HIDDEN;

	if (!(f->caps & SMD_CAP_HIDDEN) ||
	    hidden == !!(smd_chain_info(parent, 0)->flags & SMD_INFO_HIDDEN))
		return 0;
	return f->set_hidden(smd_chain_image(parent, 0), hidden, err);
}

static int
merge_into_parent(struct smd_source *source, const struct smd_copy_options *options,
		  struct smd_copy_stats *ret_stats, struct smd_error *err)
{
	CLEANUP(ops_source_close) struct smd_source below = { 0 };
	CLEANUP_CHAIN struct smd_chain *parent = NULL;
	CLEANUP_CHAIN struct smd_chain *child = NULL;

	if (ops_source_copy(source, 1, &below, err) != 0 ||
	    smd_source_open_mended(&below, &parent, err) != 0) {
		ops_source_close(source);
		return -1;
	}
	ops_give_direct(&source->direct_fd, smd_chain_io(parent, 0));
	source->write = false;
	if (smd_source_open(source, &child, err) != 0 ||
	    smd_merge_into_parent(child, parent, options, ret_stats, err) != 0)
		return -1;
	return take_mark(parent, child, err);
}

static int
merge_into_child(struct smd_source *source, const struct smd_copy_options *options,
		 struct smd_copy_stats *ret_stats, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *child = NULL;

	if (smd_source_open_mended(source, &child, err) != 0)
		return -1;
	ops_give_direct(&source->direct_fd, smd_chain_io(child, 0));
	return smd_merge_into_child(child, options, ret_stats, err);
}

int
smd_op_merge(struct smd_source *source, bool into_parent, const struct smd_copy_options *options,
	     json **ret, struct smd_error *err)
{
	struct smd_copy_stats stats;
	int rc = into_parent ? merge_into_parent(source, options, &stats, err)
			     : merge_into_child(source, options, &stats, err);

	if (source->direct_fd > 0)
		close(source->direct_fd);
	if (rc != 0)
		return -1;
	*ret = json_object_new_object();
	smd_json_set_int(*ret, "data", (int64_t)stats.bytes_data);
	smd_json_set_int(*ret, "written", (int64_t)stats.bytes_written);
	smd_json_set_int(*ret, "shared", (int64_t)stats.bytes_shared);
	smd_json_set_int(*ret, "zero", (int64_t)stats.bytes_zero);
	return 0;
}

/* ---- Another parent ---- */

/* What an image's child records of it; the image's own parents need not be there. */
static int
image_uuid(const struct smd_layer *layer, uint8_t ret[16], struct smd_error *err)
{
	struct smd_image_info info = { 0 };
	void *img;
	int rc;

	if (layer->format->open(layer->io, 0, &img, err) != 0)
		return -1;
	rc = layer->format->info(img, &info, err);
	memcpy(ret, info.uuid, sizeof info.uuid);
	free(info.details);
	layer->format->close(img);
	return rc;
}

static int
layer_set_parent(const struct smd_layer *layer, const struct smd_layer *parent, const char *name,
		 struct smd_error *err)
{
	const struct smd_format *f = layer->format;
	uint8_t uuid[16] = { 0 };
	void *img;
	int rc;

	if (!(f->caps & SMD_CAP_PARENT))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, layer->io->name,
				      "%s images have no parents", f->name);
	if ((parent && image_uuid(parent, uuid, err) != 0) ||
	    f->open(layer->io, SMD_OPEN_WRITE, &img, err) != 0)
		return -1;
	rc = f->set_parent(img, parent ? name : NULL,
			   parent ? smd_format_elsewhere(parent->format) : NULL, uuid, err);
	if (rc == 0)
		rc = f->flush(img, err);
	f->close(img);
	return rc;
}

/* The image, and the parent-to-be where it gets one. */
static int
set_parent_once(struct smd_source *source, const char *name, struct smd_error *err)
{
	struct smd_layer layers[SMD_CHAIN_MAX];
	int rc;

	source->write = true;
	if (smd_source_layers(source, layers, err) != 0)
		return -1;
	rc = layer_set_parent(&layers[0], source->n > 1 ? &layers[1] : NULL, name, err);
	for (size_t i = 0; i < source->n; i++)
		smd_io_close(layers[i].io);
	return rc;
}

int
smd_op_set_parent(struct smd_source *source, const char *name, struct smd_error *err)
{
	CLEANUP(ops_source_close) struct smd_source again;
	int rc;

	if (ops_source_copy(source, 0, &again, err) != 0) {
		ops_source_close(source);
		return -1;
	}
	rc = set_parent_once(source, name, err);
	if (rc == 0 || !needs_repair(err))
		return rc;
	smd_error_clear(err);
	/* Opened anew: what mends it may cut it off. */
	if (ops_source_repair(&again, NULL, err) != 0)
		return -1;
	return set_parent_once(&again, name, err);
}
