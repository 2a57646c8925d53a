/* SPDX-License-Identifier: BSD-2-Clause */
/* What every command works with, and the commands by concern. */
#ifndef SMD_DAEMON_CLI_CLI_H
#define SMD_DAEMON_CLI_CLI_H

#include "common/json.h"
#include "daemon/cli/args.h"
#include "daemon/cli/columns.h"
#include "daemon/cli/names.h"
#include "daemon/cli/server.h"
#include "daemon/cli/values.h"

struct cli {
	struct args *args;
	struct server *server;
	json *api;		/* what the server says of itself */
	struct names *names;
	int status;		/* of a command that did what it should, and found what is not well */
};

/* names_resolve for value_parse; opaque: the cli. */
value_resolve_fn cli_resolve;
/* The object of class cls that uuid= names; *ret_ref is the caller's. */
int cli_take_uuid(struct cli *cli, json *cls, char **ret_ref, struct smd_error *err);

/* list.c: CLASS-list, CLASS-param-list. */
int list_run(struct cli *cli, json *cls, struct smd_error *err);
int list_one(struct cli *cli, json *cls, struct smd_error *err);
/* Whether a record is what the filters (field=value words left) ask for. */
int list_filters_check(struct cli *cli, struct columns *columns, struct smd_error *err);
bool list_matches(struct cli *cli, struct columns *columns, json *record);
/* Print one value, several lines, or a map, as --minimal and --json have it. */
void list_print_value(struct cli *cli, json *type, json *value);

/* params.c: CLASS-param-get, -set, -add, -remove, -clear. */
int param_get(struct cli *cli, json *cls, struct smd_error *err);
int param_set(struct cli *cli, json *cls, struct smd_error *err);
int param_add(struct cli *cli, json *cls, struct smd_error *err);
int param_remove(struct cli *cli, json *cls, struct smd_error *err);
int param_clear(struct cli *cli, json *cls, struct smd_error *err);

/* call.c: one command per method. */
int call_run(struct cli *cli, json *cls, json *method, struct smd_error *err);
/* The word a parameter (or a constructor's field) is given by; the caller frees. */
char *call_word(json *cls, json *method, json *param, size_t n);
/* The parameter that is a constructor's record, whose fields are words; NULL: none. */
json *call_constructed(json *method);
/* Whether a constructor's field may be given, and a word be left out. */
bool call_field_is_given(json *field);
bool call_may_be_left_out(json *cls, json *method, json *param);

/* task.c: wait for a task, showing how far it is if asked to; Ctrl-C cancels it.
 * *ret_result: its result field, the caller's; may be NULL. The task is destroyed. */
int task_wait(struct cli *cli, const char *ref, bool show, char **ret_result,
	      struct smd_error *err);
/* Why a task failed, if it has already; then destroy it. Leaves *err as it is when
 * the task knows of no failure. */
void task_failure(struct cli *cli, const char *ref, struct smd_error *err);
/* The text inside <value>…</value>; the caller frees. */
char *task_result_text(const char *xml);
/* Whether Ctrl-C was pressed since task_catch_interrupt. */
void task_catch_interrupt(void);
bool task_interrupted(void);
/* One event.from of a subscription, from *token on, which moves; *ret_events: a new
 * reference. */
int task_events(struct cli *cli, const char *subscription, char **token, json **ret_events,
		struct smd_error *err);
/* event-wait */
int task_event_wait(struct cli *cli, struct smd_error *err);

/* transfer.c: vdi-import, vdi-export, image-import, image-export. */
int transfer_import(struct cli *cli, struct smd_error *err);
int transfer_export(struct cli *cli, struct smd_error *err);
int transfer_image_import(struct cli *cli, struct smd_error *err);
int transfer_image_export(struct cli *cli, struct smd_error *err);

/* measure.c: the answer of VDI.measure and SR.measure, and --dry-run of what it is the plan
 * of: of a call with these parameters, and of sending a file. */
void measure_print(struct cli *cli, json *type, json *answer);
bool measure_stands_for(json *cls, json *method);
int measure_call(struct cli *cli, json *method, json *params, struct smd_error *err);
struct measured_file {
	const char *filename, *format;	/* format NULL: smd-img finds out */
	const char *sr, *into;		/* refs; into NULL: a new VDI */
	const char *wanted;		/* dest-img-format; NULL: the SR's choice */
	bool staged;			/* the server keeps what comes until it is converted */
};
int measure_file(struct cli *cli, struct measured_file *file, struct smd_error *err);

/* tree.c: vdi-tree. */
int tree_run(struct cli *cli, struct smd_error *err);

/* watch.c: task-watch. */
int watch_run(struct cli *cli, struct smd_error *err);

/* passwd.c: needs no server. */
int passwd_run(struct args *args, struct smd_error *err);

/* complete.c: candidates for the word under the cursor, one a line. */
int complete_run(struct cli *cli, struct smd_error *err);

/* help.c */
void help_usage(FILE *out);
void help_commands(struct cli *cli);
int help_command(struct cli *cli, const char *name, struct smd_error *err);

#endif
