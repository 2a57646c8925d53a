/* SPDX-License-Identifier: BSD-2-Clause */
/* Verbs about what lies in and under an image: snapshot, rebase, commit. All are
 * for images of one's own, so parents are followed as under --chain. */
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <string.h>
#include <time.h>

#include "common/checked.h"
#include "common/image/io.h"
#include "common/image/img/img.h"
#include "common/lock.h"
#include "common/mem.h"

#define WINDOW (1u << 20)
#define COMPARE_UNIT 65536u	/* what rebase writes when a byte of it differs */

static void
cleanup_source(struct smd_source *source)
{
	img_source_free(source);
}

static int
need_cap(const struct smd_format *format, uint64_t cap, const char *path, const char *what,
	 struct smd_error *err)
{
	if (format->caps & cap)
		return 0;
	return smd_image_fail(err, SMD_REASON_UNSUPPORTED, path, "%s images have no %s",
			      format->name, what);
}

/* ---- The leaf's own extents ---- */

struct own {
	struct smd_extent *list;
	size_t n, room;
	bool parents;	/* what is left to the parent, else what is not */
};

static int
own_add(void *opaque, const struct smd_extent *extent, struct smd_error *err)
{
	struct own *own = opaque;

	(void)err;
	if ((extent->kind == SMD_EXTENT_PARENT) != own->parents)
		return 0;
	if (own->n == own->room) {
		own->room = own->room ? 2 * own->room : 64;
		own->list = smd_reallocarray(own->list, own->room, sizeof *own->list);
	}
	own->list[own->n++] = *extent;
	return 0;
}

static void
cleanup_own(struct own *own)
{
	free(own->list);
}

static int
own_collect(struct smd_chain *chain, struct own *own, struct smd_error *err)
{
	uint64_t size = smd_chain_size(chain);

	return smd_chain_format(chain, 0)->extents(smd_chain_image(chain, 0), 0,
			smd_div_round_up_u64(size, SMD_SECTOR) * SMD_SECTOR, own_add, own, err);
}

/* Its end within a disk of size bytes. */
static uint64_t
extent_end(const struct smd_extent *e, uint64_t size)
{
	return smd_min_u64(e->offset + e->count, size);
}

/* ---- snapshot ---- */

static int
snapshot_print(void *opaque, const struct smd_snapshot *s, struct smd_error *err)
{
	CLEANUP_JSON json *id = json_object_new_string(s->id);
	CLEANUP_JSON json *name = json_object_new_string(s->name);

	(void)opaque;
	(void)err;
	/* As JSON: a name in an image may hold anything. */
	printf("%-10s %-30s %14" PRIu64 " %14" PRIu64 " %" PRIu64 "\n",
	       json_object_to_json_string(id), json_object_to_json_string(name), s->virtual_size,
	       s->vm_state_size, s->date_ns / 1000000000);
	return 0;
}

static int
snapshot_run(struct smd_chain *chain, char what, const char *name, struct smd_error *err)
{
	const struct smd_format *f = smd_chain_format(chain, 0);
	void *img = smd_chain_image(chain, 0);
	struct timespec now;

	if (need_cap(f, SMD_CAP_SNAPSHOTS, smd_chain_io(chain, 0)->name, "snapshots", err) != 0)
		return -1;
	clock_gettime(CLOCK_REALTIME, &now);
	switch (what) {
	case 'c':
		return f->snapshot_create(img, name, (uint64_t)now.tv_sec * 1000000000 +
					  (uint64_t)now.tv_nsec, err);
	case 'd':
		return f->snapshot_delete(img, name, err);
	case 'a':
		return f->snapshot_apply(img, name, err);
	default:
		printf("%-10s %-30s %14s %14s %s\n", "ID", "NAME", "DISK SIZE", "VM STATE", "DATE");
		return f->snapshot_list(img, snapshot_print, NULL, err);
	}
}

int
img_snapshot(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP_CHAIN struct smd_chain *chain = NULL;
	char what = o->snapshot[0] ? *o->snapshot[0] : 'l';

	o->chain = true;
	if (img_source(o, o->args[0], o->format, what != 'l', &source, err) != 0 ||
	    smd_source_open(&source, &chain, err) != 0 ||
	    snapshot_run(chain, what, o->snapshot[1], err) != 0)
		return -1;
	return smd_chain_flush(chain, err) == 0 ? IMG_OK : -1;
}

/* ---- rebase ---- */

/* Where the old parents show something else than the new one, the leaf gets it. */
static int
rebase_range(struct smd_chain *leaf, struct smd_chain *parent, uint64_t offset, uint64_t count,
	     uint8_t *old, uint8_t *new, struct smd_error *err)
{
	uint64_t size = parent ? smd_chain_size(parent) : 0;
	uint64_t have = offset < size ? smd_min_u64(count, size - offset) : 0;

	memset(new, 0, count);
	if (smd_chain_pread(leaf, old, count, offset, err) != 0 ||
	    (have > 0 && smd_chain_pread(parent, new, have, offset, err) != 0))
		return -1;
	if (memcmp(old, new, count) == 0)
		return 0;
	return smd_chain_pwrite(leaf, old, count, offset, err);
}

static int
rebase_copy(struct smd_chain *leaf, struct smd_chain *parent, struct smd_error *err)
{
	CLEANUP(cleanup_own) struct own own = { .parents = true };
	CLEANUP_FREE uint8_t *old = smd_malloc(COMPARE_UNIT);
	CLEANUP_FREE uint8_t *new = smd_malloc(COMPARE_UNIT);

	if (own_collect(leaf, &own, err) != 0)
		return -1;
	for (size_t i = 0; i < own.n; i++) {
		uint64_t end = extent_end(&own.list[i], smd_chain_size(leaf));

		for (uint64_t at = own.list[i].offset; at < end;) {
			uint64_t stop = smd_min_u64(end, smd_round_down_u64(at, COMPARE_UNIT) +
							 COMPARE_UNIT);

			if (rebase_range(leaf, parent, at, stop - at, old, new, err) != 0)
				return -1;
			at = stop;
		}
	}
	return smd_chain_flush(leaf, err);
}

static int
set_parent(const struct smd_format *f, void *img, struct smd_chain *parent, const char *path,
	   struct smd_error *err)
{
	static const uint8_t none[16];
	CLEANUP_FREE char *copy = smd_strdup(path);

	if (!parent)
		return f->set_parent(img, NULL, NULL, none, err);
	return f->set_parent(img, basename(copy), smd_chain_format(parent, 0)->name,
			     smd_chain_info(parent, 0)->uuid, err);
}

/* Only the name: for a parent that was moved, and has the same content. */
static int
rebase_name(struct img_options *o, struct smd_chain *parent, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP_IO struct smd_io *io = NULL;
	const struct smd_format *f;
	void *img;
	int rc;

	o->chain = false;	/* the old parent need not exist */
	if (img_source(o, o->args[0], o->format, true, &source, err) != 0 ||
	    smd_format_get(source.layers[0].format, &f, err) != 0 ||
	    need_cap(f, SMD_CAP_PARENT, o->args[0], "parents", err) != 0 ||
	    smd_io_file(source.layers[0].fd, o->args[0], SMD_IO_WRITABLE, &io, err) != 0)
		return -1;
	source.layers[0].fd = -1;
	if (f->open(io, SMD_OPEN_WRITE, &img, err) != 0)
		return -1;
	rc = set_parent(f, img, parent, o->backing, err);
	f->close(img);
	return rc;
}

static int
rebase_safely(struct img_options *o, struct smd_chain *parent, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP_CHAIN struct smd_chain *leaf = NULL;
	const struct smd_format *f;

	if (img_source(o, o->args[0], o->format, true, &source, err) != 0 ||
	    smd_source_open(&source, &leaf, err) != 0)
		return -1;
	f = smd_chain_format(leaf, 0);
	if (need_cap(f, SMD_CAP_PARENT, o->args[0], "parents", err) != 0 ||
	    rebase_copy(leaf, parent, err) != 0)
		return -1;
	return set_parent(f, smd_chain_image(leaf, 0), parent, o->backing, err);
}

int
img_rebase(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP_CHAIN struct smd_chain *parent = NULL;
	int rc;

	if (!o->backing || (*o->backing && !o->second_format))
		return smd_fail_INVALID_VALUE(err, "-b", "", "rebase needs -b PARENT and -F FORMAT, "
					      "or -b \"\" for none");
	o->chain = true;
	if (*o->backing &&
	    (img_source(o, o->backing, o->second_format, false, &source, err) != 0 ||
	     smd_source_open(&source, &parent, err) != 0))
		return -1;
	rc = o->unsafe ? rebase_name(o, parent, err) : rebase_safely(o, parent, err);
	return rc == 0 ? IMG_OK : -1;
}

/* ---- commit ---- */

static int
commit_extent(struct smd_chain *leaf, struct smd_chain *parent, const struct smd_extent *e,
	      uint8_t *buf, struct smd_error *err)
{
	uint64_t end = extent_end(e, smd_chain_size(leaf));

	if (e->kind == SMD_EXTENT_ZERO)
		return e->offset < end ? smd_chain_zero(parent, e->offset, end - e->offset, true,
							err) : 0;
	for (uint64_t at = e->offset; at < end;) {
		uint64_t n = smd_min_u64(WINDOW, end - at);

		if (smd_chain_pread(leaf, buf, n, at, err) != 0 ||
		    smd_chain_pwrite(parent, buf, n, at, err) != 0)
			return -1;
		at += n;
	}
	return 0;
}

/* The parent is on disk before anybody may think that the leaf is no longer
 * needed. The leaf stays as it is: it shows the same disk. */
static int
commit_run(struct smd_chain *leaf, struct smd_chain *parent, struct smd_error *err)
{
	CLEANUP(cleanup_own) struct own own = { .parents = false };
	CLEANUP_FREE uint8_t *buf = smd_malloc(WINDOW);

	if (own_collect(leaf, &own, err) != 0)
		return -1;
	if (smd_chain_size(leaf) > smd_chain_size(parent) &&
	    smd_chain_resize(parent, smd_chain_size(leaf), false, err) != 0)
		return -1;
	for (size_t i = 0; i < own.n; i++) {
		if (commit_extent(leaf, parent, &own.list[i], buf, err) != 0)
			return -1;
	}
	return smd_chain_flush(parent, err);
}

/* The parent's path and format, by way of the chain that --chain would open. */
static int
parent_path(struct img_options *o, char **ret_path, const char **ret_format,
	    struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source source = { 0 };
	CLEANUP_FREE char *copy = smd_strdup(o->args[0]);

	if (img_source(o, o->args[0], o->format, false, &source, err) != 0)
		return -1;
	if (source.n < 2)
		return smd_image_fail(err, SMD_REASON_MISSING_PARENT, o->args[0],
				      "it has no parent to commit to");
	*ret_path = smd_asprintf("%s/%s", dirname(copy), source.layers[1].name);
	*ret_format = source.layers[1].format;
	return 0;
}

int
img_commit(struct img_options *o, struct smd_error *err)
{
	CLEANUP(cleanup_source) struct smd_source below = { 0 }, source = { 0 };
	CLEANUP_CHAIN struct smd_chain *parent = NULL;
	CLEANUP_CHAIN struct smd_chain *leaf = NULL;
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_FREE char *path = NULL;
	const char *format = NULL;

	o->chain = true;
	if (parent_path(o, &path, &format, err) != 0)
		return -1;
	lock = img_open_file(o->args[0], O_RDWR, err);
	if (lock < 0)
		return -1;
	if (!o->share && smd_image_lock(lock, true, o->args[0], err) != 0)
		return err->code ? -1 : smd_fail_IMAGE_IO(err, o->args[0], "%s is in use",
							  o->args[0]);
	if (img_source(o, path, format, true, &below, err) != 0 ||
	    smd_source_open(&below, &parent, err) != 0)
		return -1;
	o->share = true;	/* both are ours now: the locks above stand in the way of these */
	if (img_source(o, o->args[0], o->format, false, &source, err) != 0 ||
	    smd_source_open(&source, &leaf, err) != 0)
		return -1;
	return commit_run(leaf, parent, err) == 0 ? IMG_OK : -1;
}
