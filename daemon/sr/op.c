/* SPDX-License-Identifier: BSD-2-Clause */
/* Who does what with an SR or a VDI now, and what may be asked of it. */
#include <assert.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"
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

/* A VDI bears several readers and nothing else at once. */
static bool
vdi_may_share(const char *operation, const char *running)
{
	return strcmp(operation, "copy") == 0 && strcmp(running, "copy") == 0;
}

static int
check_running(const char *cls, const char *ref, const char *operation, json *current,
	      struct smd_error *err)
{
	json_object_object_foreach(current, key, value) {
		const char *running = json_object_get_string(value);
		bool ok = strcmp(cls, "SR") == 0 ? sr_may_share(operation, running)
						 : vdi_may_share(operation, running);

		if (!ok)
			return smd_fail_OTHER_OPERATION_IN_PROGRESS(
				err, cls, ref, running, key,
				"%s of this %s must wait for %s, which %s does", operation, cls,
				running, key);
	}
	return 0;
}

/* ---- What may be asked ---- */

static const char *const vdi_operations[] = {
	"copy", "destroy", "forget", "mirror", "resize", "update", NULL,
};
static const char *const sr_operations_attached[] = {
	"plug", "scan", "unplug", "update", "vdi_copy", "vdi_create", "vdi_destroy", "vdi_forget",
	"vdi_introduce", "vdi_mirror", "vdi_resize", "vdi_update", NULL,
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

static int
store_allowed(struct daemon *daemon, const char *cls, const char *ref, json *current,
	      struct smd_error *err)
{
	CLEANUP_JSON json *allowed = json_object_new_array();
	const char *const *operations = vdi_operations;
	bool is_sr = strcmp(cls, "SR") == 0;

	if (is_sr)
		operations = sr_is_attached(daemon->storage, ref) ? sr_operations_attached
								  : sr_operations_detached;
	for (; *operations; operations++) {
		bool ok = true;

		json_object_object_foreach(current, key, value) {
			const char *running = json_object_get_string(value);

			(void)key;
			ok = ok && (is_sr ? sr_may_share(*operations, running)
					  : vdi_may_share(*operations, running));
		}
		if (ok)
			json_object_array_add(allowed, json_object_new_string(*operations));
	}
	return db_set(daemon->db, cls, ref, "allowed_operations", allowed, err);
}

/* ---- Beginning and ending ---- */

static int
begin_in_transaction(struct daemon *daemon, const char *cls, const char *ref,
		     const char *operation, const char *key, struct smd_error *err)
{
	CLEANUP_JSON json *current = NULL;

	if (db_get(daemon->db, cls, ref, "current_operations", &current, err) < 0 ||
	    check_running(cls, ref, operation, current, err) < 0)
		return -1;
	smd_json_set_str(current, key, operation);
	if (db_set(daemon->db, cls, ref, "current_operations", current, err) < 0)
		return -1;
	return store_allowed(daemon, cls, ref, current, err);
}

int
op_begin(struct daemon *daemon, const char *cls, const char *ref, const char *operation,
	 const char *key, struct smd_error *err)
{
	if (db_begin(daemon->db, DB_RELAXED, err) < 0)
		return -1;
	if (begin_in_transaction(daemon, cls, ref, operation, key, err) < 0) {
		db_rollback(daemon->db);
		return -1;
	}
	return db_commit(daemon->db, err);
}

/* key NULL: only allowed_operations. */
static int
end_in_transaction(struct daemon *daemon, const char *cls, const char *ref, const char *key,
		   struct smd_error *err)
{
	CLEANUP_JSON json *current = NULL;

	if (db_get(daemon->db, cls, ref, "current_operations", &current, err) < 0)
		return -1;
	if (key) {
		json_object_object_del(current, key);
		if (db_set(daemon->db, cls, ref, "current_operations", current, err) < 0)
			return -1;
	}
	return store_allowed(daemon, cls, ref, current, err);
}

static void
op_store(struct daemon *daemon, const char *cls, const char *ref, const char *key)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (db_begin(daemon->db, DB_RELAXED, &err) == 0) {
		if (!db_exists(daemon->db, cls, ref) ||
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

int
op_set_begin(struct op_set *set, const char *cls, const char *ref, const char *operation,
	     struct smd_error *err)
{
	/* Source and destination may be one SR: the first stands for both. */
	for (size_t i = 0; i < set->n; i++) {
		if (strcmp(set->ops[i].cls, cls) == 0 && strcmp(set->ops[i].ref, ref) == 0)
			return 0;
	}
	assert(set->n < sizeof set->ops / sizeof set->ops[0]);
	if (op_begin(set->daemon, cls, ref, operation, set->key, err) < 0)
		return -1;
	set->ops[set->n].cls = cls;
	set->ops[set->n++].ref = smd_strdup(ref);
	return 0;
}

void
op_set_done(struct op_set *set)
{
	while (set->n > 0) {
		set->n--;
		op_end(set->daemon, set->ops[set->n].cls, set->ops[set->n].ref, set->key);
		free(set->ops[set->n].ref);
	}
	free(set->key);
	set->key = NULL;
}

/* Nothing runs yet: whatever the rows say is of an earlier run. */
int
ops_reset(struct daemon *daemon, const char *cls, struct smd_error *err)
{
	CLEANUP_JSON json *empty = json_object_new_object();
	CLEANUP_JSON json *all = NULL;

	if (db_all_records(daemon->db, cls, NULL, &all, err) < 0)
		return -1;
	json_object_object_foreach(all, ref, record) {
		json *current = smd_json_member(record, "current_operations");

		if (current && json_object_object_length(current) > 0 &&
		    (db_set(daemon->db, cls, ref, "current_operations", empty, err) < 0 ||
		     store_allowed(daemon, cls, ref, empty, err) < 0))
			return -1;
	}
	return 0;
}
