/* SPDX-License-Identifier: BSD-2-Clause */
/* Formats, operations and scans over a database of the test's own and a driver
 * that keeps its volumes in a list. */
#include <errno.h>
#include <fcntl.h>

#include "daemon/sr/internal.h"

#include "daemon/db/test-db.h"

#include "daemon/config.h"
#include "daemon/job/again.h"
#include "daemon/job/collect.h"
#include "daemon/job/job.h"
#include "daemon/job/lasting.h"
#include "daemon/job/process.h"
#include "daemon/job/stall.h"
#include "daemon/job/stayer.h"
#include "daemon/job/task.h"
#include "daemon/sr/tree.h"
#include "daemon/sr/volume.h"

#define TIB (UINT64_C(1) << 40)

static struct daemon daemon_;
static char *sr_name, *pbd_name;

/* ---- What daemon/sr needs of the rest ---- */

static const char *preferred = "vhd,qcow2,raw";

char *
config_str(const struct config *config, const char *key)
{
	(void)config;
	assert_string_equal(key, "preferred_image_formats");
	return smd_strdup(preferred);
}

const char *
stall_thread_task(void)
{
	return NULL;
}

struct stall_said *
stall_says(const char *ref, pid_t pid, const char *fmt, ...)
{
	(void)ref;
	(void)pid;
	(void)fmt;
	return NULL;
}

void
stall_back(const char *ref, struct stall_said *before)
{
	(void)ref;
	assert_null(before);
}

int
task_show(struct tasks *tasks, const char *ref, struct smd_error *err)
{
	(void)tasks;
	(void)ref;
	(void)err;
	return 0;
}

void
process_left_are_gone(void)
{
}

int
worker_fd(struct worker_job *job, int fd)
{
	close(fd);
	(void)job;
	return 3;
}

void
worker_job_done(struct worker_job *job)
{
	(void)job;
}

static unsigned n_asked;	/* images that workers were asked about */
static const char *deadly;	/* the image that kills its worker */

/* An image whose name has "bad" in it is broken; all others have 1 MiB. */
static json *
answer(const char *name)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	json *info = json_object_new_object();

	n_asked++;
	smd_json_set_int(info, "virtual-size", 1 << 20);
	if (strstr(name, "bad")) {
		smd_fail_IMAGE_CORRUPT(&err, "x", "BAD_MAGIC", "it is bad");
		smd_json_set(info, "error", smd_json_from_error(&err));
	}
	return info;
}

int
worker_run(struct daemon *daemon, struct worker_job *job, json **ret, struct smd_error *err)
{
	json *images = smd_json_member(job->request, "images");
	CLEANUP_JSON json *answers = json_object_new_array();

	(void)daemon;
	for (size_t i = 0; i < json_object_array_length(images); i++) {
		const char *name = smd_json_str(json_object_array_get_idx(images, i), "name", "");

		if (deadly && strcmp(name, deadly) == 0)
			return smd_fail_JOB_WORKER_FAILED(err, "look", "killed by signal 11", "dead");
		json_object_array_add(answers, answer(name));
	}
	*ret = json_object_new_object();
	smd_json_set(*ret, "images", TAKE_PTR(answers));
	return 0;
}

/* There is none that stays. */
struct stayer *
stayer_start(struct daemon *daemon, const char *op, bool forked, int fd)
{
	(void)daemon;
	(void)op;
	(void)forked;
	(void)fd;
	return NULL;
}

json *
stayer_ask(struct stayer *stayer, const int *fds, size_t n, json *packet, unsigned timeout_ms,
	   void (*meanwhile)(void *opaque), void *opaque)
{
	(void)stayer;
	(void)fds;
	(void)n;
	(void)packet;
	(void)timeout_ms;
	(void)meanwhile;
	(void)opaque;
	return NULL;
}

void
stayer_end(struct stayer *stayer)
{
	(void)stayer;
}

/* ---- No collector ---- */

bool
collect_yield(struct daemon *daemon, const char *ref, const char *location)
{
	(void)daemon;
	(void)ref;
	(void)location;
	return false;
}

void
collect_leave(struct daemon *daemon, const char *ref)
{
	(void)daemon;
	(void)ref;
}

void
jobs_kick(struct daemon *daemon)
{
	(void)daemon;
}

void
collect_kick(struct daemon *daemon, const char *ref)
{
	(void)daemon;
	(void)ref;
}

static const char *busy_volume;

bool
job_has_volume(struct jobs *jobs, const char *uuid, const char *volume)
{
	(void)jobs;
	(void)uuid;
	return busy_volume && strcmp(volume, busy_volume) == 0;
}

bool
job_makes_volume(struct jobs *jobs, const char *uuid, const char *volume)
{
	(void)jobs;
	(void)uuid;
	(void)volume;
	return false;
}

int
job_promise(struct daemon *daemon, const char *kind, json *redo, char **ret_id,
	    struct smd_error *err)
{
	(void)daemon;
	(void)kind;
	(void)redo;
	(void)ret_id;
	return smd_fail_INTERNAL_ERROR(err, "job_promise", "not in this test");
}

void
job_forget(struct daemon *daemon, const char *id)
{
	(void)daemon;
	(void)id;
}

int
job_kept(struct daemon *daemon, struct sr *sr, char *const *ids, size_t n, struct smd_error *err)
{
	(void)daemon;
	(void)sr;
	(void)ids;
	(void)n;
	return smd_fail_INTERNAL_ERROR(err, "job_kept", "not in this test");
}

int
again_run(struct daemon *daemon,
	  int (*fill)(void *opaque, struct worker_job *job, struct smd_error *err), void *opaque,
	  json **ret, struct smd_error *err)
{
	(void)daemon;
	(void)fill;
	(void)opaque;
	(void)ret;
	return smd_fail_INTERNAL_ERROR(err, "again_run", "not in this test");
}

int
job_unpromise(struct daemon *daemon, const char *uuid, const char *volume, struct smd_error *err)
{
	(void)daemon;
	(void)uuid;
	(void)volume;
	(void)err;
	return 0;
}

void
job_leave(struct daemon *daemon, const char *id)
{
	(void)daemon;
	(void)id;
}

void
job_recover(struct daemon *daemon, struct sr *sr)
{
	(void)daemon;
	(void)sr;
}

void
job_plan_add(json **list, const char *uuid, const char *volume)
{
	(void)list;
	(void)uuid;
	(void)volume;
}

int
job_begin(struct daemon *daemon, const struct job_plan *plan, char **ret_id, struct smd_error *err)
{
	(void)daemon;
	(void)plan;
	(void)ret_id;
	return smd_fail_INTERNAL_ERROR(err, "job_begin", "not in this test");
}

int
job_committed(struct daemon *daemon, const char *id, struct smd_error *err)
{
	(void)daemon;
	(void)id;
	return smd_fail_INTERNAL_ERROR(err, "job_committed", "not in this test");
}

void
job_end(struct daemon *daemon, const char *id)
{
	(void)daemon;
	(void)id;
}

/* ---- The driver ---- */

static const char *volumes[8];
static char *kept_records;
static unsigned n_deleted;
static bool pbd_vanishes;

static int
fake_attach(const char *uuid, const struct smd_sr_config *config, void **ret, struct smd_error *err)
{
	(void)uuid;
	(void)config;
	*ret = volumes;
	return pbd_vanishes ? db_delete(daemon_.db, "PBD", pbd_name, err) : 0;
}

static void
fake_detach(void *sr)
{
	assert_ptr_equal(sr, volumes);
}

static int
fake_stat(void *sr, struct smd_sr_stat *ret, struct smd_error *err)
{
	(void)sr;
	(void)err;
	*ret = (struct smd_sr_stat){ .total = 1000, .free = 400 };
	return 0;
}

static int
fake_scan(void *sr, smd_sr_volume_fn *add, void *opaque, struct smd_error *err)
{
	(void)sr;
	for (const char **v = volumes; *v; v++) {
		const struct smd_sr_volume volume = { *v, 10, 20 };

		if (add(opaque, &volume, err) < 0)
			return -1;
	}
	return 0;
}

static int
fake_find(const char *name, struct smd_error *err)
{
	for (const char **v = volumes; *v; v++) {
		if (strcmp(*v, name) == 0)
			return 0;
	}
	smd_fail_SR_BACKEND_FAILURE_46(err, "", "", "", "no %s", name);
	err->errnum = ENOENT;
	return -1;
}

static void (*when_opening)(void);

static int
fake_open(void *sr, const char *name, uint32_t flags, int *ret_fd, struct smd_error *err)
{
	(void)sr;
	(void)flags;
	if (when_opening)
		when_opening();
	if (fake_find(name, err) < 0)
		return -1;
	*ret_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return 0;
}

static int
fake_volume_stat(void *sr, const char *name, struct smd_sr_volume *ret, struct smd_error *err)
{
	(void)sr;
	*ret = (struct smd_sr_volume){ name, 10, 20 };
	return fake_find(name, err);
}

static int
fake_delete(void *sr, const char *name, struct smd_error *err)
{
	(void)sr;
	(void)name;
	(void)err;
	n_deleted++;
	return 0;
}

static int
fake_load(void *sr, char **ret_text, struct smd_error *err)
{
	(void)sr;
	(void)err;
	*ret_text = kept_records ? strdup(kept_records) : NULL;
	return 0;
}

static int
fake_save(void *sr, const char *text, struct smd_error *err)
{
	(void)sr;
	(void)err;
	free(kept_records);
	kept_records = strdup(text);
	return 0;
}

static const char *stamp = "";

static int
fake_stamp(void *sr, const char *name, char ret[SMD_SR_STAMP_MAX], struct smd_error *err)
{
	(void)sr;
	snprintf(ret, SMD_SR_STAMP_MAX, "%s", stamp);
	return fake_find(name, err);
}

static const char *const all_formats[] = { NULL };
static const char *const some_features[] = { "VDI_SNAPSHOT", "VDI_CLONE/1", "VDI_REVERT", NULL };
static struct driver driver = {
	.d = {
		.type = "fake", .formats = all_formats, .caps = SMD_SR_CAN_GROW,
		.attach = fake_attach, .detach = fake_detach, .stat = fake_stat, .scan = fake_scan,
		.volume_open = fake_open, .volume_stat = fake_volume_stat,
		.volume_delete = fake_delete, .records_load = fake_load, .records_save = fake_save,
		.volume_stamp = fake_stamp,
	},
};

/* ---- The world ---- */

static json *
format(const char *name, uint64_t max)
{
	json *f = json_object_new_object();

	smd_json_set_str(f, "name", name);
	smd_json_set_int(f, "max-virtual-size", (int64_t)max);
	smd_json_set_int(f, "size-unit", 512);
	return f;
}

static void
insert(const char *cls, const char *ref, const char *text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *record = smd_json_parse(text, strlen(text), 10, &err);

	assert_non_null(record);
	smd_json_set_str(record, "uuid", smd_uuid_new().text);
	assert_ok(db_insert(daemon_.db, cls, ref, record, &err), &err);
}

static int
setup(void **state)
{
	struct storage *storage = smd_calloc(1, sizeof *storage);
	CLEANUP_FREE char *text = NULL;

	if (test_db_setup(state) != 0)
		return -1;
	daemon_.db = ((struct test_db *)*state)->db;
	daemon_.storage = storage;
	daemon_.host_ref = db_new_ref();
	storage->drivers = &driver;
	storage->formats = json_object_new_array();
	json_object_array_add(storage->formats, format("vhd", 2040ull << 30));
	json_object_array_add(storage->formats, format("raw", UINT64_MAX));
	json_object_array_add(storage->formats, format("qcow2", 16 * TIB));
	memset(volumes, 0, sizeof volumes);
	n_deleted = 0;
	busy_volume = NULL;
	preferred = "vhd,qcow2,raw";
	driver.d.formats = all_formats;
	sr_name = db_new_ref();
	pbd_name = db_new_ref();
	insert("SR", sr_name, "{\"type\":\"fake\",\"name_label\":\"sr\"}");
	text = smd_asprintf("{\"SR\":\"%s\",\"host\":\"%s\",\"device_config\":{}}", sr_name,
			    daemon_.host_ref);
	insert("PBD", pbd_name, text);
	return 0;
}

static int
teardown(void **state)
{
	daemon_.storage->drivers = NULL;
	storage_stop(&daemon_);
	free(daemon_.host_ref);
	free(sr_name);
	free(pbd_name);
	free(kept_records);
	kept_records = NULL;
	return test_db_teardown(state);
}

/* ---- Formats ---- */

static void
expect_formats(json *names, const char *text)
{
	CLEANUP_FREE char *printed = smd_json_print(names);

	assert_string_equal(printed, text);
	json_object_put(names);
}

static void
test_formats(void **state)
{
	static const char *const some[] = { "vhd", "other", "raw", NULL };
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	json *names;

	(void)state;
	expect_formats(formats_of_driver(daemon_.storage, &driver.d), "[\"qcow2\",\"raw\",\"vhd\"]");
	assert_ok(sr_formats(&daemon_, sr_name, &names, &err), &err);
	expect_formats(names, "[\"vhd\",\"qcow2\",\"raw\"]");
	assert_ok(db_map_set(daemon_.db, "PBD", pbd_name, "device_config", "preferred-image-formats",
			     "raw, nosuch,QCOW2", &err), &err);
	assert_ok(sr_formats(&daemon_, sr_name, &names, &err), &err);
	expect_formats(names, "[\"raw\",\"qcow2\",\"vhd\"]");
	/* A driver's own list, less what is not loaded. */
	driver.d.formats = some;
	expect_formats(formats_of_driver(daemon_.storage, &driver.d), "[\"vhd\",\"raw\"]");
	driver.d.formats = NULL;
	assert_null(formats_of_driver(daemon_.storage, &driver.d));
	assert_ok(sr_formats(&daemon_, sr_name, &names, &err), &err);
	expect_formats(names, "[]");
}

static void
expect_choice(const char *asked, uint64_t size, const char *wanted)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *chosen = NULL;
	int r = sr_choose_format(&daemon_, sr_name, asked, size, "", &chosen, &err);

	if (r < 0)
		assert_string_equal(err.code, wanted);
	else
		assert_string_equal(chosen, wanted);
}

static void
test_choice(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *chosen = NULL;

	(void)state;
	expect_choice("", 1 << 20, "vhd");
	expect_choice("", 2040ull << 30, "vhd");
	expect_choice("", (2040ull << 30) + 512, "qcow2");
	expect_choice("", 17 * TIB, "raw");
	expect_choice("QCow2", 1 << 20, "qcow2");
	expect_choice("vmdk", 1 << 20, "VDI_INCOMPATIBLE_TYPE");
	assert_int_equal(sr_choose_format(&daemon_, sr_name, "vhd", 3 * TIB, "OpaqueRef:v", &chosen,
					  &err), -1);
	assert_string_equal(err.code, "VDI_TOO_LARGE");
	assert_string_equal(err.params[0], "OpaqueRef:v");
	assert_string_equal(err.params[1], "2190433320960");
	assert_non_null(strstr(err.message, "what would fit: qcow2, raw"));
}

/* ---- Operations ---- */

static int
begin(const char *cls, const char *ref, const char *operation, const char *key)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	int r = op_begin(&daemon_, cls, ref, operation, key, &err);

	if (r < 0) {
		assert_string_equal(err.code, "OTHER_OPERATION_IN_PROGRESS");
		assert_string_equal(err.params[0], cls);
		assert_string_equal(err.params[1], ref);
	}
	return r;
}

static void
test_operations(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *allowed = NULL;
	CLEANUP_FREE char *text = smd_asprintf("{\"SR\":\"%s\",\"virtual_size\":1}", sr_name);
	CLEANUP_FREE char *vdi = db_new_ref();

	(void)state;
	insert("VDI", vdi, text);
	assert_int_equal(begin("VDI", vdi, "copy", "a"), 0);
	assert_int_equal(begin("VDI", vdi, "copy", "b"), 0);
	assert_int_equal(begin("VDI", vdi, "mirror", "c"), -1);
	assert_int_equal(begin("VDI", vdi, "destroy", "c"), -1);
	assert_ok(db_get(daemon_.db, "VDI", vdi, "allowed_operations", &allowed, &err), &err);
	expect_formats(TAKE_PTR(allowed), "[\"copy\"]");
	op_end(&daemon_, "VDI", vdi, "a");
	op_end(&daemon_, "VDI", vdi, "b");
	assert_int_equal(begin("VDI", vdi, "mirror", "c"), 0);
	assert_int_equal(begin("VDI", vdi, "copy", "d"), -1);

	assert_int_equal(begin("SR", sr_name, "vdi_create", "a"), 0);
	assert_int_equal(begin("SR", sr_name, "vdi_mirror", "b"), 0);
	assert_int_equal(begin("SR", sr_name, "scan", "c"), 0);
	assert_int_equal(begin("SR", sr_name, "scan", "d"), -1);
	assert_int_equal(begin("SR", sr_name, "unplug", "d"), -1);
	/* An earlier run's end with it. */
	assert_ok(ops_reset(&daemon_, "SR", &err), &err);
	assert_int_equal(begin("SR", sr_name, "unplug", "d"), 0);
	assert_int_equal(begin("SR", sr_name, "vdi_create", "e"), -1);
	op_end(&daemon_, "SR", sr_name, "d");
	/* An object that is gone has no operations to end. */
	op_end(&daemon_, "VDI", "OpaqueRef:gone", "x");
}

static bool
row_says(const char *cls, const char *ref, const char *field, const char *text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *value = NULL;
	CLEANUP_FREE char *got = NULL;

	assert_ok(db_get(daemon_.db, cls, ref, field, &value, &err), &err);
	got = smd_json_print(value);
	return strcmp(got, text) == 0;
}

/* What is over soon keeps others out, and shows only to whom it does, or when it lasts. */
static void
test_brief_operations(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct op_set one CLEANUP_OPS = { 0 }, two CLEANUP_OPS = { 0 };
	uint64_t before, after;

	(void)state;
	op_set_init(&one, &daemon_, "a");
	op_set_init(&two, &daemon_, "b");
	db_count_changes(daemon_.db, "SR", &before);
	assert_ok(op_set_begin_brief(&one, "SR", sr_name, "vdi_create", &err), &err);
	assert_ok(op_set_begin_brief(&two, "SR", sr_name, "vdi_create", &err), &err);
	op_set_done(&two);
	ops_show(&daemon_, 10000);
	db_count_changes(daemon_.db, "SR", &after);
	assert_true(before == after);
	assert_int_equal(op_check(&daemon_, "SR", sr_name, "destroy", &err), -1);
	assert_string_equal(err.code, "OTHER_OPERATION_IN_PROGRESS");
	smd_error_clear(&err);
	assert_int_equal(begin("SR", sr_name, "unplug", "c"), -1);
	assert_true(row_says("SR", sr_name, "current_operations", "{\"a\":\"vdi_create\"}"));

	op_set_init(&two, &daemon_, "b");
	assert_ok(op_set_begin_brief(&two, "SR", sr_name, "scan", &err), &err);
	assert_true(row_says("SR", sr_name, "current_operations", "{\"a\":\"vdi_create\"}"));
	ops_show(&daemon_, 0);
	assert_true(row_says("SR", sr_name, "current_operations",
			     "{\"a\":\"vdi_create\",\"b\":\"scan\"}"));
	op_set_done(&one);
	op_set_done(&two);
	assert_true(row_says("SR", sr_name, "current_operations", "{}"));
	assert_int_equal(begin("SR", sr_name, "unplug", "c"), 0);
	assert_int_equal(op_set_begin_brief(&one, "SR", sr_name, "vdi_create", &err), -1);
	assert_string_equal(err.code, "OTHER_OPERATION_IN_PROGRESS");
	op_end(&daemon_, "SR", sr_name, "c");
}

/* A transaction that showed one is undone, and it runs on. */
static void
test_brief_operations_stay(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct op_set set CLEANUP_OPS = { 0 };

	(void)state;
	op_set_init(&set, &daemon_, "a");
	assert_ok(op_set_begin_brief(&set, "SR", sr_name, "vdi_create", &err), &err);
	assert_ok(db_begin(daemon_.db, DB_RELAXED, &err), &err);
	assert_ok(op_show(&daemon_, "SR", sr_name, &err), &err);
	db_rollback(daemon_.db);
	assert_true(row_says("SR", sr_name, "current_operations", "{}"));
	assert_int_equal(begin("SR", sr_name, "unplug", "c"), -1);
	assert_true(row_says("SR", sr_name, "current_operations", "{\"a\":\"vdi_create\"}"));
	assert_ok(db_begin(daemon_.db, DB_RELAXED, &err), &err);
	op_set_end(&set);
	assert_ok(db_commit(daemon_.db, &err), &err);
	op_set_keep(&set);
	assert_true(row_says("SR", sr_name, "current_operations", "{}"));
	assert_int_equal(begin("SR", sr_name, "unplug", "c"), 0);
	op_end(&daemon_, "SR", sr_name, "c");
}

static void
refused(const char *ref, const char *operation, const char *code)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	assert_int_equal(op_begin(&daemon_, "VDI", ref, operation, "refused", &err), -1);
	assert_string_equal(err.code, code);
}

/* What a VDI is decides, too, in xapi's order. */
static void
test_operations_of_kinds(void **state)
{
	static const struct {
		const char *members, *allowed;
		const char *refused[3][2];
	} kinds[] = {
		{ "", "[\"clone\",\"copy\",\"destroy\",\"forget\",\"mirror\",\"resize\","
		  "\"revert_from\",\"snapshot\",\"update\"]",
		  { { "revert_to", "ONLY_REVERT_SNAPSHOT" } } },
		{ ",\"sharable\":true", "[\"clone\",\"copy\",\"destroy\",\"forget\",\"mirror\",\"resize\","
		  "\"revert_from\",\"update\"]", { { "snapshot", "VDI_IS_SHARABLE" } } },
		{ ",\"is_a_snapshot\":true,\"on_boot\":\"reset\"",
		  "[\"clone\",\"destroy\",\"forget\",\"mirror\",\"resize\",\"revert_from\","
		  "\"revert_to\",\"update\"]",
		  { { "snapshot", "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION" },
		    { "copy", "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION" } } },
		{ ",\"type\":\"cbt_metadata\",\"sharable\":true", "[\"destroy\",\"forget\",\"update\"]",
		  { { "snapshot", "VDI_INCOMPATIBLE_TYPE" }, { "clone", "VDI_INCOMPATIBLE_TYPE" } } },
		{ ",\"managed\":false", "[]", { { NULL, NULL } } },
	};

	(void)state;
	driver.d.features = some_features;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		CLEANUP_FREE char *vdi = db_new_ref();
		CLEANUP_FREE char *text = smd_asprintf("{\"SR\":\"%s\"%s}", sr_name, kinds[i].members);
		json *allowed;

		insert("VDI", vdi, text);
		op_refresh(&daemon_, "VDI", vdi);
		assert_ok(db_get(daemon_.db, "VDI", vdi, "allowed_operations", &allowed, &err), &err);
		expect_formats(allowed, kinds[i].allowed);
		for (size_t j = 0; j < 3 && kinds[i].refused[j][0]; j++)
			refused(vdi, kinds[i].refused[j][0], kinds[i].refused[j][1]);
	}
	driver.d.features = NULL;
}

static void
test_operations_beside_copy(void **state)
{
	CLEANUP_FREE char *text = smd_asprintf("{\"SR\":\"%s\"}", sr_name);
	CLEANUP_FREE char *vdi = db_new_ref();

	(void)state;
	insert("VDI", vdi, text);
	refused(vdi, "clone", "SR_OPERATION_NOT_SUPPORTED");	/* not with this driver */
	driver.d.features = some_features;
	assert_int_equal(begin("VDI", vdi, "copy", "a"), 0);
	refused(vdi, "snapshot", "OPERATION_NOT_ALLOWED");
	refused(vdi, "revert_from", "OTHER_OPERATION_IN_PROGRESS");
	assert_int_equal(begin("VDI", vdi, "clone", "b"), 0);
	refused(vdi, "clone", "OTHER_OPERATION_IN_PROGRESS");
	refused(vdi, "copy", "OTHER_OPERATION_IN_PROGRESS");
	driver.d.features = NULL;
}

/* A disk a VM has: what the VM does not mind goes on, the rest names the VDI. */
static void
test_attached(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *reading = NULL, *writing = NULL;
	CLEANUP_FREE char *text = smd_asprintf("{\"SR\":\"%s\",\"virtual_size\":1}", sr_name);
	CLEANUP_FREE char *vdi = db_new_ref();
	CLEANUP_FREE char *vbd = smd_asprintf(
		"{\"VDI\":\"%s\",\"mode\":\"RO\",\"currently_attached\":true}", vdi);

	(void)state;
	driver.d.features = some_features;
	insert("VDI", vdi, text);
	insert("VBD", "OpaqueRef:vbd", vbd);
	op_refresh(&daemon_, "VDI", vdi);
	assert_ok(db_get(daemon_.db, "VDI", vdi, "allowed_operations", &reading, &err), &err);
	expect_formats(TAKE_PTR(reading), "[\"clone\",\"copy\",\"mirror\",\"snapshot\"]");
	assert_ok(db_set_str(daemon_.db, "VBD", "OpaqueRef:vbd", "mode", "RW", &err), &err);
	op_refresh(&daemon_, "VDI", vdi);
	assert_ok(db_get(daemon_.db, "VDI", vdi, "allowed_operations", &writing, &err), &err);
	expect_formats(TAKE_PTR(writing), "[\"clone\",\"mirror\",\"snapshot\"]");
	assert_int_equal(op_begin(&daemon_, "VDI", vdi, "destroy", "t", &err), -1);
	assert_string_equal(err.code, "VDI_IN_USE");
	assert_string_equal(err.params[0], vdi);
	assert_string_equal(err.params[1], "destroy");
	assert_ok(db_set_bool(daemon_.db, "VBD", "OpaqueRef:vbd", "currently_attached", false,
			      &(struct smd_error)SMD_ERROR_INIT), &err);
	assert_int_equal(begin("VDI", vdi, "destroy", "t"), 0);
	driver.d.features = NULL;
}

/* ---- Attach, scan, records ---- */

static json *
vdi_of(const char *location)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *all = NULL;
	json *found = NULL;

	assert_ok(db_all_records(daemon_.db, "VDI", NULL, &all, &err), &err);
	json_object_object_foreach(all, ref, record) {
		(void)ref;
		if (strcmp(smd_json_str(record, "location", ""), location) == 0)
			found = json_object_get(record);
	}
	return found;
}

#define GOOD "11111111-1111-4111-8111-111111111111.vhd"
#define BAD "0000bad0-1111-4111-8111-111111111111.raw"
#define MAKING "22222222-1111-4111-8111-111111111111.vhd"

static void
test_scan(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *good = NULL, *bad = NULL;
	int64_t size;

	(void)state;
	volumes[0] = GOOD;
	volumes[1] = "readme.txt";
	volumes[2] = BAD;
	volumes[3] = "tmp-33333333-1111-4111-8111-111111111111.vhd";
	volumes[4] = MAKING;
	busy_volume = MAKING;
	assert_int_equal(sr_scan(&daemon_, sr_name, &err), -1);
	assert_string_equal(err.code, "SR_NOT_ATTACHED");
	smd_error_clear(&err);
	assert_ok(pbd_attach(&daemon_, pbd_name, &err), &err);
	assert_int_equal(n_deleted, 1);		/* what a job left under its temporary name */
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	good = vdi_of(GOOD);
	assert_int_equal(smd_json_int(good, "virtual_size", 0), 1 << 20);
	assert_int_equal(smd_json_int(good, "physical_utilisation", 0), 20);
	assert_string_equal(smd_json_str(smd_json_member(good, "sm_config"), "image-format", ""), "vhd");
	bad = vdi_of(BAD);
	assert_non_null(strstr(smd_json_str(smd_json_member(bad, "sm_config"), "image-error", ""),
			       "BAD_MAGIC"));
	assert_null(vdi_of("readme.txt"));
	assert_null(vdi_of(MAKING));
	assert_null(vdi_of(volumes[3]));
	assert_ok(db_get_int(daemon_.db, "SR", sr_name, "physical_utilisation", &size, &err), &err);
	assert_int_equal(size, 600);
	/* What is gone goes. */
	volumes[0] = BAD;
	volumes[1] = NULL;
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	assert_null(vdi_of(GOOD));
}

/* Many images a worker; one that kills it is the only one that suffers. */
static void
test_many_volumes(void **state)
{
	static const char *const names[] = {
		"33333333-1111-4111-8111-111111111111.vhd", "named.vhd", "readme.vhdx", GOOD,
		"44444444-1111-4111-8111-111111111111.raw",
	};
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *killer = NULL, *named = NULL, *good = NULL, *none = NULL;

	(void)state;
	memcpy(volumes, names, sizeof names);
	deadly = names[0];
	assert_ok(pbd_attach(&daemon_, pbd_name, &err), &err);
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	killer = vdi_of(names[0]);
	assert_non_null(strstr(smd_json_str(smd_json_member(killer, "sm_config"), "image-error", ""),
			       "JOB_WORKER_FAILED"));
	named = vdi_of("named.vhd");
	assert_string_equal(smd_json_str(named, "name_label", ""), "named");
	good = vdi_of(GOOD);
	assert_null(smd_json_member(smd_json_member(good, "sm_config"), "image-error"));
	none = vdi_of("readme.vhdx");
	assert_null(none);
	deadly = NULL;
}

static void
test_stamps(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	volumes[0] = GOOD;
	volumes[1] = BAD;
	stamp = "as it was";
	assert_ok(pbd_attach(&daemon_, pbd_name, &err), &err);
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	n_asked = 0;
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	assert_int_equal(n_asked, 0);
	stamp = "changed";
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	assert_int_equal(n_asked, 2);
	stamp = "";
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	assert_int_equal(n_asked, 6);
}

static void
test_records(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *rows = NULL, *back = NULL;
	const char *ref;

	(void)state;
	volumes[0] = GOOD;
	assert_ok(pbd_attach(&daemon_, pbd_name, &err), &err);
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	assert_ok(db_all(daemon_.db, "VDI", &rows, &err), &err);
	ref = json_object_get_string(json_object_array_get_idx(rows, 0));
	assert_ok(db_set_str(daemon_.db, "VDI", ref, "name_label", "a name", &err), &err);
	assert_ok(pbd_detach(&daemon_, pbd_name, &err), &err);
	assert_non_null(strstr(kept_records, "a name"));
	assert_ok(db_delete(daemon_.db, "VDI", ref, &err), &err);
	/* As elsewhere, with what the SR says of itself. */
	assert_ok(pbd_attach(&daemon_, pbd_name, &err), &err);
	assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
	back = vdi_of(GOOD);
	assert_string_equal(smd_json_str(back, "name_label", ""), "a name");
}

/* PBD.destroy while its plug is under way: nothing stays attached that no PBD could
 * detach. */
static void
test_pbd_vanishes(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct sr *sr;

	(void)state;
	pbd_vanishes = true;
	assert_int_equal(pbd_attach(&daemon_, pbd_name, &err), -1);
	pbd_vanishes = false;
	assert_string_equal(err.code, "HANDLE_INVALID");
	smd_error_clear(&err);
	assert_int_equal(sr_use(&daemon_, sr_name, &sr, &err), -1);
	assert_string_equal(err.code, "SR_HAS_NO_PBDS");
}

/* Records are input: nonsense in them is left out. */
static void
test_bad_records(void **state)
{
	static const char *const texts[] = {
		"", "{", "[]", "{\"vdis\":3}", "{\"vdis\":{\"" GOOD "\":7}}",
		"{\"vdis\":{\"" GOOD "\":{\"name_label\":7,\"tags\":\"x\",\"managed\":{}}}}",
	};
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	(void)state;
	volumes[0] = GOOD;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		CLEANUP_JSON json *row = NULL, *rows = NULL;

		free(kept_records);
		kept_records = strdup(texts[i]);
		assert_ok(pbd_attach(&daemon_, pbd_name, &err), &err);
		assert_ok(sr_scan(&daemon_, sr_name, &err), &err);
		row = vdi_of(GOOD);
		assert_non_null(row);
		assert_ok(pbd_detach(&daemon_, pbd_name, &err), &err);
		/* What does not even parse may be mended by hand: it stays. */
		assert_int_equal(strcmp(kept_records, texts[i]) == 0, i < 2);
		assert_ok(db_all(daemon_.db, "VDI", &rows, &err), &err);
		assert_ok(db_delete(daemon_.db, "VDI", json_object_get_string(
					    json_object_array_get_idx(rows, 0)), &err), &err);
	}
}

/* ---- Chains ---- */

static const char *chain_rows[] = { "OpaqueRef:leaf", "OpaqueRef:middle", "OpaqueRef:base" };

static void
make_chain(void)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	static const char *const names[] = { "leaf.vhd", "middle.qcow2", "base.raw" };

	for (size_t i = 0; i < 3; i++) {
		CLEANUP_FREE char *text = smd_asprintf("{\"SR\":\"%s\",\"virtual_size\":1,"
						       "\"location\":\"%s\",\"managed\":%s}", sr_name,
						       names[i], i == 0 ? "true" : "false");

		insert("VDI", chain_rows[i], text);
		volumes[i] = names[i];
	}
	assert_ok(pbd_attach(&daemon_, pbd_name, &err), &err);
	assert_ok(tree_set_parent(daemon_.db, chain_rows[1], chain_rows[2], &err), &err);
	assert_ok(tree_set_parent(daemon_.db, chain_rows[0], chain_rows[1], &err), &err);
}

static void
expect_layers(struct disk *disk, const char *names)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *text = smd_strdup("");
	CLEANUP_JSON json *source = NULL;
	struct worker_job job = { 0 };
	json *layers;

	source = disk_source(disk, &job, false, &err);
	assert_non_null(source);
	layers = smd_json_member(source, "layers");
	for (size_t i = 0; i < json_object_array_length(layers); i++) {
		json *layer = json_object_array_get_idx(layers, i);
		char *longer = smd_asprintf("%s %s=%s", text, smd_json_str(layer, "name", ""),
					    smd_json_str(layer, "format", ""));

		free(text);
		text = longer;
	}
	assert_string_equal(text, names);
}

static void
test_chain_opens(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct disk disk CLEANUP_DISK = DISK_INIT;

	(void)state;
	make_chain();
	assert_ok(disk_find(&daemon_, chain_rows[0], &disk, &err), &err);
	assert_ok(disk_open(&daemon_, &disk, false, "copy", &err), &err);
	expect_layers(&disk, " leaf.vhd=vhd middle.qcow2=qcow2 base.raw=raw");
	disk_done(&disk);
	/* Nodes are nobody's but smd's, and do not change under those on them. */
	assert_int_equal(disk_find(&daemon_, chain_rows[1], &disk, &err), -1);
	assert_string_equal(err.code, "VDI_NOT_MANAGED");
	smd_error_clear(&err);
	assert_ok(disk_find_node(&daemon_, chain_rows[1], &disk, &err), &err);
	assert_int_equal(disk_open(&daemon_, &disk, true, "resize", &err), -1);
	assert_string_equal(err.code, "VDI_IN_USE");
	assert_string_equal(err.params[1], "resize");
	smd_error_clear(&err);
	assert_ok(disk_open(&daemon_, &disk, false, "copy", &err), &err);
	expect_layers(&disk, " middle.qcow2=qcow2 base.raw=raw");
}

static void
test_chain_broken(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct disk disk CLEANUP_DISK = DISK_INIT;

	(void)state;
	make_chain();
	volumes[2] = NULL;
	assert_ok(disk_find(&daemon_, chain_rows[0], &disk, &err), &err);
	assert_int_equal(disk_open(&daemon_, &disk, false, "copy", &err), -1);
	assert_string_equal(err.code, "VDI_MISSING");
	assert_string_equal(err.params[1], chain_rows[2]);
	smd_error_clear(&err);
	assert_ok(db_delete(daemon_.db, "VDI", chain_rows[1], &err), &err);
	assert_int_equal(disk_open(&daemon_, &disk, false, "copy", &err), -1);
	assert_string_equal(err.code, "VDI_MISSING");
	assert_string_equal(err.params[1], chain_rows[1]);
}

/* The collector takes the middle out between the look and the open. */
static void
collect(void)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	when_opening = NULL;
	assert_ok(tree_move_children(daemon_.db, chain_rows[1], chain_rows[2], &err), &err);
	assert_ok(db_delete(daemon_.db, "VDI", chain_rows[1], &err), &err);
	volumes[1] = volumes[2];
	volumes[2] = NULL;
}

/* The leaf takes the place of its parent, whose volume it has from then on. */
static void
collect_leaf(void)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	when_opening = NULL;
	assert_ok(tree_set_parent(daemon_.db, chain_rows[0], NULL, &err), &err);
	assert_ok(db_set_str(daemon_.db, "VDI", chain_rows[0], "location", "base.raw", &err), &err);
	volumes[0] = "base.raw";
	volumes[1] = NULL;
}

static void
test_chain_changes(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct disk disk CLEANUP_DISK = DISK_INIT;

	(void)state;
	make_chain();
	assert_ok(disk_find(&daemon_, chain_rows[0], &disk, &err), &err);
	when_opening = collect;
	assert_ok(disk_open(&daemon_, &disk, false, "copy", &err), &err);
	expect_layers(&disk, " leaf.vhd=vhd base.raw=raw");
	when_opening = collect_leaf;
	assert_ok(disk_open(&daemon_, &disk, false, "copy", &err), &err);
	expect_layers(&disk, " base.raw=raw");
	assert_string_equal(disk.location, "base.raw");
	assert_string_equal(disk.format, "raw");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_formats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_choice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_operations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_brief_operations, setup, teardown),
		cmocka_unit_test_setup_teardown(test_brief_operations_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_operations_of_kinds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_operations_beside_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attached, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scan, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_volumes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stamps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pbd_vanishes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain_opens, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain_broken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_chain_changes, setup, teardown),
	};

	return cmocka_run_group_tests_name("sr", tests, NULL, NULL);
}
