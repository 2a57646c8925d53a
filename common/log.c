/* SPDX-License-Identifier: BSD-2-Clause */
#include "common/log.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include <systemd/sd-journal.h>

#include "common/mem.h"

#define LOG_FIELDS_MAX 16

static const char *const level_names[] = {
	[SMD_LOG_ERR] = "error",
	[SMD_LOG_WARNING] = "warning",
	[SMD_LOG_NOTICE] = "notice",
	[SMD_LOG_INFO] = "info",
	[SMD_LOG_DEBUG] = "debug",
};

static const char *log_program = "smd";
static enum smd_log_target log_target = SMD_LOG_STDERR;
static atomic_int log_max = SMD_LOG_NOTICE;

void
smd_log_init(const char *program, enum smd_log_target target, enum smd_log_level max)
{
	log_program = program;
	log_target = target;
	log_max = max;
}

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
log_stderr(enum smd_log_level level, const char *const *fields, const char *message)
{
	char line[4096];
	size_t used;

	used = (size_t)snprintf(line, sizeof line, "%s: %s: %s", log_program, level_names[level],
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

static void
log_journal(enum smd_log_level level, const char *const *fields, const char *message)
{
	struct iovec iov[LOG_FIELDS_MAX + 3];
	int n = 0;

	iov[n++].iov_base = smd_asprintf("MESSAGE=%s", message);
	iov[n++].iov_base = smd_asprintf("PRIORITY=%d", level);
	iov[n++].iov_base = smd_asprintf("SYSLOG_IDENTIFIER=%s", log_program);
	for (; fields[0] && n < LOG_FIELDS_MAX + 3; fields += 2) {
		if (fields[1])
			iov[n++].iov_base = smd_asprintf("%s=%s", fields[0], fields[1]);
	}
	for (int i = 0; i < n; i++)
		iov[i].iov_len = strlen(iov[i].iov_base);
	sd_journal_sendv(iov, n);
	for (int i = 0; i < n; i++)
		free(iov[i].iov_base);
}

static void SMD_PRINTF(3, 0)
log_va(enum smd_log_level level, const char *const *fields, const char *fmt, va_list ap)
{
	CLEANUP_FREE char *message = NULL;

	if ((int)level > log_max)
		return;
	message = smd_vasprintf(fmt, ap);
	if (log_target == SMD_LOG_JOURNAL)
		log_journal(level, fields, message);
	else
		log_stderr(level, fields, message);
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
