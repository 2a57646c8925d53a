/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * smctl complete cursor=TEXT [COMMAND WORD=VALUE ...]: what TEXT, the word under the
 * cursor, may become, one a line; a candidate that ends in " " is complete. For
 * the shell (etc/smctl.bash-completion), and in no list of commands.
 */
#include <string.h>

#include "common/mem.h"
#include "daemon/cli/commands.h"
#include "daemon/cli/describe.h"

struct completion {
	struct cli *cli;
	const char *text;	/* under the cursor */
	const struct command *command;
};

static void
offer(const struct completion *c, const char *word, const char *value, const char *end)
{
	CLEANUP_FREE char *candidate = smd_asprintf("%s%s%s", word, value, end);

	if (strncmp(candidate, c->text, strlen(c->text)) == 0)
		puts(candidate);
}

static void
offer_command(void *opaque, const struct command *command)
{
	offer(opaque, "", command->name, " ");
}

static void
offer_columns(const struct completion *c, const char *word, json *cls, const char *end)
{
	struct columns *columns = columns_new(cls);

	for (size_t i = 0; i < columns->n; i++)
		offer(c, word, columns->list[i].name, end);
	columns_free(columns);
}

static void
offer_uuids(const struct completion *c, const char *word, const char *cls)
{
	json *records = names_records(c->cli->names, cls);

	if (!json_object_is_type(records, json_type_object))
		return;
	json_object_object_foreach(records, ref, record) {
		(void)ref;
		offer(c, word, smd_json_str(record, "uuid", ""), " ");
	}
}

static void
offer_values(const struct completion *c, const char *word, json *type)
{
	const char *kind = describe_kind(type);

	if (strcmp(kind, "ref") == 0)
		offer_uuids(c, word, describe_name(type));
	for (size_t i = 0; i < describe_count(type, "values"); i++)
		offer(c, word, describe_text(describe_item(type, "values", i)), " ");
	if (strcmp(kind, "bool") == 0) {
		offer(c, word, "true", " ");
		offer(c, word, "false", " ");
	}
}

static void
offer_word(void *opaque, const struct command_word *w)
{
	const struct completion *c = opaque;
	CLEANUP_FREE char *assign = smd_asprintf("%s%s", w->name, w->prefix ? ":" : "=");
	json *cls = c->command->cls;

	if (w->rest)
		return;
	if (strncmp(c->text, assign, strlen(assign)) != 0)
		offer(c, assign, "", "");
	else if (strcmp(w->name, "param-name") == 0 && cls)
		offer_columns(c, assign, cls, " ");
	else if (strcmp(w->name, "params") == 0 && cls)
		offer_columns(c, assign, cls, "");
	else if (strcmp(w->name, "uuid") == 0)
		offer_uuids(c, assign, cls ? describe_name(cls) : "VDI");
	else if (strcmp(w->name, "sr-uuid") == 0)
		offer_uuids(c, assign, "SR");
	else if (!cls && strcmp(w->name, "vdi") == 0)
		offer_uuids(c, assign, "VDI");
	else if (!cls && strcmp(w->name, "sr-uuid") == 0)
		offer_uuids(c, assign, "SR");
	else if (w->type)
		offer_values(c, assign, w->type);
}

int
complete_run(struct cli *cli, struct smd_error *err)
{
	struct completion c = { .cli = cli, .text = args_take(cli->args, "cursor") };
	CLEANUP(command_done) struct command command = { 0 };

	if (!c.text)
		return cli_fail(err, "complete needs cursor=");
	if (cli->args->n_bare < 2) {
		command_each(cli->api, offer_command, &c);
		offer(&c, "", "help", " ");
		offer(&c, "", "passwd", " ");
		return 0;
	}
	if (strcmp(cli->args->bare[1], "help") == 0) {
		command_each(cli->api, offer_command, &c);
		return 0;
	}
	if (command_find(cli->api, cli->args->bare[1], &command, err) < 0)
		return -1;
	c.command = &command;
	command_words(&command, offer_word, &c);
	if (command.verb && (command.verb->run == list_run || command.verb->run == param_set) &&
	    !strchr(c.text, '='))
		offer_columns(&c, "", command.cls, "=");
	return 0;
}
