/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading a password; every function returns what the caller frees, or NULL. */
#ifndef SMD_DAEMON_CLI_PASSWORD_H
#define SMD_DAEMON_CLI_PASSWORD_H

#include "common/error.h"

#define PASSWORD_MAX 512u	/* crypt(3) takes CRYPT_MAX_PASSPHRASE_SIZE, 512 */

/* From the terminal, without echo; from standard input when that is none: its
 * first line. */
char *password_ask(const char *prompt, struct smd_error *err);
/* Twice, and both must be the same. */
char *password_ask_new(struct smd_error *err);
/* xe's -pwf: the last line of the form password=…, else the first line. */
char *password_from_file(const char *path, struct smd_error *err);

#endif
