/* SPDX-License-Identifier: BSD-2-Clause */
/* task-watch: tasks as they go, a line each; redrawn on a terminal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/progress.h"

#define BAR_WIDTH 20
#define WIDTH_UNKNOWN 120
#define NAME_WIDTH 24

struct watch {
	struct cli *cli;
	char *ref;		/* of the only one; NULL: all that are under way */
	json *tasks;		/* {ref: record} in the order they came */
	json *printed;		/* {ref: the line} where there is no terminal */
	bool terminal;
	unsigned drawn;		/* lines on the terminal */
	char *token;
};

static bool
is_over(json *record)
{
	const char *status = smd_json_str(record, "status", "pending");

	return strcmp(status, "pending") != 0 && strcmp(status, "cancelling") != 0;
}

/* ---- A line ---- */

static const char *
config_of(json *record, const char *key)
{
	return smd_json_str(smd_json_member(record, "other_config"), key, "");
}

static char *
bar_of(double share)
{
	int full = share >= 1 ? BAR_WIDTH : share <= 0 ? 0 : (int)(share * BAR_WIDTH);
	char *bar = smd_malloc(BAR_WIDTH + 1);

	memset(bar, '#', (size_t)full);
	memset(bar + full, '.', (size_t)(BAR_WIDTH - full));
	bar[BAR_WIDTH] = '\0';
	return bar;
}

/* How it ended, or what it waits for, or how fast it is. */
static char *
state_of(json *record)
{
	const char *waits_for = config_of(record, "waits_for"), *phase = config_of(record, "phase");
	const char *position = config_of(record, "queue_position");
	uint64_t rate = strtoull(config_of(record, "bytes_per_second"), NULL, 10);
	CLEANUP_FREE char *speed = progress_size(rate);
	json *info = smd_json_member(record, "error_info");

	if (is_over(record)) {
		const char *code = json_object_is_type(info, json_type_array) ?
			json_object_get_string(json_object_array_get_idx(info, 0)) : NULL;
		const char *why = config_of(record, "error_message");

		return smd_asprintf("%s%s%s%s%s", smd_json_str(record, "status", ""),
				    code ? ": " : "", code ? code : "", *why ? ": " : "", why);
	}
	if (*waits_for)
		return smd_asprintf("%s%s%swaits for %s", *position ? "no. " : "", position,
				    *position ? ", " : "", waits_for);
	if (rate == 0)
		return smd_strdup(*phase ? phase : "works");
	return smd_asprintf("%s%s%s/s, %s s left", phase, *phase ? ", " : "", speed,
			    config_of(record, "seconds_left"));
}

static char *
line_of(json *record)
{
	double share = json_object_get_double(smd_json_member(record, "progress"));
	CLEANUP_FREE char *bar = bar_of(share), *state = state_of(record);

	return smd_asprintf("%.8s  %-*.*s [%s] %3d%%  %s", smd_json_str(record, "uuid", ""),
			    NAME_WIDTH, NAME_WIDTH, smd_json_str(record, "name_label", ""), bar,
			    (int)(share * 100), state);
}

/* ---- Showing ---- */

static int
terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1)
		return size.ws_col - 1;
	return WIDTH_UNKNOWN;
}

/* All again, over what is there; names come from clients: nothing that moves the cursor. */
static void
draw(struct watch *w)
{
	int width = terminal_width();

	if (w->drawn > 0)
		printf("\033[%uA", w->drawn);
	w->drawn = 0;
	json_object_object_foreach(w->tasks, ref, record) {
		CLEANUP_FREE char *line = line_of(record);

		(void)ref;
		for (char *p = line; *p; p++) {
			if ((unsigned char)*p < ' ' || *p == 0x7f)
				*p = ' ';
		}
		printf("\r\033[K%.*s\n", width, line);
		w->drawn++;
	}
	fflush(stdout);
}

/* What is new, a line each time. */
static void
print_lines(struct watch *w)
{
	json_object_object_foreach(w->tasks, ref, record) {
		CLEANUP_FREE char *line = line_of(record);

		if (strcmp(smd_json_str(w->printed, ref, ""), line) == 0)
			continue;
		smd_json_set_str(w->printed, ref, line);
		puts(line);
	}
	fflush(stdout);
}

static void
show(struct watch *w)
{
	if (w->terminal)
		draw(w);
	else
		print_lines(w);
}

/* ---- What happens ---- */

/* Tasks that had ended before we came are of no interest, but the one asked for. */
static void
take(struct watch *w, json *event)
{
	const char *ref = smd_json_str(event, "ref", "");
	json *record = smd_json_member(event, "snapshot");
	json *known = smd_json_member(w->tasks, ref);

	if (!record) {
		/* A task that goes with its end: as it was last. */
		if (known && !is_over(known))
			json_object_object_del(w->tasks, ref);
		return;
	}
	if (known || w->ref || !is_over(record))
		smd_json_set(w->tasks, ref, json_object_get(record));
}

static bool
all_over(struct watch *w)
{
	json_object_object_foreach(w->tasks, ref, record) {
		(void)ref;
		if (!is_over(record))
			return false;
	}
	return true;
}

static int
watch_to_end(struct watch *w, struct smd_error *err)
{
	CLEANUP_FREE char *subscription = w->ref ? smd_asprintf("task/%s", w->ref)
						 : smd_strdup("task");

	do {
		CLEANUP_JSON json *events = NULL;

		if (task_events(w->cli, subscription, &w->token, &events, err) < 0)
			return -1;
		for (size_t i = 0; i < json_object_array_length(events); i++)
			take(w, json_object_array_get_idx(events, i));
		show(w);
	} while (!all_over(w));
	return 0;
}

static int
outcome(struct watch *w, struct smd_error *err)
{
	json_object_object_foreach(w->tasks, ref, record) {
		(void)ref;
		if (is_over(record) && strcmp(smd_json_str(record, "status", ""), "success") != 0)
			return cli_fail(err, "Task %s did not succeed", smd_json_str(record, "uuid", ""));
	}
	return 0;
}

int
watch_run(struct cli *cli, struct smd_error *err)
{
	const char *uuid = args_take(cli->args, "uuid");
	struct watch w = {
		.cli = cli, .tasks = json_object_new_object(), .printed = json_object_new_object(),
		.terminal = isatty(STDOUT_FILENO), .token = smd_strdup(""),
	};
	int rc = 0;

	if (uuid)
		rc = server_call_str(cli->server, "task.get_by_uuid", server_strings(uuid, NULL),
				     &w.ref, err);
	if (rc == 0)
		rc = watch_to_end(&w, err);
	if (rc == 0)
		rc = outcome(&w, err);
	json_object_put(w.tasks);
	json_object_put(w.printed);
	free(w.token);
	free(w.ref);
	return rc;
}
