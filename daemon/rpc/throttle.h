/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How often logins failed of late, by address and user: who guesses is refused
 * before a password is looked at. And whose is looked at next: one at a time, since that
 * takes a CPU for a while, and no address twice running while another waits, so that
 * who guesses by the hundred holds up nobody else. Threads: any.
 */
#ifndef SMD_DAEMON_RPC_THROTTLE_H
#define SMD_DAEMON_RPC_THROTTLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define THROTTLE_ENTRIES 256	/* the oldest makes room: memory has a bound */

struct throttle {
	pthread_mutex_t lock;
	pthread_cond_t turned;
	bool busy;			/* a password is looked at */
	uint64_t last;			/* a hash of the address whose */
	struct throttle_turn *turns;	/* those that wait, the longest first */
	struct throttle_entry {
		uint64_t who;		/* a hash; 0: free */
		int64_t since_s;	/* of the first failure counted */
		unsigned failures;
	} entries[THROTTLE_ENTRIES];
};

void throttle_init(struct throttle *throttle);
void throttle_done(struct throttle *throttle);
/* Whether fewer than most logins failed within a minute; most 0: always. */
bool throttle_allows(struct throttle *throttle, const char *address, const char *user,
		     int64_t most);
/* Wait for one's turn; then give it on. */
void throttle_enter(struct throttle *throttle, const char *address);
void throttle_leave(struct throttle *throttle);
void throttle_failed(struct throttle *throttle, const char *address, const char *user);

#endif
