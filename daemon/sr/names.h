/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where names are in a list: an index of thousands of them, which JSON's objects would take
 * several times as long to make, and as much again to free.
 *
 * Threads: one at a time.
 */
#ifndef SMD_DAEMON_SR_NAMES_H
#define SMD_DAEMON_SR_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"

struct name_slot {
	const char *name;	/* borrowed; NULL: free */
	uint64_t hash;
	size_t at;
};

/* Empty: all zeroes. */
struct names {
	struct name_slot *slots;
	size_t n_slots;		/* 0, or a power of two */
	size_t n;
	uint64_t seed;		/* nobody knows beforehand which names fall together */
};

/* The name is borrowed. False: it is there already, and stays as it was. */
bool names_add(struct names *names, const char *name, size_t at);
/* False: it is not there. */
bool names_find(const struct names *names, const char *name, size_t *ret_at);
void names_done(struct names *names);
#define CLEANUP_NAMES CLEANUP(names_done)

#endif
