/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The columns of a class's records: its fields with hyphens for underscores,
 * references as uuids, and what spelling.h has of xe's own.
 */
#ifndef SMD_DAEMON_CLI_COLUMNS_H
#define SMD_DAEMON_CLI_COLUMNS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/json.h"
#include "daemon/cli/names.h"
#include "daemon/cli/spelling.h"

enum column_shape { COLUMN_PLAIN, COLUMN_SET, COLUMN_MAP };

struct column {
	char *name;				/* "sr-uuid" */
	json *field;				/* describe's; of an extra, the field it is about */
	const struct spelling_extra *extra;	/* NULL: the field itself */
	unsigned flags;				/* SPELLING_… */
	enum column_shape shape;		/* what filters and ( RO) go by */
	bool writable;
	bool selected;				/* for print */
};

struct columns {
	json *cls;
	struct column *list;
	size_t n;
};

struct columns *columns_new(json *cls);
void columns_free(struct columns *columns);

/* Mark what to print: params as in params=…; NULL: the class's default. Names that
 * no column has are passed over, as xe does. */
void columns_select(struct columns *columns, const char *params);
struct column *columns_find(struct columns *columns, const char *name);

/* "name-label ( RW)", and its value in a record. The caller frees. */
char *column_label(const struct column *column);
char *column_text(const struct column *column, json *record, struct names *names);
/* The same for --json: a new reference, with uuids for references. */
json *column_json(const struct column *column, json *record, struct names *names);
/* A value of a type as text; what is in sets and maps joined as xe does. The caller
 * frees. */
char *value_text(json *type, json *value, struct names *names);

#endif
