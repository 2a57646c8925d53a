/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/coalesce.h"

#include <errno.h>
#include <string.h>

#include "common/checked.h"
#include "common/lock.h"
#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/job.h"
#include "daemon/sr/link.h"
#include "daemon/sr/tree.h"

#define JOB_KIND "SR.collect"

/* ---- Finding ---- */

static struct disk *
add_disk(struct disk **list, size_t *n)
{
	*list = smd_reallocarray(*list, *n + 1, sizeof **list);
	(*list)[*n] = (struct disk)DISK_INIT;
	return &(*list)[(*n)++];
}

static const char *
item(json *array, size_t i)
{
	return json_object_get_string(json_object_array_get_idx(array, i));
}

static int
find_around(struct coalesce *c, const char *node_ref, json *children, struct smd_error *err)
{
	CLEANUP_JSON json *chain = NULL, *above = NULL;
	struct daemon *daemon = c->daemon;

	if (tree_chain(daemon->db, node_ref, &chain, err) < 0)
		return -1;
	for (size_t i = 1; i < json_object_array_length(chain); i++) {
		if (disk_find_node(daemon, item(chain, i), add_disk(&c->below, &c->n_below), err) < 0)
			return -1;
	}
	if (json_object_array_length(children) == 0)
		return 0;
	if (disk_find_node(daemon, item(children, 0), &c->child, err) < 0 ||
	    tree_children(daemon->db, item(children, 0), &above, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(above); i++) {
		if (disk_find_node(daemon, item(above, i), add_disk(&c->above, &c->n_above), err) < 0)
			return -1;
	}
	return 0;
}

int
coalesce_find(struct daemon *daemon, const char *node_ref, struct coalesce *ret,
	      struct smd_error *err)
{
	CLEANUP_JSON json *children = NULL;
	int r;

	*ret = (struct coalesce){ .daemon = daemon, .parent = DISK_INIT, .child = DISK_INIT };
	/* The rows and links are of one moment. */
	if (db_begin(daemon->db, DB_RELAXED, err) < 0)
		return -1;
	if (!db_exists(daemon->db, "VDI", node_ref)) {
		db_rollback(daemon->db);
		return 1;
	}
	r = tree_children(daemon->db, node_ref, &children, err);
	if (r == 0)
		r = disk_find_node(daemon, node_ref, &ret->parent, err);
	if (r == 0 && (json_object_array_length(children) > 1 ||
		       smd_json_bool(ret->parent.record, "managed", true)))
		r = 1;
	if (r == 0)
		r = find_around(ret, node_ref, children, err);
	db_rollback(daemon->db);
	return r;
}

void
coalesce_done(struct coalesce *c)
{
	for (size_t i = 0; i < c->n_above; i++)
		disk_done(&c->above[i]);
	for (size_t i = 0; i < c->n_below; i++)
		disk_done(&c->below[i]);
	free(c->above);
	free(c->below);
	disk_done(&c->child);
	disk_done(&c->parent);
	*c = (struct coalesce){ .parent = DISK_INIT, .child = DISK_INIT };
}

static bool
disk_is(const struct disk *disk, const char *location)
{
	return disk->sr && strcmp(disk->location, location) == 0;
}

json *
coalesce_images(const struct coalesce *c)
{
	json *names = json_object_new_array();

	json_object_array_add(names, json_object_new_string(c->parent.location));
	if (c->child.sr)
		json_object_array_add(names, json_object_new_string(c->child.location));
	for (size_t i = 0; i < c->n_above; i++)
		json_object_array_add(names, json_object_new_string(c->above[i].location));
	return names;
}

struct disk *
coalesce_blamed(struct coalesce *c, const struct smd_error *error)
{
	const char *name = error->params && error->params[0] ? error->params[0] : "";

	if (!smd_error_is(error, SMD_E_IMAGE_CORRUPT))
		return NULL;
	for (size_t i = 0; i < c->n_below; i++) {
		if (disk_is(&c->below[i], name))
			return &c->below[i];
	}
	for (size_t i = 0; i < c->n_above; i++) {
		if (disk_is(&c->above[i], name))
			return &c->above[i];
	}
	if (disk_is(&c->child, name))
		return &c->child;
	return disk_is(&c->parent, name) ? &c->parent : NULL;
}

/* ---- Locking ---- */

/* 0 locked, 1 in use, -1. */
static int
lock_disk(struct disk *disk, bool alone, struct smd_error *err)
{
	if (volume_open(disk->sr, disk->location, alone ? SMD_SR_OPEN_WRITE : 0, &disk->fd, err) < 0)
		return -1;
	return smd_image_lock(disk->fd, alone, disk->location, err);
}

/* Garbage that is gone already is fine. */
static int
lock_garbage(struct disk *disk, struct smd_error *err)
{
	int r = lock_disk(disk, true, err);

	if (r >= 0 || err->errnum != ENOENT)
		return r;
	smd_error_clear(err);
	return 0;
}

static int
lock_list(struct disk *list, size_t n, bool alone, const struct disk **ret_busy,
	  struct smd_error *err)
{
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		*ret_busy = &list[i];
		r = lock_disk(&list[i], alone, err);
	}
	return r;
}

/* Whether a row and its place are what they were. */
static bool
disk_as_was(struct db *db, const struct disk *disk, const char *parent_ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *location = NULL, *parent = NULL;

	if (!db_exists(db, "VDI", disk->vdi_ref) ||
	    db_get_str(db, "VDI", disk->vdi_ref, "location", &location, &err) < 0 ||
	    tree_parent(db, disk->vdi_ref, &parent, &err) < 0)
		return false;
	return strcmp(location, disk->location) == 0 &&
	       (parent_ref ? parent && strcmp(parent, parent_ref) == 0 : !parent);
}

static bool
n_children_is(struct db *db, const struct disk *disk, size_t n)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *children = NULL;

	return tree_children(db, disk->vdi_ref, &children, &err) == 0 &&
	       json_object_array_length(children) == n;
}

/* In a transaction. The links upwards and the numbers of children say it all. */
static bool
all_as_was(struct coalesce *c)
{
	struct db *db = c->daemon->db;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *grandparent = c->n_below ? c->below[0].vdi_ref : NULL;
	bool managed = true;

	if (!disk_as_was(db, &c->parent, grandparent) ||
	    db_get_bool(db, "VDI", c->parent.vdi_ref, "managed", &managed, &err) < 0 || managed ||
	    !n_children_is(db, &c->parent, c->child.sr ? 1 : 0))
		return false;
	for (size_t i = 0; i < c->n_below; i++) {
		if (!disk_as_was(db, &c->below[i],
				 i + 1 < c->n_below ? c->below[i + 1].vdi_ref : NULL))
			return false;
	}
	if (!c->child.sr)
		return true;
	for (size_t i = 0; i < c->n_above; i++) {
		if (!disk_as_was(db, &c->above[i], c->child.vdi_ref))
			return false;
	}
	return disk_as_was(db, &c->child, c->parent.vdi_ref) &&
	       n_children_is(db, &c->child, c->n_above);
}

int
coalesce_lock(struct coalesce *c, char **ret_busy, struct smd_error *err)
{
	const struct disk *busy = NULL;
	bool same;
	int r;

	*ret_busy = NULL;
	/* From the top: whoever has a chain open is known by its leaf. */
	r = lock_list(c->above, c->n_above, true, &busy, err);
	if (r == 0 && c->child.sr)
		r = lock_list(&c->child, 1, true, &busy, err);
	if (r == 0)
		busy = &c->parent;
	if (r == 0)
		r = c->child.sr ? lock_disk(&c->parent, true, err) : lock_garbage(&c->parent, err);
	if (r == 0)
		r = lock_list(c->below, c->n_below, false, &busy, err);
	if (r < 0)
		return -1;
	if (r == 1) {
		*ret_busy = smd_strdup(busy->uuid);
		return 1;
	}
	if (db_begin(c->daemon->db, DB_RELAXED, err) < 0)
		return -1;
	same = all_as_was(c);
	db_rollback(c->daemon->db);
	return same ? 0 : 1;
}

/* ---- Merging ---- */

static int
add_layer(json *source, const struct disk *disk, struct worker_job *job, struct smd_error *err)
{
	CLEANUP_JSON json *one = source_of_fd(disk->fd, disk->location, disk->format, false, false, job,
					      err);

	if (!one)
		return -1;
	json_object_array_add(smd_json_member(source, "layers"), json_object_get(
			      json_object_array_get_idx(smd_json_member(one, "layers"), 0)));
	return 0;
}

/* The child with all that it lies on. */
static int
run(struct coalesce *c, const char *op, const char *into, struct worker_job *job, json **ret,
    struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	json *source = json_object_new_object();
	int r;

	smd_json_set_str(request, "op", op);
	smd_json_set(request, "source", source);
	smd_json_set(source, "layers", json_object_new_array());
	smd_json_set_str(request, "into", into);
	smd_json_set_int(request, "bytes_per_second",
			 config_int(c->daemon->config, "collect_bytes_per_second"));
	smd_json_set_int(request, "quota", (int64_t)smd_max_u64(c->child.virtual_size,
								 c->parent.virtual_size));
	job->request = request;
	job->stop = c->stop;
	r = add_layer(source, &c->child, job, err);
	if (r == 0)
		r = add_layer(source, &c->parent, job, err);
	for (size_t i = 0; i < c->n_below && r == 0; i++)
		r = add_layer(source, &c->below[i], job, err);
	if (r < 0) {
		worker_job_done(job);
		return -1;
	}
	if (*into)
		worker_direct(job, source, c->into_parent ? c->parent.fd : c->child.fd);
	return worker_run(c->daemon, job, ret, err);
}

/* What there is of either image goes where less has to be written. A chain of two
 * formats ends as its base's. */
int
coalesce_choose(struct coalesce *c, struct smd_error *err)
{
	struct worker_job job = { .urgent = true };
	CLEANUP_JSON json *sizes = NULL;
	bool one_format = strcmp(c->parent.format, c->child.format) == 0;

	if (run(c, "measure-merge", "", &job, &sizes, err) < 0)
		return -1;
	c->up = (uint64_t)smd_json_int(sizes, "into-parent", 0);
	c->down = (uint64_t)smd_json_int(sizes, "into-child", 0);
	c->lacks = (uint64_t)smd_json_int(sizes, "parent-lacks", 0);
	/* A larger parent would make the child's disk larger. */
	c->into_parent = c->parent.virtual_size <= c->child.virtual_size &&
			 (!one_format || c->up <= c->down);
	return 0;
}

uint64_t
coalesce_bytes(const struct coalesce *c)
{
	return c->into_parent ? c->up : c->down;
}

uint64_t
coalesce_room(const struct coalesce *c)
{
	return c->into_parent ? c->lacks : c->down;
}

int
coalesce_merge(struct coalesce *c, const struct worker_job *from, struct smd_error *err)
{
	struct worker_job job = *from;
	CLEANUP_JSON json *result = NULL;

	job.background = true;
	worker_loads(&job, sr_ref(c->parent.sr));
	if (run(c, "merge", c->into_parent ? "parent" : "child", &job, &result, err) == 0)
		return 0;
	return volume_fail(c->parent.sr, err);
}

/* ---- The end ---- */

static int
take_parents_image(struct coalesce *c, struct smd_error *err)
{
	struct db *db = c->daemon->db;
	const char *ref = c->child.vdi_ref;

	if (db_set_str(db, "VDI", ref, "location", c->parent.location, err) < 0 ||
	    db_map_set(db, "VDI", ref, "sm_config", "image-format", c->parent.format, err) < 0)
		return -1;
	return db_map_remove(db, "VDI", ref, "sm_config", "image-error", err);
}

static int
change_rows(struct coalesce *c, struct smd_error *err)
{
	struct db *db = c->daemon->db;
	struct disk *kept = c->into_parent ? &c->parent : &c->child;
	int64_t allocated;

	if (!c->child.sr)	/* garbage */
		return tree_drop(db, c->parent.vdi_ref, err);
	allocated = (int64_t)volume_allocated(kept->sr, kept->location);
	if ((c->into_parent && take_parents_image(c, err) < 0) ||
	    db_set_int(db, "VDI", c->child.vdi_ref, "physical_utilisation", allocated, err) < 0 ||
	    tree_set_parent(db, c->child.vdi_ref, c->n_below ? c->below[0].vdi_ref : NULL,
			    err) < 0)
		return -1;
	return tree_drop(db, c->parent.vdi_ref, err);
}

static int
commit_rows(struct coalesce *c, const char *job, struct smd_error *err)
{
	struct db *db = c->daemon->db;
	int r;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	r = all_as_was(c) ? 0 : 1;
	if (r == 0)
		r = change_rows(c, err);
	if (r == 0)
		r = job_committed(c->daemon, job, err);
	if (r == 0)
		return db_commit(db, err);
	db_rollback(db);
	return r;
}

/* The images that name one that goes away name the other from now on, and a base that
 * becomes somebody's disk is hidden no more. A kill after that leaves a base that only
 * looks like a disk to other programs. */
static int
link_images(struct coalesce *c, struct smd_error *err)
{
	const struct disk *under = c->n_below ? &c->below[0] : NULL;

	if (c->child.sr && !c->into_parent)
		return volume_set_parent(c->child.sr, c->child.location, c->child.format,
					 under ? under->location : NULL, under ? under->format : NULL,
					 err);
	for (size_t i = 0; i < c->n_above; i++) {
		if (volume_set_parent(c->above[i].sr, c->above[i].location, c->above[i].format,
				      c->parent.location, c->parent.format, err) < 0)
			return -1;
	}
	if (!c->child.sr || !smd_json_bool(c->child.record, "managed", true))
		return 0;
	return volume_set_hidden(c->parent.sr, c->parent.location, c->parent.format, false, err);
}

/* Undo: the images name what they named. Redo: the image that nobody needs is gone. */
static int
begin_job(struct coalesce *c, char **ret_job, struct smd_error *err)
{
	CLEANUP_JSON json *undo = NULL, *redo = NULL;
	const char *sr = sr_uuid(c->parent.sr);

	if (c->child.sr && !c->into_parent)
		job_plan_add_link(&undo, sr, c->child.location, c->child.format, c->parent.location,
				  c->parent.format);
	for (size_t i = 0; c->into_parent && i < c->n_above; i++)
		job_plan_add_link(&undo, sr, c->above[i].location, c->above[i].format,
				  c->child.location, c->child.format);
	job_plan_add(&redo, sr, c->into_parent ? c->child.location : c->parent.location);
	return job_begin(c->daemon, &(struct job_plan){ JOB_KIND, undo, redo, NULL }, ret_job, err);
}

int
coalesce_commit(struct coalesce *c, struct smd_error *err)
{
	CLEANUP_FREE char *job = NULL;
	int r;

	if (begin_job(c, &job, err) < 0)
		return -1;
	r = link_images(c, err);
	if (r == 0)
		r = commit_rows(c, job, err);
	if (r == 0)
		records_forget(c->parent.sr, c->into_parent ? c->child.location : c->parent.location);
	job_end(c->daemon, job);
	return r;
}
