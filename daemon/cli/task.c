/* SPDX-License-Identifier: BSD-2-Clause */
/* Tasks: waiting for one with its progress shown, and for events in general. */
#include <signal.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/describe.h"
#include "daemon/cli/progress.h"

#define WAIT_TIMEOUT_S 30.0	/* of one event.from; progress comes as it happens */

/* ---- Ctrl-C ------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void
on_interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

/* The second Ctrl-C ends the program as usual. */
void
task_catch_interrupt(void)
{
	struct sigaction sa = { .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND };

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

bool
task_interrupted(void)
{
	return interrupted;
}

static int
stop_when_interrupted(void *opaque, uint64_t moved)
{
	(void)opaque;
	(void)moved;
	return interrupted;
}

/* ---- Waiting --------------------------------------------------------------------------- */

struct wait {
	struct cli *cli;
	char *token;
	json *record;		/* of the task, as last seen */
	bool gone;
};

int
task_events(struct cli *cli, const char *subscription, char **token, json **ret_events,
	    struct smd_error *err)
{
	json *params = json_object_new_array();
	CLEANUP_JSON json *reply = NULL;
	json *events;

	json_object_array_add(params, server_strings(subscription, NULL));
	json_object_array_add(params, json_object_new_string(*token));
	json_object_array_add(params, json_object_new_double(WAIT_TIMEOUT_S));
	if (server_call(cli->server, "event.from", params, &reply, err) < 0)
		return -1;
	free(*token);
	*token = smd_strdup(smd_json_str(reply, "token", ""));
	events = smd_json_member(reply, "events");
	if (!json_object_is_type(events, json_type_array))
		return smd_fail_INTERNAL_ERROR(err, "", "event.from: the result has no events");
	*ret_events = json_object_get(events);
	return 0;
}

static int
wait_step(struct wait *w, const char *ref, struct smd_error *err)
{
	CLEANUP_FREE char *subscription = smd_asprintf("task/%s", ref);
	CLEANUP_JSON json *events = NULL;

	if (task_events(w->cli, subscription, &w->token, &events, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(events); i++) {
		json *event = json_object_array_get_idx(events, i);
		json *snapshot = smd_json_member(event, "snapshot");

		if (strcmp(smd_json_str(event, "operation", ""), "del") == 0)
			w->gone = true;
		if (snapshot) {
			json_object_put(w->record);
			w->record = json_object_get(snapshot);
		}
	}
	return 0;
}

static uint64_t
config_number(json *config, const char *key)
{
	return strtoull(smd_json_str(config, key, "0"), NULL, 10);
}

static void
wait_show(struct progress *bar, json *record)
{
	json *config = smd_json_member(record, "other_config");
	json *share = smd_json_member(record, "progress");
	struct progress_state state = {
		.share = json_object_get_double(share),
		.done = config_number(config, "bytes_done"),
		.total = config_number(config, "bytes_total"),
		.rate = config_number(config, "bytes_per_second"),
		.left_s = smd_json_member(config, "seconds_left") ?
			  (int64_t)config_number(config, "seconds_left") : -1,
	};

	progress_show(bar, &state);
}

static bool
wait_is_over(const struct wait *w)
{
	const char *status = smd_json_str(w->record, "status", "pending");

	return w->gone || strcmp(status, "success") == 0 || strcmp(status, "failure") == 0 ||
	       strcmp(status, "cancelled") == 0;
}

static int
wait_to_end(struct wait *w, const char *ref, struct progress *bar, struct smd_error *err)
{
	struct http_client *http = server_http(w->cli->server);
	bool cancelled = false;

	while (!wait_is_over(w)) {
		http_client_tick(http, cancelled ? NULL : stop_when_interrupted, NULL);
		if (wait_step(w, ref, err) < 0 && !(interrupted && !cancelled))
			return -1;
		if (interrupted && !cancelled) {
			cancelled = true;
			smd_error_clear(err);
			http_client_tick(http, NULL, NULL);
			if (server_do(w->cli->server, "task.cancel", server_strings(ref, NULL),
				      err) < 0)
				return -1;
		}
		/* a task that failed has progress 1, which is not how far it came */
		if (w->record && strcmp(smd_json_str(w->record, "status", ""), "failure") != 0 &&
		    strcmp(smd_json_str(w->record, "status", ""), "cancelled") != 0)
			wait_show(bar, w->record);
	}
	return 0;
}

static int
task_outcome(json *record, struct smd_error *err)
{
	json *info = smd_json_member(record, "error_info");
	json *config = smd_json_member(record, "other_config");
	const char *code = NULL;

	if (strcmp(smd_json_str(record, "status", ""), "success") == 0)
		return 0;
	if (json_object_is_type(info, json_type_array))
		code = json_object_get_string(json_object_array_get_idx(info, 0));
	if (!code)
		return cli_fail(err, "The task ended and does not say how");
	server_fail(code, info, 1, err);
	server_add_message(err, smd_json_str(config, "error_message", ""));
	return -1;
}

static void
task_destroy(struct cli *cli, const char *ref)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	/* one that stays is collected by the server in an hour */
	http_client_tick(server_http(cli->server), NULL, NULL);
	server_do(cli->server, "task.destroy", server_strings(ref, NULL), &err);
}

int
task_wait(struct cli *cli, const char *ref, bool show, char **ret_result, struct smd_error *err)
{
	struct wait w = { .cli = cli, .token = smd_strdup("") };
	struct progress bar;
	int rc;

	task_catch_interrupt();
	progress_start(&bar, show ? cli->args->progress : 0);
	rc = wait_to_end(&w, ref, &bar, err);
	progress_end(&bar);
	if (rc == 0)
		rc = task_outcome(w.record, err);
	if (rc == 0 && ret_result)
		*ret_result = smd_strdup(smd_json_str(w.record, "result", ""));
	if (!w.gone)
		task_destroy(cli, ref);
	json_object_put(w.record);
	free(w.token);
	return rc;
}

void
task_failure(struct cli *cli, const char *ref, struct smd_error *err)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT, why = SMD_ERROR_INIT;
	CLEANUP_JSON json *record = NULL;

	http_client_tick(server_http(cli->server), NULL, NULL);
	if (interrupted)
		server_do(cli->server, "task.cancel", server_strings(ref, NULL), &ignored);
	if (server_call(cli->server, "task.get_record", server_strings(ref, NULL), &record,
			&why) == 0 &&
	    strcmp(smd_json_str(record, "status", ""), "failure") == 0 &&
	    task_outcome(record, &why) < 0) {
		smd_error_clear(err);
		smd_error_move(err, &why);
	}
	smd_error_clear(&why);
	task_destroy(cli, ref);
}

/* "<value>OpaqueRef:…</value>", with the entities XML-RPC escapes. */
char *
task_result_text(const char *xml)
{
	static const struct {
		const char *entity;
		char c;
	} entities[] = { { "&lt;", '<' }, { "&gt;", '>' }, { "&amp;", '&' }, { "&quot;", '"' } };
	const char *open = "<value>", *end = strstr(xml, "</value>");
	char *ret = smd_strdup(""), *to;

	if (strncmp(xml, open, strlen(open)) != 0 || !end)
		return ret;
	xml += strlen(open);
	free(ret);
	ret = to = smd_malloc((size_t)(end - xml) + 1);
	while (xml < end) {
		size_t i = 0;

		while (i < 4 && strncmp(xml, entities[i].entity, strlen(entities[i].entity)) != 0)
			i++;
		*to++ = i < 4 ? entities[i].c : *xml;
		xml += i < 4 ? strlen(entities[i].entity) : 1;
	}
	*to = '\0';
	return ret;
}

/* ---- event-wait ---------------------------------------------------------------------------- */

static void
cleanup_columns(struct columns **c)
{
	columns_free(*c);
}

/* Wait until an object of the class is as the filters say. */
int
task_event_wait(struct cli *cli, struct smd_error *err)
{
	const char *name = args_need(cli->args, "class", err);
	json *cls = name ? describe_class(cli->api, name) : NULL;
	CLEANUP(cleanup_columns) struct columns *columns = cls ? columns_new(cls) : NULL;
	CLEANUP_FREE char *token = smd_strdup("");

	if (!name)
		return -1;
	if (!cls || !describe_has_objects(cls))
		return cli_fail(err, "Unknown class: %s", name);
	if (list_filters_check(cli, columns, err) < 0)
		return -1;
	for (;;) {
		CLEANUP_JSON json *events = NULL;

		if (task_events(cli, describe_name(cls), &token, &events, err) < 0)
			return -1;
		for (size_t i = 0; i < json_object_array_length(events); i++) {
			json *record = smd_json_member(json_object_array_get_idx(events, i),
						       "snapshot");

			if (record && list_matches(cli, columns, record))
				return 0;
		}
	}
}
