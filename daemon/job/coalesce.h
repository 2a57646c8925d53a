/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One step of the collector (daemon/job/collect.h): a hidden node of a chain that has
 * one child is merged with it, or a hidden node that has none is deleted. After a
 * merge the child's VDI has one of the two images, the other is deleted, and the hidden
 * node's row is gone.
 *
 *   find (rows) -> lock (images) -> choose (which way) -> merge (a worker; harmless to
 *   give up and to begin again) -> commit (journalled: links of images, then rows)
 *
 * Threads: one at a time for each struct.
 */
#ifndef SMD_DAEMON_JOB_COALESCE_H
#define SMD_DAEMON_JOB_COALESCE_H

#include "common/error.h"
#include "daemon/job/worker.h"
#include "daemon/sr/volume.h"

struct coalesce {
	struct daemon *daemon;
	struct disk parent;		/* the hidden node */
	struct disk child;		/* sr NULL: none, the parent is garbage */
	size_t n_below, n_above;
	struct disk *below;		/* what the parent lies on, nearest first */
	struct disk *above;		/* what lies on the child */
	bool into_parent;		/* else into the child */
	uint64_t up, down;		/* bytes of data that either way writes */
	uint64_t lacks;			/* of up: what takes new space */
	struct worker_stop *stop;	/* borrowed */
};

/* 0 found; 1 the node is no work (any more). */
int coalesce_find(struct daemon *daemon, const char *node_ref, struct coalesce *ret,
		  struct smd_error *err);
/* The names of the images that nobody else may have meanwhile: a new array. */
json *coalesce_images(const struct coalesce *c);
/* 0 locked; 1 *ret_busy is the uuid of a VDI whose image is in use (the caller frees), or
 * NULL: the rows have changed since. */
int coalesce_lock(struct coalesce *c, char **ret_busy, struct smd_error *err);
/* Ask how much either way would write, and take the cheaper one. */
int coalesce_choose(struct coalesce *c, struct smd_error *err);
/* Bytes of data to write the way it was chosen, and of new space they take. */
uint64_t coalesce_bytes(const struct coalesce *c);
uint64_t coalesce_room(const struct coalesce *c);
/* job: task, progress and bytes of others; the rest is filled in. */
int coalesce_merge(struct coalesce *c, const struct worker_job *job, struct smd_error *err);
/* Rows, links, and the image that is no longer needed. 1: the rows have changed since. */
int coalesce_commit(struct coalesce *c, struct smd_error *err);
/* The disk an error of a worker's is about; NULL: none of them. */
struct disk *coalesce_blamed(struct coalesce *c, const struct smd_error *error);
void coalesce_done(struct coalesce *c);

#endif
