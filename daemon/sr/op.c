/* SPDX-License-Identifier: BSD-2-Clause */
/* Who does what with an SR or a VDI now, and what may be asked of it. */
#include <string.h>
#include <sys/queue.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/task.h"
#include "daemon/sr/internal.h"

/* Whether an SR may see this operation begin while another runs: what touches
 * one VDI goes beside what touches another; the rest wants the SR alone. */
static bool
sr_may_share(const char *operation, const char *running)
{
	bool disk = strncmp(operation, "vdi_", 4) == 0;
	bool running_disk = strncmp(running, "vdi_", 4) == 0;
	bool light = disk || strcmp(operation, "scan") == 0 || strcmp(operation, "update") == 0;
	bool running_light = running_disk || strcmp(running, "scan") == 0 ||
			     strcmp(running, "update") == 0;

	if (!light || !running_light)
		return false;
	return disk || running_disk || strcmp(operation, running) != 0;
}

/* A VDI bears several readers at once, and to become a base under them. */
static bool
vdi_may_share(const char *operation, const char *running)
{
	return strcmp(running, "copy") == 0 &&
	       (strcmp(operation, "copy") == 0 || strcmp(operation, "clone") == 0 ||
		strcmp(operation, "list_changed_blocks") == 0);
}

static bool
is_snapshot_of_copied(const char *cls, const char *operation, const char *running)
{
	return strcmp(cls, "VDI") == 0 && strcmp(operation, "snapshot") == 0 &&
	       strcmp(running, "copy") == 0;
}

static int
check_running(const char *cls, const char *ref, const char *operation, json *current,
	      struct smd_error *err)
{
	json_object_object_foreach(current, key, value) {
		const char *running = json_object_get_string(value);
		bool ok = strcmp(cls, "SR") == 0 ? sr_may_share(operation, running)
						 : vdi_may_share(operation, running);

		if (is_snapshot_of_copied(cls, operation, running))
			return smd_fail_OPERATION_NOT_ALLOWED(
				err, "The VDI is being copied", "VDI %s is being copied, by %s: wait for "
				"that task, or task.cancel it", ref, key);
		if (!ok)
			return smd_fail_OTHER_OPERATION_IN_PROGRESS(
				err, cls, ref, running, key,
				"%s of this %s must wait for %s, which %s does: wait for that "
				"task, or task.cancel it", operation, cls, running, key);
	}
	return 0;
}

/* ---- What an object is decides, too ---- */

struct subject {
	const char *cls, *ref;
	char *sr;
	const struct smd_sr_driver *driver;	/* NULL: not loaded */
	json *vdi;		/* the fields that matter; NULL: no VDI */
	struct db *db;
	bool has_vbds;		/* of a VDI: VMs have it */
};

static void
subject_done(struct subject *s)
{
	free(s->sr);
	json_object_put(s->vdi);
}

static int
subject_load(struct daemon *daemon, const char *cls, const char *ref, struct subject *ret,
	     struct smd_error *err)
{
	static const char *const fields[] = {
		"uuid", "type", "sharable", "is_a_snapshot", "on_boot", "managed", "cbt_enabled",
		"VBDs", NULL,
	};
	struct smd_error none CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *type = NULL;
	bool is_vdi = strcmp(cls, "VDI") == 0;

	*ret = (struct subject){ .cls = cls, .ref = ref, .db = daemon->db };
	if (is_vdi && db_get_str(daemon->db, cls, ref, "SR", &ret->sr, err) < 0)
		return -1;
	if (!is_vdi)
		ret->sr = smd_strdup(ref);
	ret->vdi = is_vdi ? json_object_new_object() : NULL;
	for (size_t i = 0; is_vdi && fields[i]; i++) {
		json *value;

		if (db_get(daemon->db, cls, ref, fields[i], &value, err) < 0)
			return -1;
		smd_json_set(ret->vdi, fields[i], value);
	}
	ret->has_vbds = is_vdi && json_object_array_length(smd_json_member(ret->vdi, "VBDs")) > 0;
	if (db_get_str(daemon->db, "SR", ret->sr, "type", &type, &none) == 0)
		sr_driver(daemon, type, &ret->driver, &none);
	return 0;
}

/* Features of a driver that not every driver has. */
static const char *
feature_of(const char *operation)
{
	static const char *const features[][2] = {
		{ "clone", "VDI_CLONE" }, { "vdi_clone", "VDI_CLONE" },
		{ "snapshot", "VDI_SNAPSHOT" }, { "vdi_snapshot", "VDI_SNAPSHOT" },
		{ "revert_from", "VDI_REVERT" }, { "revert_to", "VDI_REVERT" },
		{ "vdi_revert", "VDI_REVERT" },
		{ "enable_cbt", "VDI_CONFIG_CBT" }, { "vdi_enable_cbt", "VDI_CONFIG_CBT" },
		{ "disable_cbt", "VDI_CONFIG_CBT" }, { "vdi_disable_cbt", "VDI_CONFIG_CBT" },
		{ "data_destroy", "VDI_CONFIG_CBT" }, { "vdi_data_destroy", "VDI_CONFIG_CBT" },
		{ "list_changed_blocks", "VDI_CONFIG_CBT" },
		{ "vdi_list_changed_blocks", "VDI_CONFIG_CBT" },
	};

	for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
		if (strcmp(features[i][0], operation) == 0)
			return features[i][1];
	}
	return NULL;
}

static bool
driver_has(const struct smd_sr_driver *driver, const char *feature)
{
	size_t length = strlen(feature);

	for (const char *const *f = driver->features; f && *f; f++) {
		if (strncmp(*f, feature, length) == 0 && ((*f)[length] == '\0' || (*f)[length] == '/'))
			return true;
	}
	return false;
}

/* What goes without data. */
static bool
needs_no_data(const char *operation)
{
	static const char *const fine[] = {
		"blocked", "data_destroy", "destroy", "list_changed_blocks", "force_unlock", "forget",
		"generate_config", "update",
	};

	for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
		if (strcmp(operation, fine[i]) == 0)
			return true;
	}
	return false;
}

static int
fail_snapshot(const struct subject *s, const char *negation, struct smd_error *err)
{
	CLEANUP_FREE char *why = smd_asprintf("VDI is %sa snapshot: %s", negation, s->ref);

	return smd_fail_OPERATION_NOT_ALLOWED(err, why, "%s", why);
}

/* Of changed block tracking: disks are tracked, and snapshots go on telling. */
static int
check_tracking(const struct subject *s, const char *operation, struct smd_error *err)
{
	const char *type = smd_json_str(s->vdi, "type", "");
	bool is_snapshot = smd_json_bool(s->vdi, "is_a_snapshot", false);
	bool destroy = strcmp(operation, "data_destroy") == 0;

	if (strcmp(operation, "enable_cbt") == 0 || strcmp(operation, "disable_cbt") == 0) {
		if (is_snapshot)
			return fail_snapshot(s, "", err);
		if (strcmp(type, "user") != 0 && strcmp(type, "system") != 0)
			return smd_fail_VDI_INCOMPATIBLE_TYPE(err, SMD_PARAMS(s->ref, type), "VDI %s is "
							      "of a type that is not tracked", s->ref);
		if (strcmp(smd_json_str(s->vdi, "on_boot", ""), "reset") == 0)
			return smd_fail_VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION(
				err, "VDI %s is reset when its VM starts: no %s", s->ref, operation);
	}
	if (destroy && !is_snapshot)
		return fail_snapshot(s, "not ", err);
	if ((destroy || strcmp(operation, "list_changed_blocks") == 0) &&
	    !smd_json_bool(s->vdi, "cbt_enabled", false))
		return smd_fail_VDI_NO_CBT_METADATA(err, s->ref, "the changed blocks of VDI %s are not "
						    "tracked: VDI.enable_cbt begins it", s->ref);
	return 0;
}

/* In xapi's order, after what runs. */
static int
check_subject(const struct subject *s, const char *operation, struct smd_error *err)
{
	const char *feature = feature_of(operation);
	const char *type = smd_json_str(s->vdi, "type", "");
	const char *uuid = smd_json_str(s->vdi, "uuid", s->ref);
	bool snapshot = strcmp(operation, "snapshot") == 0;

	if (s->has_vbds && vbd_check_operation(s->db, s->ref, operation, err) < 0)
		return -1;
	if (feature && (!s->driver || !driver_has(s->driver, feature)))
		return smd_fail_SR_OPERATION_NOT_SUPPORTED(err, s->sr, "the driver of SR %s has no %s",
							   s->sr, feature);
	if (s->vdi && strcmp(type, "cbt_metadata") == 0 && !needs_no_data(operation))
		return smd_fail_VDI_INCOMPATIBLE_TYPE(err, SMD_PARAMS(s->ref, type), "VDI %s has no "
						      "data to %s", uuid, operation);
	if (snapshot && smd_json_bool(s->vdi, "sharable", false))
		return smd_fail_VDI_IS_SHARABLE(err, s->ref, "VDI %s is sharable: its writers would not "
						"know of the snapshot; VDI.set_sharable changes that",
						uuid);
	if ((snapshot || strcmp(operation, "copy") == 0) &&
	    strcmp(smd_json_str(s->vdi, "on_boot", ""), "reset") == 0)
		return smd_fail_VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION(
			err, "VDI %s is reset when its VM starts: no %s", uuid, operation);
	if (strcmp(operation, "revert_to") == 0 && !smd_json_bool(s->vdi, "is_a_snapshot", false))
		return smd_fail_ONLY_REVERT_SNAPSHOT(err, "VDI %s is no snapshot: name one of the disk's, "
						  "to which it goes back", uuid);
	return s->vdi ? check_tracking(s, operation, err) : 0;
}

static bool
subject_may(const struct subject *s, const char *operation)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	/* Its snapshots would be another disk's: VDI.pool_migrate. */
	if (s->vdi && strcmp(operation, "mirror") == 0 && smd_json_bool(s->vdi, "cbt_enabled", false))
		return false;
	return check_subject(s, operation, &err) == 0;
}

/* ---- What may be asked ---- */

static const char *const vdi_operations[] = {
	"clone", "copy", "data_destroy", "destroy", "disable_cbt", "enable_cbt", "forget",
	"list_changed_blocks", "mirror", "resize", "revert_from", "revert_to", "snapshot", "update",
	NULL,
};
/* A node of a chain is nobody's to change. */
static const char *const vdi_operations_unmanaged[] = { NULL };
static const char *const sr_operations_attached[] = {
	"plug", "scan", "unplug", "update", "vdi_clone", "vdi_copy", "vdi_create",
	"vdi_data_destroy", "vdi_destroy", "vdi_disable_cbt", "vdi_enable_cbt", "vdi_forget",
	"vdi_introduce", "vdi_list_changed_blocks", "vdi_mirror", "vdi_resize", "vdi_revert",
	"vdi_snapshot", "vdi_update", NULL,
};
static const char *const sr_operations_detached[] = {
	"destroy", "forget", "pbd_create", "pbd_destroy", "plug", NULL,
};

static bool
sr_is_attached(struct storage *storage, const char *ref)
{
	LOCK_SCOPE(&storage->lock);
	for (struct sr *sr = storage->attached; sr; sr = sr->next) {
		if (strcmp(sr->ref, ref) == 0)
			return true;
	}
	return false;
}

static const char *const *
operations_of(struct daemon *daemon, const struct subject *s)
{
	if (s->vdi)
		return smd_json_bool(s->vdi, "managed", true) ? vdi_operations
							      : vdi_operations_unmanaged;
	return sr_is_attached(daemon->storage, s->ref) ? sr_operations_attached
						       : sr_operations_detached;
}

static json *
allowed_of(struct daemon *daemon, const struct subject *s, json *current)
{
	json *allowed = json_object_new_array();
	const char *const *operations = operations_of(daemon, s);

	for (; *operations; operations++) {
		bool ok = subject_may(s, *operations);

		json_object_object_foreach(current, key, value) {
			const char *running = json_object_get_string(value);

			(void)key;
			ok = ok && (s->vdi ? vdi_may_share(*operations, running)
					   : sr_may_share(*operations, running));
		}
		if (ok)
			json_object_array_add(allowed, json_object_new_string(*operations));
	}
	return allowed;
}

json *
op_allowed_of_new(struct sr *sr, json *row)
{
	CLEANUP_JSON json *none = json_object_new_object();
	const struct subject subject = {
		.cls = "VDI", .ref = API_NULL_REF, .sr = sr->ref, .driver = sr->driver, .vdi = row,
		.db = sr->daemon->db,
	};

	return allowed_of(sr->daemon, &subject, none);
}

static int
store_allowed(struct daemon *daemon, const struct subject *s, json *current,
	      struct smd_error *err)
{
	CLEANUP_JSON json *allowed = allowed_of(daemon, s, current), *stored = NULL;

	if (db_get(daemon->db, s->cls, s->ref, "allowed_operations", &stored, err) < 0)
		return -1;
	if (json_object_equal(allowed, stored))
		return 0;
	return db_set(daemon->db, s->cls, s->ref, "allowed_operations", allowed, err);
}

/* ---- What is over before anybody has seen it ---- */

/* An operation that no row may tell of. */
struct brief {
	LIST_ENTRY(brief) link;
	const char *cls, *operation;
	char *ref, *key;
	uint64_t since_ms;
	bool shown;		/* a transaction wrote it to the row, and may have been undone */
};

/* Each until it has ended, shown or not. It is changed and read in transactions only, of which
 * there is one at a time. */
static LIST_HEAD(, brief) briefs = LIST_HEAD_INITIALIZER(briefs);
static _Atomic unsigned n_briefs;

static void
brief_free(struct brief *b)
{
	LIST_REMOVE(b, link);
	free(b->ref);
	free(b->key);
	free(b);
	n_briefs--;
}

static bool
brief_is_of(const struct brief *b, const char *cls, const char *ref)
{
	return strcmp(b->cls, cls) == 0 && strcmp(b->ref, ref) == 0;
}

static void
brief_add(const char *cls, const char *ref, const char *operation, const char *key)
{
	struct brief *b = smd_calloc(1, sizeof *b);

	b->cls = cls;
	b->operation = operation;
	b->ref = smd_strdup(ref);
	b->key = smd_strdup(key);
	b->since_ms = smd_now_ms();
	LIST_INSERT_HEAD(&briefs, b, link);
	n_briefs++;
}

/* Those of an object, with what its row says. */
static void
briefs_join(const char *cls, const char *ref, json *current)
{
	const struct brief *b;

	LIST_FOREACH(b, &briefs, link) {
		if (brief_is_of(b, cls, ref))
			smd_json_set_str(current, b->key, b->operation);
	}
}

/* Take out one that has ended. Whether its row may tell of it. */
static bool
brief_end(const char *cls, const char *ref, const char *key)
{
	struct brief *b;
	bool shown;

	LIST_FOREACH(b, &briefs, link) {
		if (brief_is_of(b, cls, ref) && strcmp(b->key, key) == 0)
			break;
	}
	if (!b)
		return true;
	shown = b->shown;
	brief_free(b);
	return shown;
}

static int
brief_show(struct daemon *daemon, struct brief *b, struct smd_error *err)
{
	CLEANUP(subject_done) struct subject subject = { .vdi = NULL };
	CLEANUP_JSON json *current = NULL;

	if (db_get(daemon->db, b->cls, b->ref, "current_operations", &current, err) < 0)
		return -1;
	if (smd_json_member(current, b->key))
		return 0;
	smd_json_set_str(current, b->key, b->operation);
	b->shown = true;
	if (task_show(daemon->tasks, b->key, err) < 0 ||
	    subject_load(daemon, b->cls, b->ref, &subject, err) < 0 ||
	    db_set(daemon->db, b->cls, b->ref, "current_operations", current, err) < 0)
		return -1;
	return store_allowed(daemon, &subject, current, err);
}

/* cls NULL: of any object, that began before. */
static int
briefs_show(struct daemon *daemon, const char *cls, const char *ref, uint64_t before_ms,
	    struct smd_error *err)
{
	struct brief *b;

	LIST_FOREACH(b, &briefs, link) {
		if ((cls ? brief_is_of(b, cls, ref) : b->since_ms < before_ms) &&
		    brief_show(daemon, b, err) < 0)
			return -1;
	}
	return 0;
}

int
op_show(struct daemon *daemon, const char *cls, const char *ref, struct smd_error *err)
{
	if (n_briefs == 0)
		return 0;
	if (db_begin(daemon->db, DB_RELAXED, err) < 0)
		return -1;
	return db_end(daemon->db, briefs_show(daemon, cls, ref, 0, err), err);
}

void
ops_show(struct daemon *daemon, unsigned after_ms)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t before_ms = smd_now_ms() - after_ms + 1;

	if (n_briefs == 0)
		return;
	if (db_begin(daemon->db, DB_RELAXED, &err) < 0 ||
	    db_end(daemon->db, briefs_show(daemon, NULL, NULL, before_ms, &err), &err) < 0)
		smd_log(SMD_LOG_ERR, "operations that last: %s", err.message);
}

/* ---- Beginning and ending ---- */

static int
begin_in_transaction(struct daemon *daemon, const char *cls, const char *ref,
		     const char *operation, const char *key, struct smd_error *err)
{
	CLEANUP(subject_done) struct subject subject = { .vdi = NULL };
	CLEANUP_JSON json *current = NULL;

	if (db_get(daemon->db, cls, ref, "current_operations", &current, err) < 0 ||
	    check_running(cls, ref, operation, current, err) < 0 ||
	    subject_load(daemon, cls, ref, &subject, err) < 0 ||
	    check_subject(&subject, operation, err) < 0)
		return -1;
	smd_json_set_str(current, key, operation);
	if (db_set(daemon->db, cls, ref, "current_operations", current, err) < 0)
		return -1;
	return store_allowed(daemon, &subject, current, err);
}

static int
check_in_transaction(struct daemon *daemon, const char *cls, const char *ref,
		     const char *operation, struct smd_error *err)
{
	CLEANUP(subject_done) struct subject subject = { .vdi = NULL };
	CLEANUP_JSON json *current = NULL;

	if (db_get(daemon->db, cls, ref, "current_operations", &current, err) < 0)
		return -1;
	briefs_join(cls, ref, current);
	if (check_running(cls, ref, operation, current, err) < 0 ||
	    subject_load(daemon, cls, ref, &subject, err) < 0)
		return -1;
	return check_subject(&subject, operation, err);
}

int
op_check(struct daemon *daemon, const char *cls, const char *ref, const char *operation,
	 struct smd_error *err)
{
	if (op_show(daemon, cls, ref, err) < 0 || db_begin(daemon->db, DB_RELAXED, err) < 0)
		return -1;
	return db_end(daemon->db, check_in_transaction(daemon, cls, ref, operation, err), err);
}

int
op_begin(struct daemon *daemon, const char *cls, const char *ref, const char *operation,
	 const char *key, struct smd_error *err)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	struct db *db = daemon->db;
	int r;

	if (db_begin(db, DB_RELAXED, err) < 0)
		return -1;
	/* The tasks that the operations name; they stay where this one may not begin. */
	r = briefs_show(daemon, cls, ref, 0, err);
	if (r == 0)
		r = task_show(daemon->tasks, key, err);
	if (r == 0)
		r = db_begin(db, DB_RELAXED, err);
	if (r == 0)
		r = db_end(db, begin_in_transaction(daemon, cls, ref, operation, key, err), err);
	return db_commit(db, r == 0 ? err : &ignored) == 0 ? r : -1;
}

/* key NULL: only allowed_operations. */
static int
end_in_transaction(struct daemon *daemon, const char *cls, const char *ref, const char *key,
		   struct smd_error *err)
{
	CLEANUP(subject_done) struct subject subject = { .vdi = NULL };
	CLEANUP_JSON json *current = NULL;

	if (db_get(daemon->db, cls, ref, "current_operations", &current, err) < 0 ||
	    subject_load(daemon, cls, ref, &subject, err) < 0)
		return -1;
	if (key) {
		json_object_object_del(current, key);
		if (db_set(daemon->db, cls, ref, "current_operations", current, err) < 0)
			return -1;
	}
	return store_allowed(daemon, &subject, current, err);
}

static void
op_store(struct daemon *daemon, const char *cls, const char *ref, const char *key)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (db_begin(daemon->db, DB_RELAXED, &err) == 0) {
		if ((key && !brief_end(cls, ref, key)) || !db_exists(daemon->db, cls, ref) ||
		    end_in_transaction(daemon, cls, ref, key, &err) < 0)
			db_rollback(daemon->db);
		else
			db_commit(daemon->db, &err);
	}
	if (err.code)
		smd_log(SMD_LOG_ERR, "operations of %s %s: %s", cls, ref, err.message);
}

void
op_end(struct daemon *daemon, const char *cls, const char *ref, const char *key)
{
	op_store(daemon, cls, ref, key);
}

void
op_refresh(struct daemon *daemon, const char *cls, const char *ref)
{
	op_store(daemon, cls, ref, NULL);
}

void
op_set_init(struct op_set *set, struct daemon *daemon, const char *task_ref)
{
	*set = (struct op_set){ .daemon = daemon };
	set->key = task_ref ? smd_strdup(task_ref) : db_new_ref();
}

static void
set_add(struct op_set *set, const char *cls, const char *ref)
{
	set->ops = smd_reallocarray(set->ops, set->n + 1, sizeof set->ops[0]);
	set->ops[set->n].cls = cls;
	set->ops[set->n++].ref = smd_strdup(ref);
}

int
op_set_begin(struct op_set *set, const char *cls, const char *ref, const char *operation,
	     struct smd_error *err)
{
	/* Source and destination may be one SR: the first stands for both. */
	for (size_t i = 0; i < set->n; i++) {
		if (strcmp(set->ops[i].cls, cls) == 0 && strcmp(set->ops[i].ref, ref) == 0)
			return 0;
	}
	if (op_begin(set->daemon, cls, ref, operation, set->key, err) < 0)
		return -1;
	set_add(set, cls, ref);
	return 0;
}

/* Nothing is written, so that there is nothing to undo. */
static bool
begin_brief(struct op_set *set, const char *cls, const char *ref, const char *operation)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct daemon *daemon = set->daemon;
	bool ok;

	if (db_begin(daemon->db, DB_RELAXED, &err) < 0)
		return false;
	ok = check_in_transaction(daemon, cls, ref, operation, &err) == 0;
	if (ok)
		brief_add(cls, ref, operation, set->key);
	db_rollback(daemon->db);
	return ok;
}

int
op_set_begin_brief(struct op_set *set, const char *cls, const char *ref, const char *operation,
		   struct smd_error *err)
{
	/* Where it may not it says who is in its way, whose tasks show then. */
	if (!begin_brief(set, cls, ref, operation))
		return op_set_begin(set, cls, ref, operation, err);
	set_add(set, cls, ref);
	return 0;
}

void
op_set_leave(struct op_set *set, const char *cls)
{
	size_t kept = 0;

	for (size_t i = 0; i < set->n; i++) {
		struct op_of op = set->ops[i];

		if (strcmp(op.cls, cls) != 0) {
			set->ops[kept++] = op;
			continue;
		}
		op_end(set->daemon, op.cls, op.ref, set->key);
		free(op.ref);
	}
	set->n = kept;
}

void
op_set_end(struct op_set *set)
{
	for (size_t i = set->n; i-- > 0;) {
		const struct op_of *op = &set->ops[i];

		if (brief_end(op->cls, op->ref, set->key))
			op_end(set->daemon, op->cls, op->ref, set->key);
	}
}

void
op_set_keep(struct op_set *set)
{
	while (set->n > 0)
		free(set->ops[--set->n].ref);
}

void
op_set_done(struct op_set *set)
{
	while (set->n > 0) {
		set->n--;
		op_end(set->daemon, set->ops[set->n].cls, set->ops[set->n].ref, set->key);
		free(set->ops[set->n].ref);
	}
	free(set->ops);
	free(set->key);
	*set = (struct op_set){ .daemon = set->daemon };
}

/* Nothing runs yet: whatever the rows say is of an earlier run, and what is allowed
 * perhaps of an earlier smd. */
int
ops_reset(struct daemon *daemon, const char *cls, struct smd_error *err)
{
	CLEANUP_JSON json *empty = json_object_new_object();
	CLEANUP_JSON json *all = NULL;

	if (db_all_records(daemon->db, cls, NULL, &all, err) < 0)
		return -1;
	json_object_object_foreach(all, ref, record) {
		json *current = smd_json_member(record, "current_operations");

		if ((current && json_object_object_length(current) > 0 &&
		     db_set(daemon->db, cls, ref, "current_operations", empty, err) < 0) ||
		    end_in_transaction(daemon, cls, ref, NULL, err) < 0)
			return -1;
	}
	return 0;
}
