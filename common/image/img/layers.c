/* SPDX-License-Identifier: BSD-2-Clause */
/* Verbs about what lies in and under an image: snapshot, rebase, commit. All are
 * for images of one's own, so parents are followed as under --chain. */
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <string.h>
#include <time.h>

#include "common/direct.h"
#include "common/image/io.h"
#include "common/image/img/img.h"
#include "common/image/merge.h"
#include "common/lock.h"
#include "common/mem.h"

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

typedef int merge_fn(struct smd_chain *leaf, struct smd_chain *parent,
		     const struct smd_copy_options *options, struct smd_copy_stats *ret_stats,
		     struct smd_error *err);

/* One of the engine's ways, under the options and the bar of the command line. */
static int
merge_run(struct img_options *o, merge_fn *merge, struct smd_chain *leaf,
	  struct smd_chain *parent, struct smd_error *err)
{
	struct smd_copy_options options;
	struct img_progress progress;
	int rc;

	img_copy_options(o, &progress, &options);
	rc = merge(leaf, parent, &options, NULL, err);
	img_progress_end(&progress);
	return rc;
}

static int
set_parent(const struct smd_format *f, void *img, struct smd_chain *parent, const char *path,
	   struct smd_error *err)
{
	static const uint8_t none[16];
	CLEANUP_FREE char *copy = smd_strdup(path);

	if (!parent)
		return f->set_parent(img, NULL, NULL, none, err);
	return f->set_parent(img, basename(copy), smd_format_elsewhere(smd_chain_format(parent, 0)),
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
	    merge_run(o, smd_merge_difference, leaf, parent, err) != 0)
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
	int direct;

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
	direct = smd_open_direct(smd_io_fd(smd_chain_io(parent, 0)));
	if (direct > 0)
		smd_io_set_direct(smd_chain_io(parent, 0), direct);
	o->share = true;	/* both are ours now: the locks above stand in the way of these */
	if (img_source(o, o->args[0], o->format, false, &source, err) != 0 ||
	    smd_source_open(&source, &leaf, err) != 0)
		return -1;
	/* The parent is on disk before anybody may think that the leaf is no longer
	 * needed. The leaf stays as it is: it shows the same disk. */
	return merge_run(o, smd_merge_into_parent, leaf, parent, err) == 0 ? IMG_OK : -1;
}
