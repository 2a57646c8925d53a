/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line in xe's grammar: server flags, one command, key=value
 * words, --flag for flag=true. What a word means is for the command to say:
 * it takes the words it knows, and those nobody took are an error.
 */
#ifndef SMD_DAEMON_CLI_ARGS_H
#define SMD_DAEMON_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

struct word {
	char *key;		/* "name-label", "sm-config:image-format" */
	char *value;
	bool used;
};

struct args {
	char *socket;		/* --socket; NULL: not given */
	char *server;		/* -s, server=; NULL: the unix socket */
	char *port;		/* -p, port= */
	char *user;		/* -u, username= */
	char *password;		/* -pw, password= */
	char *password_file;	/* -pwf */
	char *file;		/* --file, of passwd */
	char *ca;		/* --ca: a certificate to trust; NULL: the system's */
	bool tls;		/* --tls or --ca */
	bool minimal;
	bool dry_run;		/* say what would be, do nothing */
	bool json;
	bool help;
	bool version;
	int progress;		/* 1: --progress, 0: --no-progress, -1: as the terminal says */
	char **bare;		/* words without "=": the command and what follows it */
	size_t n_bare;
	struct word *words;
	size_t n_words;
};

/* *ret is to be given to args_done, also after an error. */
int args_parse(int argc, char **argv, struct args *ret, struct smd_error *err);
void args_done(struct args *args);

/* The value of a word, which then counts as used; NULL: not given. Borrowed. */
const char *args_take(struct args *args, const char *key);
/* The same, and an error when it was not given. */
const char *args_need(struct args *args, const char *key, struct smd_error *err);
/* The next unused word "map:KEY" after *at (start at 0): its KEY; NULL: no more. */
const char *args_take_sub(struct args *args, const char *map, size_t *at, const char **ret_value);
/* Fail with the name of a word nobody took. */
int args_all_used(const struct args *args, struct smd_error *err);

/* An error of the command line: the sentence is all there is to print. */
#define cli_fail(err, ...) smd_fail_INVALID_VALUE(err, "", "", __VA_ARGS__)

#endif
