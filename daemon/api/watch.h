/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls that wait for changes of objects, parked: each is a record in a list and costs
 * no thread. One thread, the keeper, watches the database's generation for all of them.
 *
 * Waiting calls are answered in rounds. A round comes WATCH_GATHER_MS after the first
 * change that concerns anybody, so that a burst is one answer, and at least
 * WATCH_PAUSE_MS + WATCH_PAUSE_US_EACH for each call answered in it after the round
 * before. So many clients that follow one busy object take a part of the machine and
 * not all of it, hear of its last state soon, and have nearly all asked again by the
 * next round: then they all ask for the same changes, which the keeper looks up once and
 * answers all of them with, before any of them is heard again.
 *
 * Threads: any.
 */
#ifndef SMD_DAEMON_API_WATCH_H
#define SMD_DAEMON_API_WATCH_H

#include "daemon/db/db.h"
#include "daemon/rpc/call.h"

#define WATCH_GATHER_MS 10
#define WATCH_PAUSE_MS 20
#define WATCH_PAUSE_US_EACH 70

/* Kept in call_park.state from one time the call is made to the next. */
struct watch {
	struct daemon *daemon;
	struct call_park *park;
	int fd;				/* call_abandoned's */
	char *session_ref;		/* held */
	const bool *gone;		/* the session is */
	struct db_interest *interests;	/* NULL refs or texts of its own */
	size_t n_interests;
	uint64_t since;			/* is told of what comes after */
	uint64_t needs;			/* and at least of all up to this: when it was asked or woken */
	unsigned n_followed;		/* times that others looked for it, and maybe too early */
	uint64_t deadline_ms;		/* of smd_now_ms */
	/* Those with the same spec who wait since the same time are answered with one result:
	 * what look, called by the keeper, gives for one of them, or NULL: each is made again.
	 * look NULL: none of that. */
	char *spec;
	struct shared *(*look)(const struct watch *watch);
	const struct api_message *message;	/* look's */
	struct watch *next, **prev;	/* watch.c's; NULL: not in its list */
};

/* Hold the session, from here to watch_end: SESSION_INVALID. interests are taken over. */
int watch_begin(struct call *call, struct watch **ret, struct smd_error *err);
void watch_end(void *watch);	/* a call_park.drop */
/* Whether a call that would be answered with what came after since has been answered
 * but now, and is to wait for the next round. */
bool watch_must_pause(uint64_t since);
/* Unpark the call when something after since concerns an interest, at the deadline, or
 * when its session or its client is gone. It may be unparked before this returns. */
void watch_park(struct watch *watch);
/* Each of a list (next) of calls that are parked otherwise. */
void watch_unpark_all(struct watch *list);
/* At the end, when no call waits any more. */
void watch_stop(struct daemon *daemon);

#endif
