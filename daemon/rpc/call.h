/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A call of the API on its way from a wire to its handler. daemon/rpc knows no
 * method: it finds the message in the schema, checks session, role and
 * arguments, calls the handler (daemon/api/CLASS.c) or the generic one, and
 * checks the result.
 *
 * Threads: a call has a thread of the pool while its handler runs, and may block. One
 * that waits for long, for whatever may never happen, parks instead and needs none. The
 * few that cannot wait for anything (dispatch.c says which) are answered by the loop of
 * the server itself, since handing a call over costs several times what they do.
 */
#ifndef SMD_DAEMON_RPC_CALL_H
#define SMD_DAEMON_RPC_CALL_H

#include "common/error.h"
#include "common/json.h"
#include "daemon/daemon.h"
#include "daemon/rpc/shared.h"
#include "schema/api.h"

#define PEER_NOT_LOCAL ((unsigned)-1)

/* Where a request came from; who it may be is decided from it. */
struct peer {
	bool local;		/* the unix socket, and the peer's uid is trusted */
	unsigned uid;		/* PEER_NOT_LOCAL but for the unix socket */
	char address[64];	/* for the log */
	int fd;			/* of the connection, while a caller waits in it; 0: none does */
	struct call_park *park;	/* of that caller; NULL: the handler answers at once */
	bool on_loop;		/* the caller must not wait: CALL_ELSEWHERE */
};

/* Waiting without a thread. A handler that has nothing to say yet puts its park where
 * whoever brings that about finds it, and returns CALL_PARKED. After unpark, which any
 * thread may call once (also before the handler is back), the same call is made again
 * from its beginning, on any thread, and finds state as it left it. Who has the result
 * may call answer instead, which keeps no reference: then it is only made
 * again where its handler is not back yet. */
struct call_park {
	void *state;
	void (*drop)(void *state);	/* at the end of the request; NULL: nothing to free */
	void (*unpark)(struct call_park *park);
	void (*answer)(struct call_park *park, struct shared *shared);
	struct shared_frame frame;	/* the wire's, of a call that was parked */
};
#define CALL_PARKED 1
/* Nothing has happened: the call may wait, or failed, and is to be made on a thread. */
#define CALL_ELSEWHERE 2

struct session;
struct db_rows;

struct call {
	struct daemon *daemon;
	const struct api_message *message;
	const struct peer *peer;
	const char *session_ref;	/* "" where the method takes none */
	json *args;			/* array: every parameter, checked, defaults filled in */
	/* The task this call is: set for Async. and for every method that has an
	 * Async form, so that a waiting caller's work can be seen and cancelled. */
	const char *task_ref;		/* NULL: none */
	struct shared *shared;		/* instead of *ret: a reference to one that many get */
	bool async;			/* nobody waits for the answer on a connection */
	struct db_rows *rows;		/* instead of *ret: the members of a map of records */
};

/* 0; -1; CALL_PARKED. *ret: a new reference in normal form; left NULL for void. */
typedef int call_handler(struct call *call, json **ret, struct smd_error *err);

/* A class's handlers; daemon/api/CLASS.c has one table each, {0}-terminated. */
struct call_binding {
	const char *method;		/* "VDI.snapshot"; "*": the messages every class has */
	call_handler *handler;
};

/* Collect the tables and see that every declared method has one handler and
 * every handler a method; the first that has not is named. */
int call_bind(const struct call_binding *const *tables, struct smd_error *err);

/* Whether nobody waits for the answer any more: the connection was closed. One that
 * was only closed for sending counts, too, as nobody can tell them apart. */
bool call_abandoned(const struct call *call);

/* The n-th argument. Borrowed. */
static inline json *
call_arg(const struct call *call, size_t n)
{
	return json_object_array_get_idx(call->args, n);
}

static inline const char *
call_str(const struct call *call, size_t n)
{
	return json_object_get_string(call_arg(call, n));
}

static inline int64_t
call_int(const struct call *call, size_t n)
{
	return json_object_get_int64(call_arg(call, n));
}

static inline bool
call_bool(const struct call *call, size_t n)
{
	return json_object_get_boolean(call_arg(call, n));
}

/* What a call gives, in one of three forms, and how to print it. */
struct call_result {
	const struct api_type *type;
	json *value;
	struct shared *shared;	/* value is NULL then */
	struct db_rows *rows;	/* and also then: call_result_next */
};
void call_result_done(struct call_result *result);
/* 1: the next member of a map that comes in rows, a new reference and its key, which lives
 * until the next call; 0: no more; -1. */
int call_result_next(struct call_result *result, const char **ret_key, json **ret,
		     struct smd_error *err);

/* What both wires do with a parsed request: name and positional params as they
 * came. 0, -1; CALL_PARKED, CALL_ELSEWHERE: nothing is to be answered yet. */
int call_dispatch(struct daemon *daemon, const struct peer *peer, const char *name, json *params,
		  struct call_result *ret, struct smd_error *err);

/* Run fn on a thread of the pool; the daemon waits for it at its end. There is a limit:
 * TOO_MANY_PENDING_TASKS, and fn does not run. */
int call_in_background(struct daemon *daemon, void (*fn)(void *opaque), void *opaque,
		       struct smd_error *err);
/* Wait until all of them have ended (at shutdown, after the listeners). */
void call_wait_background(struct daemon *daemon);

/* <value>…</value> of a result, as task.result holds it. */
char *call_result_xml(const struct api_type *type, json *value);

#endif
