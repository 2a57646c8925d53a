/* SPDX-License-Identifier: BSD-2-Clause */
/* VDI.snapshot, clone, revert: new images on what others show (daemon/sr/overlay.h). */
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/job/collect.h"
#include "daemon/job/digest.h"
#include "daemon/job/task.h"
#include "daemon/sr/cbt.h"
#include "daemon/sr/overlay.h"
#include "daemon/sr/settle.h"
#include "daemon/sr/tree.h"

/* Sizes of the SR after a change, which has happened whatever becomes of this. */
static void
stats(struct daemon *daemon, const char *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	sr_update_stats(daemon, sr, &err);
	collect_kick(daemon, sr);
}

/* ---- snapshot, clone ---- */

struct duplicate {
	const char *operation, *sr_operation, *kind;
	bool snapshot;
};

/* Whether a snapshot of the disk is tracked, as the disk is. */
static bool
ends_count(json *vdi)
{
	return smd_json_bool(vdi, "cbt_enabled", false) &&
	       !smd_json_bool(vdi, "is_a_snapshot", false);
}

/* Of the new volume, with what it lies on. */
static json *
duplicate_sm_config(const struct new_volume *v, const char *parent_uuid)
{
	json *sm_config = json_object_new_object();

	smd_json_set_str(sm_config, "image-format", v->format);
	smd_json_set_str(sm_config, TREE_PARENT_KEY, parent_uuid);
	return sm_config;
}

static json *
duplicate_row(struct overlay *o, json *vdi, bool snapshot, const char *parent_uuid)
{
	static const char *const shared[] = {
		"name_label", "name_description", "type", "sharable", "other_config", "xenstore_data",
		"tags", "on_boot", "allow_caching", "metadata_of_pool", "SR", NULL,
	};
	json *row = json_object_new_object();
	struct new_volume *v = &o->v[0];

	for (const char *const *field = shared; *field; field++)
		smd_json_set(row, *field, json_object_get(smd_json_member(vdi, *field)));
	smd_json_set_str(row, "uuid", v->uuid.text);
	smd_json_set_str(row, "location", v->name);
	smd_json_set_int(row, "virtual_size", (int64_t)v->virtual_size);
	smd_json_set_int(row, "physical_utilisation", (int64_t)new_volume_allocated(v));
	smd_json_set(row, "sm_config", duplicate_sm_config(v, parent_uuid));
	if (snapshot) {
		CLEANUP_FREE char *now = db_now();

		smd_json_set_bool(row, "is_a_snapshot", true);
		smd_json_set_str(row, "snapshot_of", o->disk->vdi_ref);
		smd_json_set_str(row, "snapshot_time", now);
		smd_json_set_bool(row, "cbt_enabled", ends_count(vdi));
	}
	smd_json_set(row, "allowed_operations", op_allowed_of_new(o->disk->sr, row));
	return row;
}

struct duplication {
	const struct duplicate *d;
	struct call *call;
	struct op_set *ops;
	struct overlay *o;
	struct cbt_change *cbt;
	const char *ref;		/* of the VDI to be */
	char *parent;			/* what it lies on */
};

static void
duplication_done(struct duplication *dup)
{
	free(dup->parent);
}

/* What others see of it, with the end of the operations and of the task. */
static int
duplicate_show(struct duplication *dup, const struct smd_sr_stat *stat, struct smd_error *err)
{
	struct call *call = dup->call;

	if (sr_store_stats(call->daemon, sr_ref(dup->o->disk->sr), stat, err) < 0)
		return -1;
	op_set_end(dup->ops);
	return task_hide(call->daemon->tasks, call->task_ref, err);
}

static int
duplicate_in_transaction(struct duplication *dup, const struct smd_sr_stat *stat,
			 struct smd_error *err)
{
	struct overlay *o = dup->o;
	struct db *db = o->daemon->db;
	CLEANUP_JSON json *vdi = NULL, *row = NULL;
	CLEANUP_FREE char *parent_uuid = NULL;

	/* Its names may have changed since the plan. */
	if (db_get_record(db, "VDI", o->disk->vdi_ref, &vdi, err) < 0 ||
	    overlay_split(o, &dup->parent, err) < 0 ||
	    db_get_str(db, "VDI", dup->parent, "uuid", &parent_uuid, err) < 0)
		return -1;
	row = duplicate_row(o, vdi, dup->d->snapshot, parent_uuid);
	if (db_insert(db, "VDI", dup->ref, row, err) < 0 ||
	    tree_set_parent(db, dup->ref, dup->parent, err) < 0 || cbt_commit(dup->cbt, err) < 0 ||
	    overlay_promise(o, NULL, err) < 0)
		return -1;
	return duplicate_show(dup, stat, err);
}

static int
duplicate_commit(void *opaque, const struct smd_sr_stat *stat, struct smd_error *err)
{
	struct duplication *dup = opaque;
	struct overlay *o = dup->o;

	if (db_begin(o->daemon->db, DB_DURABLE, err) < 0 ||
	    db_end(o->daemon->db, duplicate_in_transaction(dup, stat, err), err) < 0)
		return -1;
	op_set_keep(dup->ops);
	task_hidden(o->daemon->tasks, dup->call->task_ref);
	return 0;
}

/* What the disk's changes are counted from is another state, or another image. */
static int
plan_tracking(struct overlay *o, const struct duplicate *d, const char *ref,
	      struct cbt_change *cbt, struct smd_error *err)
{
	cbt_begin_for(cbt, o->daemon, o->disk);
	if (cbt_plan_overlay(cbt, o->disk, o->empty,
			     d->snapshot && ends_count(o->disk->record) ? ref : NULL, err) < 0)
		return -1;
	return cbt_make(cbt, d->kind, err);
}

static int
duplicate_begin(struct duplication *dup, struct smd_error *err)
{
	const char *vdi = call_str(dup->call, 0);
	struct disk *disk = dup->o->disk;

	if (op_set_begin_brief(dup->ops, "VDI", vdi, dup->d->operation, err) < 0 ||
	    disk_find(dup->call->daemon, vdi, disk, err) < 0)
		return -1;
	return op_set_begin_brief(dup->ops, "SR", sr_ref(disk->sr), dup->d->sr_operation, err);
}

static int
duplicate(struct call *call, const struct duplicate *d, json **ret, struct smd_error *err)
{
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk disk CLEANUP_DISK = DISK_INIT;
	struct overlay o CLEANUP_OVERLAY = OVERLAY_INIT;
	struct cbt_change cbt CLEANUP_CBT = CBT_CHANGE_INIT;
	CLEANUP_FREE char *ref = db_new_ref();
	CLEANUP(duplication_done) struct duplication dup = {
		.d = d, .call = call, .ops = &ops, .o = &o, .cbt = &cbt, .ref = ref,
	};

	o.daemon = call->daemon;
	o.kind = d->kind;
	o.task_ref = call->task_ref;
	o.disk = &disk;
	o.options = call_arg(call, 1);
	op_set_init(&ops, call->daemon, call->task_ref);
	if (duplicate_begin(&dup, err) < 0 ||
	    disk_open(call->daemon, &disk, false, d->operation, err) < 0 ||
	    overlay_plan(&o, err) < 0 || plan_tracking(&o, d, ref, &cbt, err) < 0 ||
	    overlay_make(&o, duplicate_commit, &dup, err) < 0)
		return -1;
	collect_kick(call->daemon, sr_ref(disk.sr));
	*ret = json_object_new_string(ref);
	return 0;
}

static int
vdi_snapshot(struct call *call, json **ret, struct smd_error *err)
{
	static const struct duplicate snapshot = {
		"snapshot", "vdi_snapshot", "VDI.snapshot", true,
	};

	return duplicate(call, &snapshot, ret, err);
}

static int
vdi_clone(struct call *call, json **ret, struct smd_error *err)
{
	static const struct duplicate clone = { "clone", "vdi_clone", "VDI.clone", false };

	return duplicate(call, &clone, ret, err);
}

/* ---- revert ---- */

/* The disk that is to show what its snapshot shows. */
static int
find_reverted(struct daemon *daemon, const char *snapshot, char **ret, struct smd_error *err)
{
	CLEANUP_FREE char *ref = NULL, *sr = NULL, *its_sr = NULL;

	if (db_get_str(daemon->db, "VDI", snapshot, "snapshot_of", &ref, err) < 0 ||
	    db_get_str(daemon->db, "VDI", snapshot, "SR", &sr, err) < 0)
		return -1;
	if (!db_exists(daemon->db, "VDI", ref))
		return smd_fail_OPERATION_NOT_ALLOWED(err, "The VDI of the snapshot is gone",
						      "the disk that %s is a snapshot of is gone: "
						      "clone the snapshot instead", snapshot);
	if (db_get_str(daemon->db, "VDI", ref, "SR", &its_sr, err) < 0)
		return -1;
	if (strcmp(sr, its_sr) != 0)
		return smd_fail_OPERATION_NOT_ALLOWED(err, "The VDI and its snapshot are of two SRs",
						      "VDI %s is in SR %s, its snapshot %s in %s: "
						      "VDI.copy with into_vdi brings it over", ref, its_sr,
						      snapshot, sr);
	*ret = TAKE_PTR(ref);
	return 0;
}

struct reversion {
	struct overlay *o;		/* of the snapshot */
	struct disk *disk;
	struct cbt_change *cbt;
	bool has_children;		/* the disk */
	char *base;			/* what keeps its image then */
	char *parent;			/* what it lies on */
};

static void
reversion_done(struct reversion *r)
{
	free(r->base);
	free(r->parent);
}

static int
revert_in_transaction(struct reversion *r, struct smd_error *err)
{
	struct daemon *daemon = r->o->daemon;
	const char *vdi = r->disk->vdi_ref;

	if (disk_give_up(daemon, r->disk, r->has_children, "revert_from", &r->base, err) < 0 ||
	    overlay_split(r->o, &r->parent, err) < 0 ||
	    new_volume_give(&r->o->v[0], vdi, err) < 0 ||
	    digest_set_row(daemon, vdi, NULL, err) < 0 ||
	    tree_set_parent(daemon->db, vdi, r->parent, err) < 0 || cbt_commit(r->cbt, err) < 0)
		return -1;
	return overlay_promise(r->o, r->has_children ? NULL : r->disk->location, err);
}

static int
revert_commit(void *opaque, const struct smd_sr_stat *stat, struct smd_error *err)
{
	struct reversion *r = opaque;
	struct db *db = r->o->daemon->db;

	(void)stat;	/* of what is yet to go */
	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	return db_end(db, revert_in_transaction(r, err), err);
}

static int
revert_disk(struct overlay *o, struct disk *disk, struct smd_error *err)
{
	struct cbt_change cbt CLEANUP_CBT = CBT_CHANGE_INIT;
	CLEANUP(reversion_done) struct reversion r = { .o = o, .disk = disk, .cbt = &cbt };

	cbt_begin_for(&cbt, o->daemon, disk);
	cbt_begin_for(&cbt, o->daemon, o->disk);

	if (tree_has_children(o->daemon->db, disk->vdi_ref, &r.has_children, err) < 0 ||
	    (!r.has_children && disk_lock_alone(o->daemon, disk, "revert_from", err) < 0) ||
	    disk_open(o->daemon, o->disk, false, "revert_to", err) < 0 ||
	    overlay_plan(o, err) < 0 || cbt_plan_revert(&cbt, disk, o->disk, o->empty, err) < 0 ||
	    cbt_make(&cbt, o->kind, err) < 0 || overlay_make(o, revert_commit, &r, err) < 0)
		return -1;
	if (r.base)
		op_refresh(o->daemon, "VDI", r.base);
	else
		records_forget(disk->sr, disk->location);
	op_refresh(o->daemon, "VDI", r.parent);
	/* With this, what it replaced has gone. */
	return settle_wait(disk->sr, o->v[0].name, err);
}

static int
vdi_revert(struct call *call, json **ret, struct smd_error *err)
{
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk snapshot CLEANUP_DISK = DISK_INIT, disk CLEANUP_DISK = DISK_INIT;
	struct overlay o CLEANUP_OVERLAY = OVERLAY_INIT;
	const char *vdi = call_str(call, 0);
	CLEANUP_FREE char *reverted = NULL;

	(void)ret;
	o.daemon = call->daemon;
	o.kind = "VDI.revert";
	o.task_ref = call->task_ref;
	o.disk = &snapshot;
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "VDI", vdi, "revert_to", err) < 0 ||
	    find_reverted(call->daemon, vdi, &reverted, err) < 0 ||
	    op_set_begin(&ops, "VDI", reverted, "revert_from", err) < 0 ||
	    disk_find(call->daemon, vdi, &snapshot, err) < 0 ||
	    disk_find(call->daemon, reverted, &disk, err) < 0 ||
	    op_set_begin(&ops, "SR", sr_ref(disk.sr), "vdi_revert", err) < 0 ||
	    revert_disk(&o, &disk, err) < 0)
		return -1;
	stats(call->daemon, sr_ref(disk.sr));
	return 0;
}

const struct call_binding api_vdi_snapshot_handlers[] = {
	{ "VDI.snapshot", vdi_snapshot },
	{ "VDI.clone", vdi_clone },
	{ "VDI.revert", vdi_revert },
	{ NULL, NULL },
};
