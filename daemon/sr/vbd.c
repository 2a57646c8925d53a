/* SPDX-License-Identifier: BSD-2-Clause */
/* What a VDI's places in VMs say of an operation on it (xapi's order of checks:
 * attachment first, then what runs on a VBD). */
#include <string.h>

#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/sr/internal.h"

/* What a VM that has the disk does not mind. */
static bool
fine_while_attached(const char *operation, bool writable)
{
	static const char *const fine[] = {
		"snapshot", "resize_online", "blocked", "clone", "revert_to", "mirror",
		"enable_cbt", "disable_cbt", "data_destroy",
	};

	for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
		if (strcmp(operation, fine[i]) == 0)
			return true;
	}
	return strcmp(operation, "copy") == 0 && !writable;
}

static int
check_vbd_idle(const char *vbd, json *row, const char *operation, struct smd_error *err)
{
	json_object_object_foreach(smd_json_member(row, "current_operations"), key, value) {
		const char *running = json_object_get_string(value);

		return smd_fail_OTHER_OPERATION_IN_PROGRESS(err, "VBD", vbd, running, key,
				"%s must wait for %s of VBD %s", operation, running, vbd);
	}
	return 0;
}

int
vbd_check_operation(struct db *db, const char *vdi, const char *operation, struct smd_error *err)
{
	CLEANUP_JSON json *vbds = NULL;

	if (db_find(db, "VBD", "VDI", vdi, &vbds, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(vbds); i++) {
		const char *vbd = json_object_get_string(json_object_array_get_idx(vbds, i));
		CLEANUP_JSON json *row = NULL;

		if (db_get_record(db, "VBD", vbd, &row, err) < 0)
			return -1;
		if (smd_json_bool(row, "currently_attached", false) &&
		    !fine_while_attached(operation,
					 strcmp(smd_json_str(row, "mode", ""), "RW") == 0))
			return smd_fail_VDI_IN_USE(err, SMD_PARAMS(vdi, operation),
						   "a VM has the VDI, by VBD %s: VBD.unplug it first", vbd);
		if (check_vbd_idle(vbd, row, operation, err) < 0)
			return -1;
	}
	return 0;
}
