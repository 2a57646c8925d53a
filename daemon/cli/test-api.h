/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a server says of its API, for tests: schema/api.json, since the client does
 * not know the tables.
 */
#ifndef SMD_DAEMON_CLI_TEST_API_H
#define SMD_DAEMON_CLI_TEST_API_H

#include "common/json.h"

/* A cmocka group's setup and teardown around it. */
extern json *api;
int api_setup(void **state);
int api_teardown(void **state);

#endif
