/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/worker/request.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/checked.h"
#include "common/clock.h"
#include "common/image/io.h"
#include "common/image/ops.h"
#include "common/mem.h"
#include "daemon/worker/control.h"
#include "daemon/worker/internal.h"
#include "daemon/worker/look.h"
#include "daemon/worker/make.h"
#include "daemon/worker/protocol.h"
#include "daemon/worker/sandbox.h"

#define IMPORT_MEMORY_MAX (256ull << 20)	/* an archive says what its compression takes */
#define PROGRESS_INTERVAL_MS 100
#define PROGRESS_STEPS 50

int
bad_request(struct smd_error *err, const char *what)
{
	return smd_fail_INTERNAL_ERROR(err, what, "the request's %s is missing or wrong", what);
}

int
parse_fd(json *obj, int *ret, struct smd_error *err)
{
	int64_t fd = smd_json_int(obj, "fd", -1);

	if (fd < 0 || fd > INT32_MAX)
		return bad_request(err, "fd");
	*ret = (int)fd;
	return 0;
}

/* A JSON integer as a size; negative ones are none. */
int
parse_size(json *obj, const char *key, uint64_t *ret, struct smd_error *err)
{
	int64_t size = smd_json_int(obj, key, -1);

	if (size < 0)
		return bad_request(err, key);
	*ret = (uint64_t)size;
	return 0;
}

int
parse_source(json *obj, struct smd_source *ret, struct smd_error *err)
{
	json *layers = smd_json_member(obj, "layers");
	size_t n = json_object_is_type(layers, json_type_array) ?
		   json_object_array_length(layers) : 0;

	memset(ret, 0, sizeof *ret);
	if (n == 0 || n > SMD_CHAIN_MAX)
		return bad_request(err, "layers");
	for (size_t i = 0; i < n; i++) {
		json *layer = json_object_array_get_idx(layers, i);

		if (parse_fd(layer, &ret->layers[i].fd, err) != 0)
			return -1;
		ret->layers[i].name = smd_json_str(layer, "name", "image");
		ret->layers[i].format = smd_json_str(layer, "format", "");
	}
	ret->n = n;
	ret->direct_fd = (int)smd_json_int(obj, "direct", 0);
	ret->write = smd_json_bool(obj, "write", false);
	ret->foreign = smd_json_bool(obj, "foreign", false);
	return 0;
}

void
cleanup_target(struct smd_target *t)
{
	smd_options_free(&t->options);
	free(t->parents);
}

/* What an overlay lies over. */
static int
parse_parents(json *obj, struct smd_target *ret, struct smd_error *err)
{
	json *parents = smd_json_member(obj, "parents");

	ret->parent_name = smd_json_str(obj, "parent_name", NULL);
	ret->upper = (size_t)smd_json_int(obj, "upper", 0);
	ret->has_below = smd_digest_sum_parse(smd_json_str(obj, "below_sum", ""), &ret->below);
	if (!parents)
		return 0;
	ret->parents = smd_calloc(1, sizeof *ret->parents);
	return parse_source(parents, ret->parents, err);
}

int
parse_target(json *obj, bool need_fd, struct smd_target *ret, struct smd_error *err)
{
	const struct smd_format *format;
	json *options = smd_json_member(obj, "options");

	memset(ret, 0, sizeof *ret);
	ret->fd = -1;
	ret->name = smd_json_str(obj, "name", "image");
	ret->format = smd_json_str(obj, "format", "");
	if (need_fd && parse_fd(obj, &ret->fd, err) != 0)
		return -1;
	ret->direct_fd = (int)smd_json_int(obj, "direct", 0);
	ret->virtual_size = (uint64_t)smd_json_int(obj, "size", 0);
	if (smd_format_get(ret->format, &format, err) != 0 || parse_parents(obj, ret, err) != 0)
		return -1;
	if (!options)
		return 0;
	json_object_object_foreach(options, name, value) {
		if (smd_options_add(&ret->options, format, name, json_object_get_string(value),
				    err) != 0)
			return -1;
	}
	return 0;
}

int
print_progress(void *opaque, uint64_t done, uint64_t total)
{
	static uint64_t last_ms, last_done;
	uint64_t now_ms = smd_now_ms();

	(void)opaque;
	if (last_ms && now_ms - last_ms < PROGRESS_INTERVAL_MS && done != total &&
	    done - last_done < total / PROGRESS_STEPS)
		return 0;
	last_ms = now_ms;
	last_done = done;
	printf("{\"progress\":{\"done\":%" PRIu64 ",\"total\":%" PRIu64 "}}\n", done, total);
	return fflush(stdout) != 0;	/* nobody listens: stop */
}

static void
print_mark(void *opaque, uint64_t done)
{
	(void)opaque;
	printf("{\"mark\":{\"done\":%" PRIu64 "}}\n", done);
	fflush(stdout);
}

static void
print_verify(void *opaque)
{
	(void)opaque;
	printf("{\"verify\":true}\n");
	fflush(stdout);
}

void
parse_copy_options(json *request, struct smd_copy_options *ret)
{
	*ret = (struct smd_copy_options){
		.n_threads = (unsigned)smd_json_int(request, "threads", 0),
		.bytes_per_second = (uint64_t)smd_json_int(request, "bytes_per_second", 0),
		.verify = smd_json_bool(request, "verify", false),
		.digest = smd_json_bool(request, "digest", false),
		.spare_cache = smd_json_bool(request, "spare_cache", false),
		.compress = smd_json_bool(request, "compress", false),
		.progress = print_progress,
		.marked = print_mark,
		.verifies = print_verify,
		.control = control_get(),
	};
}

static int
run_formats(json *request, json **ret, struct smd_error *err)
{
	(void)err;
	*ret = json_object_new_object();
	smd_json_set(*ret, "formats", smd_op_formats());
	smd_json_set(*ret, "sandbox", json_object_get(smd_json_member(request, "walls")));
	return 0;
}

static int
create_one(json *obj, struct smd_error *err)
{
	CLEANUP(cleanup_target) struct smd_target target;

	if (parse_target(obj, true, &target, err) != 0)
		return -1;
	/* The daemon syncs it before it gives it its name. */
	target.no_flush = true;
	return smd_op_create(&target, err);
}

/* Once the daemon has made them somebody's. */
static int
hide_behind(json *obj, struct smd_error *err)
{
	struct smd_source source;
	bool hide;

	if (parse_source(obj, &source, err) != 0)
		return -1;
	printf("{\"made\":true}\n");
	fflush(stdout);
	if (control_wait_bool("hide", &hide) != 0)
		return bad_request(err, "hide");
	return hide ? smd_op_hide(&source, true, err) : 0;
}

static int
run_create(json *request, json **ret, struct smd_error *err)
{
	json *more = smd_json_member(request, "more"), *hide = smd_json_member(request, "hide");
	size_t n = json_object_is_type(more, json_type_array) ? json_object_array_length(more) : 0;

	(void)ret;
	if (create_one(smd_json_member(request, "target"), err) != 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (create_one(json_object_array_get_idx(more, i), err) != 0)
			return -1;
	}
	return hide ? hide_behind(hide, err) : 0;
}

static int
run_own(json *request, json **ret, struct smd_error *err)
{
	struct smd_source source;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0)
		return -1;
	return smd_op_own(&source, ret, err);
}

/* Of two disks, or of the first image of one. */
static int
run_blocks(json *request, json **ret, struct smd_error *err)
{
	json *obj = smd_json_member(request, "base");
	struct smd_source source, base;
	int fd = -1;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0 ||
	    (obj && parse_source(obj, &base, err) != 0) || parse_fd(request, &fd, err) != 0)
		return -1;
	return smd_op_blocks(&source, obj ? &base : NULL, fd, ret, err);
}

static int
run_hide(json *request, json **ret, struct smd_error *err)
{
	struct smd_source source;

	(void)ret;
	if (parse_source(smd_json_member(request, "source"), &source, err) != 0)
		return -1;
	return smd_op_hide(&source, smd_json_bool(request, "hidden", false), err);
}

static int
run_info(json *request, json **ret, struct smd_error *err)
{
	struct smd_source source;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0)
		return -1;
	return smd_op_info(&source, ret, err);
}

/* The job's marks, where it has any. */
struct marks {
	struct smd_io *io;
	struct smd_marks *marks;
};

static void
cleanup_marks_file(struct marks *m)
{
	smd_marks_close(m->marks);
	smd_io_close(m->io);
}

static int
parse_marks(json *request, struct marks *ret, struct smd_error *err)
{
	json *obj = smd_json_member(request, "marks");
	int fd = -1;

	if (!obj)
		return 0;
	if (parse_fd(obj, &fd, err) != 0 ||
	    smd_io_file(fd, "marks", SMD_IO_WRITABLE, &ret->io, err) != 0)
		return -1;
	return smd_marks_open(ret->io, &ret->marks, err);
}

static int
run_convert(json *request, json **ret, struct smd_error *err)
{
	CLEANUP(cleanup_target) struct smd_target target = { .fd = -1 };
	CLEANUP(cleanup_marks_file) struct marks marks = { NULL, NULL };
	struct smd_copy_options options;
	struct smd_source source;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0 ||
	    parse_target(smd_json_member(request, "target"), true, &target, err) != 0 ||
	    parse_marks(request, &marks, err) != 0)
		return -1;
	parse_copy_options(request, &options);
	options.marks = marks.marks;
	return smd_op_convert(&source, &target, &options, ret, err);
}

static int
run_update(json *request, json **ret, struct smd_error *err)
{
	struct smd_source source, base, onto;
	struct smd_copy_options options;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0 ||
	    parse_source(smd_json_member(request, "base"), &base, err) != 0 ||
	    parse_source(smd_json_member(request, "onto"), &onto, err) != 0)
		return -1;
	parse_copy_options(request, &options);
	return smd_op_update(&source, &base, &onto, &options, ret, err);
}

static int
run_checksum(json *request, json **ret, struct smd_error *err)
{
	struct smd_copy_options options;
	struct smd_source source;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0)
		return -1;
	parse_copy_options(request, &options);
	return smd_op_checksum(&source, &options, ret, err);
}

static int
run_resize(json *request, json **ret, struct smd_error *err)
{
	struct smd_source source;
	uint64_t size = 0;

	(void)ret;
	if (parse_source(smd_json_member(request, "source"), &source, err) != 0 ||
	    parse_size(request, "size", &size, err) != 0)
		return -1;
	source.mend = true;
	return smd_op_resize(&source, size, false, err);
}

static int
run_measure_merge(json *request, json **ret, struct smd_error *err)
{
	struct smd_source source;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0)
		return -1;
	return smd_op_merge_measure(&source, ret, err);
}

static int
run_merge(json *request, json **ret, struct smd_error *err)
{
	const char *into = smd_json_str(request, "into", "");
	struct smd_copy_options options;
	struct smd_source source;

	if (parse_source(smd_json_member(request, "source"), &source, err) != 0)
		return -1;
	if (strcmp(into, "parent") != 0 && strcmp(into, "child") != 0)
		return bad_request(err, "into");
	parse_copy_options(request, &options);
	return smd_op_merge(&source, strcmp(into, "parent") == 0, &options, ret, err);
}

static int
run_set_parent(json *request, json **ret, struct smd_error *err)
{
	const char *name = smd_json_str(request, "name", "");
	struct smd_source source;

	(void)ret;
	if (parse_source(smd_json_member(request, "source"), &source, err) != 0)
		return -1;
	if (source.n > 2 || (source.n == 2) != (*name != '\0'))
		return bad_request(err, "name");
	return smd_op_set_parent(&source, name, err);
}

static int
run_check(json *request, json **ret, struct smd_error *err)
{
	const char *how = smd_json_str(request, "repair", "none");
	json *layer = json_object_array_get_idx(
		smd_json_member(smd_json_member(request, "source"), "layers"), 0);
	uint32_t repair = SMD_REPAIR_NONE;
	int fd = -1, verdict;

	if (parse_fd(layer, &fd, err) != 0)
		return -1;
	if (strcmp(how, "leaks") == 0)
		repair = SMD_REPAIR_LEAKS;
	else if (strcmp(how, "all") == 0)
		repair = SMD_REPAIR_ALL;
	else if (strcmp(how, "none") != 0)
		return bad_request(err, "repair");
	if (smd_op_check(fd, smd_json_str(layer, "name", "image"),
			 smd_json_str(layer, "format", ""), repair, ret, &verdict, err) != 0)
		return -1;
	smd_json_set_int(*ret, "exit", verdict);
	return 0;
}

static int
run_measure(json *request, json **ret, struct smd_error *err)
{
	CLEANUP(cleanup_target) struct smd_target target = { .fd = -1 };
	struct smd_measure_options options = { .progress = print_progress };
	json *obj = smd_json_member(request, "source");
	struct smd_source source;
	uint64_t size = 0;

	if (obj && parse_source(obj, &source, err) != 0)
		return -1;
	if (!obj && parse_size(request, "size", &size, err) != 0)
		return -1;
	if (parse_target(smd_json_member(request, "target"), false, &target, err) != 0)
		return -1;
	options.exact = smd_json_bool(request, "exact", false);
	return smd_op_measure(obj ? &source : NULL, size, &target, &options, ret, err);
}

int
print_begin(void *opaque, uint64_t size, struct smd_error *err)
{
	(void)opaque;
	printf("{\"begin\":{\"size\":%" PRIu64 "}}\n", size);
	if (fflush(stdout) != 0)
		return smd_fail_INTERNAL_ERROR(err, "stdout", "nobody reads the answer");
	return 0;
}

static const struct {
	const char *op;
	int (*run)(json *request, json **ret, struct smd_error *err);
	bool moves_data;
} ops[] = {
	{ "formats", run_formats, false },
	{ "create", run_create, false },
	{ "make", run_make, false },
	{ "info", run_info, false },
	{ "look", run_look, false },
	{ "looks", run_looks, false },
	{ "own", run_own, false },
	{ "blocks", run_blocks, false },
	{ "hide", run_hide, false },
	{ "convert", run_convert, true },
	{ "update", run_update, true },
	{ "checksum", run_checksum, true },
	{ "resize", run_resize, true },
	{ "measure-merge", run_measure_merge, false },
	{ "merge", run_merge, true },
	{ "set-parent", run_set_parent, true },
	{ "check", run_check, true },
	{ "measure", run_measure, false },
	{ "export", run_export, true },
	{ "export-blocks", run_export_blocks, true },
	{ "import-raw", run_import_raw, true },
	{ "spool", run_spool, true },
	{ "import-image", run_import_image, true },
	{ "export-image", run_export_image, true },
};

#define N_OPS (sizeof ops / sizeof *ops)
#define QUESTION_CPU_SECONDS 60

static uint64_t
cpu_seconds(const char *op, uint64_t question)
{
	for (size_t i = 0; i < N_OPS; i++) {
		if (strcmp(ops[i].op, op) == 0 && ops[i].moves_data)
			return 0;
	}
	return question;
}

/* Of an image that is written: what its disk may take, said by who knows the disk; no less
 * than what there is. */
static uint64_t
quota(json *request)
{
	int64_t disk = smd_json_int(request, "quota", -1);
	uint64_t most = (uint64_t)disk + (uint64_t)disk / 8;
	struct stat st;

	if (disk < 0)
		return UINT64_MAX;
	for (int fd = WORKER_FD_FIRST; fstat(fd, &st) == 0; fd++) {
		if (S_ISREG(st.st_mode))
			most = smd_max_u64(most, (uint64_t)st.st_size);
	}
	return most + FILE_SLACK;
}

/* What the new image can take at most, as far as that is known. */
static uint64_t
file_size(const char *op, json *request)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP(cleanup_target) struct smd_target target = { .fd = -1 };
	struct smd_measure_options options = { .exact = false };
	CLEANUP_JSON json *measured = NULL;
	uint64_t most;

	/* A spool is as long as what is sent, unless that is compressed. */
	bool spool = strcmp(op, "spool") == 0 && smd_json_member(request, "coding");

	if ((strcmp(op, "create") != 0 && strcmp(op, "convert") != 0 && !spool) ||
	    parse_target(smd_json_member(request, "target"), false, &target, &err) != 0 ||
	    target.virtual_size == 0 ||
	    smd_op_measure(NULL, target.virtual_size, &target, &options, &measured, &err) != 0)
		return quota(request);
	most = (uint64_t)smd_json_int(measured, "fully-allocated", INT64_MAX);
	return most + most / 8 + FILE_SLACK;
}

void
request_limits(json *request, struct sandbox_limits *ret)
{
	const char *op = smd_json_str(request, "op", "");

	json *limits = smd_json_member(request, "limits");
	uint64_t cpu = (uint64_t)smd_json_int(limits, "cpu_seconds", QUESTION_CPU_SECONDS);
	uint64_t memory = (uint64_t)smd_json_int(limits, "memory", SANDBOX_MEMORY_MAX);

	/* An exact measure reads all of a disk. */
	ret->cpu_seconds = smd_json_bool(request, "exact", false) ? 0 : cpu_seconds(op, cpu);
	ret->memory = strcmp(op, "import-image") == 0 ? smd_min_u64(memory, IMPORT_MEMORY_MAX)
						      : memory;
	ret->file_size = file_size(op, request);
	ret->receives = strcmp(op, "make") == 0 ? SANDBOX_RECEIVES_NEW_FILES
		      : strcmp(op, "looks") == 0 ? SANDBOX_RECEIVES_IMAGES
						 : SANDBOX_RECEIVES_NOTHING;
	/* It stays for as long as there is work, and reads nothing that could keep it busy. */
	if (ret->receives == SANDBOX_RECEIVES_NEW_FILES)
		ret->cpu_seconds = 0;
}

int
request_run(json *request, json **ret, struct smd_error *err)
{
	const char *op = smd_json_str(request, "op", "");
	int64_t rate = smd_json_int(request, "bytes_per_second", 0);

	for (size_t i = 0; i < N_OPS; i++) {
		if (strcmp(ops[i].op, op) != 0)
			continue;
		if (ops[i].moves_data)
			control_start(rate > 0 ? (uint64_t)rate : 0);
		return ops[i].run(request, ret, err);
	}
	return bad_request(err, "op");
}
