/* SPDX-License-Identifier: BSD-2-Clause */
/* SR drivers. The formats are strings and not xapi's enum: a module may bring one
 * that nobody has listed. On the wire the two are the same. */
#include "schema/api.h"
#include "schema/classes.h"

const struct api_class api_class_SM = {
	.name = "SM",
	.doc = "An SR driver that is installed. Objects come from the drivers found at start.",
	.fields = API_LIST(struct api_field,
		{ "uuid", &api_string, API_DYNAMIC_RO, .doc = "unique identifier of the SM" },
		{ "name_label", &api_string, API_DYNAMIC_RO, .doc = "name of the driver" },
		{ "name_description", &api_string, API_DYNAMIC_RO,
		  .doc = "what the driver stores to" },
		{ "type", &api_string, API_DYNAMIC_RO, .doc = "type an SR of this driver has" },
		{ "vendor", &api_string, API_DYNAMIC_RO, .doc = "who wrote the driver" },
		{ "copyright", &api_string, API_DYNAMIC_RO, .doc = "copyright of the driver" },
		{ "version", &api_string, API_DYNAMIC_RO, .doc = "version of the driver" },
		{ "required_api_version", &api_string, API_DYNAMIC_RO,
		  .doc = "version of the driver interface it was built for" },
		{ "configuration", &api_string_map, API_DYNAMIC_RO,
		  .doc = "keys of device_config and what they mean" },
		{ "capabilities", &api_string_set, API_DYNAMIC_RO,
		  .doc = "names of the features, without versions", .flags = API_DEPRECATED },
		{ "features", &api_string_int_map, API_DYNAMIC_RO,
		  .doc = "features of the driver and their versions" },
		{ "other_config", &api_string_map, API_RW, .doc = "free key/value pairs" },
		{ "driver_filename", &api_string, API_DYNAMIC_RO,
		  .doc = "file the driver was loaded from" },
		{ "required_cluster_stack", &api_string_set, API_DYNAMIC_RO,
		  .doc = "cluster stacks one of which must run" },
		{ "supported_image_formats", &api_string_set, API_DYNAMIC_RO,
		  .doc = "formats its SRs can hold disks in, preferred first; empty: undeclared",
		  .flags = API_PROTOTYPE }),
	.methods = API_NONE(struct api_method),
	.role = API_POOL_OPERATOR,
};
