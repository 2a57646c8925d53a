/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one running smd is made of. Made by main.c, handed to everyone; each
 * member has its own locks.
 */
#ifndef SMD_DAEMON_H
#define SMD_DAEMON_H

#include "common/error.h"

struct config;		/* daemon/config.h */
struct db;		/* daemon/db/db.h */
struct sessions;	/* daemon/rpc/session.h */
struct tasks;		/* daemon/job/task.h */
struct jobs;		/* daemon/job/job.h */
struct collector;	/* daemon/job/collect.h */
struct storage;		/* daemon/sr/sr.h */
struct recorder;	/* daemon/rpc/record.h */

struct daemon {
	const struct config *config;
	struct db *db;
	struct sessions *sessions;
	struct tasks *tasks;
	struct jobs *jobs;
	struct collector *collector;
	struct storage *storage;
	struct recorder *recorder;	/* NULL: calls are not recorded */
	char *host_ref;		/* the record of this host */
	char *pool_ref;
};

#endif
