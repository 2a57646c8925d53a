/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The collector keeps the chains of an SR short: it deletes what nobody needs and
 * merges a hidden node with its only child (daemon/job/coalesce.h). A run looks for
 * work until there is none that can be done now, and is a task, "SR.collect", from
 * its first piece of work on. One run an SR; its threads are the collector's own.
 *
 * Everybody else goes before it: who needs an image that a merge has takes it
 * (collect_yield), and the merge begins again later. What fails is left for the next
 * run, and its reason shown (collect_note); the rest goes on.
 *
 * An SR's other_config has XenServer's switches: gc=false, nothing is done;
 * coalesce=false, nothing is merged; leaf-coalesce=false, on the VDI too, nothing is
 * merged with a disk that clients use. A merge under way stops at once.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_JOB_COLLECT_H
#define SMD_DAEMON_JOB_COLLECT_H

#include <stdbool.h>

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"

struct collector *collector_new(struct daemon *daemon);
/* Stop the runs and wait for them; nothing is begun any more. NULL is fine. */
void collector_stop(struct collector *collector);
void collector_free(struct collector *collector);

/* There may be work in an SR: a run begins within a second. */
void collect_kick(struct daemon *daemon, const char *sr_ref);
/* Begin what is due; once a second. */
void collect_tick(struct daemon *daemon);

/* Somebody needs an image that is locked: if a merge has it, that ends, or gets to its
 * end where that is near, and lets go before this returns true. Not within a
 * transaction. */
bool collect_yield(struct daemon *daemon, const char *sr_ref, const char *location);
/* The SR is about to be detached: end its run. */
void collect_leave(struct daemon *daemon, const char *sr_ref);

/* What the last run had to say of a node: {"state", "waits_for", "reason"}, a new
 * reference; NULL: nothing. state: "merging", "waiting" or "failed". */
json *collect_note(struct daemon *daemon, const char *sr_ref, const char *vdi_ref);

#endif
