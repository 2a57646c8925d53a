/* SPDX-License-Identifier: BSD-2-Clause */
/* A network that hosts and VMs are on. */
#include "schema/api.h"
#include "schema/classes.h"

static const struct api_type network_operations = {
	API_ENUM, .name = "network_operations", .values = API_VALUES("attaching"),
};
static const struct api_type network_operations_set = API_SET_OF(network_operations);
static const struct api_type network_operations_map = API_STRING_MAP_OF(network_operations);
static const struct api_type network_default_locking_mode = {
	API_ENUM, .name = "network_default_locking_mode",
	.values = API_VALUES("unlocked", "disabled"),
};
static const struct api_type network_purpose = {
	API_ENUM, .name = "network_purpose", .values = API_VALUES("nbd", "insecure_nbd"),
};
static const struct api_type network_purpose_set = API_SET_OF(network_purpose);
static const struct api_type assigned_ips = {
	API_MAP, .key = &api_ref_VIF, .elem = &api_string,
};
static const struct api_type network_record = { API_RECORD, .name = "network" };

const struct api_class api_class_network = {
	.name = "network",
	.doc = "A network that hosts and VMs are on.",
	.fields = API_LIST(struct api_field,
		{ "uuid", &api_string, API_DYNAMIC_RO, .doc = "unique identifier of the network" },
		{ "name_label", &api_string, API_RW, .doc = "name of the network",
		  .role = API_POOL_OPERATOR },
		{ "name_description", &api_string, API_RW, .doc = "description of the network",
		  .role = API_POOL_OPERATOR },
		{ "allowed_operations", &network_operations_set, API_DYNAMIC_RO,
		  .doc = "what may be asked of the network now" },
		{ "current_operations", &network_operations_map, API_DYNAMIC_RO,
		  .doc = "what is under way on the network, by task" },
		{ "VIFs", &api_set_VIF, API_DYNAMIC_RO, .doc = "VMs' interfaces on the network",
		  .flags = API_DERIVED },
		{ "PIFs", &api_set_PIF, API_DYNAMIC_RO, .doc = "hosts' interfaces on the network",
		  .flags = API_DERIVED, .inverse = "PIF.network" },
		{ "MTU", &api_int, API_RW, .doc = "largest packet, in bytes", .dflt = "1500" },
		{ "other_config", &api_string_map, API_RW, .doc = "free key/value pairs",
		  .flags = API_REQUIRED,
		  .role = API_POOL_OPERATOR },
		{ "bridge", &api_string, API_STATIC_RO, .doc = "name of its bridge on each host" },
		{ "managed", &api_bool, API_STATIC_RO,
		  .doc = "whether the bridge is looked after for it", .dflt = "true" },
		{ "blobs", &api_blob_map, API_DYNAMIC_RO, .doc = "blobs of the network" },
		{ "tags", &api_string_set, API_RW, .doc = "tags for grouping and search",
		  .role = API_VM_OPERATOR },
		{ "default_locking_mode", &network_default_locking_mode, API_DYNAMIC_RO,
		  .doc = "what interfaces without a mode of their own may send" },
		{ "assigned_ips", &assigned_ips, API_DYNAMIC_RO,
		  .doc = "addresses given to interfaces" },
		{ "purpose", &network_purpose_set, API_DYNAMIC_RO,
		  .doc = "what the network serves; nbd opens NBD exports on it" }),
	.methods = API_LIST(struct api_method,
		{ .name = "create", .since = "0.1",
		  .doc = "Make the record of a network.",
		  .params = API_LIST(struct api_param,
			{ "args", &network_record, .doc = "fields of the new network" }),
		  .result = &api_ref_network, .result_doc = "the new network",
		  .errors = API_ERRORS(SMD_E_BRIDGE_NAME_EXISTS, SMD_E_INVALID_VALUE),
		  .flags = API_ASYNC | API_CONSTRUCTOR },
		{ .name = "destroy", .since = "0.1",
		  .doc = "Remove a network that no host is on.",
		  .params = API_LIST(struct api_param,
			{ "self", &api_ref_network, .doc = "the network" }),
		  .errors = API_ERRORS(SMD_E_NETWORK_CONTAINS_PIF),
		  .flags = API_ASYNC },
		{ .name = "add_purpose", .since = "0.1",
		  .doc = "Let the network serve a purpose.",
		  .params = API_LIST(struct api_param,
			{ "self", &api_ref_network, .doc = "the network" },
			{ "value", &network_purpose, .doc = "the purpose" }),
		  .errors = API_ERRORS(SMD_E_NETWORK_INCOMPATIBLE_PURPOSES),
		  .flags = API_ASYNC, .role = API_POOL_ADMIN },
		{ .name = "remove_purpose", .since = "0.1",
		  .doc = "Let the network no longer serve a purpose.",
		  .params = API_LIST(struct api_param,
			{ "self", &api_ref_network, .doc = "the network" },
			{ "value", &network_purpose, .doc = "the purpose" }),
		  .errors = API_ERRORS(SMD_E_HANDLE_INVALID),
		  .flags = API_ASYNC, .role = API_POOL_ADMIN }),
	.role = API_VM_ADMIN,
};
