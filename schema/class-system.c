/* SPDX-License-Identifier: BSD-2-Clause */
/* The API itself. */
#include "schema/api.h"
#include "schema/classes.h"

const struct api_class api_class_system = {
	.name = "system", .doc = "The API itself.",
	.fields = API_NONE(struct api_field),
	.methods = API_LIST(struct api_method,
		{ .name = "listMethods", .since = "0.1",
		  .doc = "The names of all messages.",
		  .params = API_NONE(struct api_param),
		  .result = &api_string_set, .result_doc = "the names",
		  .errors = API_ERRORS(SMD_E_INTERNAL_ERROR),
		  .flags = API_NO_SESSION | API_READ_ONLY | API_BARE_REPLY },
		{ .name = "isAlive:x", .since = "0.1",
		  .doc = "Whether the server answers.",
		  .params = API_LIST(struct api_param,
			{ "x", &api_string, .doc = "any text" }),
		  .result = &api_string, .result_doc = "the text",
		  .errors = API_ERRORS(SMD_E_INTERNAL_ERROR),
		  .flags = API_NO_SESSION | API_READ_ONLY | API_HIDDEN },
		{ .name = "describe", .since = "0.1",
		  .doc = "The whole API: classes, fields, methods, types, errors.",
		  .params = API_NONE(struct api_param),
		  .result = &api_string, .result_doc = "JSON text, as in schema/api.json",
		  .errors = API_ERRORS(SMD_E_INTERNAL_ERROR),
		  .flags = API_NO_SESSION | API_READ_ONLY }),
	.flags = API_NO_RECORDS | API_NO_EVENTS,
};
