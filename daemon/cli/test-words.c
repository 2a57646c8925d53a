/* SPDX-License-Identifier: BSD-2-Clause */
/* What is typed: the grammar, values by type, commands and their words. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "daemon/cli/commands.h"
#include "daemon/cli/describe.h"
#include "daemon/cli/test-api.h"

#define WORDS(...) ((char *[]){ (char[]){ "smctl" }, __VA_ARGS__, NULL })

static int
parse(char **argv, struct args *ret, struct smd_error *err)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return args_parse(argc, argv, ret, err);
}

#define W(text) ((char[]){ text })

/* ---- Grammar ----------------------------------------------------------------------- */

static void
test_words(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(args_done) struct args args = { 0 };
	const char *value, *key;
	size_t at = 0;

	(void)state;
	assert_int_equal(parse(WORDS(W("-s"), W("h"), W("vdi-create"), W("name-label=a=b"),
				     W("sm-config:image-format=qcow2"), W("--sharable"),
				     W("password=p"), W("--minimal"), W("--multiple")),
			       &args, &err), 0);
	assert_string_equal(args.server, "h");
	assert_string_equal(args.password, "p");
	assert_true(args.minimal);
	assert_int_equal(args.n_bare, 1);
	assert_string_equal(args.bare[0], "vdi-create");
	assert_string_equal(args_take(&args, "name-label"), "a=b");
	assert_string_equal(args_take(&args, "sharable"), "true");
	assert_null(args_take(&args, "nothing"));
	assert_int_equal(args_all_used(&args, &err), -1);
	assert_string_equal(err.message, "Unknown parameter: sm-config:image-format");
	smd_error_clear(&err);
	key = args_take_sub(&args, "sm-config", &at, &value);
	assert_string_equal(key, "image-format");
	assert_string_equal(value, "qcow2");
	assert_null(args_take_sub(&args, "sm-config", &at, &value));
	assert_int_equal(args_all_used(&args, &err), 0);
	assert_null(args_need(&args, "uuid", &err));
	assert_string_equal(err.message, "Required parameter not found: uuid");
}

static void
expect_refused(char **argv, const char *message)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(args_done) struct args args = { 0 };

	assert_int_equal(parse(argv, &args, &err), -1);
	assert_string_equal(err.message, message);
}

static void
test_bad_words(void **state)
{
	(void)state;
	expect_refused(WORDS(W("vdi-list"), W("=x")), "\"=x\" has no name before the \"=\"");
	expect_refused(WORDS(W("-x"), W("vdi-list")), "Unknown flag: -x");
	expect_refused(WORDS(W("vdi-list"), W("-s")), "-s needs a value");
	expect_refused(WORDS(W("--socket")), "--socket needs a value");
}

/* ---- Values ----------------------------------------------------------------------------- */

static void
test_sizes(void **state)
{
	static const struct {
		const char *text;
		int64_t want;
	} good[] = {
		{ "0", 0 }, { "512", 512 }, { "-1", -1 }, { "7bytes", 7 }, { "1KiB", 1024 },
		{ "10GiB", INT64_C(10) << 30 }, { "3MiB", 3 << 20 }, { "64TiB", INT64_C(64) << 40 },
		{ "8388607TiB", INT64_C(8388607) << 40 }, { "9223372036854775807", INT64_MAX },
	};
	static const char *const bad[] = {
		"", "x", "GiB", "1GB", "1 GiB", " 1", "1.5GiB", "1GiBx", "8388608TiB",
		"9223372036854775808", "0x10", "-9000000TiB",
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		int64_t n = 1;

		assert_int_equal(value_parse_int("size", good[i].text, &n, &err), 0);
		assert_int_equal(n, good[i].want);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		int64_t n;

		assert_int_equal(value_parse_int("size", bad[i], &n, &err), -1);
		assert_non_null(strstr(err.message, "size"));
	}
}

static int
resolve(void *opaque, const char *cls, const char *text, char **ret_ref, struct smd_error *err)
{
	(void)opaque;
	if (strcmp(text, "missing") == 0)
		return cli_fail(err, "missing");
	*ret_ref = smd_asprintf("OpaqueRef:%s-%s", cls, text);
	return 0;
}

static json *
field_type(const char *cls, const char *field)
{
	return smd_json_member(describe_find(describe_class(api, cls), "fields", field), "type");
}

static void
want_value(const char *cls, const char *field, const char *text, const char *want)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *value = NULL;
	int rc = value_parse(field_type(cls, field), field, text, resolve, NULL, &value, &err);

	if (!want) {
		assert_int_equal(rc, -1);
		assert_non_null(err.code);
		return;
	}
	assert_int_equal(rc, 0);
	assert_string_equal(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN), want);
}

static void
test_values_by_type(void **state)
{
	(void)state;
	want_value("VDI", "virtual_size", "1GiB", "1073741824");
	want_value("VDI", "sharable", "Yes", "true");
	want_value("VDI", "sharable", "0", "false");
	want_value("VDI", "sharable", "maybe", NULL);
	want_value("VDI", "type", "USER", "\"user\"");
	want_value("VDI", "type", "disk", NULL);
	want_value("VDI", "SR", "fast", "\"OpaqueRef:SR-fast\"");
	want_value("VDI", "SR", "missing", NULL);
	want_value("pool", "default_SR", "", "\"OpaqueRef:NULL\"");
	want_value("VDI", "tags", "a,b", "[\"a\",\"b\"]");
	want_value("VDI", "tags", "", "[]");
	want_value("VDI", "sm_config", "k=v,l=w=x", "{\"k\":\"v\",\"l\":\"w=x\"}");
	want_value("VDI", "sm_config", "k", NULL);
	want_value("task", "progress", "0.5", "0.5");
	want_value("task", "progress", "half", NULL);
}

static void
test_values_from_several_words(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(args_done) struct args args = { 0 };
	CLEANUP_JSON json *map = NULL, *set = NULL, *none = NULL;

	(void)state;
	assert_int_equal(parse(WORDS(W("sm-config:a=1"), W("sm-config:b=2"), W("tags=x"),
				     W("tags:y=")), &args, &err), 0);
	value_take(&args, field_type("VDI", "sm_config"), "sm-config", resolve, NULL, &map, &err);
	assert_string_equal(json_object_to_json_string_ext(map, JSON_C_TO_STRING_PLAIN),
			    "{\"a\":\"1\",\"b\":\"2\"}");
	value_take(&args, field_type("VDI", "tags"), "tags", resolve, NULL, &set, &err);
	assert_string_equal(json_object_to_json_string_ext(set, JSON_C_TO_STRING_PLAIN),
			    "[\"x\",\"y\"]");
	value_take(&args, field_type("VDI", "other_config"), "other-config", resolve, NULL, &none,
		   &err);
	assert_null(none);
	assert_int_equal(args_all_used(&args, &err), 0);
}

/* ---- Commands -------------------------------------------------------------------------- */

static void
collect_word(void *opaque, const struct command_word *w)
{
	char **all = opaque, *longer;

	longer = smd_asprintf("%s%s%s%s ", *all, w->name, w->optional ? "?" : "", w->rest ? "+" : "");
	free(*all);
	*all = longer;
}

static void
expect_words(const char *name, const char *want)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(command_done) struct command c = { 0 };
	CLEANUP_FREE char *all = smd_strdup("");

	assert_int_equal(command_find(api, name, &c, &err), 0);
	command_words(&c, collect_word, &all);
	assert_string_equal(all, want);
}

static void
test_words_of_commands(void **state)
{
	(void)state;
	expect_words("vdi-pool-migrate", "uuid sr-uuid options?+ ");
	expect_words("vdi-copy", "uuid sr-uuid? base-vdi-uuid? into-vdi-uuid? ");
	expect_words("vdi-resize", "uuid disk-size ");
	expect_words("vdi-destroy", "uuid ");
	expect_words("sr-scan", "uuid ");
	expect_words("sr-create", "host-uuid? device-config? physical-size? name-label "
				  "name-description? type content-type? shared? sm-config? ");
	expect_words("pbd-create", "host-uuid? sr-uuid device-config? other-config? ");
	expect_words("pbd-plug", "uuid ");
	expect_words("task-cancel", "uuid ");
	expect_words("vdi-import", "uuid filename format? any-content? verify? ");
	expect_words("sm-list", "params? ");
}

static void
test_unknown_commands(void **state)
{
	static const char *const names[] = {
		"vdi-frob", "", "list", "VDI-list", "session-list", "event-list", "event-from",
		"system-listMethods", "vdi-set-name-label", "vdi-param", "session-logout",
	};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		CLEANUP(command_done) struct command c = { 0 };
		CLEANUP_FREE char *start = smd_asprintf("Unknown command: %s\n", names[i]);

		assert_int_equal(command_find(api, names[i], &c, &err), -1);
		assert_memory_equal(err.message, start, strlen(start));
	}
}

static void
name_is_new(void *opaque, const struct command *command)
{
	json *seen = opaque;

	assert_false(json_object_object_get_ex(seen, command->name, NULL));
	smd_json_set_bool(seen, command->name, true);
	assert_true(command_doc(command)[0] != '\0');
}

/* A method and a command of every class must not share a name. */
static void
test_names_are_unique(void **state)
{
	CLEANUP_JSON json *seen = json_object_new_object();

	(void)state;
	command_each(api, name_is_new, seen);
	assert_true(json_object_object_get_ex(seen, "vdi-pool-migrate", NULL));
	assert_true(json_object_object_get_ex(seen, "sr-param-set", NULL));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_bad_words),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_values_by_type),
		cmocka_unit_test(test_values_from_several_words),
		cmocka_unit_test(test_words_of_commands),
		cmocka_unit_test(test_unknown_commands),
		cmocka_unit_test(test_names_are_unique),
	};

	return cmocka_run_group_tests(tests, api_setup, api_teardown);
}
