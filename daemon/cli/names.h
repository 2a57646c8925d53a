/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * References to what people read, and back. Whole classes are read once, when
 * the first reference to one is met.
 */
#ifndef SMD_DAEMON_CLI_NAMES_H
#define SMD_DAEMON_CLI_NAMES_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/cli/server.h"

#define NAMES_NOT_FOUND "<not in database>"

struct names;

/* api: describe's. server may be NULL where names_learn says all (tests). */
struct names *names_new(struct server *server, json *api);
void names_free(struct names *names);

/* Tell what the records of a class are: a map of ref to record, borrowed. */
void names_learn(struct names *names, const char *cls, json *records);

/* A field of the object behind a reference, as text; NAMES_NOT_FOUND where there is
 * none. Borrowed until the next names_learn. */
const char *names_uuid(struct names *names, const char *cls, const char *ref);
const char *names_label(struct names *names, const char *cls, const char *ref);
/* The object's record; NULL: none. Borrowed. */
json *names_record(struct names *names, const char *cls, const char *ref);
/* All records of a class; NULL where it has none or they can't be had. Borrowed. */
json *names_records(struct names *names, const char *cls);

/* What a person typed (a uuid, a reference, a name only one object has) to a
 * reference; the caller frees. Errors: UUID_INVALID as the server's, of what is a uuid. */
int names_resolve(struct names *names, const char *cls, const char *text, char **ret_ref,
		  struct smd_error *err);

/* A reference of an unknown class as "uuid (name)", as xe writes those in errors;
 * the caller frees; NULL: no object has it. */
char *names_describe_ref(struct names *names, const char *ref);

#endif
