/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/rpc/fake.h"

#include <assert.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/api/handlers.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/stall.h"
#include "daemon/job/task.h"
#include "daemon/rpc/session.h"

#define BINDINGS_MAX 256

const struct peer fake_peer = { .local = true, .uid = 0, .address = "test" };
const struct peer fake_stranger = {
	.local = false, .uid = PEER_NOT_LOCAL, .address = "elsewhere",
};
unsigned fake_next_ref = 1;
int fake_idle_timeout_s = 86400;
unsigned fake_tasks_made, fake_tasks_gone;
char fake_task_label[128], fake_task_result[256], fake_task_error[64];
char fake_generic_name[128];
json *fake_row;
unsigned fake_n_rows;
bool fake_as_map, fake_rows_break;

struct db_rows {
	unsigned n;	/* given */
	char ref[32];
};

struct daemon *
fake_daemon(void)
{
	struct daemon *daemon = smd_calloc(1, sizeof *daemon);

	daemon->host_ref = smd_strdup("OpaqueRef:host");
	daemon->sessions = sessions_new(daemon);
	return daemon;
}

void
fake_daemon_free(struct daemon *daemon)
{
	sessions_free(daemon->sessions);
	free(daemon->host_ref);
	free(daemon);
}

static json *
map_of_rows(void)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct db_rows rows = { .n = 0 };
	json *map = json_object_new_object(), *record;
	const char *ref;

	while (db_rows_next(&rows, &ref, &record, &err) == 1)
		smd_json_set(map, ref, record);
	return map;
}

static int
generic(struct call *call, json **ret, struct smd_error *err)
{
	(void)err;
	snprintf(fake_generic_name, sizeof fake_generic_name, "%s", call->message->name);
	if (call->message->kind == API_M_GET_ALL_RECORDS && fake_row) {
		if (fake_as_map)
			*ret = map_of_rows();
		else
			call->rows = smd_calloc(1, sizeof *call->rows);
		return 0;
	}
	if (call->message->result->kind != API_VOID)
		*ret = api_value_default(call->message->result, NULL);
	return 0;
}

void
fake_bind(call_handler *handler)
{
	static struct call_binding rest[BINDINGS_MAX];
	static char names[BINDINGS_MAX][64];
	static const struct call_binding every[] = { { "*", generic }, { 0 } };
	const struct call_binding *const tables[] = {
		rest, every, api_session_handlers, api_system_handlers, NULL,
	};
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	size_t n = 0;

	for (size_t i = 0; api_classes[i]; i++) {
		const char *cls = api_classes[i]->name;

		if (strcmp(cls, "session") == 0 || strcmp(cls, "system") == 0)
			continue;
		for (const struct api_method *m = api_classes[i]->methods; m->name; m++) {
			assert(n < BINDINGS_MAX - 1);
			snprintf(names[n], sizeof names[n], "%s.%s", cls, m->name);
			rest[n] = (struct call_binding){ names[n], handler };
			n++;
		}
	}
	if (call_bind(tables, &err) < 0)
		abort();
}

/* ---- What the daemon's other parts would do ---- */

char *
config_str(const struct config *config, const char *key)
{
	(void)config;
	(void)key;
	return smd_strdup("");
}

int64_t
config_int(const struct config *config, const char *key)
{
	(void)config;
	if (strcmp(key, "max_sessions_per_user") == 0)
		return 500;
	return strcmp(key, "session_idle_timeout") == 0 ? fake_idle_timeout_s : 0;
}

char *
db_new_ref(void)
{
	return smd_asprintf("OpaqueRef:%u", fake_next_ref++);
}

char *
db_now(void)
{
	return smd_strdup("20261121T04:00:00Z");
}

void
db_wake(struct db *db)
{
	(void)db;
}

bool
db_exists(struct db *db, const char *cls, const char *ref)
{
	(void)db;
	(void)cls;
	(void)ref;
	return true;
}

int
db_begin(struct db *db, enum db_durability durability, struct smd_error *err)
{
	(void)db;
	(void)durability;
	(void)err;
	return 0;
}

int
db_end(struct db *db, int result, struct smd_error *err)
{
	(void)db;
	(void)err;
	return result;
}

int
db_rows_next(struct db_rows *rows, const char **ret_ref, json **ret_record,
	     struct smd_error *err)
{
	if (fake_rows_break && rows->n + 1 == fake_n_rows)
		return smd_fail_INTERNAL_ERROR(err, "the disk", "the disk");
	if (rows->n == fake_n_rows)
		return 0;
	snprintf(rows->ref, sizeof rows->ref, "OpaqueRef:<%u>", rows->n++);
	*ret_ref = rows->ref;
	*ret_record = NULL;
	json_object_deep_copy(fake_row, ret_record, NULL);
	return 1;
}

void
db_rows_close(struct db_rows *rows)
{
	free(rows);
}

int
task_create(struct tasks *tasks, const char *name, const char *description, const char *owner,
	    char **ret_ref, struct smd_error *err)
{
	(void)tasks;
	(void)description;
	(void)owner;
	(void)err;
	snprintf(fake_task_label, sizeof fake_task_label, "%s", name);
	*ret_ref = smd_asprintf("OpaqueRef:task%u", ++fake_tasks_made);
	fake_task_result[0] = fake_task_error[0] = '\0';
	return 0;
}

char *
task_begin(struct tasks *tasks, const char *name)
{
	struct smd_error err = SMD_ERROR_INIT;
	char *ref;

	task_create(tasks, name, "", NULL, &ref, &err);
	return ref;
}

void
task_end(struct tasks *tasks, const char *ref)
{
	(void)tasks;
	(void)ref;
	fake_tasks_gone++;
}

void
stall_thread(const char *ref)
{
	(void)ref;
}

int
task_take(struct tasks *tasks, const char *ref, struct smd_error *err)
{
	(void)tasks;
	(void)ref;
	(void)err;
	return 0;
}

void
task_succeed(struct tasks *tasks, const char *ref, const char *result_xml)
{
	(void)tasks;
	(void)ref;
	snprintf(fake_task_result, sizeof fake_task_result, "%s", result_xml);
}

void
task_leave(struct tasks *tasks, const char *ref)
{
	(void)tasks;
	(void)ref;
}

void
task_fail(struct tasks *tasks, const char *ref, const struct smd_error *error)
{
	(void)tasks;
	(void)ref;
	snprintf(fake_task_error, sizeof fake_task_error, "%s", error->code);
}
