/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vdi-measure, sr-measure and --dry-run: the server's answer for people, and what it has
 * to be told of a file that only smctl has, which smd-img measures.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/describe.h"
#include "daemon/cli/progress.h"

#define NULL_REF "OpaqueRef:NULL"
#define JSON_DEPTH 8
#define ANSWER_MAX (64u << 10)		/* of smd-img's */
#define WORDS_MAX 1024u

/* ---- The answer ---- */

/* Its lists as lists, "" in their place as none. */
static json *
answer_list(json *answer, const char *key)
{
	const char *text = smd_json_str(answer, key, "[]");
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	json *list = smd_json_parse(text, strlen(text), JSON_DEPTH, &err);

	return list ? list : json_object_new_array();
}

static void
print_line(const char *label, const char *value)
{
	printf("%18s: %s\n", label, value);
}

static void
print_bytes(const char *label, uint64_t bytes)
{
	CLEANUP_FREE char *size = progress_size(bytes);
	CLEANUP_FREE char *text = bytes < 1024 ? smd_strdup(size)
					       : smd_asprintf("%" PRIu64 " (%s)", bytes, size);

	print_line(label, text);
}

static void
print_error(const char *label, const char *before, json *error)
{
	CLEANUP_FREE char *text = smd_asprintf("%s%s: %s", before, smd_json_str(error, "code", ""),
					       smd_json_str(error, "message", ""));

	print_line(label, text);
}

static void
print_formats(json *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json *entry = json_object_array_get_idx(list, i);
		uint64_t bytes = (uint64_t)smd_json_int(entry, "bytes-required", 0);
		const char *name = smd_json_str(entry, "format", "");

		if (!smd_json_bool(entry, "fits", false))
			print_error(name, "no: ", entry);
		else if (smd_json_member(entry, "bytes-required"))
			print_bytes(name, bytes);
		else
			print_line(name, "fits, as far as is known");
	}
}

static bool
is_size(const char *key)
{
	static const char *const sizes[] = {
		"virtual-size", "data-bytes", "bytes-required", "bytes-shared", "peak-destination",
		"peak-source", "free-destination", "free-source", "bytes-per-second",
	};

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		if (strcmp(sizes[i], key) == 0)
			return true;
	}
	return false;
}

/* What decides comes first, then why, then what was counted. */
static void
print_answer(json *answer)
{
	CLEANUP_JSON json *formats = answer_list(answer, "formats");
	CLEANUP_JSON json *obstacles = answer_list(answer, "obstacles");

	print_line("fits", smd_json_str(answer, "fits", ""));
	for (size_t i = 0; i < json_object_array_length(obstacles); i++)
		print_error("obstacle", "", json_object_array_get_idx(obstacles, i));
	json_object_object_foreach(answer, key, value) {
		const char *text = json_object_get_string(value);

		if (strcmp(key, "formats") == 0 || strcmp(key, "obstacles") == 0 ||
		    strcmp(key, "fits") == 0)
			continue;
		if (is_size(key))
			print_bytes(key, strtoull(text, NULL, 10));
		else
			print_line(key, text);
	}
	puts("In each format:");
	print_formats(formats);
}

void
measure_print(struct cli *cli, json *type, json *answer)
{
	if (cli->args->minimal) {
		list_print_value(cli, type, answer);
		return;
	}
	if (!cli->args->json) {
		print_answer(answer);
		return;
	}
	smd_json_set(answer, "formats", answer_list(answer, "formats"));
	smd_json_set(answer, "obstacles", answer_list(answer, "obstacles"));
	puts(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
}

static int
measure_ask(struct cli *cli, const char *cls, json *params, struct smd_error *err)
{
	json *method = describe_find(describe_class(cli->api, cls), "methods", "measure");
	CLEANUP_FREE char *name = smd_asprintf("%s.measure", cls);
	CLEANUP_JSON json *answer = NULL;

	if (!method) {
		json_object_put(params);
		return cli_fail(err, "The server cannot say beforehand: it has no %s", name);
	}
	if (server_call_object(cli->server, name, params, &answer, err) < 0)
		return -1;
	measure_print(cli, smd_json_member(method, "result"), answer);
	/* The command itself would have failed; what is missing was said. */
	cli->status = strcmp(smd_json_str(answer, "fits", ""), "true") != 0;
	return 0;
}

/* ---- vdi-pool-migrate, vdi-copy ---- */

bool
measure_stands_for(json *cls, json *method)
{
	const char *name = describe_name(method);

	return strcmp(describe_name(cls), "VDI") == 0 &&
	       (strcmp(name, "pool_migrate") == 0 || strcmp(name, "copy") == 0);
}

static const char *
param_text(json *params, size_t n)
{
	return json_object_get_string(json_object_array_get_idx(params, n));
}

/* VDI.copy's parameters: vdi, sr, base_vdi, into_vdi. */
static int
measure_copy(struct cli *cli, json *params, struct smd_error *err)
{
	json *ours = server_strings(param_text(params, 0), param_text(params, 1), NULL);
	json *options = json_object_new_object();

	smd_json_set_str(options, "copy", "true");
	if (strcmp(param_text(params, 2), NULL_REF) != 0)
		smd_json_set_str(options, "base-vdi", param_text(params, 2));
	if (strcmp(param_text(params, 3), NULL_REF) != 0)
		smd_json_set_str(options, "into-vdi", param_text(params, 3));
	json_object_array_add(ours, options);
	return measure_ask(cli, "VDI", ours, err);
}

int
measure_call(struct cli *cli, json *method, json *params, struct smd_error *err)
{
	if (strcmp(describe_name(method), "pool_migrate") == 0)
		return measure_ask(cli, "VDI", json_object_get(params), err);
	return measure_copy(cli, params, err);
}

/* ---- Files ---- */

static json *
read_answer(int fd, struct smd_error *err)
{
	CLEANUP_FREE char *text = smd_malloc(ANSWER_MAX);
	size_t len = 0;
	ssize_t n;

	while (len < ANSWER_MAX && ((n = read(fd, text + len, ANSWER_MAX - len)) > 0 ||
				    (n < 0 && errno == EINTR)))
		len += n > 0 ? (size_t)n : 0;
	return smd_json_parse(text, len, JSON_DEPTH, err);
}

/* What it wrote on its standard error; the caller frees. */
static char *
read_words(int fd)
{
	char buf[WORDS_MAX + 1];
	ssize_t n = pread(fd, buf, WORDS_MAX, 0);

	while (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n > 0 ? n : 0] = '\0';
	return smd_strdup(n > 0 ? buf : "smd-img cannot read it");
}

/* Its answer, NULL where it gave none; *ret_status as waitpid says it. */
static json *
run_img(const char *const argv[], int errs, int *ret_status, struct smd_error *err)
{
	struct smd_error unread CLEANUP_ERROR = SMD_ERROR_INIT;
	json *answer;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		cli_fail(err, "smd-img: %s", strerror(errno));
		return NULL;
	}
	if (pid == 0) {
		if (dup2(fds[1], STDOUT_FILENO) >= 0 && dup2(errs, STDERR_FILENO) >= 0)
			execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(fds[1]);
	answer = read_answer(fds[0], &unread);
	close(fds[0]);
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		continue;
	return answer;
}

/* What smd-img says of the file in a format; format NULL: it finds out by itself. */
static int
ask_img(const char *filename, const char *format, const char *as, json **ret,
	struct smd_error *err)
{
	const char *argv[] = { "smd-img", "measure", "--exact", "--output=json", "-O", as,
			       filename, format ? "-f" : NULL, format, NULL };
	int errs = memfd_create("smd-img's words", MFD_CLOEXEC), status = 0;
	CLEANUP_JSON json *answer = run_img(argv, errs, &status, err);
	CLEANUP_FREE char *words = read_words(errs);

	close(errs);
	if (err->code)
		return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return cli_fail(err, "--dry-run needs smd-img, which is not in PATH");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !answer)
		return cli_fail(err, "%s: what it holds is not known before it is sent: %s", filename,
				words);
	*ret = TAKE_PTR(answer);
	return 0;
}

static void
set_number(json *options, const char *key, uint64_t value)
{
	CLEANUP_FREE char *text = smd_asprintf("%" PRIu64, value);

	smd_json_set_str(options, key, text);
}

/* The disk's size, and what it takes in each format that the server named. */
static int
fill_options(struct measured_file *f, json *formats, json *options, struct smd_error *err)
{
	for (size_t i = 0; i < json_object_array_length(formats); i++) {
		const char *as = smd_json_str(json_object_array_get_idx(formats, i), "format", "");
		CLEANUP_FREE char *key = smd_asprintf("bytes-%s", as);
		struct smd_error unfit CLEANUP_ERROR = SMD_ERROR_INIT;
		CLEANUP_JSON json *answer = NULL;

		if (ask_img(f->filename, f->format, as, &answer, &unfit) < 0) {
			if (!err->code)
				smd_error_move(err, &unfit);
			continue;
		}
		set_number(options, "virtual-size", (uint64_t)smd_json_int(answer, "virtual-size", 0));
		set_number(options, key, (uint64_t)smd_json_int(answer, "allocated", 0));
	}
	if (!smd_json_member(options, "virtual-size"))
		return err->code ? -1 : cli_fail(err, "The server names no formats");
	smd_error_clear(err);	/* too large for one of the formats, which the server says better */
	return 0;
}

int
measure_file(struct cli *cli, struct measured_file *f, struct smd_error *err)
{
	json *options = json_object_new_object(), *params;
	CLEANUP_JSON json *first = NULL, *formats = NULL;
	struct stat st;

	params = server_strings(f->sr, NULL);
	json_object_array_add(params, json_object_new_object());
	if (stat(f->filename, &st) < 0)
		cli_fail(err, "%s: %s; --dry-run needs a file", f->filename, strerror(errno));
	if (err->code || server_call_object(cli->server, "SR.measure", json_object_get(params), &first,
					    err) < 0) {
		json_object_put(params);
		json_object_put(options);
		return -1;
	}
	json_object_put(params);
	formats = answer_list(first, "formats");
	if (fill_options(f, formats, options, err) < 0) {
		json_object_put(options);
		return -1;
	}
	if (f->staged)
		set_number(options, "staged", (uint64_t)st.st_size);
	if (f->wanted)
		smd_json_set_str(options, "dest-img-format", f->wanted);
	if (f->into)
		smd_json_set_str(options, "into", f->into);
	params = server_strings(f->sr, NULL);
	json_object_array_add(params, options);
	return measure_ask(cli, "SR", params, err);
}
