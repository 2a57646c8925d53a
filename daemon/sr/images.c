/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/images.h"

#include <stdint.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/sr/tree.h"

#define CORRUPT "IMAGE_CORRUPT "
#define UNSUPPORTED "IMAGE_UNSUPPORTED "

/* Where to find an image: by its volume's name, and by its own uuid. */
struct finder {
	struct image *images;
	json *names;	/* {location: place} */
	json *uuids;	/* {uuid: place}, -1 where several have it: copies of a file do */
};

/* Most SRs have many images and few chains, or none. */
static bool
any_names_parent(const struct image *images, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (images[i].look && images[i].look->has_parent)
			return true;
	}
	return false;
}

static void
finder_init(struct finder *finder, struct image *images, size_t n)
{
	*finder = (struct finder){ images, json_object_new_object(), json_object_new_object() };
	if (!any_names_parent(images, n))
		return;
	for (size_t i = 0; i < n; i++) {
		const struct look *look = images[i].look;

		smd_json_set_int(finder->names, images[i].location, (int64_t)i);
		if (look && *look->uuid)
			smd_json_set_int(finder->uuids, look->uuid,
					 smd_json_member(finder->uuids, look->uuid) ? -1 : (int64_t)i);
	}
}

static void
finder_done(struct finder *finder)
{
	json_object_put(finder->names);
	json_object_put(finder->uuids);
}

static struct image *
find(const struct finder *finder, json *index, const char *key)
{
	int64_t at = smd_json_int(index, key, -1);

	return at < 0 ? NULL : &finder->images[at];
}

static void
blame(struct image *image, char *why)
{
	free(image->why);
	image->why = why;
	image->culprit = image;
}

/* A plain name, perhaps written "./name" or ".\name". NULL: it is none. */
static const char *
plain_name(const char *name)
{
	if (strncmp(name, "./", 2) == 0 || strncmp(name, ".\\", 2) == 0)
		name += 2;
	if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strpbrk(name, "/\\:"))
		return NULL;
	return name;
}

static bool
uuid_matches(const struct image *image, const struct image *parent)
{
	const char *wanted = image->look->parent_uuid;

	return !*wanted || !parent->look || *parent->look->why ||
	       strcmp(wanted, parent->look->uuid) == 0;
}

/* By name; where that leads nowhere, as after a move between SRs, by uuid or as the
 * SR's records have it. */
static struct image *
find_named(const struct finder *finder, struct image *image, const char *name)
{
	struct image *parent = find(finder, finder->names, name), *other;

	if (parent && uuid_matches(image, parent))
		return parent;
	other = *image->look->parent_uuid ?
		find(finder, finder->uuids, image->look->parent_uuid) : NULL;
	if (other)
		return other;
	if (image->known_parent && uuid_matches(image, image->known_parent))
		return image->known_parent;
	if (parent)
		blame(image, smd_asprintf(CORRUPT "PARENT_MISMATCH: the uuid of %s is not the one "
					  "recorded for its parent", name));
	else
		blame(image, smd_asprintf(CORRUPT "MISSING_PARENT: its parent %s is not in the SR",
					  name));
	return NULL;
}

static struct image *
find_parent(const struct finder *finder, struct image *image)
{
	const struct look *look = image->look;
	const char *name = plain_name(look->parent_name);
	struct image *parent;

	if (!name) {
		blame(image, smd_asprintf(UNSUPPORTED "EXTERNAL_REF: it names a parent, \"%.200s\", that "
					  "is no plain name of a volume", look->parent_name));
		return NULL;
	}
	if (!*look->parent_format) {
		blame(image, smd_asprintf(CORRUPT "BACKING_FORMAT: it does not record the format of its "
					  "parent %s", name));
		return NULL;
	}
	parent = find_named(finder, image, name);
	if (parent && strcmp(look->parent_format, parent->format ? parent->format : "") != 0) {
		blame(image, smd_asprintf(CORRUPT "BACKING_FORMAT: its parent is recorded as %s, and %s is "
					  "%s", look->parent_format, parent->location,
					  parent->format ? parent->format : "of an unknown format"));
		return NULL;
	}
	return parent;
}

/* The chain is as the database has it: does the image contradict that? */
static void
check_known(struct image *image)
{
	const struct image *parent = image->known_parent;

	if (!image->look->has_parent && parent)
		blame(image, smd_asprintf(CORRUPT "PARENT_MISMATCH: it has no parent any more, and %s was "
					  "it", parent->location));
	else if (image->look->has_parent && parent && !uuid_matches(image, parent))
		blame(image, smd_asprintf(CORRUPT "PARENT_MISMATCH: the uuid of %s is not the one "
					  "recorded for its parent", parent->location));
}

static void
resolve_one(const struct finder *finder, struct image *image)
{
	const struct look *look = image->look;

	image->parent = image->known_parent;
	if (!look)
		return;
	blame(image, smd_strdup(look->why));
	if (*look->why)
		return;
	if (image->is_linked)
		check_known(image);
	else
		image->parent = look->has_parent ? find_parent(finder, image) : NULL;
}

/* ---- Chains ---- */

/* What keeps a parent from being read keeps its children from it. */
static void
inherit(struct image *image)
{
	const struct image *parent = image->parent;
	struct image *culprit = parent->culprit;
	const char *text;

	if (!image->why || *image->why || !parent->why || !*parent->why)
		return;
	text = strstr(culprit->why, ": ");
	blame(image, smd_asprintf("%.*s: %s, which it lies on: %s",
				  (int)(text ? text - culprit->why : 0), culprit->why,
				  culprit->location, text ? text + 2 : culprit->why));
	image->culprit = culprit;
}

static void
set_depth(struct image *image)
{
	image->depth = image->parent ? image->parent->depth + 1 : 1;
	if (image->depth > TREE_LAYERS_MAX) {
		blame(image, smd_asprintf(CORRUPT "CHAIN_DEPTH: its chain has more than %d images",
					  TREE_LAYERS_MAX));
		image->parent = NULL;
		image->depth = 1;
	}
	if (image->parent)
		inherit(image);
}

#define ON_PATH SIZE_MAX

static void
break_cycle(struct image **path, size_t n)
{
	for (size_t i = 0; i < n; i++)
		blame(path[i], smd_asprintf(CORRUPT "CHAIN_CYCLE: it is its own ancestor, by %s",
					    path[i]->parent->location));
	for (size_t i = 0; i < n; i++) {
		path[i]->parent = NULL;
		path[i]->depth = 1;
	}
}

/* Follow a chain down to what is settled already. path has room for all images. */
static void
settle(struct image *image, struct image **path)
{
	struct image *at = image;
	size_t n = 0, in_cycle = 0;

	for (; at && at->depth == 0; at = at->parent) {
		at->depth = ON_PATH;
		path[n++] = at;
	}
	if (at && at->depth == ON_PATH) {
		while (path[n - 1 - in_cycle++] != at)
			;
		n -= in_cycle;
		break_cycle(path + n, in_cycle);
	}
	while (n > 0)
		set_depth(path[--n]);
}

void
images_resolve(struct image *images, size_t n)
{
	CLEANUP_FREE struct image **path = smd_calloc(n + 1, sizeof *path);
	struct finder finder;

	finder_init(&finder, images, n);
	for (size_t i = 0; i < n; i++)
		resolve_one(&finder, &images[i]);
	for (size_t i = 0; i < n; i++)
		settle(&images[i], path);
	for (size_t i = 0; i < n; i++) {
		if (images[i].parent)
			images[i].parent->n_children++;
		/* What lies on it can be read all the same. */
		if (images[i].look && images[i].look->degraded && !*images[i].why)
			blame(&images[i], smd_strdup(LOOK_DEGRADED));
	}
	finder_done(&finder);
}

void
images_done(struct image *images, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(images[i].why);
}
