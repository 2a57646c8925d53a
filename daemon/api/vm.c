/* SPDX-License-Identifier: BSD-2-Clause */
/* VMs as records with disks. None runs here: every one is halted. */
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"

static json *
allowed_operations(void)
{
	json *allowed = json_object_new_array();

	for (const char *const *o = API_VALUES("destroy", "make_into_template",
					       "update_allowed_operations"); *o; o++)
		json_object_array_add(allowed, json_object_new_string(*o));
	return allowed;
}

/* xapi makes a record of a VM that was suspended; smd has nothing to resume it with.
 * Any other state is a halted VM's record that was copied while it ran. */
static int
check_power_state(const char *ref, json *row, struct smd_error *err)
{
	if (strcmp(smd_json_str(row, "power_state", ""), "Suspended") == 0)
		return smd_fail_VM_BAD_POWER_STATE(err, ref, "halted", "suspended",
						   "smd keeps no suspended VMs");
	smd_json_set_str(row, "power_state", "Halted");
	return 0;
}

static void
complete(json *row, const char *metrics)
{
	CLEANUP_JSON json *domain_type = json_object_get(smd_json_member(row, "domain_type"));

	smd_json_set(row, "allowed_operations", allowed_operations());
	smd_json_set_str(row, "metrics", metrics);
	smd_json_set_int(row, "domid", -1);
	smd_json_set_str(row, "suspend_VDI", API_NULL_REF);
	smd_json_set_str(row, "last_booted_record", "");
	if (strcmp(json_object_get_string(domain_type), "unspecified") == 0)
		smd_json_set_str(row, "domain_type",
				 *smd_json_str(row, "HVM_boot_policy", "") ? "hvm" : "pv");
}

static json *
metrics_row(void)
{
	json *row = json_object_new_object(), *utilisation = json_object_new_object();

	smd_json_set(utilisation, "0", json_object_new_double(0));
	smd_json_set(row, "VCPUs_utilisation", utilisation);
	return row;
}

static int
vm_create(struct call *call, json **ret, struct smd_error *err)
{
	struct db *db = call->daemon->db;
	CLEANUP_FREE char *ref = db_new_ref(), *metrics = db_new_ref();
	CLEANUP_JSON json *measured = metrics_row();
	json *row = call_arg(call, 0);

	if (check_power_state(ref, row, err) != 0)
		return -1;
	complete(row, metrics);
	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	if (db_insert(db, "VM_metrics", metrics, measured, err) != 0 ||
	    db_insert(db, "VM", ref, row, err) != 0) {
		db_rollback(db);
		return -1;
	}
	if (db_commit(db, err) != 0)
		return -1;
	*ret = json_object_new_string(ref);
	return 0;
}

static int
delete_vm(struct db *db, const char *vm, struct smd_error *err)
{
	CLEANUP_FREE char *code = NULL, *metrics = NULL;

	if (db_map_get(db, "VM", vm, "blocked_operations", "destroy", &code, err) != 0 ||
	    db_get_str(db, "VM", vm, "metrics", &metrics, err) != 0)
		return -1;
	if (code)
		return smd_fail_OPERATION_BLOCKED(err, vm, code,
						  "destroy is among the VM's blocked operations");
	if (db_exists(db, "VM_metrics", metrics) && db_delete(db, "VM_metrics", metrics, err) != 0)
		return -1;
	return db_delete(db, "VM", vm, err);
}

/* Its VBDs go with it (API_GOES_WITH). */
static int
vm_destroy(struct call *call, json **ret, struct smd_error *err)
{
	struct db *db = call->daemon->db;

	(void)ret;
	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	return db_end(db, delete_vm(db, call_str(call, 0), err), err);
}

static int
vm_get_allowed_vbd_devices(struct call *call, json **ret, struct smd_error *err)
{
	bool used[VBD_DEVICES_MAX];

	if (vbd_devices_used(call->daemon->db, call_str(call, 0), used, err) != 0)
		return -1;
	*ret = json_object_new_array();
	for (int n = 0; n < VBD_DEVICES_MAX; n++) {
		if (!used[n])
			json_object_array_add(*ret, json_object_new_string(SMD_U64((uint64_t)n)));
	}
	return 0;
}

static int
vm_update_allowed_operations(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *allowed = allowed_operations();

	(void)ret;
	return db_set(call->daemon->db, "VM", call_str(call, 0), "allowed_operations", allowed, err);
}

const struct call_binding api_vm_handlers[] = {
	{ "VM.create", vm_create },
	{ "VM.destroy", vm_destroy },
	{ "VM.get_allowed_VBD_devices", vm_get_allowed_vbd_devices },
	{ "VM.update_allowed_operations", vm_update_allowed_operations },
	{ NULL, NULL },
};
