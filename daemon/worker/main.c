/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * smd-worker: one job on open descriptors, in a cage (daemon/worker/protocol.h).
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "common/image/format.h"
#include "common/json.h"
#include "common/log.h"
#include "common/mem.h"
#include "daemon/worker/control.h"
#include "daemon/worker/fork.h"
#include "daemon/worker/protocol.h"
#include "daemon/worker/request.h"
#include "daemon/worker/sandbox.h"

static void
answer(const char *member, json *value)
{
	CLEANUP_JSON json *line = json_object_new_object();
	CLEANUP_FREE char *text = NULL;

	smd_json_set(line, member, value);
	text = smd_json_print(line);
	puts(text);
	fflush(stdout);
}

/* Which walls there are, for the answer to "formats": within, it cannot be asked. */
static void
note_walls(json *request)
{
	json *walls = json_object_new_object();
	bool seccomp;
	int landlock;

	sandbox_walls(&landlock, &seccomp);
	smd_json_set_int(walls, "landlock", landlock);
	smd_json_set_bool(walls, "seccomp", seccomp);
	smd_json_set(request, "walls", walls);
}

static int
serve(const char *formats, bool loaded, json **ret, struct smd_error *err)
{
	CLEANUP_FREE char *line = NULL;
	CLEANUP_JSON json *request = NULL;
	struct sandbox_limits limits;
	size_t len;

	line = control_line(&len);
	if (!line)
		return smd_fail_INTERNAL_ERROR(err, "request", "no request of at most %u bytes",
					       WORKER_LINE_MAX);
	if (!loaded && smd_formats_load(formats, err) != 0)
		return -1;
	request = smd_json_parse(line, len, 16, err);
	if (!request)
		return -1;
	note_walls(request);
	request_limits(request, &limits);
	if (limits.receives == SANDBOX_RECEIVES_NEW_FILES)
		prctl(PR_SET_NAME, WORKER_MAKE_NAME);
	if (sandbox_enter(&limits, err) != 0)
		return -1;
	return request_run(request, ret, err);
}

static void
do_job(const char *formats, bool loaded)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	json *result = NULL;

	if (serve(formats, loaded, &result, &err) != 0)
		answer("error", smd_json_from_error(&err));
	else
		answer("result", result ? result : json_object_new_object());
}

static int
do_loaded_job(void *opaque)
{
	(void)opaque;
	do_job(NULL, true);
	return 0;
}

static void
usage(FILE *to)
{
	fputs("Usage: smd-worker --formats DIRS\n"
	      "Run one job of smd's: a request as one line of JSON on standard input,\n"
	      "answers as lines of JSON on standard output. See smd-worker(8).\n"
	      "\n"
	      "  --formats DIRS  where format modules are, separated by colons\n"
	      "  --fork          load the modules and fork ahead of each job\n"
	      "  --help          this text\n"
	      "  --version       the version\n", to);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "formats", required_argument, NULL, 'f' },
		{ "fork", no_argument, NULL, 'F' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *formats = NULL;
	bool forks = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'f':
			formats = optarg;
			break;
		case 'F':
			forks = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		case 'V':
			puts("smd-worker " SMD_VERSION);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (!formats || optind != argc) {
		usage(stderr);
		return 2;
	}
	smd_log_init("smd-worker", NULL, SMD_LOG_WARNING);
	if (!forks) {
		do_job(formats, false);
	} else if (smd_formats_load(formats, &err) == 0 && sandbox_prepare(&err) == 0) {
		fork_for_jobs(do_loaded_job, NULL);
	} else {
		smd_log(SMD_LOG_ERR, "%s", err.message);
		return 1;
	}
	return 0;
}
