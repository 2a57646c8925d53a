/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Logging: to stderr as "program: level: message FIELD=value", or wherever a program says, such as
 * to the journal. common/, schema/ and plugins/ log at debug level only; the daemon logs an
 * error once, where the call is answered.
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

/* Takes a message, and its fields as smd_log_fields has them. Any thread. */
typedef void smd_log_fn(const char *program, enum smd_log_level level, const char *const *fields,
			const char *message);
/* Where messages go (NULL: to stderr), and the least urgent level that is kept. Before there are
 * threads. */
void smd_log_init(const char *program, smd_log_fn *to, enum smd_log_level max);
void smd_log_set_level(enum smd_log_level max);
int smd_log_level_parse(const char *text, enum smd_log_level *ret);	/* -1: no such level */

void smd_log(enum smd_log_level level, const char *fmt, ...) SMD_PRINTF(2, 3);

/* fields: NULL-terminated pairs of an upper-case name and a value (NULL values
 * are left out): SMD_FIELDS("TASK", ref, "VDI", uuid). */
void smd_log_fields(enum smd_log_level level, const char *const *fields,
		    const char *fmt, ...) SMD_PRINTF(3, 4);
#define SMD_FIELDS(...) ((const char *const[]){ __VA_ARGS__, NULL, NULL })

#endif
