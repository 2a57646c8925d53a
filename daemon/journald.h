/* SPDX-License-Identifier: BSD-2-Clause */
/* Messages to systemd's journal, with their fields. */
#ifndef SMD_DAEMON_JOURNALD_H
#define SMD_DAEMON_JOURNALD_H

#include "common/log.h"

/* For smd_log_init. Fields past the 16th are left out. */
void journald_log(const char *program, enum smd_log_level level, const char *const *fields,
		  const char *message);

#endif
