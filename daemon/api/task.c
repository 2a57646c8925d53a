/* SPDX-License-Identifier: BSD-2-Clause */
/* task: those the server makes, and those a client drives itself. */
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/db/db.h"
#include "daemon/job/control.h"
#include "daemon/job/task.h"
#include "daemon/rpc/session.h"

static int
task_do_create(struct call *call, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *owner = session_user(call->daemon->sessions, call->session_ref);
	CLEANUP_FREE char *ref = NULL;

	if (task_create(call->daemon->tasks, call_str(call, 0), call_str(call, 1), owner, &ref,
			err) != 0)
		return -1;
	*ret = json_object_new_string(ref);
	return 0;
}

/* Whoever may log in sees every task; whose it is not, a pool-operator at least, may
 * change it. The permission's name is xapi's. */
static int
check_mine(struct call *call, struct smd_error *err)
{
	struct daemon *daemon = call->daemon;
	CLEANUP_FREE char *owner = task_owner(daemon->tasks, call_str(call, 0));

	CLEANUP_FREE char *user = session_user(daemon->sessions, call->session_ref);

	if (owner && user && strcmp(owner, user) == 0)
		return 0;
	return session_may_as(daemon->sessions, call->session_ref, API_POOL_OPERATOR,
			      "task.destroy/any", err);
}

static int
task_do_destroy(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	if (check_mine(call, err) != 0)
		return -1;
	return task_destroy(call->daemon->tasks, call_str(call, 0), err);
}

static int
task_do_cancel(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	if (check_mine(call, err) != 0)
		return -1;
	return task_cancel(call->daemon->tasks, call_str(call, 0), err);
}

static int
task_do_pause(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	if (check_mine(call, err) != 0)
		return -1;
	return task_pause(call->daemon->tasks, call_str(call, 0), true, err);
}

static int
task_do_resume(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	if (check_mine(call, err) != 0)
		return -1;
	return task_pause(call->daemon->tasks, call_str(call, 0), false, err);
}

static int
set_field(struct call *call, const char *field, struct smd_error *err)
{
	if (check_mine(call, err) != 0)
		return -1;
	return db_set(call->daemon->db, "task", call_str(call, 0), field, call_arg(call, 1), err);
}

/* A task that smd works on is ended by that work alone, also once it was cancelled. */
static int
check_own(struct call *call, struct smd_error *err)
{
	const char *ref = call_str(call, 0);

	if (task_is_taken(call->daemon->tasks, ref))
		return smd_fail_OPERATION_NOT_ALLOWED(err, ref, "task %s is under way in smd: cancel it",
						      ref);
	return 0;
}

/* A client that ends its task also stamps it. */
static int
task_do_set_status(struct call *call, json **ret, struct smd_error *err)
{
	const char *ref = call_str(call, 0), *status = call_str(call, 1);
	bool ended = strcmp(status, "pending") != 0 && strcmp(status, "cancelling") != 0;
	struct db *db = call->daemon->db;
	CLEANUP_FREE char *now = db_now();
	int rc;

	(void)ret;
	if (db_begin(db, DB_DURABLE, err) != 0)
		return -1;
	rc = check_own(call, err);
	if (rc == 0)
		rc = set_field(call, "status", err);
	if (rc == 0 && ended)
		rc = db_set_str(db, "task", ref, "finished", now, err);
	if (db_end(db, rc, err) != 0)
		return -1;
	if (ended)
		task_forget(call->daemon->tasks, ref);
	return 0;
}

static int
task_do_set_progress(struct call *call, json **ret, struct smd_error *err)
{
	double progress = json_object_get_double(call_arg(call, 1));

	(void)ret;
	if (!(progress >= 0 && progress <= 1))
		return smd_fail_INVALID_VALUE(err, "value",
					      json_object_get_string(call_arg(call, 1)),
					      "progress goes from 0 to 1");
	return set_field(call, "progress", err);
}

static int
task_do_set_result(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return set_field(call, "result", err);
}

static int
task_do_set_error_info(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return set_field(call, "error_info", err);
}

/* 0 takes the limit away. What is said to a task without workers holds for those to come. */
static int
task_do_set_speed(struct call *call, json **ret, struct smd_error *err)
{
	int64_t speed = json_object_get_int64(call_arg(call, 1));
	const char *ref = call_str(call, 0);
	CLEANUP_FREE char *status = NULL;

	(void)ret;
	if (check_mine(call, err) != 0 ||
	    db_get_str(call->daemon->db, "task", ref, "status", &status, err) != 0)
		return -1;
	if (speed < 0)
		return smd_fail_INVALID_VALUE(err, "bytes_per_second",
					      json_object_get_string(call_arg(call, 1)),
					      "a speed is not negative; 0 is no limit");
	if (strcmp(status, "pending") != 0)
		return smd_fail_OPERATION_NOT_ALLOWED(err, ref, "task %s has ended", ref);
	control_set_speed(call->daemon, ref, (uint64_t)speed);
	task_note(call->daemon->tasks, ref, SMD_PARAMS("bytes_per_second_limit",
						       speed > 0 ? SMD_U64((uint64_t)speed) : ""));
	return 0;
}

static int
task_do_set_resident_on(struct call *call, json **ret, struct smd_error *err)
{
	(void)ret;
	return set_field(call, "resident_on", err);
}

const struct call_binding api_task_handlers[] = {
	{ "task.cancel", task_do_cancel },
	{ "task.create", task_do_create },
	{ "task.destroy", task_do_destroy },
	{ "task.pause", task_do_pause },
	{ "task.resume", task_do_resume },
	{ "task.set_error_info", task_do_set_error_info },
	{ "task.set_progress", task_do_set_progress },
	{ "task.set_resident_on", task_do_set_resident_on },
	{ "task.set_result", task_do_set_result },
	{ "task.set_speed", task_do_set_speed },
	{ "task.set_status", task_do_set_status },
	{ NULL, NULL },
};
