/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Accounts: a file of lines `name:role:hash`, the hash crypt(3)'s. It is read at
 * every login, so that a change counts at once.
 *
 * Threads: any; one password is checked at a time, since a hash costs memory.
 */
#ifndef SMD_DAEMON_RPC_AUTH_H
#define SMD_DAEMON_RPC_AUTH_H

#include <stdbool.h>

#include "schema/api.h"

/* Whether the file has the name with this password, and the role it gives. An
 * unknown name takes as long as a known one. */
bool auth_check(const char *path, const char *user, const char *password,
		enum api_role *ret_role);

#endif
