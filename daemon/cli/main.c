/* SPDX-License-Identifier: BSD-2-Clause */
/* smctl: xe's grammar over smd's API. */
#include <string.h>

#include "daemon/cli/cli.h"
#include "daemon/cli/commands.h"
#include "daemon/cli/errors.h"

#define EXIT_INTERRUPTED 130	/* as shells say for SIGINT */

static int
run_command(struct cli *cli, const char *name, struct smd_error *err)
{
	CLEANUP(command_done) struct command command = { 0 };

	if (strcmp(name, "complete") == 0)
		return complete_run(cli, err);
	if (strcmp(name, "help") == 0 && cli->args->n_bare == 1) {
		help_commands(cli);
		return 0;
	}
	if (strcmp(name, "help") == 0)
		return help_command(cli, cli->args->bare[1], err);
	if (cli->args->help)
		return help_command(cli, name, err);
	if (command_find(cli->api, name, &command, err) < 0)
		return -1;
	if (cli->args->n_bare > 1)
		return cli_fail(err, "\"%s\" is no WORD=VALUE", cli->args->bare[1]);
	return command_run(cli, &command, err);
}

/* The names live while an error that mentions objects is shown. */
static int
run_on_server(struct args *args, struct smd_error *err)
{
	struct cli cli = { .args = args };
	int rc = server_open(args, &cli.server, err);

	if (rc == 0) {
		cli.api = server_api(cli.server, err);
		rc = cli.api ? server_login(cli.server, args, err) : -1;
	}
	if (rc == 0) {
		cli.names = names_new(cli.server, cli.api);
		rc = run_command(&cli, args->bare[0], err);
		fflush(stdout);
		if (rc == 0 && ferror(stdout))
			rc = cli_fail(err, "standard output cannot be written");
	}
	if (rc < 0)
		errors_print(stderr, err, cli.names);
	names_free(cli.names);
	server_close(cli.server);
	return rc < 0 ? rc : cli.status;
}

static int
run_alone(int rc, struct smd_error *err)
{
	if (rc < 0)
		errors_print(stderr, err, NULL);
	return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int
run(struct args *args, struct smd_error *err)
{
	int rc;

	if (args->version) {
		puts("smctl " SMCTL_VERSION);
		return EXIT_SUCCESS;
	}
	if (args->n_bare == 0) {
		help_usage(args->help ? stdout : stderr);
		return args->help ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	if (strcmp(args->bare[0], "passwd") == 0 && !args->help)
		return run_alone(passwd_run(args, err), err);
	rc = run_on_server(args, err);
	if (rc == 0)
		return EXIT_SUCCESS;
	return task_interrupted() ? EXIT_INTERRUPTED : EXIT_FAILURE;
}

int
main(int argc, char **argv)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(args_done) struct args args = { 0 };

	if (args_parse(argc, argv, &args, &err) < 0)
		return run_alone(-1, &err);
	return run(&args, &err);
}
