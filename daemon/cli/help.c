/* SPDX-License-Identifier: BSD-2-Clause */
/* smctl --help, smctl help, smctl help COMMAND: from what the server says. */
#include <string.h>

#include "common/mem.h"
#include "daemon/cli/commands.h"
#include "daemon/cli/describe.h"

void
help_usage(FILE *out)
{
	fputs("Usage: smctl [FLAG ...] COMMAND [WORD=VALUE ...] [--WORD ...]\n"
	      "       smctl help [COMMAND]\n"
	      "       smctl passwd --file FILE NAME ROLE\n"
	      "\n"
	      "The server:\n"
	      "  --socket PATH     its unix socket (or SMD_SOCKET in the environment)\n"
	      "  -s HOST           its address, for HTTP; also server=HOST\n"
	      "  --tls             HTTP with TLS\n"
	      "  --ca FILE         the same; the server's certificate is this one, or signed by it\n"
	      "  -p PORT           its port; also port=PORT\n"
	      "  -u USER           who to log in as; also username=USER\n"
	      "  -pw PASSWORD      with which password; also password=PASSWORD\n"
	      "  -pwf FILE         the password is in this file\n"
	      "Output:\n"
	      "  --minimal         the first column only, in one line\n"
	      "  --json            JSON\n"
	      "  --progress        show progress also when no terminal is there\n"
	      "  --no-progress     never show progress\n"
	      "Other:\n"
	      "  --dry-run         say what moving, copying or importing would take, and do nothing\n"
	      "  -h, --help        this text; after a command, about the command\n"
	      "  --version         the version\n", out);
}

struct listing {
	FILE *out;
	const char *last_class;
};

static void
help_one_line(void *opaque, const struct command *c)
{
	struct listing *l = opaque;
	const char *cls = c->cls ? describe_name(c->cls) : "smctl";
	const char *doc, *end;

	if (strcmp(cls, l->last_class) != 0)
		fprintf(l->out, "\n%s%s%s\n", cls, c->cls ? ": " : "",
			c->cls ? smd_json_str(c->cls, "doc", "") : "");
	l->last_class = cls;
	/* Its first sentence: help COMMAND has the rest. */
	doc = command_doc(c);
	end = strstr(doc, ". ");
	fprintf(l->out, "  %-24s %.*s\n", c->name, end ? (int)(end - doc) + 1 : (int)strlen(doc), doc);
}

void
help_commands(struct cli *cli)
{
	struct listing l = { .out = stdout, .last_class = "" };

	help_usage(stdout);
	command_each(cli->api, help_one_line, &l);
	puts("  passwd                   Set the password and the role of an account.\n"
	     "  help                     This list; help COMMAND: one command.");
}

static void
help_synopsis_word(void *opaque, const struct command_word *w)
{
	FILE *out = opaque;
	const char *value = w->prefix ? ":KEY=VALUE" : "=";

	if (w->rest)
		fputs(" [KEY=VALUE ...]", out);
	else
		fprintf(out, w->optional ? " [%s%s]" : " %s%s", w->name, value);
}

static void
help_word(void *opaque, const struct command_word *w)
{
	FILE *out = opaque;

	if (w->doc[0] == '\0')
		return;
	fprintf(out, "  %-22s %s", w->rest ? "KEY" : w->name, w->doc);
	for (size_t i = 0; i < describe_count(w->type, "values"); i++)
		fprintf(out, "%s%s", i ? ", " : ": ",
			describe_text(describe_item(w->type, "values", i)));
	fputc('\n', out);
}

int
help_command(struct cli *cli, const char *name, struct smd_error *err)
{
	CLEANUP(command_done) struct command c = { 0 };

	if (command_find(cli->api, name, &c, err) < 0)
		return -1;
	printf("Usage: smctl %s", c.name);
	command_words(&c, help_synopsis_word, stdout);
	printf("\n\n%s\n", command_doc(&c));
	if (c.method) {
		putchar('\n');
		command_words(&c, help_word, stdout);
	}
	if (smd_json_str(c.method, "result_doc", NULL))
		printf("\nPrints: %s\n", smd_json_str(c.method, "result_doc", ""));
	return 0;
}
