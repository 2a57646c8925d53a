/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is known before a byte moves: what each new image takes, and whether all of
 * them have room. Everything that makes images of others plans by this, and
 * VDI.measure answers with it.
 *
 * Threads: any; the calls block.
 */
#ifndef SMD_DAEMON_JOB_PLAN_H
#define SMD_DAEMON_JOB_PLAN_H

#include "common/error.h"
#include "daemon/sr/volume.h"

struct plan {
	struct daemon *daemon;
	struct sr *from, *to;		/* borrowed; from NULL: from elsewhere */
	bool exact;			/* read all data to find what is zeroes */
	size_t n;			/* images */
	uint64_t required;		/* bytes in the SR */
	uint64_t shared;		/* of those, what needs no room: both SRs share extents */
	uint64_t data;			/* bytes to move */
};

/* One more image. job's request has its source and target, nothing else yet; it ends
 * here. source: the disk whose rows say how large it is (IMAGE_CORRUPT where its image has
 * another size), and *size what the format makes of that, or more on return where a hidden
 * node has grown; NULL both: an image not known yet. *ret_data may be NULL. */
int plan_image(struct plan *plan, struct worker_job *job, const struct disk *source,
	       uint64_t *size, uint64_t *ret_data, struct smd_error *err);
/* The room that is needed. */
static inline uint64_t
plan_needs(const struct plan *plan)
{
	return plan->required - plan->shared;
}
/* SR_FULL [requested, maximum]. */
int plan_room(const struct plan *plan, struct smd_error *err);

/* What copies from one SR into another have moved in a second, of late: kept in the
 * sm_config of the one they went to. 0: none was seen. Copies that a limit or a
 * pause held back, and small ones, say nothing about it. */
uint64_t plan_rate(struct daemon *daemon, const char *from_uuid, const char *to_ref);
void plan_rate_seen(struct daemon *daemon, const char *from_uuid, const char *to_ref,
		    json *result, bool verified);

#endif
