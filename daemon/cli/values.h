/* SPDX-License-Identifier: BSD-2-Clause */
/* Words of the command line to values of the API's types. */
#ifndef SMD_DAEMON_CLI_VALUES_H
#define SMD_DAEMON_CLI_VALUES_H

#include <stdint.h>

#include "common/json.h"
#include "daemon/cli/args.h"

/* A whole number, or one with KiB, MiB, GiB, TiB or "bytes" behind it. */
int value_parse_int(const char *word, const char *text, int64_t *ret, struct smd_error *err);

/* A reference in a word: names_resolve in the program. */
typedef int value_resolve_fn(void *opaque, const char *cls, const char *text, char **ret_ref,
			     struct smd_error *err);

/* One word's text as a value of the type; word names it in messages. Sets are
 * comma-separated; maps "key=value,key=value". *ret: a new reference. */
int value_parse(json *type, const char *word, const char *text, value_resolve_fn *resolve,
		void *opaque, json **ret, struct smd_error *err);

/* Take from the words what a value of the type is made of: "word=…", and for maps
 * and sets also "word:key=…". *ret: NULL when there are none. */
int value_take(struct args *args, json *type, const char *word, value_resolve_fn *resolve,
	       void *opaque, json **ret, struct smd_error *err);

#endif
