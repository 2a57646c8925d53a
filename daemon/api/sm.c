/* SPDX-License-Identifier: BSD-2-Clause */
/* SM has no methods of its own: its rows come from the drivers (daemon/sr/driver.c). */
#include "daemon/api/handlers.h"

const struct call_binding api_sm_handlers[] = {
	{ NULL, NULL },
};
