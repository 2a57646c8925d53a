/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef SMD_DAEMON_CLI_ERRORS_H
#define SMD_DAEMON_CLI_ERRORS_H

#include <stdio.h>

#include "common/error.h"
#include "daemon/cli/names.h"

/* An error as xe shows it: the catalogue's sentence, then a line per parameter, with
 * references as uuids; an error of ours is its message. names: NULL: unknown. */
void errors_print(FILE *out, const struct smd_error *err, struct names *names);

#endif
