/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Commands by name: those every class has, one per method of the server's, and
 * a few of smctl's own.
 */
#ifndef SMD_DAEMON_CLI_COMMANDS_H
#define SMD_DAEMON_CLI_COMMANDS_H

#include "daemon/cli/cli.h"

typedef int command_class_fn(struct cli *cli, json *cls, struct smd_error *err);
typedef int command_own_fn(struct cli *cli, struct smd_error *err);

/* "list", "param-get" … behind a class's name. */
struct command_verb {
	const char *name;
	command_class_fn *run;
	const char *words;	/* for help and completion; "?" after what may be left out */
	const char *doc;
};

/* smctl's own. */
struct command_own {
	const char *name;
	command_own_fn *run;
	const char *words;
	const char *doc;
};

struct command {
	char *name;			/* "vdi-pool-migrate" */
	json *cls, *method;		/* of a verb: the class; of a method: both */
	const struct command_verb *verb;
	const struct command_own *own;
};

/* Every command in alphabetical order within its kind; the name dies with the call. */
typedef void command_fn(void *opaque, const struct command *command);
void command_each(json *api, command_fn *each, void *opaque);

/* *ret is to be given to command_done. */
int command_find(json *api, const char *name, struct command *ret, struct smd_error *err);
void command_done(struct command *command);
int command_run(struct cli *cli, const struct command *command, struct smd_error *err);

/* One of a command's words. type: NULL where the server has none for it. */
struct command_word {
	const char *name;
	bool optional;
	bool prefix;		/* a map's or a record's: NAME:KEY=VALUE */
	bool rest;		/* takes whatever words are left */
	json *type;
	const char *doc;	/* "" */
};
typedef void command_word_fn(void *opaque, const struct command_word *word);
void command_words(const struct command *command, command_word_fn *each, void *opaque);
const char *command_doc(const struct command *command);

#endif
