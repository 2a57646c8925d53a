/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Logging: to the journal with structured fields where there is one, else to
 * stderr as "<level> message FIELD=value". common/, schema/ and plugins/ log at
 * debug level only; the daemon logs an error once, where the call is answered.
 *
 * Threads: any.
 */
#ifndef SMD_COMMON_LOG_H
#define SMD_COMMON_LOG_H

#include "common/error.h"

enum smd_log_level {		/* syslog's numbers */
	SMD_LOG_ERR = 3,
	SMD_LOG_WARNING = 4,
	SMD_LOG_NOTICE = 5,
	SMD_LOG_INFO = 6,
	SMD_LOG_DEBUG = 7,
};

/* Where messages go, and the least urgent level that is kept. */
enum smd_log_target { SMD_LOG_STDERR, SMD_LOG_JOURNAL };
void smd_log_init(const char *program, enum smd_log_target target, enum smd_log_level max);
void smd_log_set_level(enum smd_log_level max);
int smd_log_level_parse(const char *text, enum smd_log_level *ret);	/* -1: no such level */

void smd_log(enum smd_log_level level, const char *fmt, ...) SMD_PRINTF(2, 3);

/* fields: NULL-terminated pairs of an upper-case name and a value (NULL values
 * are left out): SMD_FIELDS("TASK", ref, "VDI", uuid). */
void smd_log_fields(enum smd_log_level level, const char *const *fields,
		    const char *fmt, ...) SMD_PRINTF(3, 4);
#define SMD_FIELDS(...) ((const char *const[]){ __VA_ARGS__, NULL, NULL })

#endif
