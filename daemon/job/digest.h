/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is told of the digest of a disk's content (common/image/digest.h), as a worker found
 * it while it moved the disk: by the task, and by the VDI that has the content now.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_JOB_DIGEST_H
#define SMD_DAEMON_JOB_DIGEST_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"
#include "daemon/job/worker.h"

/* Keys of a VDI's other_config: the digest of its content as a copy or an upload brought
 * it, and when; who writes to the disk later does not change them. */
#define DIGEST_KEY "smd:digest"
#define DIGEST_TIME_KEY "smd:digest_time"

/* An SR's: "yes" or "no", before smd.conf's read_for_digests. */
#define DIGEST_READ_KEY "read-for-digests"

/* Whether a disk that comes into the SR is read where its content does not pass by: as the
 * caller says with verify ("true", "false"; NULL or "": nothing), as the SR or smd.conf do. */
bool digest_wanted(struct daemon *daemon, const char *sr_ref, const char *verify);

/* Have a worker read a disk; another, where it dies. */
struct digest_reading {
	struct daemon *daemon;
	const char *task_ref;		/* NULL: none */
	const char *sr_ref;		/* where the disk is */
	double progress_from, progress_to;
	bool stoppable;			/* of a job that outlives the daemon */
	/* The disk, for each worker: the request's S. */
	json *(*source)(void *opaque, struct worker_job *job, struct smd_error *err);
	void *opaque;
};
/* *ret: an answer with "digest" and "digest_sum"; what it was is freed. */
int digest_read(const struct digest_reading *r, json **ret, struct smd_error *err);

/* In a row's other_config that is being made. digest NULL, here and below: it is not known. */
void digest_set(json *other_config, const char *digest);
/* In the row of a VDI whose content is, or is about to be, another one. */
int digest_set_row(struct daemon *daemon, const char *vdi_ref, const char *digest,
		   struct smd_error *err);
/* In the task's other_config: "digest", or "digest_absent", why there is none; absent NULL:
 * smd was ended after the copy. task_ref may be NULL: nothing. */
void digest_show(struct daemon *daemon, const char *task_ref, const char *digest,
		 const char *absent);

#endif
