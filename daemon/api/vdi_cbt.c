/* SPDX-License-Identifier: BSD-2-Clause */
/* VDI.enable_cbt, disable_cbt, list_changed_blocks, data_destroy: daemon/sr/cbt.h. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/job/collect.h"
#include "daemon/job/job.h"
#include "daemon/sr/cbt.h"
#include "daemon/sr/tree.h"

#define VBD_WAIT_MS 4000	/* xapi's, for a disk that is just being detached */
#define VBD_STEP_MS 100

/* ---- enable, disable ---- */

static int
check_size(struct disk *disk, struct smd_error *err)
{
	if (disk->virtual_size <= SMD_BLOCKS_DISK_MAX)
		return 0;
	return smd_fail_VDI_TOO_LARGE(err, disk->vdi_ref, SMD_U64(SMD_BLOCKS_DISK_MAX),
				      "VDI %s has %" PRIu64 " bytes: disks up to %" PRIu64
				      " are tracked", disk->uuid, disk->virtual_size,
				      SMD_BLOCKS_DISK_MAX);
}

static int
commit_tracking(struct cbt_change *cbt, const char *vdi, bool enabled, struct smd_error *err)
{
	struct db *db = cbt->daemon->db;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (cbt_commit(cbt, err) < 0 ||
	    db_set_bool(db, "VDI", vdi, "cbt_enabled", enabled, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

static int
set_tracking(struct call *call, bool enabled, struct smd_error *err)
{
	const char *vdi = call_str(call, 0);
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk disk CLEANUP_DISK = DISK_INIT;
	struct cbt_change cbt CLEANUP_CBT = CBT_CHANGE_INIT;

	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "VDI", vdi, enabled ? "enable_cbt" : "disable_cbt", err) < 0 ||
	    disk_find(call->daemon, vdi, &disk, err) < 0 ||
	    op_set_begin(&ops, "SR", sr_ref(disk.sr),
			 enabled ? "vdi_enable_cbt" : "vdi_disable_cbt", err) < 0 ||
	    (enabled && check_size(&disk, err) < 0))
		return -1;
	cbt_begin(&cbt, call->daemon, disk.sr);
	if (cbt_plan_enable(&cbt, vdi, enabled, err) < 0 || cbt_make(&cbt, "VDI.cbt", err) < 0 ||
	    commit_tracking(&cbt, vdi, enabled, err) < 0)
		return -1;
	collect_kick(call->daemon, sr_ref(disk.sr));
	return 0;
}

static int
vdi_enable_cbt(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return set_tracking(call, true, err);
}

static int
vdi_disable_cbt(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return set_tracking(call, false, err);
}

/* ---- list_changed_blocks ---- */

static int
vdi_list_changed_blocks(struct call *call, json **ret, struct smd_error *err)
{
	const char *from = call_str(call, 0), *to = call_str(call, 1);
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk disk CLEANUP_DISK = DISK_INIT, other CLEANUP_DISK = DISK_INIT;
	CLEANUP_FREE char *text = NULL;

	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "VDI", from, "list_changed_blocks", err) < 0 ||
	    op_set_begin(&ops, "VDI", to, "list_changed_blocks", err) < 0 ||
	    disk_find(call->daemon, from, &disk, err) < 0 ||
	    disk_find(call->daemon, to, &other, err) < 0 ||
	    op_set_begin(&ops, "SR", sr_ref(disk.sr), "vdi_list_changed_blocks", err) < 0 ||
	    cbt_list(call->daemon, disk.sr, from, to, &text, err) < 0)
		return -1;
	*ret = json_object_new_string(text);
	return 0;
}

/* ---- data_destroy ---- */

static int
find_attached(struct db *db, const char *vdi, bool *ret, struct smd_error *err)
{
	CLEANUP_JSON json *vbds = NULL;

	*ret = false;
	if (db_find(db, "VBD", "VDI", vdi, &vbds, err) < 0)
		return -1;
	for (size_t i = 0; !*ret && i < json_object_array_length(vbds); i++) {
		struct smd_error gone CLEANUP_ERROR = SMD_ERROR_INIT;

		db_get_bool(db, "VBD", json_object_get_string(json_object_array_get_idx(vbds, i)),
			    "currently_attached", ret, &gone);
	}
	return 0;
}

static int
wait_detached(struct db *db, const char *vdi, struct smd_error *err)
{
	const struct timespec step = { 0, VBD_STEP_MS * 1000000L };
	bool attached = true;

	for (int ms = 0; ms <= VBD_WAIT_MS; ms += VBD_STEP_MS) {
		if (find_attached(db, vdi, &attached, err) < 0)
			return -1;
		if (!attached)
			return 0;
		nanosleep(&step, NULL);
	}
	return smd_fail_VDI_IN_USE(err, SMD_PARAMS(vdi, "data_destroy"),
				   "a VM has VDI %s: VBD.unplug it first", vdi);
}

static int
drop_vbds(struct db *db, const char *vdi, struct smd_error *err)
{
	CLEANUP_JSON json *vbds = NULL;

	if (db_find(db, "VBD", "VDI", vdi, &vbds, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(vbds); i++) {
		if (db_delete(db, "VBD", json_object_get_string(json_object_array_get_idx(vbds, i)),
			      err) < 0)
			return -1;
	}
	return 0;
}

/* What a row says of its data. */
static int
strip_row(struct db *db, const char *vdi, struct smd_error *err)
{
	if (tree_set_parent(db, vdi, NULL, err) < 0 || drop_vbds(db, vdi, err) < 0 ||
	    db_map_remove(db, "VDI", vdi, "sm_config", "image-format", err) < 0 ||
	    db_map_remove(db, "VDI", vdi, "sm_config", "image-error", err) < 0 ||
	    db_set_bool(db, "VDI", vdi, "missing", false, err) < 0 ||
	    db_set_int(db, "VDI", vdi, "physical_utilisation", 0, err) < 0)
		return -1;
	return db_set_str(db, "VDI", vdi, "type", CBT_METADATA, err);
}

/* job: deletes the volume; NULL: others lie on it. */
static int
commit_data_destroy(struct daemon *daemon, struct disk *disk, struct cbt_change *cbt,
		    const char *job, char **ret_base, struct smd_error *err)
{
	struct db *db = daemon->db;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (disk_give_up(daemon, disk, !job, "data_destroy", ret_base, err) < 0 ||
	    strip_row(db, disk->vdi_ref, err) < 0 || cbt_commit(cbt, err) < 0 ||
	    (job && job_committed(daemon, job, err) < 0)) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

static int
data_destroy(struct daemon *daemon, struct disk *disk, struct smd_error *err)
{
	struct cbt_change cbt CLEANUP_CBT = CBT_CHANGE_INIT;
	CLEANUP_FREE char *job = NULL, *base = NULL;
	bool has_children;
	int r;

	cbt_begin(&cbt, daemon, disk->sr);
	if (cbt_plan_data_destroy(&cbt, disk->vdi_ref, err) < 0 ||
	    cbt_make(&cbt, "VDI.data_destroy", err) < 0 ||
	    tree_has_children(daemon->db, disk->vdi_ref, &has_children, err) < 0 ||
	    (!has_children &&
	     (disk_lock_alone(daemon, disk, "data_destroy", err) < 0 ||
	      volume_delete_begin(daemon, "VDI.data_destroy", disk->sr, disk->location, &job,
				  err) < 0)))
		return -1;
	r = commit_data_destroy(daemon, disk, &cbt, job, &base, err);
	if (r == 0 && !base)
		records_forget(disk->sr, disk->location);
	if (r == 0 && base)
		op_refresh(daemon, "VDI", base);
	if (job)
		job_end(daemon, job);
	return r;
}

static int
vdi_data_destroy(struct call *call, json **ret, struct smd_error *err)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *self = call_str(call, 0);
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk disk CLEANUP_DISK = DISK_INIT;

	(void)ret;
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "VDI", self, "data_destroy", err) < 0 ||
	    disk_find(call->daemon, self, &disk, err) < 0 ||
	    op_set_begin(&ops, "SR", sr_ref(disk.sr), "vdi_data_destroy", err) < 0)
		return -1;
	if (cbt_log_is(disk.location))
		return 0;	/* it has none any more */
	if (wait_detached(call->daemon->db, self, err) < 0 ||
	    data_destroy(call->daemon, &disk, err) < 0)
		return -1;
	sr_update_stats(call->daemon, sr_ref(disk.sr), &ignored);
	collect_kick(call->daemon, sr_ref(disk.sr));
	return 0;
}

const struct call_binding api_vdi_cbt_handlers[] = {
	{ "VDI.enable_cbt", vdi_enable_cbt },
	{ "VDI.disable_cbt", vdi_disable_cbt },
	{ "VDI.list_changed_blocks", vdi_list_changed_blocks },
	{ "VDI.data_destroy", vdi_data_destroy },
	{ NULL, NULL },
};
