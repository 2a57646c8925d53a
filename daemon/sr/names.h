/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where names are in a list: an index of thousands of them. json-c's table without its objects,
 * which would take several times as long to make, and as much again to free.
 *
 * Threads: one at a time.
 */
#ifndef SMD_DAEMON_SR_NAMES_H
#define SMD_DAEMON_SR_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"

/* Empty: all zeroes. */
struct names {
	struct lh_table *table;		/* json-c's; NULL: none yet */
};

/* The name is borrowed. False: it is there already, and stays as it was. */
bool names_add(struct names *names, const char *name, size_t at);
/* False: it is not there. */
bool names_find(const struct names *names, const char *name, size_t *ret_at);
void names_done(struct names *names);
#define CLEANUP_NAMES CLEANUP(names_done)

#endif
