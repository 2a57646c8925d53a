/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/image/chain-impl.h"

#include <inttypes.h>
#include <string.h>

#include "common/mem.h"

static bool
uuid_is_zero(const uint8_t uuid[16])
{
	static const uint8_t zero[16];

	return memcmp(uuid, zero, 16) == 0;
}

/* What a module says of itself must be usable as it stands. */
static int
info_check(const struct chain_layer *l, struct smd_error *err)
{
	const struct smd_image_info *i = &l->info;

	if (!smd_is_pow2_u64(i->write_unit) || !smd_is_pow2_u64(i->alloc_unit) ||
	    i->write_unit < SMD_SECTOR || i->alloc_unit < i->write_unit ||
	    i->alloc_unit > SMD_ALLOC_MAX || i->virtual_size > INT64_MAX - SMD_ALLOC_MAX)
		return smd_fail_INTERNAL_ERROR(err, l->format->name,
				"%s: the module gave units %" PRIu64 "/%" PRIu64 ", size %" PRIu64,
				l->io->name, i->write_unit, i->alloc_unit, i->virtual_size);
	if (i->flags & SMD_INFO_COMPRESSED && !l->format->read_encoded)
		return smd_fail_INTERNAL_ERROR(err, l->format->name,
				"%s: the module lacks read_encoded", l->io->name);
	return 0;
}

static int
layer_open(struct chain_layer *l, const struct smd_layer *from, uint32_t flags,
	   struct smd_error *err)
{
	bool write = flags & SMD_OPEN_WRITE;

	l->format = from->format;
	l->io = from->io;
	if (write && !(l->format->caps & SMD_CAP_WRITE))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, l->io->name,
				      "%s images cannot be written", l->format->name);
	if (l->format->open(l->io, flags, &l->img, err) < 0) {
		l->img = NULL;
		return -1;
	}
	if (l->format->info(l->img, &l->info, err) < 0)
		return -1;
	if (write && l->info.flags & SMD_INFO_READ_ONLY)
		return smd_image_fail(err, SMD_REASON_NEEDS_REPAIR, l->io->name,
				      "it is to be written, and may only be read as it is");
	return info_check(l, err);
}

static int
parent_missing(const struct chain_layer *l, struct smd_error *err)
{
	const char *name = l->info.parent_name;

	return smd_image_fail(err, SMD_REASON_EXTERNAL_REF, l->io->name,
			"it needs a parent, and none was given%s%s",
			*name ? "; it names " : "", name);
}

/* That a child names this parent, where it says anything about it. */
static int
parent_check(const struct chain_layer *child, const struct chain_layer *parent,
	     struct smd_error *err)
{
	const struct smd_image_info *i = &child->info;

	if (!(i->flags & SMD_INFO_HAS_PARENT))
		return smd_image_fail(err, SMD_REASON_PARENT_MISMATCH, child->io->name,
				"it has no parent, yet %s was given", parent->io->name);
	if (*i->parent_format && smd_format_find(i->parent_format) != parent->format)
		return smd_image_fail(err, SMD_REASON_BACKING_FORMAT, child->io->name,
				"its parent is recorded as %s, and %s is %s", i->parent_format,
				parent->io->name, parent->format->name);
	if (!uuid_is_zero(i->parent_uuid) && memcmp(i->parent_uuid, parent->info.uuid, 16) != 0)
		return smd_image_fail(err, SMD_REASON_PARENT_MISMATCH, child->io->name,
				"the uuid of %s is not the one recorded", parent->io->name);
	return 0;
}

static uint32_t
open_flags(uint32_t flags, bool leaf)
{
	return (leaf && flags & SMD_CHAIN_WRITE ? SMD_OPEN_WRITE : 0) |
	       (leaf && flags & SMD_CHAIN_SMALL ? SMD_OPEN_SMALL : 0) |
	       (flags & SMD_CHAIN_FOREIGN ? SMD_OPEN_FOREIGN : 0);
}

static int
chain_open_layers(struct smd_chain *chain, const struct smd_layer *layers, uint32_t flags,
		  struct smd_error *err)
{
	for (size_t i = 0; i < chain->n; i++) {
		struct chain_layer *l = &chain->layers[i];

		if (layer_open(l, &layers[i], open_flags(flags, i == 0), err) < 0)
			return -1;
		if (i > 0 && parent_check(l - 1, l, err) < 0)
			return -1;
	}
	if (chain->layers[chain->n - 1].info.flags & SMD_INFO_HAS_PARENT)
		return parent_missing(&chain->layers[chain->n - 1], err);
	return 0;
}

int
smd_chain_open(const struct smd_layer *layers, size_t n, uint32_t flags, struct smd_chain **ret,
	       struct smd_error *err)
{
	struct smd_chain *chain;
	const struct smd_image_info *info;

	if (n == 0 || n > SMD_CHAIN_MAX)
		return smd_image_fail(err, SMD_REASON_CHAIN_DEPTH, n ? layers[0].io->name : "",
				"a chain of %zu; at most %d are allowed", n, SMD_CHAIN_MAX);
	chain = smd_calloc(1, sizeof *chain + n * sizeof chain->layers[0]);
	chain->n = n;
	chain->writable = flags & SMD_CHAIN_WRITE;
	pthread_mutex_init(&chain->writers_lock, NULL);
	pthread_cond_init(&chain->writers_changed, NULL);
	for (size_t i = 0; i < n; i++)
		pthread_mutex_init(&chain->layers[i].lock, NULL);
	if (chain_open_layers(chain, layers, flags, err) < 0) {
		for (size_t i = 0; i < n; i++)
			chain->layers[i].io = NULL;	/* the caller's still */
		smd_chain_close(chain);
		return -1;
	}
	info = &chain->layers[0].info;
	chain->unit = info->flags & SMD_INFO_COMPRESSED ? info->alloc_unit : info->write_unit;
	*ret = chain;
	return 0;
}

void
smd_chain_close(struct smd_chain *chain)
{
	if (!chain)
		return;
	for (size_t i = 0; i < chain->n; i++) {
		struct chain_layer *l = &chain->layers[i];

		if (l->img)
			l->format->close(l->img);
		free(l->info.details);
		smd_io_close(l->io);
		pthread_mutex_destroy(&l->lock);
	}
	pthread_mutex_destroy(&chain->writers_lock);
	pthread_cond_destroy(&chain->writers_changed);
	free(chain);
}

uint64_t
smd_chain_size(const struct smd_chain *chain)
{
	return chain->layers[0].info.virtual_size;
}

size_t
smd_chain_depth(const struct smd_chain *chain)
{
	return chain->n;
}

const struct smd_image_info *
smd_chain_info(const struct smd_chain *chain, size_t layer)
{
	return &chain->layers[layer].info;
}

const struct smd_format *
smd_chain_format(const struct smd_chain *chain, size_t layer)
{
	return chain->layers[layer].format;
}

struct smd_io *
smd_chain_io(const struct smd_chain *chain, size_t layer)
{
	return chain->layers[layer].io;
}

void *
smd_chain_image(const struct smd_chain *chain, size_t layer)
{
	return chain->layers[layer].img;
}

int
smd_chain_flush(struct smd_chain *chain, struct smd_error *err)
{
	struct chain_layer *leaf = chain_leaf(chain);

	if (!chain->writable)
		return 0;
	LOCK_SCOPE(&leaf->lock);
	return leaf->format->flush(leaf->img, err);
}

static int
info_again(struct chain_layer *l, struct smd_error *err)
{
	struct smd_image_info info = { 0 };

	if (l->format->info(l->img, &info, err) < 0)
		return -1;
	free(l->info.details);
	l->info = info;
	return 0;
}

static int
leaf_resize(struct chain_layer *leaf, uint64_t size, bool shrink, struct smd_error *err)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

	LOCK_SCOPE(&leaf->lock);
	if (leaf->format->resize(leaf->img, size, shrink ? SMD_RESIZE_SHRINK : 0, err) == 0)
		return info_again(leaf, err);
	/* It may have failed after the switch, in giving space back. */
	info_again(leaf, &ignored);
	return -1;
}

/* Growing over a larger parent's data: nobody may see it, not even after a crash,
 * so the leaf must be able to say zero before it is larger. Its last unit, which
 * the parent's data may pass through, becomes its own. */
static int
hide_parent(struct smd_chain *chain, uint64_t size, struct smd_error *err)
{
	struct chain_layer *leaf = chain_leaf(chain);
	uint64_t old_size = leaf->info.virtual_size;
	bool shows = false;
	uint8_t last;
	int r;

	if (size <= old_size || chain_below_shows(chain, old_size, size, &shows, err) < 0)
		return size <= old_size ? 0 : -1;
	if (!shows)
		return 0;
	pthread_mutex_lock(&leaf->lock);
	r = leaf->format->zero(leaf->img, 0, 0, 0, err);	/* 1: it has no way */
	pthread_mutex_unlock(&leaf->lock);
	if (r == 1)
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, leaf->io->name,
				"its parent has data between %" PRIu64 " and %" PRIu64
				", which this %s image could not hide", old_size, size,
				leaf->format->name);
	if (r < 0 || old_size % chain->unit == 0)
		return r;
	if (smd_chain_pread(chain, &last, 1, old_size - 1, err) < 0)
		return -1;
	return smd_chain_pwrite(chain, &last, 1, old_size - 1, err);
}

int
smd_chain_resize(struct smd_chain *chain, uint64_t size, bool shrink, struct smd_error *err)
{
	struct chain_layer *leaf = chain_leaf(chain);

	if (!chain->writable || !(leaf->format->caps & SMD_CAP_RESIZE))
		return smd_image_fail(err, SMD_REASON_UNSUPPORTED, leaf->io->name,
				      "%s images cannot be resized here", leaf->format->name);
	if (size > leaf->format->max_virtual_size)
		return smd_image_fail(err, SMD_REASON_SIZE_LIMIT, leaf->io->name,
				"%" PRIu64 " bytes; %s allows %" PRIu64, size,
				leaf->format->name, leaf->format->max_virtual_size);
	return hide_parent(chain, size, err) < 0 ? -1 : leaf_resize(leaf, size, shrink, err);
}
