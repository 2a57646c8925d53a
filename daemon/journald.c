/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/journald.h"

#include <string.h>
#include <sys/uio.h>

#include <systemd/sd-journal.h>

#include "common/mem.h"

#define FIELDS_MAX 16

void
journald_log(const char *program, enum smd_log_level level, const char *const *fields,
	     const char *message)
{
	struct iovec iov[FIELDS_MAX + 3];
	int n = 0;

	iov[n++].iov_base = smd_asprintf("MESSAGE=%s", message);
	iov[n++].iov_base = smd_asprintf("PRIORITY=%d", level);
	iov[n++].iov_base = smd_asprintf("SYSLOG_IDENTIFIER=%s", program);
	for (; fields[0] && n < FIELDS_MAX + 3; fields += 2) {
		if (fields[1])
			iov[n++].iov_base = smd_asprintf("%s=%s", fields[0], fields[1]);
	}
	for (int i = 0; i < n; i++)
		iov[i].iov_len = strlen(iov[i].iov_base);
	sd_journal_sendv(iov, n);
	for (int i = 0; i < n; i++)
		free(iov[i].iov_base);
}
