/* SPDX-License-Identifier: BSD-2-Clause */
/* What is measured about a VM. */
#include "schema/api.h"
#include "schema/classes.h"

static const struct api_type domain_type = {
	API_ENUM, .name = "domain_type",
	.values = API_VALUES(
		"hvm", "pv", "pv_in_pvh", "pvh", "unspecified"),
};
static const struct api_type int_float_map = { API_MAP, .key = &api_int, .elem = &api_float };
static const struct api_type int_int_map = { API_MAP, .key = &api_int, .elem = &api_int };
static const struct api_type int_set_map = {
	API_MAP, .key = &api_int, .elem = &api_string_set,
};

const struct api_class api_class_VM_metrics = {
	.name = "VM_metrics",
	.doc = "What is measured about a VM.",
	.fields = API_LIST(struct api_field,
		{ "uuid", &api_string, API_DYNAMIC_RO,
		  .doc = "unique identifier of these metrics" },
		{ "memory_actual", &api_int, API_DYNAMIC_RO,
		  .doc = "memory the VM has, in bytes" },
		{ "VCPUs_number", &api_int, API_DYNAMIC_RO, .doc = "virtual processors it has" },
		{ "VCPUs_utilisation", &int_float_map, API_DYNAMIC_RO,
		  .doc = "load of each processor, 0 to 1", .flags = API_DEPRECATED },
		{ "VCPUs_CPU", &int_int_map, API_DYNAMIC_RO,
		  .doc = "physical processor of each virtual one" },
		{ "VCPUs_params", &api_string_map, API_DYNAMIC_RO,
		  .doc = "settings of the processors" },
		{ "VCPUs_flags", &int_set_map, API_DYNAMIC_RO,
		  .doc = "state flags of each processor" },
		{ "state", &api_string_set, API_DYNAMIC_RO, .doc = "state flags of the VM" },
		{ "start_time", &api_datetime, API_DYNAMIC_RO, .doc = "when the VM was started" },
		{ "install_time", &api_datetime, API_DYNAMIC_RO,
		  .doc = "when the VM was installed" },
		{ "last_updated", &api_datetime, API_DYNAMIC_RO,
		  .doc = "when these values were taken" },
		{ "other_config", &api_string_map, API_RW, .doc = "free key/value pairs" },
		{ "hvm", &api_bool, API_DYNAMIC_RO, .doc = "whether it runs hardware-virtual" },
		{ "nested_virt", &api_bool, API_DYNAMIC_RO,
		  .doc = "whether it may run VMs itself" },
		{ "nomigrate", &api_bool, API_DYNAMIC_RO, .doc = "whether it cannot be migrated" },
		{ "current_domain_type", &domain_type, API_DYNAMIC_RO,
		  .doc = "kind of domain it runs as", .dflt = "\"unspecified\"" },
		{ "numa_optimised", &api_bool, API_STATIC_RO,
		  .doc = "whether it lies on few memory nodes" },
		{ "numa_nodes", &api_int, API_STATIC_RO,
		  .doc = "number of memory nodes it lies on" },
		{ "numa_node_memory", &int_int_map, API_DYNAMIC_RO,
		  .doc = "memory on each node, in bytes" }),
	.methods = API_NONE(struct api_method),
	.role = API_VM_ADMIN,
};
