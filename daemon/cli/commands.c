/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/commands.h"

#include <string.h>

#include "common/mem.h"
#include "daemon/cli/describe.h"

static const struct command_verb verbs[] = {
	{ "list", list_run, "params?", "Show the objects of a class; field=value words filter them." },
	{ "param-list", list_one, "uuid", "Show all fields of one object." },
	{ "param-get", param_get, "uuid param-name param-key?",
	  "Show one field of an object, or one key of a map." },
	{ "param-set", param_set, "uuid", "Set fields: field=value, map:key=value." },
	{ "param-add", param_add, "uuid param-name param-key?",
	  "Add to a set (param-key=…) or to a map (key=value …)." },
	{ "param-remove", param_remove, "uuid param-name param-key",
	  "Remove from a set or a map." },
	{ "param-clear", param_clear, "uuid param-name", "Empty a field." },
};

static const struct command_own own[] = {
	{ "vdi-import", transfer_import, "uuid filename format? any-content? verify?",
	  "Fill a disk from a file in the format raw, vhd or qcow2; - is standard input." },
	{ "vdi-export", transfer_export, "uuid filename format? base?",
	  "Write a disk to a file in the format raw, vhd or qcow2; - is standard output." },
	{ "image-import", transfer_image_import,
	  "file sr-uuid format? flatten? verify? name-label? name-description?",
	  "Make a disk of an archive of images (.tgz, .tar, .zip) or of an image that may be "
	  "compressed." },
	{ "image-export", transfer_image_export, "vdi file depth?",
	  "Write a disk and the chain it lies on to an archive of VHDs, as XenServer has them." },
	{ "vdi-tree", tree_run, "sr-uuid",
	  "Draw the chains of an SR: what lies on what, what it takes, what waits to be merged." },
	{ "task-watch", watch_run, "uuid?",
	  "Show tasks as they go, all or one: how far, how fast, what each waits for." },
	{ "event-wait", task_event_wait, "class",
	  "Wait until an object of the class is as the field=value words say." },
};

#define N(a) (sizeof(a) / sizeof((a)[0]))

/* Setters of fields are param-set; what needs no session is no command. */
static bool
is_command(json *cls, json *method)
{
	const char *name = describe_name(method);

	if (smd_json_bool(method, "hidden", false) || smd_json_bool(method, "no_session", false))
		return false;
	return strncmp(name, "set_", 4) != 0 || !describe_find(cls, "fields", name + 4);
}

static void
command_each_of_class(json *cls, command_fn *each, void *opaque)
{
	CLEANUP_FREE char *name = describe_hyphens(describe_name(cls), true);

	for (size_t i = 0; i < N(verbs); i++) {
		struct command c = { .cls = cls, .verb = &verbs[i] };

		c.name = smd_asprintf("%s-%s", name, verbs[i].name);
		each(opaque, &c);
		free(c.name);
	}
	for (size_t i = 0; i < describe_count(cls, "methods"); i++) {
		struct command c = { .cls = cls, .method = describe_item(cls, "methods", i) };
		CLEANUP_FREE char *method = describe_hyphens(describe_name(c.method), false);

		if (!is_command(cls, c.method))
			continue;
		c.name = smd_asprintf("%s-%s", name, method);
		each(opaque, &c);
		free(c.name);
	}
}

void
command_each(json *api, command_fn *each, void *opaque)
{
	for (size_t i = 0; i < describe_count(api, "classes"); i++) {
		json *cls = describe_item(api, "classes", i);

		if (describe_has_objects(cls))
			command_each_of_class(cls, each, opaque);
	}
	for (size_t i = 0; i < N(own); i++) {
		struct command c = { .name = smd_strdup(own[i].name), .own = &own[i] };

		each(opaque, &c);
		free(c.name);
	}
}

struct search {
	const char *name;
	struct command *found;
};

static void
command_compare(void *opaque, const struct command *command)
{
	struct search *s = opaque;

	if (s->found->name || strcmp(s->name, command->name) != 0)
		return;
	*s->found = *command;
	s->found->name = smd_strdup(command->name);
}

int
command_find(json *api, const char *name, struct command *ret, struct smd_error *err)
{
	struct search s = { .name = name, .found = ret };

	*ret = (struct command){ 0 };
	command_each(api, command_compare, &s);
	if (!ret->name)
		return cli_fail(err, "Unknown command: %s\nFor the commands there are, run: smctl help",
				name);
	return 0;
}

void
command_done(struct command *command)
{
	free(command->name);
	*command = (struct command){ 0 };
}

static bool
can_dry_run(const struct command *command)
{
	if (command->own)
		return command->own->run == transfer_import ||
		       command->own->run == transfer_image_import;
	return command->method && measure_stands_for(command->cls, command->method);
}

int
command_run(struct cli *cli, const struct command *command, struct smd_error *err)
{
	if (cli->args->dry_run && !can_dry_run(command))
		return cli_fail(err, "%s has no --dry-run", command->name);
	if (command->own)
		return command->own->run(cli, err);
	if (command->verb)
		return command->verb->run(cli, command->cls, err);
	return call_run(cli, command->cls, command->method, err);
}

const char *
command_doc(const struct command *command)
{
	if (command->own)
		return command->own->doc;
	return command->verb ? command->verb->doc : smd_json_str(command->method, "doc", "");
}

/* ---- The words a command takes ----------------------------------------------------- */

/* "uuid param-name param-key?" */
static void
words_of_text(const char *text, command_word_fn *each, void *opaque)
{
	while (*text) {
		size_t len = strcspn(text, " ");
		bool optional = text[len - 1] == '?';
		CLEANUP_FREE char *name = smd_strndup(text, len - optional);
		struct command_word w = { .name = name, .optional = optional, .doc = "" };

		each(opaque, &w);
		text += len;
		text += strspn(text, " ");
	}
}

static void
word_of_param(json *cls, json *method, json *param, size_t n, command_word_fn *each, void *opaque)
{
	json *type = smd_json_member(param, "type");
	CLEANUP_FREE char *name = call_word(cls, method, param, n);
	struct command_word w = {
		.name = name, .type = type, .doc = smd_json_str(param, "doc", ""),
		.optional = call_may_be_left_out(cls, method, param),
		.prefix = strcmp(describe_kind(type), "map") == 0,
		.rest = smd_json_bool(param, "rest", false),
	};

	each(opaque, &w);
}

void
command_words(const struct command *command, command_word_fn *each, void *opaque)
{
	json *cls = command->cls, *method = command->method;

	if (!method) {
		words_of_text(command->own ? command->own->words : command->verb->words, each,
			      opaque);
		return;
	}
	for (size_t i = 0; call_constructed(method) && i < describe_count(cls, "fields"); i++) {
		json *field = describe_item(cls, "fields", i);

		if (call_field_is_given(field))
			word_of_param(cls, method, field, i, each, opaque);
	}
	for (size_t i = 0; !call_constructed(method) && i < describe_count(method, "params"); i++)
		word_of_param(cls, method, describe_item(method, "params", i), i, each, opaque);
}
