/* SPDX-License-Identifier: BSD-2-Clause */
/* The types every class may use, and the list of the classes. */
#include "schema/api.h"
#include "schema/classes.h"

const struct api_type api_void = { API_VOID, .name = NULL };
const struct api_type api_string = { API_STRING, .name = NULL };
const struct api_type api_int = { API_INT, .name = NULL };
const struct api_type api_int32 = { API_INT32, .name = NULL };
const struct api_type api_float = { API_FLOAT, .name = NULL };
const struct api_type api_bool = { API_BOOL, .name = NULL };
const struct api_type api_datetime = { API_DATETIME, .name = NULL };
const struct api_type api_string_set = API_SET_OF(api_string);
const struct api_type api_int_set = API_SET_OF(api_int);
const struct api_type api_string_map = API_STRING_MAP_OF(api_string);
const struct api_type api_string_int_map = API_STRING_MAP_OF(api_int);
const struct api_type api_string_int32_map = API_STRING_MAP_OF(api_int32);
const struct api_type api_blob_map = API_STRING_MAP_OF(api_ref_blob);

#define X(cls)								\
	const struct api_type api_ref_##cls = { API_REF, .name = #cls };	\
	const struct api_type api_set_##cls = API_SET_OF(api_ref_##cls);
API_REF_CLASSES(X)
#undef X

const char *const api_role_names[API_N_ROLES] = {
	[API_READER] = "read-only",
	[API_VM_OPERATOR] = "vm-operator",
	[API_VM_ADMIN] = "vm-admin",
	[API_VM_POWER_ADMIN] = "vm-power-admin",
	[API_POOL_OPERATOR] = "pool-operator",
	[API_POOL_ADMIN] = "pool-admin",
};

const struct api_class *const api_classes[] = {
	&api_class_PBD,
	&api_class_PIF,
	&api_class_SM,
	&api_class_SR,
	&api_class_VBD,
	&api_class_VDI,
	&api_class_VM,
	&api_class_VM_metrics,
	&api_class_event,
	&api_class_host,
	&api_class_host_metrics,
	&api_class_message,
	&api_class_network,
	&api_class_pool,
	&api_class_session,
	&api_class_system,
	&api_class_task,
	NULL,
};
