/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Volumes for an upload of which nobody knows yet how many images it holds, and in
 * which format: some that are made beforehand, under temporary names. Those that are
 * needed get their names when all is there, the rest vanishes.
 *
 * Threads: any, one at a time.
 */
#ifndef SMD_DAEMON_SR_STAGING_H
#define SMD_DAEMON_SR_STAGING_H

#include "daemon/sr/volume.h"

#define STAGING_MAX 30

struct staging {
	struct daemon *daemon;
	struct sr *sr;			/* borrowed */
	size_t n;
	struct staged {
		struct smd_uuid_text uuid;	/* in its name; a new VDI's */
		char *tmp;
		char *name;			/* NULL: not published */
		int fd;
	} volumes[STAGING_MAX];
	char *job_id;			/* its undo deletes the temporary names */
	char *publish_id;		/* its undo deletes the others */
};
#define STAGING_INIT { .n = 0 }

/* Write the plan, then make n volumes. */
int staging_begin(struct daemon *daemon, const char *kind, struct sr *sr, size_t n,
		  struct staging *ret, struct smd_error *err);
/* What is to become of a volume: "<uuid>.<format>". NULL format: nothing. Before
 * staging_publish, which flushes these and gives them their names. */
void staging_keep(struct staging *s, size_t i, const char *format);
int staging_publish(struct staging *s, struct smd_error *err);
/* In the transaction that makes them VDIs'. */
int staging_committed(struct staging *s, struct smd_error *err);
/* Undo, or delete what was not kept. */
void staging_done(struct staging *s);
#define CLEANUP_STAGING CLEANUP(staging_done)

#endif
