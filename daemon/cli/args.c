/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/args.h"

#include <string.h>

#include "common/mem.h"

static void
args_add_word(struct args *args, const char *key, size_t key_len, const char *value)
{
	struct word *w;

	args->words = smd_reallocarray(args->words, args->n_words + 1, sizeof *args->words);
	w = &args->words[args->n_words++];
	w->key = smd_strndup(key, key_len);
	w->value = smd_strdup(value);
	w->used = false;
}

static void
args_add_bare(struct args *args, const char *text)
{
	args->bare = smd_reallocarray(args->bare, args->n_bare + 1, sizeof *args->bare);
	args->bare[args->n_bare++] = smd_strdup(text);
}

static void
args_set(char **where, const char *value)
{
	free(*where);
	*where = smd_strdup(value);
}

/* Flags that take the next word. */
static char **
args_server_flag(struct args *args, const char *flag)
{
	const struct {
		const char *flag;
		char **where;
	} flags[] = {
		{ "-s", &args->server }, { "-p", &args->port }, { "-u", &args->user },
		{ "-pw", &args->password }, { "-pwf", &args->password_file },
		{ "--socket", &args->socket }, { "--file", &args->file },
		{ "--ca", &args->ca },
	};

	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
		if (strcmp(flags[i].flag, flag) == 0)
			return flags[i].where;
	}
	return NULL;
}

static void
args_double_dash(struct args *args, const char *name)
{
	const char *eq = strchr(name, '=');

	if (strcmp(name, "help") == 0)
		args->help = true;
	else if (strcmp(name, "version") == 0)
		args->version = true;
	else if (strcmp(name, "json") == 0)
		args->json = true;
	else if (strcmp(name, "progress") == 0)
		args->progress = 1;
	else if (strcmp(name, "no-progress") == 0)
		args->progress = 0;
	else if (strcmp(name, "tls") == 0)
		args->tls = true;
	else if (strcmp(name, "nossl") == 0)
		args->tls = false;	/* as xe's scripts say it */
	else if (eq && strncmp(name, "socket=", 7) == 0)
		args_set(&args->socket, eq + 1);
	else if (eq && strncmp(name, "ca=", 3) == 0)
		args_set(&args->ca, eq + 1);
	else if (eq && strncmp(name, "file=", 5) == 0)
		args_set(&args->file, eq + 1);
	else if (eq)
		args_add_word(args, name, (size_t)(eq - name), eq + 1);
	else
		args_add_word(args, name, strlen(name), "true");
}

/* The words xe takes for itself before any command sees them. */
static void
args_take_standard(struct args *args)
{
	static const char *const without_meaning[] = {
		"trace", "message-priority", "all", "multiple", "force",
	};
	const struct {
		const char *key;
		char **where;
	} server[] = {
		{ "server", &args->server }, { "port", &args->port },
		{ "username", &args->user }, { "password", &args->password },
	};
	const char *value;

	for (size_t i = 0; i < sizeof server / sizeof server[0]; i++) {
		value = args_take(args, server[i].key);
		if (value)
			args_set(server[i].where, value);
	}
	value = args_take(args, "minimal");
	if (value)
		args->minimal = strcmp(value, "true") == 0;
	value = args_take(args, "dry-run");
	if (value)
		args->dry_run = strcmp(value, "false") != 0;
	for (size_t i = 0; i < sizeof without_meaning / sizeof without_meaning[0]; i++) {
		for (size_t w = 0; w < args->n_words; w++) {
			if (strcmp(args->words[w].key, without_meaning[i]) == 0)
				args->words[w].used = true;
		}
	}
}

int
args_parse(int argc, char **argv, struct args *ret, struct smd_error *err)
{
	*ret = (struct args){ .progress = -1 };
	for (int i = 1; i < argc; i++) {
		const char *text = argv[i], *eq = strchr(text, '=');
		char **where = args_server_flag(ret, text);

		if (where) {
			if (++i == argc)
				return cli_fail(err, "%s needs a value", text);
			args_set(where, argv[i]);
		} else if (strcmp(text, "-h") == 0) {
			ret->help = true;
		} else if (strncmp(text, "--", 2) == 0 && text[2] != '\0') {
			args_double_dash(ret, text + 2);
		} else if (eq == text) {
			return cli_fail(err, "\"%s\" has no name before the \"=\"", text);
		} else if (eq) {
			args_add_word(ret, text, (size_t)(eq - text), eq + 1);
		} else if (text[0] == '-' && text[1] != '\0') {
			return cli_fail(err, "Unknown flag: %s", text);
		} else {
			args_add_bare(ret, text);
		}
	}
	args_take_standard(ret);
	ret->tls = ret->tls || ret->ca;
	return 0;
}

void
args_done(struct args *args)
{
	for (size_t i = 0; i < args->n_words; i++) {
		free(args->words[i].key);
		free(args->words[i].value);
	}
	for (size_t i = 0; i < args->n_bare; i++)
		free(args->bare[i]);
	free(args->words);
	free(args->bare);
	free(args->socket);
	free(args->server);
	free(args->port);
	free(args->user);
	free(args->password);
	free(args->password_file);
	free(args->file);
	free(args->ca);
	*args = (struct args){ 0 };
}

const char *
args_take(struct args *args, const char *key)
{
	const char *value = NULL;

	for (size_t i = 0; i < args->n_words; i++) {
		struct word *w = &args->words[i];

		if (strcmp(w->key, key) == 0) {
			w->used = true;
			value = value ? value : w->value;	/* the first wins, as with xe */
		}
	}
	return value;
}

const char *
args_need(struct args *args, const char *key, struct smd_error *err)
{
	const char *value = args_take(args, key);

	if (!value)
		cli_fail(err, "Required parameter not found: %s", key);
	return value;
}

const char *
args_take_sub(struct args *args, const char *map, size_t *at, const char **ret_value)
{
	size_t len = strlen(map);

	for (; *at < args->n_words; ++*at) {
		struct word *w = &args->words[*at];

		if (w->used || strncmp(w->key, map, len) != 0 || w->key[len] != ':' ||
		    w->key[len + 1] == '\0')
			continue;
		w->used = true;
		*ret_value = w->value;
		return w->key + len + 1;
	}
	return NULL;
}

int
args_all_used(const struct args *args, struct smd_error *err)
{
	for (size_t i = 0; i < args->n_words; i++) {
		if (!args->words[i].used)
			return cli_fail(err, "Unknown parameter: %s", args->words[i].key);
	}
	return 0;
}
