/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The queue for workers: at most config's `max_workers` at once, and at most
 * `max_workers_per_sr` (the SR's other_config "max-workers" goes before) of those that
 * load one SR. The order is kept within an SR; among SRs it is the turn of the one
 * with the fewest workers, and of these of the one that has waited for longest: many
 * jobs on one SR do not hold up another's.
 *
 * A background job takes no place, and begins when nobody waits for one on its SRs,
 * or after QUEUE_BACKGROUND_S.
 *
 * Who waits says so in its task's other_config: "state" is "queued", "queue_position"
 * the number of the next, 1, and "waits_for" what has to end.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_JOB_QUEUE_H
#define SMD_DAEMON_JOB_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/daemon.h"

#define QUEUE_SRS 2
#define QUEUE_BACKGROUND_S 30

struct queue_entry {
	const char *task_ref;		/* NULL: none; borrowed, as the rest */
	const char *srs[QUEUE_SRS];	/* refs; NULL: none (more) */
	bool background;
	/* queue.c's */
	TAILQ_ENTRY(queue_entry) link;
	bool cancelled, paused;
	unsigned rank;
	uint64_t since_ms;
	int64_t sr_max[QUEUE_SRS];
};

/* Wait for a place. False: cancelled, or its task was stopped. */
bool queue_enter(struct daemon *daemon, struct queue_entry *entry);
/* Give it back. */
void queue_leave(const struct queue_entry *entry);
/* From any thread, while queue_enter runs. */
void queue_cancel(struct queue_entry *entry);
/* What somebody waits for may have changed. */
void queue_kick(void);

#endif
