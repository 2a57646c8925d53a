/* SPDX-License-Identifier: BSD-2-Clause */
/* What is measured about a host. */
#include "schema/api.h"
#include "schema/classes.h"

const struct api_class api_class_host_metrics = {
	.name = "host_metrics", .doc = "What is measured about a host.",
	.fields = API_LIST(struct api_field,
		{ "uuid", &api_string, API_DYNAMIC_RO,
		  .doc = "unique identifier of these metrics" },
		{ "memory_total", &api_int, API_DYNAMIC_RO,
		  .doc = "memory of the host, in bytes" },
		{ "memory_free", &api_int, API_DYNAMIC_RO,
		  .doc = "memory of the host that is free, in bytes", .flags = API_DEPRECATED },
		{ "live", &api_bool, API_DYNAMIC_RO, .doc = "whether the host answers" },
		{ "last_updated", &api_datetime, API_DYNAMIC_RO,
		  .doc = "when these values were taken" },
		{ "other_config", &api_string_map, API_RW, .doc = "free key/value pairs" }),
	.methods = API_NONE(struct api_method),
	.role = API_POOL_OPERATOR,
};
