/* SPDX-License-Identifier: BSD-2-Clause */
/* The journal: what a job leaves to do when it ends, and when it cannot. */
#include "daemon/config.h"
#include "daemon/db/test-db.h"

#include <errno.h>

#include "daemon/job/job.h"
#include "daemon/sr/link.h"
#include "daemon/sr/settle.h"
#include "daemon/sr/sr.h"

#define SR_A "aaaaaaaa-0000-4000-8000-000000000000"
#define SR_B "bbbbbbbb-0000-4000-8000-000000000000"

/* ---- SRs that note what is deleted ---- */

struct sr {
	const char *uuid;
	bool attached, broken;
	char deleted[256];
};
static struct sr srs[2] = { { .uuid = SR_A }, { .uuid = SR_B } };
static struct daemon daemon_;

static int
fake_delete(void *handle, const char *name, struct smd_error *err)
{
	struct sr *sr = handle;

	if (sr->broken)
		return smd_fail_SR_BACKEND_FAILURE_46(err, "", "", "", "no deleting now");
	strcat(sr->deleted, name);
	strcat(sr->deleted, " ");
	return 0;
}

int
volume_set_parent(struct sr *sr, const char *volume, const char *format, const char *parent,
		  const char *parent_format, struct smd_error *err)
{
	if (sr->broken)
		return smd_fail_SR_BACKEND_FAILURE_46(err, "", "", "", "no writing now");
	assert_string_equal(format, "vhd");
	assert_string_equal(parent_format, parent ? "raw" : "");
	strcat(sr->deleted, volume);
	strcat(sr->deleted, "->");
	strcat(sr->deleted, parent ? parent : "none");
	strcat(sr->deleted, " ");
	return 0;
}

void
volume_hide(struct sr *sr, const char *volume, const char *format)
{
	assert_string_equal(format, "vhd");
	strcat(sr->deleted, "hidden ");
	strcat(sr->deleted, volume);
	strcat(sr->deleted, " ");
}

int
volume_make_again(struct sr *sr, const char *name, json *target, const char *parent,
		  const char *parent_format, struct smd_error *err)
{
	if (sr->broken)
		return smd_fail_SR_BACKEND_FAILURE_46(err, "", "", "", "no writing now");
	assert_string_equal(smd_json_str(target, "format", ""), "vhd");
	assert_string_equal(parent_format, parent ? "vhd" : "");
	strcat(sr->deleted, "made ");
	strcat(sr->deleted, name);
	strcat(sr->deleted, " ");
	return 0;
}

static const struct smd_sr_driver driver = { .volume_delete = fake_delete };

int
sr_use(struct daemon *daemon, const char *ref, struct sr **ret, struct smd_error *err)
{
	CLEANUP_FREE char *uuid = NULL;

	if (db_get_str(daemon->db, "SR", ref, "uuid", &uuid, err) < 0)
		return -1;
	*ret = strcmp(uuid, SR_A) == 0 ? &srs[0] : &srs[1];
	if ((*ret)->attached)
		return 0;
	return smd_fail_SR_NOT_ATTACHED(err, ref, "not attached");
}

/* Where nothing is: these jobs keep no marks. */
char *
config_str(const struct config *config, const char *key)
{
	(void)config;
	(void)key;
	return smd_strdup("/nonexistent");
}

void
sr_release(struct sr *sr)
{
	assert_true(sr->attached);
}

const struct smd_sr_driver *
sr_get_driver(struct sr *sr)
{
	(void)sr;
	return &driver;
}

void *
sr_handle(struct sr *sr)
{
	return sr;
}

const char *
sr_uuid(struct sr *sr)
{
	return sr->uuid;
}

/* ---- The tests ---- */

static int
setup(void **state)
{
	if (test_db_setup(state) != 0)
		return -1;
	daemon_.db = ((struct test_db *)*state)->db;
	daemon_.jobs = jobs_new(&daemon_);
	for (size_t i = 0; i < 2; i++) {
		struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
		CLEANUP_JSON json *row = json_object_new_object();
		CLEANUP_FREE char *ref = db_new_ref();

		srs[i].attached = true;
		srs[i].broken = false;
		srs[i].deleted[0] = '\0';
		smd_json_set_str(row, "uuid", srs[i].uuid);
		smd_json_set_str(row, "type", "fake");
		assert_ok(db_insert(daemon_.db, "SR", ref, row, &err), &err);
	}
	return 0;
}

static int
teardown(void **state)
{
	jobs_free(daemon_.jobs);
	return test_db_teardown(state);
}

/* A move from A to B: undo deletes the new volume, redo the old one. */
static char *
begin_move(void)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *undo = NULL, *redo = NULL;
	char *id = NULL;

	job_plan_add(&undo, SR_B, "new");
	job_plan_add(&redo, SR_A, "old");
	assert_ok(job_begin(&daemon_, &(struct job_plan){ "move", undo, redo, NULL }, &id, &err), &err);
	return id;
}

static void
commit(const char *id)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	assert_ok(db_begin(daemon_.db, DB_DURABLE, &err), &err);
	assert_ok(job_committed(&daemon_, id, &err), &err);
	assert_ok(db_commit(daemon_.db, &err), &err);
}

static int
n_jobs(void)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *all = NULL;

	assert_ok(db_jobs(daemon_.db, &all, &err), &err);
	return json_object_object_length(all);
}

/* As after a kill: the journal is there, the jobs of this run are not. */
static void
forget_run(void)
{
	jobs_free(daemon_.jobs);
	daemon_.jobs = jobs_new(&daemon_);
}

static void
test_undo_and_redo(void **state)
{
	CLEANUP_FREE char *undone = begin_move(), *done = NULL;

	(void)state;
	assert_true(job_has_volume(daemon_.jobs, SR_B, "new"));
	assert_true(job_has_volume(daemon_.jobs, SR_A, "old"));
	assert_false(job_has_volume(daemon_.jobs, SR_A, "new"));
	job_end(&daemon_, undone);
	assert_string_equal(srs[0].deleted, "");
	assert_string_equal(srs[1].deleted, "new ");
	assert_false(job_has_volume(daemon_.jobs, SR_B, "new"));
	assert_int_equal(n_jobs(), 0);
	done = begin_move();
	commit(done);
	job_end(&daemon_, done);
	assert_string_equal(srs[0].deleted, "old ");
	assert_string_equal(srs[1].deleted, "new ");
	assert_int_equal(n_jobs(), 0);
}

/* A commit that is rolled back has not happened. */
static void
test_rolled_back(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *id = begin_move();

	(void)state;
	assert_ok(db_begin(daemon_.db, DB_DURABLE, &err), &err);
	assert_ok(job_committed(&daemon_, id, &err), &err);
	db_rollback(daemon_.db);
	job_end(&daemon_, id);
	assert_string_equal(srs[0].deleted, "");
	assert_string_equal(srs[1].deleted, "new ");
}

static void
test_recover(void **state)
{
	CLEANUP_FREE char *undone = begin_move(), *done = begin_move();

	(void)state;
	commit(done);
	/* A job of this run is its own to end. */
	job_recover(&daemon_, &srs[0]);
	assert_string_equal(srs[0].deleted, "");
	forget_run();
	assert_int_equal(n_jobs(), 2);
	job_recover(&daemon_, &srs[0]);
	assert_string_equal(srs[0].deleted, "old ");
	assert_string_equal(srs[1].deleted, "");
	assert_int_equal(n_jobs(), 1);
	job_recover(&daemon_, &srs[1]);
	assert_string_equal(srs[1].deleted, "new ");
	assert_int_equal(n_jobs(), 0);
}

/* What cannot be done now stays written down until it can. */
static void
test_detached(void **state)
{
	CLEANUP_FREE char *id = begin_move();

	(void)state;
	srs[1].attached = false;
	job_end(&daemon_, id);
	assert_string_equal(srs[1].deleted, "");
	assert_int_equal(n_jobs(), 1);
	job_recover(&daemon_, &srs[1]);
	assert_string_equal(srs[1].deleted, "new ");
	assert_int_equal(n_jobs(), 0);
}

/* Images name their old parents again, in order, before anything vanishes. */
static void
test_links(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *undo = NULL, *redo = NULL;
	CLEANUP_FREE char *id = NULL;

	(void)state;
	job_plan_add_link(&undo, SR_A, "x", "vhd", "old", "raw");
	job_plan_add_link(&undo, SR_A, "y", "vhd", NULL, NULL);
	job_plan_add(&undo, SR_A, "new");
	job_plan_add(&redo, SR_A, "old");
	assert_ok(job_begin(&daemon_, &(struct job_plan){ "collect", undo, redo, NULL }, &id, &err), &err);
	assert_true(job_has_volume(daemon_.jobs, SR_A, "x"));
	forget_run();
	srs[0].broken = true;
	job_recover(&daemon_, &srs[0]);
	assert_string_equal(srs[0].deleted, "");
	assert_true(job_has_volume(daemon_.jobs, SR_A, "x"));
	forget_run();
	srs[0].broken = false;
	job_recover(&daemon_, &srs[0]);
	assert_string_equal(srs[0].deleted, "x->old y->none new ");
	assert_int_equal(n_jobs(), 0);
}

/* A base is hidden once it is one. */
static void
test_hidden(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *undo = NULL, *redo = NULL;
	CLEANUP_FREE char *id = NULL;

	(void)state;
	job_plan_add(&undo, SR_A, "new");
	job_plan_add_hidden(&redo, SR_A, "base", "vhd");
	assert_ok(job_begin(&daemon_, &(struct job_plan){ "VDI.snapshot", undo, redo, NULL }, &id, &err),
		  &err);
	assert_ok(job_committed(&daemon_, id, &err), &err);
	forget_run();
	job_recover(&daemon_, &srs[0]);
	assert_string_equal(srs[0].deleted, "hidden base ");
	assert_int_equal(n_jobs(), 0);
}

/* The caller's to free. */
static char *
promise(const char *volume)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *redo = NULL, *target = json_object_new_object();
	char *id = NULL;

	smd_json_set_str(target, "format", "vhd");
	job_plan_add_made(&redo, SR_A, volume, target, "base", "vhd");
	job_plan_add(&redo, SR_A, "old");
	job_plan_add_hidden(&redo, SR_A, "base", "vhd");
	assert_ok(job_promise(&daemon_, "VDI.snapshot", redo, &id, &err), &err);
	assert_true(job_makes_volume(daemon_.jobs, SR_A, volume));
	assert_false(job_makes_volume(daemon_.jobs, SR_B, volume));
	assert_false(job_makes_volume(daemon_.jobs, SR_A, "base"));
	return id;
}

/* What was made is there: the rest is done, once, and all is forgotten. */
static void
test_kept(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *first = promise("x"), *second = promise("y");
	char *const ids[] = { first, second };

	(void)state;
	assert_int_equal(n_jobs(), 2);
	assert_ok(job_kept(&daemon_, &srs[0], ids, 2, &err), &err);
	assert_string_equal(srs[0].deleted, "old old ");
	assert_false(job_makes_volume(daemon_.jobs, SR_A, "x"));
	assert_int_equal(n_jobs(), 0);
}

static void
test_promise_rolled_back(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *id = NULL;

	(void)state;
	assert_ok(db_begin(daemon_.db, DB_DURABLE, &err), &err);
	id = promise("x");
	db_rollback(daemon_.db);
	job_forget(&daemon_, id);
	assert_false(job_makes_volume(daemon_.jobs, SR_A, "x"));
	assert_int_equal(n_jobs(), 0);
}

/* Nobody may write to it before it is made again, whoever is asked when. */
static void
test_promise_left(void **state)
{
	CLEANUP_FREE char *id = promise("x");

	(void)state;
	job_recover(&daemon_, &srs[0]);		/* live */
	assert_string_equal(srs[0].deleted, "");
	job_leave(&daemon_, id);
	assert_true(job_makes_volume(daemon_.jobs, SR_A, "x"));
	srs[0].broken = true;
	job_recover(&daemon_, &srs[0]);
	assert_true(job_makes_volume(daemon_.jobs, SR_A, "x"));
	forget_run();
	job_recover(&daemon_, &srs[0]);
	assert_true(job_makes_volume(daemon_.jobs, SR_A, "x"));
	srs[0].broken = false;
	job_recover(&daemon_, &srs[0]);
	assert_false(job_makes_volume(daemon_.jobs, SR_A, "x"));
	assert_string_equal(srs[0].deleted, "hidden base made x old ");
	assert_int_equal(n_jobs(), 0);
}

/* Its VDI goes: nothing is made, and the name is anybody's again. */
static void
test_unpromised(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *id = promise("x");

	(void)state;
	job_leave(&daemon_, id);
	assert_ok(db_begin(daemon_.db, DB_DURABLE, &err), &err);
	assert_ok(job_unpromise(&daemon_, SR_A, "x", &err), &err);
	assert_ok(db_commit(daemon_.db, &err), &err);
	job_recover(&daemon_, &srs[0]);		/* what else is left of it */
	assert_string_equal(srs[0].deleted, "old hidden base ");
	assert_int_equal(n_jobs(), 0);
	assert_false(job_makes_volume(daemon_.jobs, SR_A, "x"));
	assert_false(job_has_volume(daemon_.jobs, SR_A, "x"));
}

/* A volume that is to go yet is nobody's: a scan would make a VDI of it, which the
 * next attach would delete. */
static void
test_left_over(void **state)
{
	CLEANUP_FREE char *id = begin_move();

	(void)state;
	srs[1].broken = true;
	job_end(&daemon_, id);
	assert_int_equal(n_jobs(), 1);
	assert_true(job_has_volume(daemon_.jobs, SR_B, "new"));
	assert_false(job_has_volume(daemon_.jobs, SR_A, "old"));
	forget_run();
	job_recover(&daemon_, &srs[1]);
	assert_int_equal(n_jobs(), 1);
	assert_true(job_has_volume(daemon_.jobs, SR_B, "new"));
	srs[1].broken = false;
	job_recover(&daemon_, &srs[1]);
	assert_string_equal(srs[1].deleted, "new ");
	assert_false(job_has_volume(daemon_.jobs, SR_B, "new"));
	assert_int_equal(n_jobs(), 0);
}

/* The journal says committed, and nobody knows whether the disk does. */
static void
test_disk_failed(void **state)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *done = begin_move(), *undone = begin_move();

	commit(done);
	assert_int_equal(db_disk_fail(daemon_.db, EIO, &err), -1);
	job_end(&daemon_, done);
	job_end(&daemon_, undone);
	assert_true(job_has_volume(daemon_.jobs, SR_A, "old"));
	forget_run();
	job_recover(&daemon_, &srs[0]);
	job_recover(&daemon_, &srs[1]);
	assert_string_equal(srs[0].deleted, "");
	assert_string_equal(srs[1].deleted, "");
	test_db_reopen(*state);
	daemon_.db = ((struct test_db *)*state)->db;
	job_recover(&daemon_, &srs[0]);
	job_recover(&daemon_, &srs[1]);
	assert_string_equal(srs[0].deleted, "old ");
	assert_string_equal(srs[1].deleted, "new ");
	assert_int_equal(n_jobs(), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_undo_and_redo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rolled_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_detached, setup, teardown),
		cmocka_unit_test_setup_teardown(test_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hidden, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_promise_rolled_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_promise_left, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unpromised, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_failed, setup, teardown),
	};

	return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
