/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/test-api.h"

#include "common/mem.h"

json *api;

int
api_setup(void **state)
{
	const char *srcdir = getenv("srcdir");	/* automake's */
	CLEANUP_FREE char *path = smd_asprintf("%s/../schema/api.json", srcdir ? srcdir : ".");

	(void)state;
	api = json_object_from_file(path);
	return api ? 0 : -1;
}

int
api_teardown(void **state)
{
	(void)state;
	json_object_put(api);
	return 0;
}
