/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening what operations are asked about; those that make or resize images. */
#include "common/image/ops-impl.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/image/io.h"
#include "common/mem.h"
#include "common/uuid.h"

/* ---- Opening ---------------------------------------------------------------------- */

void
ops_layers_close(struct smd_layer *layers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		smd_io_close(layers[i].io);
}

static int
layer_open(struct smd_source *source, size_t i, struct smd_layer *ret, struct smd_error *err)
{
	uint32_t flags = source->write && i == 0 ? SMD_IO_WRITABLE : 0;

	if (smd_format_get(source->layers[i].format, &ret->format, err) != 0 ||
	    smd_io_file(source->layers[i].fd, source->layers[i].name, flags, &ret->io, err) != 0)
		return -1;
	source->layers[i].fd = -1;
	return source->foreign ? smd_detect_refuse(ret->io, ret->format, err) : 0;
}

void
ops_source_close(struct smd_source *source)
{
	for (size_t i = 0; i < source->n; i++) {
		if (source->layers[i].fd >= 0)
			close(source->layers[i].fd);
		source->layers[i].fd = -1;
	}
}

int
smd_source_layers(struct smd_source *source, struct smd_layer *ret_layers, struct smd_error *err)
{
	memset(ret_layers, 0, source->n * sizeof *ret_layers);
	for (size_t i = 0; i < source->n; i++) {
		if (layer_open(source, i, &ret_layers[i], err) != 0) {
			ops_layers_close(ret_layers, i + 1);
			ops_source_close(source);
			return -1;
		}
	}
	return 0;
}

int
smd_source_open(struct smd_source *source, struct smd_chain **ret, struct smd_error *err)
{
	struct smd_layer layers[SMD_CHAIN_MAX];
	uint32_t flags = (source->write ? SMD_CHAIN_WRITE : 0) |
			 (source->small ? SMD_CHAIN_SMALL : 0) |
			 (source->foreign ? SMD_CHAIN_FOREIGN : 0);

	if (smd_source_layers(source, layers, err) != 0)
		return -1;
	if (smd_chain_open(layers, source->n, flags, ret, err) != 0) {
		ops_layers_close(layers, source->n);
		return -1;
	}
	return 0;
}

/* ---- Sizes ------------------------------------------------------------------------ */

/* "raw, qcow2": the formats loaded that can hold so much; the caller frees. */
static char *
formats_for(uint64_t size)
{
	char *names = smd_strdup("");

	for (const struct smd_format *const *f = smd_formats(); *f; f++) {
		char *longer;

		if (!((*f)->caps & SMD_CAP_CREATE) || size > (*f)->max_virtual_size)
			continue;
		longer = smd_asprintf("%s%s%s", names, *names ? ", " : "", (*f)->name);
		free(names);
		names = longer;
	}
	return names;
}

static int
size_check(const struct smd_format *format, const char *name, uint64_t size,
	   struct smd_error *err)
{
	CLEANUP_FREE char *fit = NULL;

	if (size <= format->max_virtual_size)
		return 0;
	fit = formats_for(size);
	return smd_image_fail(err, SMD_REASON_SIZE_LIMIT, name,
			      "a disk of %" PRIu64 " bytes passes the limit of %s, %" PRIu64
			      "; formats that can hold it: %s", size, format->name,
			      format->max_virtual_size, *fit ? fit : "none");
}

/* The size a new image gets for a disk of so many bytes. */
static int
size_round(const struct smd_format *format, const char *name, uint64_t size, uint64_t *ret,
	   struct smd_error *err)
{
	uint64_t unit = format->size_unit ? format->size_unit : 1;

	if (size > UINT64_MAX - unit)
		return size_check(format, name, UINT64_MAX, err);
	*ret = (size + unit - 1) / unit * unit;
	return size_check(format, name, *ret, err);
}

int
smd_target_round(struct smd_target *target, struct smd_error *err)
{
	const struct smd_format *format;

	if (smd_format_get(target->format, &format, err) != 0)
		return -1;
	return size_round(format, target->name, target->virtual_size, &target->virtual_size, err);
}

/* ---- Making ----------------------------------------------------------------------- */

void
smd_target_params(const struct smd_target *target, struct smd_create *ret)
{
	*ret = (struct smd_create){
		.virtual_size = target->virtual_size,
		.n_options = target->options.n,
		.option_names = target->options.names,
		.option_values = target->options.values,
		.parent_name = target->parent_name,
		.parent_format = target->parent_format,
		.parent_virtual_size = target->parent_virtual_size,
		.timestamp_unix = (uint32_t)time(NULL),
	};
	memcpy(ret->parent_uuid, target->parent_uuid, sizeof ret->parent_uuid);
	smd_uuid_new_bytes(ret->uuid);
}

/* A store that cannot be cut to nothing first keeps what was at its ends, and with
 * it another format's signature. */
static int
signatures_wipe(struct smd_io *io, struct smd_error *err)
{
	uint64_t count = smd_min_u64(io->size, SMD_ENDS_MAX);

	if (io->flags & SMD_IO_CAN_GROW)
		return 0;
	if (io->ops->zero(io, 0, count, err) < 0)
		return -1;
	return io->ops->zero(io, io->size - count, count, err);
}

static int
parent_check(const struct smd_target *target, const struct smd_format *format,
	     struct smd_error *err)
{
	const struct smd_format *parent = target->parent_format ?
		smd_format_find(target->parent_format) : NULL;

	if (!target->parent_name)
		return 0;
	if (!(format->caps & SMD_CAP_PARENT))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, target->name,
				      "%s has no parents", format->name);
	if (parent && !smd_format_lies_on(format, parent))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, target->name,
				      "a %s image cannot lie on one in %s", format->name,
				      parent->name);
	return 0;
}

void
ops_give_direct(int *direct_fd, struct smd_io *io)
{
	if (*direct_fd > 0)
		smd_io_set_direct(io, *direct_fd);
	*direct_fd = 0;
}

/* Write an empty image over the target's file, which *ret_io then serves. */
int
ops_target_create(struct smd_target *target, const struct smd_format **ret_format,
	      struct smd_io **ret_io, struct smd_error *err)
{
	CLEANUP_IO struct smd_io *io = NULL;
	const struct smd_format *format;
	struct smd_create params;

	if (smd_format_get(target->format, &format, err) != 0)
		return -1;
	if (!(format->caps & SMD_CAP_CREATE))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, target->name,
				      "the module of %s makes no images", format->name);
	if (parent_check(target, format, err) != 0 || smd_target_round(target, err) != 0 ||
	    smd_io_file(target->fd, target->name, SMD_IO_WRITABLE, &io, err) != 0)
		return -1;
	target->fd = -1;
	ops_give_direct(&target->direct_fd, io);
	smd_io_set_no_flush(io, target->no_flush);
	smd_target_params(target, &params);
	if (signatures_wipe(io, err) != 0 || format->create(io, &params, err) != 0)
		return -1;
	*ret_format = format;
	*ret_io = TAKE_PTR(io);
	return 0;
}

void
ops_target_close(struct smd_target *target)
{
	if (target->fd >= 0)
		close(target->fd);
	if (target->direct_fd > 0)
		close(target->direct_fd);
	target->fd = -1;
	target->direct_fd = 0;
}

/* What the image under an overlay says of itself, and the whole disk's size. */
static int
parent_describe(struct smd_target *target, const struct smd_layer *parent, struct smd_error *err)
{
	struct smd_image_info info = { 0 };
	void *img;
	int rc;

	if (parent->format->open(parent->io, 0, &img, err) != 0)
		return -1;
	rc = parent->format->info(img, &info, err);
	parent->format->close(img);
	free(info.details);
	/* Children are for other tools to read, too. */
	target->parent_format = smd_format_elsewhere(parent->format);
	memcpy(target->parent_uuid, info.uuid, sizeof target->parent_uuid);
	target->parent_virtual_size = info.virtual_size;
	if (!target->parent_name)
		target->parent_name = parent->io->name;
	return rc;
}

int
ops_parents_open(struct smd_target *target, struct smd_layer *ret_layers, struct smd_error *err)
{
	size_t n = target->parents->n;

	if (n >= SMD_CHAIN_MAX)
		return smd_image_fail(err, SMD_REASON_CHAIN_DEPTH, target->name,
				      "a chain of %zu; at most %d are allowed", n + 1, SMD_CHAIN_MAX);
	if (smd_source_layers(target->parents, ret_layers, err) != 0)
		return -1;
	if (parent_describe(target, &ret_layers[0], err) == 0)
		return 0;
	ops_layers_close(ret_layers, n);
	return -1;
}

int
smd_op_create(struct smd_target *target, struct smd_error *err)
{
	struct smd_layer parents[SMD_CHAIN_MAX];
	CLEANUP_IO struct smd_io *io = NULL;
	const struct smd_format *format;
	int rc = target->parents ? ops_parents_open(target, parents, err) : 0;

	if (rc == 0) {
		rc = ops_target_create(target, &format, &io, err);
		if (target->parents)
			ops_layers_close(parents, target->parents->n);
	}
	ops_target_close(target);
	return rc == 0 ? smd_io_flush(io, err) : -1;
}

int
smd_op_resize(struct smd_source *source, uint64_t size, bool shrink, struct smd_error *err)
{
	CLEANUP_CHAIN struct smd_chain *chain = NULL;

	source->write = true;
	if ((source->mend ? smd_source_open_mended : smd_source_open)(source, &chain, err) != 0 ||
	    size_round(smd_chain_format(chain, 0), smd_chain_io(chain, 0)->name, size, &size,
		       err) != 0)
		return -1;
	return smd_chain_resize(chain, size, shrink, err);
}
