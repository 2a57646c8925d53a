/* SPDX-License-Identifier: BSD-2-Clause */
/* The API itself. */
#include "schema/api.h"
#include "schema/classes.h"

static const struct api_type signatures = API_SET_OF(api_string_set);

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
		{ .name = "methodSignature", .since = "0.1",
		  .doc = "The types a message takes and gives, as XML-RPC names them.",
		  .params = API_LIST(struct api_param,
			{ "name", &api_string, .doc = "name of the message" }),
		  .result = &signatures,
		  .result_doc = "a list for each number of parameters: result, session, parameters",
		  .errors = API_ERRORS(SMD_E_MESSAGE_METHOD_UNKNOWN),
		  .flags = API_NO_SESSION | API_READ_ONLY | API_BARE_REPLY },
		{ .name = "methodHelp", .since = "0.1",
		  .doc = "What a message does.",
		  .params = API_LIST(struct api_param,
			{ "name", &api_string, .doc = "name of the message" }),
		  .result = &api_string, .result_doc = "some lines of text",
		  .errors = API_ERRORS(SMD_E_MESSAGE_METHOD_UNKNOWN),
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
