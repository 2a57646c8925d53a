/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"

static const char *const level_names[] = {
	[SMD_LOG_ERR] = "error",
	[SMD_LOG_WARNING] = "warning",
	[SMD_LOG_NOTICE] = "notice",
	[SMD_LOG_INFO] = "info",
	[SMD_LOG_DEBUG] = "debug",
};

static atomic_int log_max = SMD_LOG_NOTICE;

void
smd_log_set_level(enum smd_log_level max)
{
	log_max = max;
}

int
smd_log_level_parse(const char *text, enum smd_log_level *ret)
{
	for (int i = SMD_LOG_ERR; i <= SMD_LOG_DEBUG; i++) {
		if (strcmp(level_names[i], text) == 0) {
			*ret = i;
			return 0;
		}
	}
	return -1;
}

static void
log_stderr(const char *program, enum smd_log_level level, const char *const *fields,
	   const char *message)
{
	char line[4096];
	size_t used;

	used = (size_t)snprintf(line, sizeof line, "%s: %s: %s", program, level_names[level],
				message);
	for (; fields[0] && used < sizeof line; fields += 2) {
		if (fields[1])
			used += (size_t)snprintf(line + used, sizeof line - used, " %s=%s",
						 fields[0], fields[1]);
	}
	/* What clients send is in it: no line of theirs, nothing for a terminal. */
	for (char *p = line; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	}
	fprintf(stderr, "%s\n", line);
}

static const char *log_program = "smd";
static smd_log_fn *log_to = log_stderr;

void
smd_log_init(const char *program, smd_log_fn *to, enum smd_log_level max)
{
	log_program = program;
	log_to = to ? to : log_stderr;
	log_max = max;
}

static void SMD_PRINTF(3, 0)
log_va(enum smd_log_level level, const char *const *fields, const char *fmt, va_list ap)
{
	CLEANUP_FREE char *message = NULL;

	if ((int)level > log_max)
		return;
	message = smd_vasprintf(fmt, ap);
	log_to(log_program, level, fields, message);
}

void
smd_log(enum smd_log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_va(level, (const char *const[]){ NULL, NULL }, fmt, ap);
	va_end(ap);
}

void
smd_log_fields(enum smd_log_level level, const char *const *fields, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_va(level, fields, fmt, ap);
	va_end(ap);
}
