/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/api/vdi.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/job/carry.h"
#include "daemon/job/collect.h"
#include "daemon/job/copy.h"
#include "daemon/job/digest.h"
#include "daemon/job/job.h"
#include "daemon/job/maker.h"
#include "daemon/job/move.h"
#include "daemon/job/task.h"
#include "daemon/sr/cbt.h"
#include "daemon/sr/settle.h"
#include "daemon/sr/tree.h"
#include "daemon/sr/volume.h"

#define FORMAT_KEY "image-format"
#define ERROR_KEY "image-error"

/* Sizes of the SR after a change; what can fail here has failed the change already. */
static void
stats(struct daemon *daemon, const char *sr)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	sr_update_stats(daemon, sr, &err);
	collect_kick(daemon, sr);
}

/* The members of from that a new row takes over. */
static json *
row_from(json *from, const char *const *fields)
{
	json *row = json_object_new_object();

	for (; *fields; fields++) {
		json *value = smd_json_member(from, *fields);

		if (value)
			smd_json_set(row, *fields, smd_json_copy(value));
	}
	return row;
}

/* sm_config of a row whose volume is v. */
static void
set_format(json *row, const char *format)
{
	json *sm_config = smd_json_member(row, "sm_config");

	if (!sm_config) {
		sm_config = json_object_new_object();
		smd_json_set(row, "sm_config", sm_config);
	}
	json_object_object_del(sm_config, ERROR_KEY);
	json_object_object_del(sm_config, "type");
	json_object_object_del(sm_config, TREE_PARENT_KEY);
	smd_json_set_str(sm_config, FORMAT_KEY, format);
}

/* What of a row follows from the new volume it stands for, whatever is in it. */
static void
set_place(json *row, const struct new_volume *v)
{
	smd_json_set_str(row, "uuid", v->uuid.text);
	smd_json_set_str(row, "SR", sr_ref(v->sr));
	smd_json_set_str(row, "location", v->name);
	smd_json_set_int(row, "virtual_size", (int64_t)v->virtual_size);
	set_format(row, v->format);
}

static void
set_volume(json *row, const struct new_volume *v)
{
	set_place(row, v);
	smd_json_set_int(row, "physical_utilisation", (int64_t)new_volume_allocated(v));
}

/* The row of a new volume, in one transaction with the end of the job's undo. */
static int
commit_new(struct new_volume *v, const char *ref, json *row, struct smd_error *err)
{
	struct db *db = v->daemon->db;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (db_insert(db, "VDI", ref, row, err) < 0 || new_volume_committed(v, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

/* ---- create ---- */

static int
check_size(int64_t size, struct smd_error *err)
{
	if (size > 0)
		return 0;
	return smd_fail_SR_BACKEND_FAILURE_79(err, "", "VDI Invalid size", "the size must be positive",
					      "%" PRId64 " is no size for a disk", size);
}

struct creation {
	struct daemon *daemon;
	const char *task_ref;
	json *args;
	const char *sr_ref;
	struct op_set ops;
	struct sr *sr;
	struct new_volume v;
	struct settling *settling;
	json *row, *redo;		/* of the VDI to be, and how its volume is made again */
	char *ref;			/* of the VDI to be */
};

static void
creation_done(struct creation *c)
{
	new_volume_done(&c->v);
	sr_release(c->sr);
	op_set_done(&c->ops);
	json_object_put(c->row);
	json_object_put(c->redo);
	free(c->ref);
}

static json *
plain_target(const struct new_volume *v)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

	return target_of_fd(-1, v->name, v->format, v->virtual_size, NULL, &ignored);
}

/* What is written of it, as far as it can be said before. */
static void
create_rows(void *opaque)
{
	static const char *const fields[] = {
		"name_label", "name_description", "type", "sharable", "read_only", "other_config",
		"xenstore_data", "sm_config", "tags", NULL,
	};
	struct creation *c = opaque;
	const struct new_volume *v = &c->v;
	CLEANUP_JSON json *target = plain_target(v);

	c->row = row_from(c->args, fields);
	set_place(c->row, v);
	smd_json_set(c->row, "allowed_operations", op_allowed_of_new(c->sr, c->row));
	job_plan_add_made(&c->redo, sr_uuid(v->sr), v->name, target, NULL, NULL);
}

static int
write_empty_image(struct new_volume *v, const char *task_ref, void (*meanwhile)(void *opaque),
		  void *opaque, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .task_ref = task_ref, .urgent = true };
	CLEANUP_JSON json *result = NULL, *plain = plain_target(v);
	json *target;
	int r = maker_make(v->daemon, v->fd, plain, meanwhile, opaque, err);

	if (r <= 0)
		return r < 0 ? volume_fail(v->sr, err) : 0;
	/* One that died at it may have left something. */
	if (new_volume_empty(v, err) < 0)
		return volume_fail(v->sr, err);
	target = target_of_fd(v->fd, v->name, v->format, v->virtual_size, &job, err);
	if (!target)
		return -1;
	smd_json_set_str(request, "op", "create");
	smd_json_set(request, "target", target);
	return worker_run(v->daemon, &job, &result, err) < 0 ? volume_fail(v->sr, err) : 0;
}

static int
create_plan(struct creation *c, struct smd_error *err)
{
	json *sm_config = smd_json_member(c->args, "sm_config");
	int64_t size = smd_json_int(c->args, "virtual_size", 0);
	CLEANUP_FREE char *format = NULL;

	if (op_set_begin_brief(&c->ops, "SR", c->sr_ref, "vdi_create", err) < 0 ||
	    sr_use(c->daemon, c->sr_ref, &c->sr, err) < 0 || check_size(size, err) < 0 ||
	    sr_choose_format(c->daemon, c->sr_ref, smd_json_str(sm_config, FORMAT_KEY,
				smd_json_str(sm_config, "type", "")), (uint64_t)size, "", &format,
			     err) < 0)
		return -1;
	c->v = new_volume_name(c->daemon, c->sr, format,
			       format_round_size(c->daemon, format, (uint64_t)size));
	return 0;
}

static int
create_promise(struct creation *c, struct smd_error *err)
{
	return settle_promise("VDI.create", &c->v, 1, c->redo, &c->settling, err);
}

/* All that shows of it, in one transaction with the promise of its volume and the end of the
 * operation. */
static int
create_show(struct creation *c, const struct smd_sr_stat *stat, struct smd_error *err)
{
	if (db_insert(c->daemon->db, "VDI", c->ref, c->row, err) < 0 || create_promise(c, err) < 0 ||
	    sr_store_stats(c->daemon, c->sr_ref, stat, err) < 0)
		return -1;
	op_set_end(&c->ops);
	return task_hide(c->daemon->tasks, c->task_ref, err);
}

static int
create_commit(struct creation *c, struct smd_error *err)
{
	struct db *db = c->daemon->db;
	struct smd_sr_stat stat;

	if (!c->row)
		create_rows(c);
	smd_json_set_int(c->row, "physical_utilisation", (int64_t)new_volume_allocated(&c->v));
	if (settle_prepare(&c->v, 1, &stat, err) < 0 || db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (db_end(db, create_show(c, &stat, err), err) < 0) {
		settle_forget(c->settling);
		return -1;
	}
	op_set_keep(&c->ops);
	task_hidden(c->daemon->tasks, c->task_ref);
	settle_publish(c->settling, &c->v, 1);
	return 0;
}

int
vdi_make(struct daemon *daemon, const char *task_ref, json *args, char **ret_ref,
	 struct smd_error *err)
{
	CLEANUP(creation_done) struct creation c = {
		.daemon = daemon, .task_ref = task_ref, .args = args, .v = NEW_VOLUME_INIT,
		.sr_ref = smd_json_str(args, "SR", ""), .ref = db_new_ref(),
	};
	const char *type = smd_json_str(args, "type", "user");

	if (strcmp(type, "cbt_metadata") == 0)
		return smd_fail_VDI_INCOMPATIBLE_TYPE(err, SMD_PARAMS("", type), "%s VDIs are not made by "
						      "hand", type);
	op_set_init(&c.ops, daemon, task_ref);
	if (create_plan(&c, err) < 0 || new_volume_make(&c.v, err) < 0 ||
	    write_empty_image(&c.v, task_ref, create_rows, &c, err) < 0 || create_commit(&c, err) < 0)
		return -1;
	*ret_ref = TAKE_PTR(c.ref);
	return 0;
}

static int
vdi_create(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *ref = NULL;

	if (vdi_make(call->daemon, call->task_ref, call_arg(call, 0), &ref, err) < 0)
		return -1;
	*ret = json_object_new_string(ref);
	return 0;
}

/* ---- introduce ---- */

static int
introduce_check(struct sr *sr, const char *uuid, const char *location, struct smd_error *err)
{
	struct smd_error stat_err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_sr_volume volume;

	if (!smd_uuid_ok(uuid))
		return smd_fail_UUID_INVALID(err, "VDI", uuid, "\"%s\" is no uuid", uuid);
	if (sr_get_driver(sr)->volume_stat(sr_handle(sr), location, &volume, &stat_err) < 0)
		return smd_fail_VDI_LOCATION_MISSING(err, sr_ref(sr), location,
						     "SR %s has nothing at %s", sr_uuid(sr), location);
	return 0;
}

static int
introduce_in(struct call *call, struct sr *sr, json *row, const char *ref, struct smd_error *err)
{
	const char *location = smd_json_str(row, "location", "");
	const char *dot = strrchr(location, '.');
	CLEANUP_JSON json *info = NULL;

	if (introduce_check(sr, smd_json_str(row, "uuid", ""), location, err) < 0)
		return -1;
	if (!dot || !storage_format(call->daemon, dot + 1)) {
		CLEANUP_FREE char *loaded = storage_format_names(call->daemon);

		return smd_fail_FORMAT_UNKNOWN(err, dot ? dot + 1 : "", loaded, "the name %s ends in no "
					       "format that is loaded: name the file UUID.FORMAT, with "
					       "one of %s", location, loaded);
	}
	if (volume_info(call->daemon, sr, location, dot + 1, &info, err) < 0)
		return -1;
	smd_json_set_int(row, "virtual_size", smd_json_int(info, "virtual-size", 0));
	smd_json_set_int(row, "physical_utilisation", (int64_t)volume_allocated(sr, location));
	set_format(row, dot + 1);
	return volume_introduce(call->daemon, sr, ref, row, err);
}

static int
vdi_introduce(struct call *call, json **ret, struct smd_error *err)
{
	static const struct {
		const char *field;
		size_t arg;
	} map[] = {
		{ "uuid", 0 }, { "name_label", 1 }, { "name_description", 2 }, { "SR", 3 },
		{ "type", 4 }, { "sharable", 5 }, { "read_only", 6 }, { "other_config", 7 },
		{ "location", 8 }, { "xenstore_data", 9 }, { "sm_config", 10 },
		{ "metadata_of_pool", 14 }, { "is_a_snapshot", 15 }, { "snapshot_time", 16 },
		{ "snapshot_of", 17 },
	};
	struct op_set ops CLEANUP_OPS = { 0 };
	CLEANUP_JSON json *row = json_object_new_object();
	CLEANUP_FREE char *ref = db_new_ref();
	struct sr *sr;
	int r;

	for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
		smd_json_set(row, map[i].field, smd_json_copy(call_arg(call, map[i].arg)));
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "SR", call_str(call, 3), "vdi_introduce", err) < 0 ||
	    sr_use(call->daemon, call_str(call, 3), &sr, err) < 0)
		return -1;
	r = introduce_in(call, sr, row, ref, err);
	sr_release(sr);
	if (r < 0)
		return -1;
	op_refresh(call->daemon, "VDI", ref);
	stats(call->daemon, call_str(call, 3));
	*ret = json_object_new_string(ref);
	return 0;
}

/* ---- destroy, forget ---- */

/* The row goes, and the volume with the job; NULL: others lie on it. */
static int
drop_disk(struct daemon *daemon, struct disk *disk, struct cbt_change *cbt, const char *job,
	  char **ret_base, struct smd_error *err)
{
	if (db_begin(daemon->db, DB_DURABLE, err) < 0)
		return -1;
	if (disk_give_up(daemon, disk, !job, "destroy", ret_base, err) < 0 ||
	    cbt_commit(cbt, err) < 0 || tree_drop(daemon->db, disk->vdi_ref, err) < 0 ||
	    (job && job_committed(daemon, job, err) < 0)) {
		db_rollback(daemon->db);
		return -1;
	}
	return db_commit(daemon->db, err);
}

/* Other disks lie on it: its image stays, under a row of its own, until the collector
 * has made it superfluous. */
static int
leave_disk(struct daemon *daemon, struct disk *disk, struct cbt_change *cbt,
	   struct smd_error *err)
{
	CLEANUP_FREE char *base = NULL;

	if (drop_disk(daemon, disk, cbt, NULL, &base, err) < 0)
		return -1;
	op_refresh(daemon, "VDI", base);
	return 0;
}

static int
destroy_disk(struct daemon *daemon, struct disk *disk, struct smd_error *err)
{
	struct cbt_change cbt CLEANUP_CBT = CBT_CHANGE_INIT;
	CLEANUP_FREE char *job = NULL, *base = NULL;
	bool has_children;
	int r;

	cbt_begin_for(&cbt, daemon, disk);
	if (cbt_plan_destroy(&cbt, disk->vdi_ref, err) < 0 || cbt_make(&cbt, "VDI.destroy", err) < 0 ||
	    tree_has_children(daemon->db, disk->vdi_ref, &has_children, err) < 0)
		return -1;
	if (has_children)
		return leave_disk(daemon, disk, &cbt, err);
	if (disk_lock_alone(daemon, disk, "destroy", err) < 0 ||
	    volume_delete_begin(daemon, "VDI.destroy", disk->sr, disk->location, &job, err) < 0)
		return -1;
	r = drop_disk(daemon, disk, &cbt, job, &base, err);
	if (r == 0)
		records_forget(disk->sr, disk->location);
	job_end(daemon, job);
	return r;
}

int
vdi_unmake(struct daemon *daemon, const char *task_ref, const char *ref, struct smd_error *err)
{
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk disk CLEANUP_DISK = DISK_INIT;
	CLEANUP_FREE char *sr = NULL;

	op_set_init(&ops, daemon, task_ref);
	if (db_get_str(daemon->db, "VDI", ref, "SR", &sr, err) < 0 ||
	    op_set_begin(&ops, "VDI", ref, "destroy", err) < 0 ||
	    op_set_begin(&ops, "SR", sr, "vdi_destroy", err) < 0 ||
	    disk_find(daemon, ref, &disk, err) < 0 || destroy_disk(daemon, &disk, err) < 0)
		return -1;
	stats(daemon, sr);
	return 0;
}

static int
vdi_destroy(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return vdi_unmake(call->daemon, call->task_ref, call_str(call, 0), err);
}

/* Those that lie on it could not be read any more. */
static int
check_childless(struct db *db, const char *vdi, struct smd_error *err)
{
	bool has_children;

	if (tree_has_children(db, vdi, &has_children, err) < 0)
		return -1;
	if (!has_children)
		return 0;
	return smd_fail_VDI_IN_USE(err, SMD_PARAMS(vdi, "forget"), "other VDIs lie on VDI %s: "
				   "forget or destroy those first", vdi);
}

/* A VDI that comes back is tracked no more: its log serves nobody, unless it is all there
 * is of it. Where the SR is detached it stays. */
static void
plan_forget(struct daemon *daemon, const char *vdi, struct disk *disk, struct cbt_change *cbt)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

	if (disk_find_node(daemon, vdi, disk, &ignored) < 0 || cbt_log_is(disk->location))
		return;
	cbt_begin_for(cbt, daemon, disk);
	if (cbt->sr && cbt_plan_enable(cbt, vdi, false, &ignored) == 0)
		cbt_make(cbt, "VDI.forget", &ignored);
}

static int
vdi_forget(struct call *call, json **ret, struct smd_error *err)
{
	const char *vdi = call_str(call, 0);
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk disk CLEANUP_DISK = DISK_INIT;
	struct cbt_change cbt CLEANUP_CBT = CBT_CHANGE_INIT;
	struct db *db = call->daemon->db;
	int r;

	(void)ret;
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "VDI", vdi, "forget", err) < 0)
		return -1;
	plan_forget(call->daemon, vdi, &disk, &cbt);
	if (disk.sr) {
		records_save(disk.sr);
		settle_end(disk.sr, disk.location);
	}
	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	r = check_childless(db, vdi, err);
	if (r == 0 && disk.sr)
		r = job_unpromise(call->daemon, sr_uuid(disk.sr), disk.location, err);
	if (r == 0)
		r = cbt_commit(&cbt, err);
	if (r == 0)
		r = tree_drop(db, vdi, err);
	return db_end(db, r, err);
}

/* ---- resize, update ---- */

static int
resize_check(struct daemon *daemon, struct disk *disk, uint64_t size, struct smd_error *err)
{
	CLEANUP_FREE char *format = NULL;

	if (size < disk->virtual_size)
		return smd_fail_SR_BACKEND_FAILURE_79(
			err, "", "VDI Invalid size", "shrinking is not allowed",
			"VDI %s has %" PRIu64 " bytes; it cannot shrink to %" PRIu64, disk->uuid,
			disk->virtual_size, size);
	return sr_choose_format(daemon, sr_ref(disk->sr), disk->format, size, disk->vdi_ref, &format,
				err);
}

static int
resized(struct db *db, struct disk *disk, uint64_t size, struct smd_error *err)
{
	int64_t allocated = (int64_t)volume_allocated(disk->sr, disk->location);

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (db_set_int(db, "VDI", disk->vdi_ref, "virtual_size", (int64_t)size, err) < 0 ||
	    db_set_int(db, "VDI", disk->vdi_ref, "physical_utilisation", allocated, err) < 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

static int
resize_disk(struct call *call, struct disk *disk, uint64_t size, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .task_ref = call->task_ref };
	CLEANUP_JSON json *result = NULL;
	json *source;

	if (disk_open(call->daemon, disk, true, "resize", err) < 0 ||
	    resize_check(call->daemon, disk, size, err) < 0)
		return -1;
	size = format_round_size(call->daemon, disk->format, size);
	if (size == disk->virtual_size)
		return 0;
	source = disk_source(disk, &job, true, err);
	if (!source)
		return -1;
	smd_json_set_str(request, "op", "resize");
	smd_json_set(request, "source", source);
	smd_json_set_int(request, "size", (int64_t)size);
	smd_json_set_int(request, "quota", (int64_t)size);
	worker_loads(&job, sr_ref(disk->sr));
	if (worker_run(call->daemon, &job, &result, err) < 0) {
		struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;

		/* It may have ended between the image's growth and its answer. */
		vdi_refresh(disk->sr, disk->vdi_ref, disk->record, &ignored);
		return volume_fail(disk->sr, err);
	}
	return resized(call->daemon->db, disk, size, err);
}

static int
vdi_resize(struct call *call, json **ret, struct smd_error *err)
{
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk disk CLEANUP_DISK = DISK_INIT;
	const char *vdi = call_str(call, 0);

	(void)ret;
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "VDI", vdi, "resize", err) < 0 || check_size(call_int(call, 1), err) < 0 ||
	    disk_find(call->daemon, vdi, &disk, err) < 0 ||
	    op_set_begin(&ops, "SR", sr_ref(disk.sr), "vdi_resize", err) < 0 ||
	    resize_disk(call, &disk, (uint64_t)call_int(call, 1), err) < 0)
		return -1;
	stats(call->daemon, sr_ref(disk.sr));
	return 0;
}

static int
vdi_update(struct call *call, json **ret, struct smd_error *err)
{
	struct smd_error stat_err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk disk CLEANUP_DISK = DISK_INIT;
	struct smd_sr_volume volume;

	(void)ret;
	/* Not while a resize changes the image: half of that would be read. */
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "VDI", call_str(call, 0), "update", err) < 0 ||
	    disk_find(call->daemon, call_str(call, 0), &disk, err) < 0 ||
	    settle_wait(disk.sr, disk.location, err) < 0)
		return -1;
	if (sr_get_driver(disk.sr)->volume_stat(sr_handle(disk.sr), disk.location, &volume,
						&stat_err) < 0) {
		if (stat_err.errnum != ENOENT) {
			smd_error_move(err, &stat_err);
			return -1;
		}
		if (db_set_bool(call->daemon->db, "VDI", disk.vdi_ref, "missing", true, err) < 0)
			return -1;
		return smd_fail_VDI_MISSING(err, sr_ref(disk.sr), disk.vdi_ref, "SR %s has lost %s",
					    sr_uuid(disk.sr), disk.location);
	}
	return cbt_log_is(disk.location) ? 0 :
	       vdi_refresh(disk.sr, disk.vdi_ref, disk.record, err);
}

/* ---- copy ---- */

static const char *const copied_fields[] = {
	"name_label", "name_description", "type", "sharable", "other_config", "xenstore_data", "tags",
	NULL,
};

static json *
new_target(void *opaque, bool write, struct worker_job *job, struct smd_error *err)
{
	const struct new_volume *v = opaque;

	return source_of_fd(v->fd, v->name, v->format, write, false, job, err);
}

/* With a base, what differs and zeroes elsewhere. */
static int
copy_difference(struct move *move, const char *ref, struct smd_error *err)
{
	struct new_volume v CLEANUP_NEW_VOLUME = NEW_VOLUME_INIT;
	CLEANUP_JSON json *row = row_from(move->source->record, copied_fields);
	CLEANUP_FREE char *digest = NULL;

	if (new_volume_begin(move->daemon, "VDI.copy", move->sr, move->format, move->virtual_size,
			     NULL, NULL, &v, err) < 0 ||
	    write_empty_image(&v, move->task_ref, NULL, NULL, err) < 0 ||
	    move_difference(move, new_target, &v, &digest, err) < 0 ||
	    new_volume_publish(&v, err) < 0)
		return -1;
	digest_set(smd_json_member(row, "other_config"), digest);
	set_volume(row, &v);
	return commit_new(&v, ref, row, err);
}

/* All of it: a job that lasts. into: the disk that it replaces; NULL: a new VDI. */
static int
copy_all(struct call *call, struct op_set *ops, struct move *move, struct disk *into, char **ret_ref,
	 struct smd_error *err)
{
	struct copy copy CLEANUP_COPY = COPY_INIT;

	if (sr_use(call->daemon, sr_ref(move->sr), &copy.sr, err) < 0)
		return -1;
	copy.daemon = call->daemon;
	copy.task_ref = call->task_ref;
	copy.waits = call->async;
	copy.ops = ops;
	copy.source = *move->source;
	*move->source = (struct disk)DISK_INIT;
	if (into) {
		copy.into = *into;
		*into = (struct disk)DISK_INIT;
	}
	return copy_run(&copy, move->format, move->virtual_size, ret_ref, err);
}

static int
copy_to(struct call *call, struct op_set *ops, struct move *move, char **ret_ref,
	struct smd_error *err)
{
	struct disk *source = move->source;
	CLEANUP_FREE char *format = NULL, *ref = db_new_ref();

	if (sr_choose_format(move->daemon, sr_ref(move->sr), "", source->virtual_size,
			     source->vdi_ref, &format, err) < 0)
		return -1;
	move->format = format;
	move->virtual_size = format_round_size(move->daemon, format, source->virtual_size);
	if (move_check(move, err) < 0)
		return -1;
	if (!move->base)
		return copy_all(call, ops, move, NULL, ret_ref, err);
	if (copy_difference(move, ref, err) < 0)
		return -1;
	op_refresh(move->daemon, "VDI", ref);
	*ret_ref = TAKE_PTR(ref);
	return 0;
}

static int
copy_to_sr(struct call *call, struct op_set *ops, struct move *move, const char *sr_name,
	   json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *ref = NULL;
	struct sr *sr;
	int r;

	if (sr_use(move->daemon, sr_name, &sr, err) < 0)
		return -1;
	move->sr = sr;
	r = copy_to(call, ops, move, &ref, err);
	sr_release(sr);
	if (r < 0)
		return -1;
	stats(move->daemon, sr_name);
	*ret = json_object_new_string(ref);
	return 0;
}

static json *
into_target(void *opaque, bool write, struct worker_job *job, struct smd_error *err)
{
	return disk_source(opaque, job, write, err);
}

/* Into a disk that holds what base holds. */
static int
update_into(const struct move *move, struct disk *into, struct smd_error *err)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *digest = NULL;
	int r;

	if (move_check(move, err) < 0 || digest_set_row(move->daemon, into->vdi_ref, NULL, err) < 0)
		return -1;
	r = move_difference(move, into_target, into, &digest, err);
	if (r == 0 && digest)
		r = digest_set_row(move->daemon, into->vdi_ref, digest, err);
	vdi_refresh(into->sr, into->vdi_ref, into->record, &ignored);
	return r;
}

static int
copy_into(struct call *call, struct op_set *ops, struct move *move, const char *into_ref, json **ret,
	  struct smd_error *err)
{
	struct disk into CLEANUP_DISK = DISK_INIT;
	CLEANUP_FREE char *sr = NULL, *format = NULL, *ref = NULL;
	int r;

	if (disk_find(move->daemon, into_ref, &into, err) < 0 ||
	    move_check_into(move->source, &into, err) < 0 ||
	    disk_open(move->daemon, &into, true, "copy", err) < 0)
		return -1;
	sr = smd_strdup(sr_ref(into.sr));
	format = smd_strdup(into.format);
	move->sr = into.sr;
	move->format = format;
	move->virtual_size = into.virtual_size;
	r = move->base ? update_into(move, &into, err) : move_check(move, err);
	if (r == 0 && !move->base)
		r = copy_all(call, ops, move, &into, &ref, err);
	if (r < 0)
		return -1;
	stats(move->daemon, sr);
	*ret = json_object_new_string(into_ref);
	return 0;
}

/* The disk whose content the other side has. */
static int
copy_base(struct call *call, struct op_set *ops, const char *ref, struct disk *ret,
	  struct move *move, struct smd_error *err)
{
	if (op_set_begin(ops, "VDI", ref, "copy", err) < 0 ||
	    disk_find(call->daemon, ref, ret, err) < 0 ||
	    op_set_begin(ops, "SR", sr_ref(ret->sr), "vdi_copy", err) < 0 ||
	    disk_open(call->daemon, ret, false, "copy", err) < 0 ||
	    move_check_base(move->source, ret, err) < 0)
		return -1;
	move->base = ret;
	return 0;
}

static int
vdi_copy(struct call *call, json **ret, struct smd_error *err)
{
	const char *vdi = call_str(call, 0), *sr = call_str(call, 1);
	const char *base_ref = call_str(call, 2), *into = call_str(call, 3);
	bool has_into = db_exists(call->daemon->db, "VDI", into);
	CLEANUP_FREE char *to = NULL;
	/* In this order: the disks are free before they say so. */
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk source CLEANUP_DISK = DISK_INIT, base CLEANUP_DISK = DISK_INIT;
	struct move move = {
		.daemon = call->daemon, .task_ref = call->task_ref, .source = &source,
	};

	if (!has_into && !db_exists(call->daemon->db, "SR", sr))
		return smd_fail_HANDLE_INVALID(err, "SR", sr, "there is no SR %s", sr);
	if (!has_into)
		to = smd_strdup(sr);
	else if (db_get_str(call->daemon->db, "VDI", into, "SR", &to, err) < 0)
		return -1;
	move.reads = strcmp(base_ref, API_NULL_REF) != 0 && digest_wanted(call->daemon, to, NULL);
	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "VDI", vdi, "copy", err) < 0 ||
	    (has_into && op_set_begin(&ops, "VDI", into, "mirror", err) < 0) ||
	    disk_find(call->daemon, vdi, &source, err) < 0 ||
	    op_set_begin(&ops, "SR", sr_ref(source.sr), "vdi_copy", err) < 0 ||
	    op_set_begin(&ops, "SR", to, "vdi_copy", err) < 0 ||
	    disk_open(call->daemon, &source, false, "copy", err) < 0 ||
	    (strcmp(base_ref, API_NULL_REF) != 0 &&
	     copy_base(call, &ops, base_ref, &base, &move, err) < 0))
		return -1;
	return has_into ? copy_into(call, &ops, &move, into, ret, err)
			: copy_to_sr(call, &ops, &move, sr, ret, err);
}

/* ---- pool_migrate ---- */

static int
migrate_run(struct carry *carry, json *options, char **ret_ref, struct smd_error *err)
{
	if (carry_options(carry, options, err) < 0)
		return -1;
	carry->reads = digest_wanted(carry->daemon, sr_ref(carry->to),
				     smd_json_str(options, "verify", ""));
	if (carry_plan(carry, err) < 0)
		return -1;
	return carry_run(carry, ret_ref, err);
}

static int
vdi_pool_migrate(struct call *call, json **ret, struct smd_error *err)
{
	const char *vdi = call_str(call, 0), *sr = call_str(call, 1);
	/* In this order: the disks are free before they say so. */
	struct op_set ops CLEANUP_OPS = { 0 };
	struct disk source CLEANUP_DISK = DISK_INIT;
	CLEANUP_FREE char *from = NULL, *ref = NULL;
	struct carry carry = {
		.daemon = call->daemon, .task_ref = call->task_ref, .waits = call->async,
		.vdi_ref = vdi, .ops = &ops,
	};
	int r;

	op_set_init(&ops, call->daemon, call->task_ref);
	if (op_set_begin(&ops, "VDI", vdi, "mirror", err) < 0 ||
	    carry_check_untracked(&carry, err) < 0 ||
	    disk_find(call->daemon, vdi, &source, err) < 0 ||
	    op_set_begin(&ops, "SR", sr_ref(source.sr), "vdi_mirror", err) < 0 ||
	    op_set_begin(&ops, "SR", sr, "vdi_mirror", err) < 0 ||
	    sr_use(call->daemon, sr, &carry.to, err) < 0)
		return -1;
	from = smd_strdup(sr_ref(source.sr));
	carry.from = TAKE_PTR(source.sr);
	r = migrate_run(&carry, call_arg(call, 2), &ref, err);
	carry_done(&carry);
	if (r < 0)
		return -1;
	stats(call->daemon, sr);
	if (strcmp(from, sr) != 0)
		stats(call->daemon, from);
	*ret = json_object_new_string(ref);
	return 0;
}

/* ---- Fields ---- */

static int
vdi_set_name_label(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return db_set_str(call->daemon->db, "VDI", call_str(call, 0), "name_label",
			  call_str(call, 1), err);
}

static int
vdi_set_name_description(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return db_set_str(call->daemon->db, "VDI", call_str(call, 0), "name_description",
			  call_str(call, 1), err);
}

static int
vdi_set_sharable(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	if (db_set_bool(call->daemon->db, "VDI", call_str(call, 0), "sharable", call_bool(call, 1),
			err) < 0)
		return -1;
	op_refresh(call->daemon, "VDI", call_str(call, 0));
	return 0;
}

static int
vdi_set_read_only(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return db_set_bool(call->daemon->db, "VDI", call_str(call, 0), "read_only",
			   call_bool(call, 1), err);
}

/* There is no NBD server to name: clients then take /export_raw_vdi. */
static int
vdi_get_nbd_info(struct call *call, json **ret, struct smd_error *err)
{
	const char *vdi = call_str(call, 0);
	CLEANUP_FREE char *type = NULL;

	if (db_get_str(call->daemon->db, "VDI", vdi, "type", &type, err) < 0)
		return -1;
	if (strcmp(type, "cbt_metadata") == 0)
		return smd_fail_VDI_INCOMPATIBLE_TYPE(err, SMD_PARAMS(vdi, type),
						      "the VDI has no data any more");
	*ret = json_object_new_array();
	return 0;
}

const struct call_binding api_vdi_handlers[] = {
	{ "VDI.create", vdi_create },
	{ "VDI.introduce", vdi_introduce },
	{ "VDI.destroy", vdi_destroy },
	{ "VDI.forget", vdi_forget },
	{ "VDI.copy", vdi_copy },
	{ "VDI.resize", vdi_resize },
	{ "VDI.update", vdi_update },
	{ "VDI.pool_migrate", vdi_pool_migrate },
	{ "VDI.get_nbd_info", vdi_get_nbd_info },
	{ "VDI.set_name_label", vdi_set_name_label },
	{ "VDI.set_name_description", vdi_set_name_description },
	{ "VDI.set_sharable", vdi_set_sharable },
	{ "VDI.set_read_only", vdi_set_read_only },
	{ NULL, NULL },
};
