/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sessions: in memory, idle ones expire, logout wakes what waits in them.
 *
 * Threads: any. Errors: SESSION_INVALID [ref].
 */
#ifndef SMD_DAEMON_RPC_SESSION_H
#define SMD_DAEMON_RPC_SESSION_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"
#include "daemon/rpc/call.h"

struct sessions *sessions_new(struct daemon *daemon);
void sessions_free(struct sessions *sessions);

/* Check the name and password (trusted local peers: any), make a session. */
int session_login(struct sessions *sessions, const struct peer *peer, const char *user,
		  const char *password, const char *originator, char **ret_ref,
		  struct smd_error *err);
int session_logout(struct sessions *sessions, const char *ref, struct smd_error *err);

/* Look a session up and note that it was used. */
int session_use(struct sessions *sessions, const char *ref, struct smd_error *err);
/* Whether its role may make the call, or is at least the one that has a permission;
 * RBAC_PERMISSION_DENIED [permission, who has it]. */
int session_may(struct sessions *sessions, const char *ref, const struct api_message *message,
		struct smd_error *err);
int session_may_as(struct sessions *sessions, const char *ref, enum api_role least,
		   const char *permission, struct smd_error *err);
/* Whose login it is: the same text for all of one user's, also after a start. The caller
 * frees; NULL: there is no such session. */
char *session_user(struct sessions *sessions, const char *ref);
/* "root (pool-admin)", for the log; the caller frees. */
char *session_who(struct sessions *sessions, const char *ref);
/* End all of them, so that nobody waits in one any more (at shutdown). */
void sessions_end_all(struct sessions *sessions);

/* The record of a session (every field of the class). */
int session_record(struct sessions *sessions, const char *ref, json **ret, struct smd_error *err);
/* The messages every class has, for this one: it is in no database. */
call_handler session_generic;
/* What event.register asked for in this session, and up to which generation event.next
 * has answered. *ret_classes: an array, empty: nothing; new reference. */
int session_events(struct sessions *sessions, const char *ref, json **ret_classes,
		   uint64_t *ret_since, struct smd_error *err);
/* classes is taken over; NULL: as they are. */
int session_set_events(struct sessions *sessions, const char *ref, json *classes, uint64_t since,
		       struct smd_error *err);
/* Turns true at logout or expiry. Held until session_release. */
int session_hold(struct sessions *sessions, const char *ref, const bool **ret_gone,
		 struct smd_error *err);
void session_release(struct sessions *sessions, const char *ref);

#endif
