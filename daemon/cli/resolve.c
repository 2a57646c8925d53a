/* SPDX-License-Identifier: BSD-2-Clause */
/* Words that name objects. */
#include "daemon/cli/cli.h"
#include "daemon/cli/describe.h"

int
cli_resolve(void *opaque, const char *cls, const char *text, char **ret_ref, struct smd_error *err)
{
	struct cli *cli = opaque;

	return names_resolve(cli->names, cls, text, ret_ref, err);
}

int
cli_take_uuid(struct cli *cli, json *cls, char **ret_ref, struct smd_error *err)
{
	const char *uuid = args_need(cli->args, "uuid", err);

	return uuid ? names_resolve(cli->names, describe_name(cls), uuid, ret_ref, err) : -1;
}
