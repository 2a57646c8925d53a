/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The API as data: classes, their fields, their methods, the types of both.
 * One schema/class-NAME.c per class holds const tables; from them come the
 * parsers of both wires, the checks of arguments and results, defaults, the
 * messages every class has (getters, setters …), introspection, the client,
 * the manual and the list of columns the database must have.
 *
 * Values are JSON trees (common/json.h) in one normal form:
 *   int -> integer, float -> double (or integer), bool -> boolean, string,
 *   enum, ref and datetime -> string ("20261121T04:00:00Z"), set -> array,
 *   map and record -> object (int keys in decimal), void -> "".
 *
 * Threads: the tables are const; everything here is pure.
 */
#ifndef SMD_SCHEMA_API_H
#define SMD_SCHEMA_API_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/json.h"

#define API_NULL_REF "OpaqueRef:NULL"
#define API_EPOCH "19700101T00:00:00Z"
#define API_DEPTH_MAX 32	/* of nesting on either wire */

enum api_kind {
	API_VOID,
	API_STRING,
	API_INT,		/* 64 bits; bare decimal text in XML */
	API_INT32,		/* counts of event.from: <i4> in XML */
	API_FLOAT,
	API_BOOL,
	API_DATETIME,
	API_ENUM,
	API_REF,
	API_SET,
	API_MAP,
	API_RECORD,		/* of a class, or a plain struct */
	API_ANY,		/* a record of the class named beside it (event snapshots) */
};

struct api_field;
struct api_class;

struct api_type {
	enum api_kind kind;
	const char *name;			/* REF, class RECORD: the class; ENUM, RECORD: its name */
	const struct api_type *key;		/* MAP */
	const struct api_type *elem;		/* SET; MAP: the value */
	const char *const *values;		/* ENUM: NULL-terminated */
	const struct api_field *fields;		/* plain RECORD: ended by a NULL name */
};
#define API_SET_OF(e) { API_SET, .elem = &(e) }
#define API_STRING_MAP_OF(e) { API_MAP, .key = &api_string, .elem = &(e) }

/* The common ones; class files define their own beside them. */
extern const struct api_type api_void, api_string, api_int, api_int32, api_float, api_bool,
	api_datetime, api_string_set, api_string_map, api_string_int_map, api_string_int32_map,
	api_int_set, api_blob_map;
/* api_ref_NAME and api_set_NAME (a set of refs) for every class a field can point to:
 * ours, and those of xapi whose objects smd has none of (their refs are null). */
#define API_REF_CLASSES(X) \
	X(session) X(task) X(pool) X(host) X(host_metrics) X(SM) X(SR) X(PBD) X(VDI) X(VBD) X(VM) \
	X(user) X(subject) X(secret) X(blob) X(crashdump) X(DR_task) X(Repository) X(PIF) \
	X(host_crashdump) X(host_patch) X(host_cpu) X(pool_update) X(PCI) X(PGPU) X(PUSB) \
	X(Feature) X(Certificate) X(network) X(message) X(VM_metrics) X(VM_guest_metrics) X(VM_group) \
	X(VM_appliance) X(VMPP) X(VMSS) X(VIF) X(VUSB) X(VTPM) X(VGPU) X(VBD_metrics) X(console) \
	X(PIF_metrics) X(Bond) X(VLAN) X(tunnel) X(network_sriov)
#define X(cls) extern const struct api_type api_ref_##cls, api_set_##cls;
API_REF_CLASSES(X)
#undef X

/* Who may: each role may all that those before it may. Zero: not said here; a method
 * or a field's setters are then its class's, and a class's the last one's. */
enum api_role {
	API_ROLE_UNSAID,
	API_READER,		/* read-only: also all that reads */
	API_VM_OPERATOR,
	API_VM_ADMIN,
	API_VM_POWER_ADMIN,
	API_POOL_OPERATOR,
	API_POOL_ADMIN,
	API_N_ROLES
};
extern const char *const api_role_names[API_N_ROLES];	/* "read-only" … "pool-admin" */

enum api_access {
	API_STATIC_RO,		/* constructor's: set when made, then only by a set_ method */
	API_DYNAMIC_RO,		/* the server's */
	API_RW,			/* set_, add_to_, remove_from_ exist */
};

#define API_REQUIRED 0x1u	/* field: a constructor must be given it */
#define API_DERIVED 0x2u	/* field: not stored; the refs whose .inverse field names us */
#define API_DEPRECATED 0x4u
#define API_PROTOTYPE 0x8u
#define API_ALWAYS_RW_MAP 0x10u	/* RO map with set_/add_to_/remove_from_ all the same
				 * (task.other_config) */
#define API_OPTIONAL 0x20u	/* member of a plain record: may be absent */
#define API_GOES_WITH 0x40u	/* REF field: the object goes when the one it points to goes;
				 * that one has a DERIVED field whose inverse this is */

struct api_field {
	const char *name;
	const struct api_type *type;
	enum api_access access;
	const char *doc;	/* one line, ours */
	const char *dflt;	/* as JSON text; NULL: the kind's zero value */
	unsigned flags;
	const char *inverse;	/* DERIVED: "VDI.SR": the refs of VDIs whose SR is this object;
				 * NULL: a class smd has no objects of, always empty */
	enum api_role role;	/* its setters */
};

struct api_param {
	const char *name;
	const struct api_type *type;
	const char *doc;
	const char *dflt;	/* as JSON text; NULL: required */
	unsigned flags;
	const char *keys;	/* of a map: all that are read, by spaces; "bytes-*": any that begin
				 * so. NULL: any. The server passes over others, which a later one
				 * may know; smctl refuses them */
};
/* param: the command line's key=value words that no other parameter claims go here. */
#define API_PARAM_REST 0x1u

#define API_ASYNC 0x1u		/* method: Async.X exists; long ones */
#define API_NO_SESSION 0x2u	/* method: callable without one, and takes none */
#define API_HIDDEN 0x4u		/* method: dispatchable, but not in listMethods */
#define API_READ_ONLY 0x8u	/* method: changes nothing; any role may call it */
#define API_CONSTRUCTOR 0x10u	/* method: takes one record of its class */
#define API_BARE_REPLY 0x20u	/* method: an XML reply is the value alone, without Status */

struct api_method {
	const char *name;		/* without the class */
	const char *since;
	const char *doc;
	const struct api_param *params;	/* session left out; ended by a NULL name */
	const struct api_type *result;	/* NULL: void */
	const char *result_doc;
	const int *errors;		/* enum smd_error_code, ended by -1; those every call may
					 * have (SESSION_INVALID …) left out */
	unsigned flags;
	enum api_role role;
};

struct api_class {
	const char *name;		/* as the API spells it: "VDI", "host" */
	const char *doc;
	const struct api_field *fields;	/* in the order records print; ended by a NULL name */
	const struct api_method *methods;	/* ended by a NULL name */
	unsigned flags;
	enum api_role role;		/* what changes its objects */
};
#define API_NO_RECORDS 0x1u	/* class: no objects of its own (event, system) */
#define API_NO_GET_ALL 0x2u	/* class: get_all* don't exist (session) */
#define API_NO_EVENTS 0x4u	/* class: never in event.from */
#define API_IN_MEMORY 0x8u	/* class: not in the database (session) */

#define API_LIST(type, ...) ((const type[]){ __VA_ARGS__, { 0 } })
#define API_NONE(type) ((const type[]){ { 0 } })
#define API_ERRORS(...) ((const int[]){ __VA_ARGS__, -1 })
#define API_VALUES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* All classes, NULL-terminated, in the order of their names. */
extern const struct api_class *const api_classes[];

const struct api_class *api_class_find(const char *name, bool any_case);
const struct api_field *api_field_find(const struct api_class *cls, const char *name);

/* ---- Messages: the declared methods and those every class has ---------------- */

enum api_message_kind {
	API_M_METHOD,
	API_M_GET_RECORD,
	API_M_GET_BY_UUID,
	API_M_GET_BY_NAME_LABEL,
	API_M_GET_ALL,
	API_M_GET_ALL_RECORDS,
	API_M_GET_ALL_WHERE,
	API_M_GET_ALL_RECORDS_WHERE,
	API_M_GET_FIELD,
	API_M_SET_FIELD,
	API_M_ADD_TO,
	API_M_REMOVE_FROM,
	API_M_ADD,
	API_M_REMOVE,
};

struct api_message {
	enum api_message_kind kind;
	const struct api_class *cls;
	const struct api_method *method;	/* API_M_METHOD */
	const struct api_field *field;		/* the field's ones */
	const struct api_param *params;		/* session left out; ended by a NULL name */
	const struct api_type *result;
	unsigned flags;				/* as a method's */
	const char *name;			/* "VDI.get_record" */
	enum api_role role;			/* the least that may call it; never UNSAID */
};

/* By full name ("VDI.snapshot", or the alias "VDI_snapshot"); NULL: unknown. A
 * declared method wins over an implied one of its name. Returned tables live as
 * long as the process. */
const struct api_message *api_message_find(const char *name);

/* Every listed message, in listMethods' order. */
typedef void api_message_fn(void *opaque, const struct api_message *message);
void api_messages(api_message_fn *each, void *opaque);

/* What introspection says of a message: every signature it takes, the result first
 * (the Value of a reply) and the session second, in XML-RPC's type names; a sentence
 * (borrowed); and the whole of it as text, which the caller frees. */
json *api_message_signatures(const struct api_message *message);
const char *api_message_doc(const struct api_message *message);
char *api_message_help(const struct api_message *message);

/* ---- Values -------------------------------------------------------------------- */

/* Check a value from a wire against its type and bring it to normal form (ints
 * may come as decimal text, datetimes in several spellings). what names it in the
 * message. *ret is a new reference. Errors: INVALID_VALUE for text that stands for no
 * value of the type, INTERNAL_ERROR for another kind of value, as xapi. */
int api_value_accept(const struct api_type *type, json *value, const char *what, json **ret,
		     struct smd_error *err);

/* Check our own result against its declared type; -1 is a bug of ours and
 * answers INTERNAL_ERROR. */
int api_value_check(const struct api_type *type, json *value, const char *what,
		    struct smd_error *err);

/* The zero value of a type, or what dflt says. New reference. */
json *api_value_default(const struct api_type *type, const char *dflt);

/* Fill the missing fields of a constructor's record with defaults, drop unknown
 * members and what the caller may not set; INTERNAL_ERROR for a missing required
 * one. *ret is a record of every field that is stored (no derived ones). */
int api_record_complete(const struct api_class *cls, json *given, json **ret,
			struct smd_error *err);

/* "string", "VDI ref set", "(string -> string) map", as xapi writes types. */
char *api_type_text(const struct api_type *type);

/* The whole API as JSON: schema/api.json, and the reply of system.describe, which
 * a client may build its commands from. Members as in the structs above; absent
 * means zero, false or none:
 *   {"classes": [{"name": "VDI", "doc": "…", "no_records": true, "no_get_all": true,
 *     "fields": [{"name": "…", "type": TYPE, "access": "static_ro|dynamic_ro|rw",
 *                 "doc": "…", "default": <JSON>, "required": true, "deprecated": true,
 *                 "always_rw_map": true}],
 *     "methods": [{"name": "copy", "since": "0.1", "doc": "…",
 *                  "params": [{"name": "…", "type": TYPE, "doc": "…", "default": <JSON>,
 *                              "rest": true}],
 *                  "result": TYPE, "result_doc": "…", "errors": ["SR_FULL"],
 *                  "async": true, "no_session": true, "hidden": true, "read_only": true,
 *                  "constructor": true, "bare_reply": true}]}],
 *    "errors": [{"code": "SR_FULL", "params": ["requested", "maximum"], "any_number": true,
 *                "text": "…"}]}
 * Methods, fields (their setters) and classes have "role" where they say one.
 * Fields may also have "inverse", "derived", "prototype", "optional", "goes_with";
 * classes "no_events", "in_memory".
 *   TYPE = {"kind": "string|int|int32|float|bool|datetime|void|any"}
 *        | {"kind": "ref", "name": "VDI"} | {"kind": "enum", "name": "…", "values": […]}
 *        | {"kind": "set", "elem": TYPE} | {"kind": "map", "key": TYPE, "elem": TYPE}
 *        | {"kind": "record", "name": "…", "fields": […]}
 */
json *api_describe(void);

#endif
