/* SPDX-License-Identifier: BSD-2-Clause */
/* A daemon without database, tasks and configuration file, for the unit tests and
 * the fuzzers of this folder. */
#ifndef SMD_DAEMON_RPC_FAKE_H
#define SMD_DAEMON_RPC_FAKE_H

#include "daemon/rpc/call.h"

extern const struct peer fake_peer;	/* trusted */
extern const struct peer fake_stranger;

struct daemon *fake_daemon(void);
void fake_daemon_free(struct daemon *daemon);
/* Every declared method bound to handler, but those of session and system. */
void fake_bind(call_handler *handler);

/* Refs are OpaqueRef:1, OpaqueRef:2 …; this is the next. */
extern unsigned fake_next_ref;
extern int fake_idle_timeout_s;	/* of sessions; a day */

/* What became of tasks, and what the generic handler saw last. */
extern unsigned fake_tasks_made, fake_tasks_gone;
extern char fake_task_label[128], fake_task_result[256], fake_task_error[64];
extern char fake_generic_name[128];

/* get_all_records gives so many copies of this record, NULL: none, as a map or in rows, of
 * which the last cannot be read. */
extern json *fake_row;
extern unsigned fake_n_rows;
extern bool fake_as_map, fake_rows_break;

#endif
