/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where xe spells or shows something in another way than the rules say: names,
 * columns and defaults, so that scripts written for xe go on working. Nothing
 * here says what the server can do: an entry for what it lacks is never met,
 * and what has no entry follows the rules.
 */
#ifndef SMD_DAEMON_CLI_SPELLING_H
#define SMD_DAEMON_CLI_SPELLING_H

#include <stdbool.h>

/* Lists of column names are comma-separated. */
struct spelling_class {
	const char *cls;
	const char *columns;	/* what CLASS-list shows */
	const char *order;	/* of params=all; the rest follows as the server has it */
};
const struct spelling_class *spelling_class(const char *cls);

#define SPELLING_HIDDEN 0x1u	/* not in params=all; by its name only */
#define SPELLING_PLAIN 0x2u	/* shown as ( RO) though a set or map */
#define SPELLING_COMMA 0x4u	/* a set joined by ", " */
#define SPELLING_VALUES 0x8u	/* a map shown as the set of its values */
#define SPELLING_3_DIGITS 0x10u	/* a float with three digits */

struct spelling_field {
	const char *cls;	/* NULL: of any class */
	const char *field;
	const char *name;	/* NULL: as the rule has it */
	unsigned flags;
};
/* Never NULL: an empty one where nothing is special. */
const struct spelling_field *spelling_field(const char *cls, const char *field);

/* Columns that are no field: a name beside a reference. */
enum spelling_extra_kind {
	SPELLING_NAME_OF,	/* name_label of the object the field refers to */
	SPELLING_HOST_OF_PBDS,	/* the one host of an SR, or <shared> */
};
struct spelling_extra {
	const char *cls;
	const char *field;
	const char *name;
	enum spelling_extra_kind kind;
};
/* The n-th of the class; NULL: no more. */
const struct spelling_extra *spelling_extra(const char *cls, unsigned n);

struct spelling_param {
	const char *method;	/* "VDI.resize"; NULL: of any method */
	const char *param;
	const char *word;	/* NULL: as the rule has it */
	const char *dflt;	/* JSON text for what xe lets one leave out; NULL: none */
};
const struct spelling_param *spelling_param(const char *method, const char *param);

#endif
