/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"

/* What one call writes to standard error, without its newline. */
static char *
logged(enum smd_log_level max, enum smd_log_level level, const char *const *fields,
       const char *message)
{
	FILE *f = tmpfile();
	int saved = dup(STDERR_FILENO);
	char text[8192];
	size_t n;

	assert_non_null(f);
	fflush(stderr);
	dup2(fileno(f), STDERR_FILENO);
	smd_log_init("prog", NULL, max);
	smd_log_fields(level, fields, "%s", message);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(f);
	n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	if (n == 0)
		return smd_strdup("");
	assert_int_equal(text[n - 1], '\n');
	return smd_strndup(text, n - 1);
}

static void
test_line(void **state)
{
	CLEANUP_FREE char *line = logged(SMD_LOG_DEBUG, SMD_LOG_WARNING,
					 SMD_FIELDS("TASK", "t1", "GONE", NULL, "VDI", "v1"),
					 "it broke");

	(void)state;
	assert_string_equal(line, "prog: warning: it broke TASK=t1 VDI=v1");
}

/* Text from outside makes no line of its own. */
static void
test_one_line(void **state)
{
	CLEANUP_FREE char *line = logged(SMD_LOG_DEBUG, SMD_LOG_INFO,
					 SMD_FIELDS("USER", "x\nprog: error: y"), "a\033[31m\177b\r");

	(void)state;
	assert_string_equal(line, "prog: info: a [31m b  USER=x prog: error: y");
}

static void
test_level(void **state)
{
	CLEANUP_FREE char *below = logged(SMD_LOG_NOTICE, SMD_LOG_INFO, SMD_FIELDS(NULL), "x");
	CLEANUP_FREE char *at = logged(SMD_LOG_NOTICE, SMD_LOG_NOTICE, SMD_FIELDS(NULL), "x");

	(void)state;
	assert_string_equal(below, "");
	assert_string_equal(at, "prog: notice: x");
}

/* A line too long for its buffer is cut, never run over. */
static void
test_long(void **state)
{
	char *message = smd_calloc(1, 6001);
	CLEANUP_FREE char *line = NULL;

	(void)state;
	memset(message, 'm', 6000);
	line = logged(SMD_LOG_DEBUG, SMD_LOG_ERR, SMD_FIELDS("A", message, "B", "b"), message);
	free(message);
	assert_in_range(strlen(line), 1000, 4096);
}

static void
test_parse(void **state)
{
	enum smd_log_level level = SMD_LOG_ERR;

	(void)state;
	assert_int_equal(smd_log_level_parse("debug", &level), 0);
	assert_int_equal(level, SMD_LOG_DEBUG);
	assert_int_equal(smd_log_level_parse("error", &level), 0);
	assert_int_equal(level, SMD_LOG_ERR);
	assert_int_equal(smd_log_level_parse("loud", &level), -1);
	assert_int_equal(level, SMD_LOG_ERR);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line), cmocka_unit_test(test_level),
		cmocka_unit_test(test_one_line), cmocka_unit_test(test_long), cmocka_unit_test(test_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
