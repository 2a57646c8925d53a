/* SPDX-License-Identifier: BSD-2-Clause */
/* Changes of objects, as clients learn of them. */
#include "schema/api.h"
#include "schema/classes.h"

static const struct api_type event_snapshot = { API_ANY, .name = "class" };
static const struct api_type event_operation = {
	API_ENUM, .name = "event_operation", .values = API_VALUES("add", "del", "mod"),
};
/* id and timestamp go as text on both wires. */
static const struct api_type event_record = {
	API_RECORD, .name = "event",
	.fields = API_LIST(struct api_field,
		{ "id", &api_string, API_DYNAMIC_RO, .doc = "number of the event" },
		{ "timestamp", &api_string, API_DYNAMIC_RO, .doc = "not used: \"0.0\"",
		  .flags = API_DEPRECATED },
		{ "class", &api_string, API_DYNAMIC_RO,
		  .doc = "class of the object, in lower case" },
		{ "operation", &event_operation, API_DYNAMIC_RO, .doc = "what happened to it" },
		{ "ref", &api_string, API_DYNAMIC_RO, .doc = "the object" },
		{ "snapshot", &event_snapshot, API_DYNAMIC_RO,
		  .doc = "its record now; absent when it is gone", .flags = API_OPTIONAL }),
};
static const struct api_type event_set = API_SET_OF(event_record);
static const struct api_type event_batch = {
	API_RECORD, .name = "event batch",
	.fields = API_LIST(struct api_field,
		{ "events", &event_set, API_DYNAMIC_RO,
		  .doc = "adds, then changes, then deletions" },
		{ "valid_ref_counts", &api_string_int32_map, API_DYNAMIC_RO,
		  .doc = "number of objects there are of each class, in lower case" },
		{ "token", &api_string, API_DYNAMIC_RO,
		  .doc = "where to go on; means nothing else" }),
};

const struct api_class api_class_event = {
	.name = "event", .doc = "Changes of objects, as clients learn of them.",
	.fields = API_NONE(struct api_field),
	.methods = API_LIST(struct api_method,
		{ .name = "from", .since = "0.1",
		  .doc = "Wait for changes of objects since a token; an empty token begins with all.",
		  .params = API_LIST(struct api_param,
			{ "classes", &api_string_set,
			  .doc = "\"*\", classes, or class/ref for single objects" },
			{ "token", &api_string, .doc = "token of the batch before, or empty" },
			{ "timeout", &api_float, .doc = "seconds to wait at most" }),
		  .result = &event_batch,
		  .result_doc = "the changes; none when the time is over",
		  .errors = API_ERRORS(SMD_E_EVENT_FROM_TOKEN_PARSE_FAILURE,
				       SMD_E_EVENT_SUBSCRIPTION_PARSE_FAILURE,
				       SMD_E_SESSION_INVALID),
		  .flags = API_READ_ONLY },
		{ .name = "inject", .since = "0.1",
		  .doc = "Make an event of an object as if it had changed.",
		  .params = API_LIST(struct api_param,
			{ "class", &api_string, .doc = "class of the object" },
			{ "ref", &api_string, .doc = "the object" }),
		  .result = &api_string, .result_doc = "a token just before the event",
		  .errors = API_ERRORS(SMD_E_HANDLE_INVALID), .flags = API_READ_ONLY },
		{ .name = "register", .since = "0.1",
		  .doc = "Add classes to those that event.next waits for. New clients use event.from.",
		  .params = API_LIST(struct api_param,
			{ "classes", &api_string_set, .doc = "as event.from takes them" }),
		  .errors = API_ERRORS(SMD_E_EVENT_SUBSCRIPTION_PARSE_FAILURE,
				       SMD_E_SESSION_INVALID),
		  .flags = API_READ_ONLY },
		{ .name = "unregister", .since = "0.1",
		  .doc = "Take classes away from those that event.next waits for.",
		  .params = API_LIST(struct api_param,
			{ "classes", &api_string_set, .doc = "as they were registered; \"*\": all" }),
		  .errors = API_ERRORS(SMD_E_SESSION_INVALID), .flags = API_READ_ONLY },
		{ .name = "next", .since = "0.1",
		  .doc = "Wait for changes since the last answer. New clients use event.from.",
		  .params = API_NONE(struct api_param),
		  .result = &event_set, .result_doc = "the changes, one at least",
		  .errors = API_ERRORS(SMD_E_EVENTS_LOST, SMD_E_SESSION_NOT_REGISTERED,
				       SMD_E_SESSION_INVALID),
		  .flags = API_READ_ONLY },
		{ .name = "get_current_id", .since = "0.1",
		  .doc = "The number of the newest event.",
		  .params = API_NONE(struct api_param),
		  .result = &api_int, .result_doc = "the number",
		  .errors = API_ERRORS(SMD_E_SESSION_INVALID), .flags = API_READ_ONLY }),
	.flags = API_NO_RECORDS | API_NO_EVENTS,
};
