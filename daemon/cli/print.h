/* SPDX-License-Identifier: BSD-2-Clause */
/* What goes to the terminal, laid out as xe does. */
#ifndef SMD_DAEMON_CLI_PRINT_H
#define SMD_DAEMON_CLI_PRINT_H

#include <stddef.h>
#include <stdio.h>

#include "common/error.h"

struct print_row {
	char *label;	/* "name-label ( RW)" */
	char *value;
};

/* The first label flush left, the others flush right; two empty lines after. */
void print_record(FILE *out, const struct print_row *rows, size_t n);

/* Values in one line, "," between them, "," and "\" in them escaped by "\". */
void print_minimal(FILE *out, const char *const *values, size_t n);

#endif
