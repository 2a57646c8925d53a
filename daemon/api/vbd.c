/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VBDs: which VDI is at which place of a VM, by xapi's rules. smd runs no VM, so
 * that what needs one that runs answers VM_BAD_POWER_STATE.
 */
#include <ctype.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/sr/sr.h"

/* ---- Places ------------------------------------------------------------------- */

/* "xvdb", "hdb", "sdb" -> 1; letters count on as in column names: z is followed by aa. */
static int
letters_number(const char *letters)
{
	int n = 0;

	if (*letters == '\0')
		return -1;
	for (; *letters; letters++) {
		if (!islower((unsigned char)*letters) || n > VBD_DEVICES_MAX)
			return -1;
		n = n * 26 + (*letters - 'a') + 1;
	}
	return n - 1 < VBD_DEVICES_MAX ? n - 1 : -1;
}

int
vbd_device_number(const char *userdevice)
{
	static const char *const prefixes[] = { "xvd", "hd", "sd" };
	size_t digits = strspn(userdevice, "0123456789");

	if (digits > 0 && userdevice[digits] == '\0') {
		unsigned long n = strtoul(userdevice, NULL, 10);

		return digits <= 3 && n < VBD_DEVICES_MAX ? (int)n : -1;
	}
	for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
		size_t len = strlen(prefixes[i]);

		if (strncmp(userdevice, prefixes[i], len) == 0)
			return letters_number(userdevice + len);
	}
	return -1;
}

int
vbd_devices_used(struct db *db, const char *vm, bool used[VBD_DEVICES_MAX], struct smd_error *err)
{
	CLEANUP_JSON json *vbds = NULL;

	memset(used, 0, VBD_DEVICES_MAX * sizeof used[0]);
	if (db_find(db, "VBD", "VM", vm, &vbds, err) != 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(vbds); i++) {
		const char *vbd = json_object_get_string(json_object_array_get_idx(vbds, i));
		CLEANUP_FREE char *userdevice = NULL;
		int n;

		if (db_get_str(db, "VBD", vbd, "userdevice", &userdevice, err) != 0)
			return -1;
		n = vbd_device_number(userdevice);
		if (n >= 0)
			used[n] = true;
	}
	return 0;
}

/* The place asked for, or the first free one for "autodetect", is put into the row. */
static int
choose_device(struct db *db, json *row, struct smd_error *err)
{
	const char *asked = smd_json_str(row, "userdevice", "");
	bool used[VBD_DEVICES_MAX];
	int n = vbd_device_number(asked);

	if (vbd_devices_used(db, smd_json_str(row, "VM", ""), used, err) != 0)
		return -1;
	if (strcmp(asked, "autodetect") == 0) {
		for (n = 0; n < VBD_DEVICES_MAX && used[n];)
			n++;
		if (n < VBD_DEVICES_MAX) {
			smd_json_set_str(row, "userdevice", SMD_U64((uint64_t)n));
			return 0;
		}
	}
	if (n < 0 || n == VBD_DEVICES_MAX)
		return smd_fail_INVALID_DEVICE(err, asked, "a VM has no place \"%s\" for a disk",
					       asked);
	if (used[n])
		return smd_fail_DEVICE_ALREADY_EXISTS(err, asked,
						      "the VM has a disk at %s already", asked);
	return 0;
}

/* ---- Rules -------------------------------------------------------------------- */

static int
check_vdi_type(const char *vdi, json *vdi_row, struct smd_error *err)
{
	static const char *const fit[] = {
		"system", "user", "ephemeral", "suspend", "crashdump", "metadata", "rrd",
		"pvs_cache",
	};
	const char *type = smd_json_str(vdi_row, "type", "");

	for (size_t i = 0; i < sizeof fit / sizeof fit[0]; i++) {
		if (strcmp(type, fit[i]) == 0)
			return 0;
	}
	return smd_fail_VDI_INCOMPATIBLE_TYPE(err, SMD_PARAMS(vdi, type),
					      "a VDI of type %s is no disk of a VM", type);
}

/* Another VBD of the VDI may write, and the VDI is not made for several writers. */
static int
check_single_writer(struct db *db, const char *vbd, const char *vdi, json *vdi_row,
		    struct smd_error *err)
{
	json *vbds = smd_json_member(vdi_row, "VBDs");

	if (smd_json_bool(vdi_row, "sharable", false))
		return 0;
	for (size_t i = 0; i < json_object_array_length(vbds); i++) {
		const char *other = json_object_get_string(json_object_array_get_idx(vbds, i));
		CLEANUP_FREE char *mode = NULL;

		if (vbd && strcmp(other, vbd) == 0)
			continue;
		if (db_get_str(db, "VBD", other, "mode", &mode, err) != 0)
			return -1;
		if (strcmp(mode, "RW") == 0)
			return smd_fail_VDI_IN_USE(err, SMD_PARAMS(vdi, "attach"),
						   "VBD %s may write to the VDI already", other);
	}
	return 0;
}

/* vbd: NULL for one that is not made yet. */
static int
check_mode(struct db *db, const char *vbd, json *row, json *vdi_row, struct smd_error *err)
{
	bool writes = strcmp(smd_json_str(row, "mode", ""), "RW") == 0;
	const char *vdi = smd_json_str(row, "VDI", "");

	if (writes && strcmp(smd_json_str(row, "type", ""), "CD") == 0)
		return smd_fail_VBD_CDS_MUST_BE_READONLY(err, "a CD drive has the mode RO");
	if (!writes || !vdi_row)
		return 0;
	if (smd_json_bool(vdi_row, "read_only", false))
		return smd_fail_VDI_READONLY(err, vdi, "VDI %s may only be read", vdi);
	return check_single_writer(db, vbd, vdi, vdi_row, err);
}

/* What the VDI does now, besides being read. */
static int
check_vdi_idle(const char *vdi, json *vdi_row, struct smd_error *err)
{
	json *current = smd_json_member(vdi_row, "current_operations");

	json_object_object_foreach(current, key, value) {
		const char *operation = json_object_get_string(value);

		if (strcmp(operation, "copy") != 0 && strcmp(operation, "mirror") != 0)
			return smd_fail_OTHER_OPERATION_IN_PROGRESS(err, "VDI", vdi, operation, key,
					"the VDI must end its %s first", operation);
	}
	return 0;
}

static int
check_attachable(struct daemon *daemon, const char *vbd, json *row, const char *vdi,
		 struct smd_error *err)
{
	CLEANUP_JSON json *vdi_row = NULL;

	if (op_show(daemon, "VDI", vdi, err) != 0 ||
	    db_get_record(daemon->db, "VDI", vdi, &vdi_row, err) != 0)
		return -1;
	if (!smd_json_bool(vdi_row, "managed", true))
		return smd_fail_VDI_NOT_MANAGED(err, vbd, "VDI %s is an internal node of a chain",
						vdi);
	if (check_vdi_idle(vdi, vdi_row, err) != 0)
		return -1;
	return check_mode(daemon->db, vbd, row, vdi_row, err);
}

static int
refuse_halted(const char *vm, struct smd_error *err)
{
	return smd_fail_VM_BAD_POWER_STATE(err, vm, "running", "halted",
					   "the VM is halted: smd runs none");
}

/* ---- allowed_operations --------------------------------------------------------- */

/* Of a halted VM: only a CD drive's medium changes. */
static json *
allowed_operations(json *row)
{
	json *allowed = json_object_new_array();

	json_object_array_add(allowed, json_object_new_string("attach"));
	if (strcmp(smd_json_str(row, "type", ""), "CD") == 0)
		json_object_array_add(allowed, json_object_new_string(
				smd_json_bool(row, "empty", false) ? "insert" : "eject"));
	return allowed;
}

/* ---- Create and destroy ----------------------------------------------------------- */

static int
check_new(struct db *db, json *row, json *vdi_row, struct smd_error *err)
{
	bool cd = strcmp(smd_json_str(row, "type", ""), "CD") == 0;

	if (vdi_row && check_vdi_type(smd_json_str(row, "VDI", ""), vdi_row, err) != 0)
		return -1;
	if (!cd && !vdi_row)
		return smd_fail_VBD_NOT_REMOVABLE_MEDIA(err, "in constructor",
							"only a CD drive can be empty");
	return check_mode(db, NULL, row, vdi_row, err);
}

static int
insert_vbd(struct db *db, const char *ref, json *row, struct smd_error *err)
{
	const char *vm = smd_json_str(row, "VM", "");
	CLEANUP_JSON json *vdi_row = NULL;

	if (!db_exists(db, "VM", vm))
		return smd_fail_HANDLE_INVALID(err, "VM", vm, "there is no VM %s", vm);
	if (smd_json_bool(row, "empty", false))
		smd_json_set_str(row, "VDI", API_NULL_REF);
	else if (db_get_record(db, "VDI", smd_json_str(row, "VDI", ""), &vdi_row, err) != 0)
		return -1;
	if (check_new(db, row, vdi_row, err) != 0 || choose_device(db, row, err) != 0)
		return -1;
	smd_json_set(row, "allowed_operations", allowed_operations(row));
	return db_insert(db, "VBD", ref, row, err);
}

static int
vbd_create(struct call *call, json **ret, struct smd_error *err)
{
	struct db *db = call->daemon->db;
	CLEANUP_FREE char *ref = db_new_ref();
	json *row = call_arg(call, 0);

	/* The VM is halted: it has no device, whatever a copied record says. */
	smd_json_set_str(row, "device", "");
	smd_json_set_bool(row, "currently_attached", false);
	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	if (db_end(db, insert_vbd(db, ref, row, err), err) != 0)
		return -1;
	*ret = json_object_new_string(ref);
	return 0;
}

/* One transaction around what reads a VBD and then changes it. */
typedef int vbd_change_fn(struct call *call, json *row, struct smd_error *err);

static int
change_vbd(struct call *call, vbd_change_fn *change, struct smd_error *err)
{
	struct db *db = call->daemon->db;
	CLEANUP_JSON json *row = NULL;

	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	if (db_get_record(db, "VBD", call_str(call, 0), &row, err) != 0 ||
	    change(call, row, err) != 0) {
		db_rollback(db);
		return -1;
	}
	return db_commit(db, err);
}

static int
change_destroy(struct call *call, json *row, struct smd_error *err)
{
	const char *uuid = smd_json_str(row, "uuid", "");

	if (smd_json_bool(row, "currently_attached", false)) {
		CLEANUP_FREE char *text = smd_asprintf("VBD '%s' still attached to '%s'", uuid,
						       smd_json_str(row, "VM", ""));

		return smd_fail_OPERATION_NOT_ALLOWED(err, text, "%s", text);
	}
	return db_delete(call->daemon->db, "VBD", call_str(call, 0), err);
}

static int
vbd_destroy(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return change_vbd(call, change_destroy, err);
}

/* ---- Media ------------------------------------------------------------------------ */

static int
check_removable(const char *vbd, json *row, struct smd_error *err)
{
	if (strcmp(smd_json_str(row, "type", ""), "CD") == 0)
		return 0;
	return smd_fail_VBD_NOT_REMOVABLE_MEDIA(err, vbd, "VBD %s is no CD drive", vbd);
}

static int
set_medium(struct db *db, const char *vbd, json *row, const char *vdi, struct smd_error *err)
{
	bool empty = strcmp(vdi, API_NULL_REF) == 0;
	CLEANUP_JSON json *allowed = NULL;

	smd_json_set_bool(row, "empty", empty);
	allowed = allowed_operations(row);
	if (db_set_str(db, "VBD", vbd, "VDI", vdi, err) != 0 ||
	    db_set_bool(db, "VBD", vbd, "empty", empty, err) != 0)
		return -1;
	return db_set(db, "VBD", vbd, "allowed_operations", allowed, err);
}

static int
change_insert(struct call *call, json *row, struct smd_error *err)
{
	const char *vbd = call_str(call, 0), *vdi = call_str(call, 1);
	struct db *db = call->daemon->db;
	CLEANUP_JSON json *vdi_row = NULL;

	if (check_removable(vbd, row, err) != 0)
		return -1;
	if (!smd_json_bool(row, "empty", false))
		return smd_fail_VBD_NOT_EMPTY(err, vbd, "the drive holds a medium: eject it first");
	if (db_get_record(db, "VDI", vdi, &vdi_row, err) != 0 ||
	    check_vdi_type(vdi, vdi_row, err) != 0 ||
	    check_attachable(call->daemon, vbd, row, vdi, err) != 0)
		return -1;
	return set_medium(db, vbd, row, vdi, err);
}

static int
vbd_insert(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return change_vbd(call, change_insert, err);
}

static int
change_eject(struct call *call, json *row, struct smd_error *err)
{
	const char *vbd = call_str(call, 0);

	if (check_removable(vbd, row, err) != 0)
		return -1;
	if (smd_json_bool(row, "empty", false))
		return smd_fail_VBD_IS_EMPTY(err, vbd, "the drive is empty");
	return set_medium(call->daemon->db, vbd, row, API_NULL_REF, err);
}

static int
vbd_eject(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return change_vbd(call, change_eject, err);
}

/* ---- With a VM that runs ------------------------------------------------------------ */

static int
vbd_plug(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *vm = NULL;

	(void)ret;
	if (db_get_str(call->daemon->db, "VBD", call_str(call, 0), "VM", &vm, err) != 0)
		return -1;
	return refuse_halted(vm, err);
}

static int
vbd_unplug(struct call *call, json **ret, struct smd_error *err)
{
	const char *vbd = call_str(call, 0);
	bool unpluggable;

	if (db_get_bool(call->daemon->db, "VBD", vbd, "unpluggable", &unpluggable, err) != 0)
		return -1;
	if (!unpluggable)
		return smd_fail_VBD_NOT_UNPLUGGABLE(err, vbd, "VBD %s is not unpluggable", vbd);
	return vbd_plug(call, ret, err);
}

static int
vbd_assert_attachable(struct call *call, json **ret, struct smd_error *err)
{
	const char *vbd = call_str(call, 0);
	CLEANUP_JSON json *row = NULL;

	(void)ret;
	if (db_get_record(call->daemon->db, "VBD", vbd, &row, err) != 0)
		return -1;
	if (smd_json_bool(row, "empty", false))
		return 0;
	return check_attachable(call->daemon, vbd, row, smd_json_str(row, "VDI", ""), err);
}

static int
change_mode(struct call *call, json *row, struct smd_error *err)
{
	struct db *db = call->daemon->db;
	const char *vbd = call_str(call, 0), *vdi = smd_json_str(row, "VDI", "");
	CLEANUP_JSON json *vdi_row = NULL;

	smd_json_set_str(row, "mode", call_str(call, 1));
	if ((!smd_json_bool(row, "empty", false) &&
	     db_get_record(db, "VDI", vdi, &vdi_row, err) != 0) ||
	    check_mode(db, vbd, row, vdi_row, err) != 0)
		return -1;
	return db_set_str(db, "VBD", vbd, "mode", call_str(call, 1), err);
}

static int
vbd_set_mode(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return change_vbd(call, change_mode, err);
}

const struct call_binding api_vbd_handlers[] = {
	{ "VBD.assert_attachable", vbd_assert_attachable },
	{ "VBD.create", vbd_create },
	{ "VBD.destroy", vbd_destroy },
	{ "VBD.eject", vbd_eject },
	{ "VBD.insert", vbd_insert },
	{ "VBD.plug", vbd_plug },
	{ "VBD.set_mode", vbd_set_mode },
	{ "VBD.unplug", vbd_unplug },
	{ "VBD.unplug_force", vbd_unplug },
	{ NULL, NULL },
};
