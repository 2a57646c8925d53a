/* SPDX-License-Identifier: BSD-2-Clause */
/* vdi-import and vdi-export, a disk's content, and image-import and image-export,
 * archives of chains: over HTTP, beside a task. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/mem.h"
#include "daemon/cli/cli.h"
#include "daemon/cli/describe.h"
#include "daemon/cli/progress.h"

#define HOLE_UNIT 4096u		/* zeros of this size in a raw export become a hole */
#define SPOOL_PIECE (256u << 10)
#define SHOW_EVERY_MS 200	/* the bar */
#define N_WORDS(a) (sizeof(a) / sizeof((a)[0]))

struct transfer {
	struct cli *cli;
	int fd;
	char *task;
	uint64_t total;		/* 0: unknown */
	bool sparse;		/* write: leave holes */
	uint64_t written;
	int errnum;		/* of the local file */
	struct progress bar;
	int64_t began_ms, shown_ms;
};

static void
transfer_done(struct transfer *t)
{
	if (t->fd > STDERR_FILENO)
		close(t->fd);
	free(t->task);
}

static int
transfer_tick(void *opaque, uint64_t moved)
{
	struct transfer *t = opaque;
	int64_t now = (int64_t)smd_now_ms(), took = now - t->began_ms;
	struct progress_state state = { .share = -1, .done = moved, .left_s = -1 };

	if (now - t->shown_ms >= SHOW_EVERY_MS || (t->total && moved == t->total)) {
		t->shown_ms = now;
		state.rate = took > 0 ? moved * 1000 / (uint64_t)took : 0;
		if (t->total) {
			state.total = t->total;
			state.share = (double)moved / (double)t->total;
			if (state.rate && moved <= t->total)
				state.left_s = (int64_t)((t->total - moved) / state.rate);
		}
		progress_show(&t->bar, &state);
	}
	return task_interrupted();
}

static ssize_t
transfer_read(void *opaque, void *buf, size_t len)
{
	struct transfer *t = opaque;
	ssize_t n;

	do {
		n = read(t->fd, buf, len);
	} while (n < 0 && errno == EINTR && !task_interrupted());
	if (n < 0)
		t->errnum = errno;
	return n;
}

static int
write_all(struct transfer *t, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(t->fd, data, len);

		if (n < 0 && errno == EINTR && !task_interrupted())
			continue;
		if (n < 0) {
			t->errnum = errno;
			return -1;
		}
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static bool
is_zero(const char *data, size_t len)
{
	return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

/* Pieces that end on multiples of HOLE_UNIT in the file; one of zeros is skipped,
 * which in a new file reads the same. */
static int
transfer_write(void *opaque, const void *data, size_t len)
{
	struct transfer *t = opaque;
	const char *p = data;

	if (!t->sparse)
		return write_all(t, p, len);
	while (len > 0) {
		size_t room = HOLE_UNIT - (size_t)(t->written % HOLE_UNIT);
		size_t n = len < room ? len : room;

		if (is_zero(p, n)) {
			if (lseek(t->fd, (off_t)n, SEEK_CUR) < 0) {
				t->errnum = errno;
				return -1;
			}
		} else if (write_all(t, p, n) < 0) {
			return -1;
		}
		t->written += n;
		p += n;
		len -= n;
	}
	return 0;
}

static bool
is_standard_stream(const char *filename)
{
	return filename[0] == '\0' || strcmp(filename, "-") == 0;
}

/* The query both ways have; a task made for it is in t->task. */
static char *
transfer_path(struct transfer *t, const char *handler, const char *label, const char *format,
	      const char *base, struct smd_error *err)
{
	json *vdi = describe_class(t->cli->api, "VDI");
	struct http_client *http = server_http(t->cli->server);
	CLEANUP_FREE char *ref = NULL, *format_text = NULL, *base_text = NULL;

	if (!vdi) {
		cli_fail(err, "The server has no VDIs");
		return NULL;
	}
	if (cli_take_uuid(t->cli, vdi, &ref, err) < 0 || args_all_used(t->cli->args, err) < 0 ||
	    server_call_str(t->cli->server, "task.create", server_strings(label, "", NULL),
			    &t->task, err) < 0)
		return NULL;
	format_text = http_escape(http, format ? format : "raw");
	base_text = base ? http_escape(http, base) : NULL;
	return smd_asprintf("%s?session_id=%s&task_id=%s&vdi=%s&format=%s%s%s", handler,
			    server_session(t->cli->server), t->task, ref, format_text,
			    base_text ? "&base=" : "", base_text ? base_text : "");
}

static void
transfer_begin(struct transfer *t)
{
	task_catch_interrupt();
	t->began_ms = (int64_t)smd_now_ms();
	progress_start(&t->bar, t->cli->args->progress);
	http_client_tick(server_http(t->cli->server), transfer_tick, t);
}

/* The task knows best why a transfer failed, unless it was our own file. */
static int
transfer_end(struct transfer *t, const char *filename, int rc, char **ret_result,
	     struct smd_error *err)
{
	http_client_tick(server_http(t->cli->server), NULL, NULL);
	progress_end(&t->bar);
	if (rc == 0)
		return task_wait(t->cli, t->task, false, ret_result, err);
	task_failure(t->cli, t->task, err);
	if (t->errnum) {
		smd_error_clear(err);
		cli_fail(err, "%s: %s", filename, strerror(t->errnum));
	}
	return -1;
}

/* What is left of a file to read; UINT64_MAX: a pipe, only its end will tell. */
static uint64_t
size_left(int fd)
{
	off_t at = lseek(fd, 0, SEEK_CUR), end;

	if (at < 0)
		return UINT64_MAX;
	end = lseek(fd, 0, SEEK_END);
	if (end < at || lseek(fd, at, SEEK_SET) < 0)
		return UINT64_MAX;
	return (uint64_t)(end - at);
}

/* The server wants to know a body's size before it, so a pipe is kept in a file that
 * has no name. */
static int
spool(struct transfer *t, struct smd_error *err)
{
	const char *dir = getenv("TMPDIR") ? getenv("TMPDIR") : "/var/tmp";
	CLEANUP_FREE char *name = smd_asprintf("%s/smctl-XXXXXX", dir);
	CLEANUP_FREE char *buf = smd_malloc_pages(SPOOL_PIECE);
	struct transfer copy = { .fd = mkostemp(name, O_CLOEXEC), .sparse = true };
	ssize_t n = 0;

	if (copy.fd < 0)
		return cli_fail(err, "%s: %s", name, strerror(errno));
	unlink(name);
	while (!t->errnum && (n = transfer_read(t, buf, SPOOL_PIECE)) > 0) {
		if (transfer_write(&copy, buf, (size_t)n) < 0)
			t->errnum = copy.errnum;
	}
	if (!t->errnum && (ftruncate(copy.fd, (off_t)copy.written) < 0 ||
			   lseek(copy.fd, 0, SEEK_SET) < 0))
		t->errnum = errno;
	if (t->errnum) {
		close(copy.fd);
		return cli_fail(err, "keeping standard input in %s: %s", dir, strerror(t->errnum));
	}
	close(t->fd);
	t->fd = copy.fd;
	return 0;
}

static int
open_source(struct transfer *t, const char *filename, struct smd_error *err)
{
	if (!is_standard_stream(filename))
		t->fd = open(filename, O_RDONLY | O_CLOEXEC);
	if (t->fd < 0)
		return cli_fail(err, "%s: %s", filename, strerror(errno));
	return size_left(t->fd) == UINT64_MAX ? spool(t, err) : 0;
}

static int
import_measure(struct cli *cli, const char *filename, const char *format, struct smd_error *err)
{
	CLEANUP_FREE char *vdi = NULL, *sr = NULL;
	struct measured_file file = {
		.filename = filename, .format = format ? format : "raw",
		.staged = format && strcasecmp(format, "raw") != 0,
	};
	json *cls = describe_class(cli->api, "VDI");

	if (!cls)
		return cli_fail(err, "The server has no VDIs");
	if (cli_take_uuid(cli, cls, &vdi, err) < 0 || args_all_used(cli->args, err) < 0 ||
	    server_call_str(cli->server, "VDI.get_SR", server_strings(vdi, NULL), &sr, err) < 0)
		return -1;
	file.into = vdi;
	file.sr = sr;
	return measure_file(cli, &file, err);
}

static void
query_add(struct transfer *t, char **query, const char *name, const char *value)
{
	CLEANUP_FREE char *escaped = NULL, *longer = NULL;

	if (!value || !*query)
		return;
	escaped = http_escape(server_http(t->cli->server), value);
	longer = smd_asprintf("%s&%s=%s", *query, name, escaped);
	free(*query);
	*query = TAKE_PTR(longer);
}

int
transfer_import(struct cli *cli, struct smd_error *err)
{
	CLEANUP(transfer_done) struct transfer t = { .cli = cli, .fd = STDIN_FILENO };
	const char *filename = args_need(cli->args, "filename", err);
	const char *format = args_take(cli->args, "format");
	const char *any_content = args_take(cli->args, "any-content");
	const char *verify = args_take(cli->args, "verify");
	struct http_body body = { .read = transfer_read, .opaque = &t };
	CLEANUP_FREE char *query = NULL;

	if (!filename)
		return -1;
	if (cli->args->dry_run)
		return import_measure(cli, filename, format, err);
	if (open_source(&t, filename, err) < 0)
		return -1;
	query = transfer_path(&t, "/import_raw_vdi", "vdi-import", format, NULL, err);
	if (!query)
		return -1;
	query_add(&t, &query, "any_content", any_content);
	query_add(&t, &query, "verify", verify);
	t.total = body.size = size_left(t.fd);
	transfer_begin(&t);
	return transfer_end(&t, filename, http_put(server_http(cli->server), query, &body, err), NULL,
			    err);
}

/* A disk's virtual size, as the total of a raw export's bar. */
static uint64_t
export_total(struct cli *cli, const char *format, const char *uuid)
{
	CLEANUP_FREE char *ref = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *size = NULL;

	if ((format && strcasecmp(format, "raw") != 0) || !uuid ||
	    names_resolve(cli->names, "VDI", uuid, &ref, &err) < 0 ||
	    server_call(cli->server, "VDI.get_virtual_size", server_strings(ref, NULL), &size,
			&err) < 0)
		return 0;
	return (uint64_t)json_object_get_int64(size);
}

static int
export_to(struct transfer *t, const char *filename, const char *path, bool made,
	  struct smd_error *err)
{
	struct http_body body = { .write = transfer_write, .opaque = t };
	int rc;

	transfer_begin(t);
	rc = http_get(server_http(t->cli->server), path, &body, err);
	/* the last bytes may be a hole */
	if (rc == 0 && t->sparse && ftruncate(t->fd, (off_t)t->written) < 0) {
		t->errnum = errno;
		rc = -1;
	}
	rc = transfer_end(t, filename, rc, NULL, err);
	if (rc < 0 && made)
		unlink(filename);
	return rc;
}

/* The file that is written: standard output, a new one, one to write over, a device. */
static int
open_target(struct transfer *t, const char *filename, bool *ret_made)
{
	struct stat st;

	if (is_standard_stream(filename))
		return 0;
	t->fd = open(filename, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	*ret_made = t->fd >= 0;
	if (t->fd < 0 && errno == EEXIST)
		t->fd = open(filename, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (t->fd < 0) {
		t->errnum = errno;
		return -1;
	}
	t->sparse = fstat(t->fd, &st) == 0 && S_ISREG(st.st_mode);
	return 0;
}

int
transfer_export(struct cli *cli, struct smd_error *err)
{
	CLEANUP(transfer_done) struct transfer t = { .cli = cli, .fd = STDOUT_FILENO };
	const char *filename = args_need(cli->args, "filename", err);
	const char *format = args_take(cli->args, "format"), *base = args_take(cli->args, "base");
	CLEANUP_FREE char *path = NULL;
	bool made = false;

	if (!filename)
		return -1;
	t.total = export_total(cli, format, args_take(cli->args, "uuid"));
	path = transfer_path(&t, "/export_raw_vdi", "vdi-export", format, base, err);
	if (!path)
		return -1;
	if (open_target(&t, filename, &made) < 0)
		return transfer_end(&t, filename, -1, NULL, err);
	return export_to(&t, filename, path, made, err);
}

/* ---- Archives and images ------------------------------------------------------------ */

/* A task for it, and the words the query begins with; every other word was taken. */
static char *
image_query(struct transfer *t, const char *handler, const char *label, struct smd_error *err)
{
	if (args_all_used(t->cli->args, err) < 0 ||
	    server_call_str(t->cli->server, "task.create", server_strings(label, "", NULL),
			    &t->task, err) < 0)
		return NULL;
	return smd_asprintf("%s?session_id=%s&task_id=%s", handler, server_session(t->cli->server),
			    t->task);
}

/* The object one of the words names. */
static int
take_object(struct cli *cli, const char *key, const char *cls, char **ret, struct smd_error *err)
{
	const char *text = args_need(cli->args, key, err);

	return text ? names_resolve(cli->names, cls, text, ret, err) : -1;
}

/* What a file's name says of it is in its last part. */
static const char *
last_part(const char *filename)
{
	const char *slash = strrchr(filename, '/');

	if (is_standard_stream(filename))
		return NULL;
	return slash ? slash + 1 : filename;
}

static int
print_uuid(struct cli *cli, const char *result, struct smd_error *err)
{
	CLEANUP_FREE char *ref = task_result_text(result), *uuid = NULL;

	if (server_call_str(cli->server, "VDI.get_uuid", server_strings(ref, NULL), &uuid, err) < 0)
		return -1;
	puts(uuid);
	return 0;
}

static int
image_measure(struct cli *cli, const char *filename, const char *sr, const char *wanted,
	      struct smd_error *err)
{
	const char *dot = strrchr(filename, '.');
	bool raw = dot && (strcasecmp(dot, ".raw") == 0 || strcasecmp(dot, ".img") == 0);
	struct measured_file file = {
		.filename = filename, .format = raw ? "raw" : NULL, .sr = sr, .wanted = wanted,
		.staged = true,
	};

	if (args_all_used(cli->args, err) < 0)
		return -1;
	return measure_file(cli, &file, err);
}

int
transfer_image_import(struct cli *cli, struct smd_error *err)
{
	static const struct {
		const char *word, *name;
	} words[] = {
		{ "format", "format" }, { "flatten", "flatten" }, { "verify", "verify" },
		{ "name-label", "name_label" }, { "name-description", "name_description" },
	};
	CLEANUP(transfer_done) struct transfer t = { .cli = cli, .fd = STDIN_FILENO };
	const char *filename = args_need(cli->args, "file", err), *values[N_WORDS(words)];
	struct http_body body = { .read = transfer_read, .opaque = &t };
	CLEANUP_FREE char *sr = NULL, *query = NULL, *result = NULL;
	int rc;

	for (size_t i = 0; i < N_WORDS(words); i++)
		values[i] = args_take(cli->args, words[i].word);
	if (!filename || take_object(cli, "sr-uuid", "SR", &sr, err) < 0)
		return -1;
	if (cli->args->dry_run)
		return image_measure(cli, filename, sr, values[0], err);
	if (open_source(&t, filename, err) < 0)
		return -1;
	query = image_query(&t, "/import_image", "image-import", err);
	if (!query)
		return -1;
	query_add(&t, &query, "sr", sr);
	query_add(&t, &query, "filename", last_part(filename));
	for (size_t i = 0; i < N_WORDS(words); i++)
		query_add(&t, &query, words[i].name, values[i]);
	t.total = body.size = size_left(t.fd);
	transfer_begin(&t);
	rc = http_put(server_http(cli->server), query, &body, err);
	if (transfer_end(&t, filename, rc, &result, err) < 0)
		return -1;
	return print_uuid(cli, result, err);
}

int
transfer_image_export(struct cli *cli, struct smd_error *err)
{
	CLEANUP(transfer_done) struct transfer t = { .cli = cli, .fd = STDOUT_FILENO };
	const char *filename = args_need(cli->args, "file", err);
	const char *depth = args_take(cli->args, "depth");
	CLEANUP_FREE char *vdi = NULL, *query = NULL;
	bool made = false;

	if (!filename || take_object(cli, "vdi", "VDI", &vdi, err) < 0)
		return -1;
	query = image_query(&t, "/export_image", "image-export", err);
	if (!query)
		return -1;
	query_add(&t, &query, "vdi", vdi);
	query_add(&t, &query, "depth", depth);
	if (open_target(&t, filename, &made) < 0)
		return transfer_end(&t, filename, -1, NULL, err);
	t.sparse = false;	/* compressed */
	return export_to(&t, filename, query, made, err);
}
