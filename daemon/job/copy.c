/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/copy.h"

#include <string.h>

#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/collect.h"
#include "daemon/job/digest.h"
#include "daemon/job/phase.h"
#include "daemon/job/plan.h"
#include "daemon/job/task.h"
#include "daemon/sr/tree.h"

/* ---- The commit ---- */

static json *
new_row(const struct copy *c, const char *digest)
{
	static const char *const fields[] = {
		"name_label", "name_description", "type", "sharable", "other_config",
		"xenstore_data", "tags", NULL,
	};
	json *row = json_object_new_object(), *sm_config = json_object_new_object();

	for (const char *const *field = fields; *field; field++)
		smd_json_set(row, *field, smd_json_copy(smd_json_member(c->source.record, *field)));
	smd_json_set_str(sm_config, "image-format", c->v.format);
	smd_json_set(row, "sm_config", sm_config);
	smd_json_set_str(row, "uuid", c->v.uuid.text);
	smd_json_set_str(row, "SR", sr_ref(c->sr));
	smd_json_set_str(row, "location", c->v.name);
	smd_json_set_int(row, "virtual_size", (int64_t)c->v.virtual_size);
	smd_json_set_int(row, "physical_utilisation", (int64_t)volume_allocated(c->sr, c->v.name));
	digest_set(smd_json_member(row, "other_config"), digest);
	return row;
}

/* The VDI keeps its ref and uuid; it lies on no other one any more. */
static int
replace_volume(struct copy *c, const char *digest, struct smd_error *err)
{
	struct db *db = c->daemon->db;
	const char *ref = c->into.vdi_ref;

	if (digest_set_row(c->daemon, ref, digest, err) < 0 ||
	    new_volume_give(&c->v, ref, err) < 0)
		return -1;
	return tree_set_parent(db, ref, NULL, err);
}

static int
change_rows(struct copy *c, const char *ref, const char *digest, struct smd_error *err)
{
	CLEANUP_JSON json *row = NULL;
	int r;

	if (c->into.vdi_ref) {
		r = replace_volume(c, digest, err);
	} else {
		row = new_row(c, digest);
		r = db_insert(c->daemon->db, "VDI", ref, row, err);
	}
	if (r < 0 || lasting_committed(c->lasting, ref, err) < 0)
		return -1;
	return job_committed(c->daemon, c->lasting->id, err);
}

static int
commit(struct copy *c, const char *ref, const char *digest, struct smd_error *err)
{
	struct db *db = c->daemon->db;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (change_rows(c, ref, digest, err) < 0) {
		db_rollback(db);
		return -1;
	}
	if (db_commit(db, err) < 0)
		return -1;
	if (c->into.vdi_ref)
		records_forget(c->into.sr, c->into.location);
	return 0;
}

/* ---- The work ---- */

static int
fill(void *opaque, struct worker_job *job, struct smd_error *err)
{
	struct copy *c = opaque;
	json *source = disk_source(&c->source, job, false, err), *target;

	if (!source)
		return -1;
	smd_json_set(job->request, "source", source);
	target = target_of_fd(c->v.fd, c->v.name, c->v.format, c->v.virtual_size, job, err);
	if (!target)
		return -1;
	smd_json_set(job->request, "target", target);
	smd_json_set_bool(job->request, "digest", digest_wanted(c->daemon, sr_ref(c->sr), NULL));
	worker_loads(job, sr_ref(c->sr));
	worker_loads(job, sr_ref(c->source.sr));
	return 0;
}

static int
copy_volume(struct copy *c, json **ret_result, struct smd_error *err)
{
	struct worker_job job = { 0 };
	const struct lasting_copy copy = { .v = &c->v, .job = &job, .fill = fill, .opaque = c };

	if (lasting_copy(c->lasting, &copy, ret_result, err) < 0)
		return smd_error_prefix(err, "VDI %s", c->source.uuid);
	plan_rate_seen(c->daemon, sr_uuid(c->source.sr), sr_ref(c->sr), *ret_result, false);
	return new_volume_publish(&c->v, err);
}

static json *
new_source(void *opaque, struct worker_job *job, struct smd_error *err)
{
	const struct copy *c = opaque;

	return source_of_fd(c->v.fd, c->v.name, c->v.format, false, false, job, err);
}

/* What an earlier run copied, whose digest ended with it. */
static int
read_copy(struct copy *c, json **ret_result, struct smd_error *err)
{
	const struct digest_reading reading = {
		.daemon = c->daemon, .task_ref = c->task_ref, .sr_ref = sr_ref(c->sr),
		.progress_from = PHASE_MOVES_TO, .progress_to = PHASE_MOVES_TO,
		.stoppable = true, .source = new_source, .opaque = c,
	};

	return digest_wanted(c->daemon, sr_ref(c->sr), NULL) ?
	       digest_read(&reading, ret_result, err) : 0;
}

static int
work(void *opaque, char **ret_ref, struct smd_error *err)
{
	struct copy *c = opaque;
	CLEANUP_JSON json *result = NULL;
	const char *digest;
	CLEANUP_FREE char *ref = c->into.vdi_ref ? smd_strdup(c->into.vdi_ref) : db_new_ref();

	if ((!c->v.published && copy_volume(c, &result, err) < 0) ||
	    (!smd_json_member(result, "digest") && read_copy(c, &result, err) < 0))
		return -1;
	digest = smd_json_str(result, "digest", NULL);
	phase_enter(c->daemon, c->task_ref, PHASE_SWITCH);
	/* Before the commit: a kill behind it leaves the task no other end. */
	digest_show(c->daemon, c->task_ref, digest, smd_json_str(result, "digest_absent", NULL));
	if (commit(c, ref, digest, err) < 0)
		return -1;
	phase_enter(c->daemon, c->task_ref, PHASE_CLEAN_UP);
	op_refresh(c->daemon, "VDI", ref);
	*ret_ref = TAKE_PTR(ref);
	return 0;
}

/* ---- The journal ---- */

static json *
disk_journal(const struct disk *disk)
{
	json *j = json_object_new_object();

	smd_json_set_str(j, "vdi", disk->vdi_ref);
	smd_json_set_str(j, "location", disk->location);
	smd_json_set_str(j, "format", disk->format);
	smd_json_set_int(j, "size", (int64_t)disk->virtual_size);
	return j;
}

static json *
journal(const struct copy *c)
{
	json *j = json_object_new_object();

	smd_json_set(j, "source", disk_journal(&c->source));
	if (c->into.vdi_ref)
		smd_json_set(j, "into", disk_journal(&c->into));
	smd_json_set_str(j, "from", sr_ref(c->source.sr));
	smd_json_set_str(j, "to", sr_ref(c->sr));
	smd_json_set_str(j, "volume", c->v.name);
	smd_json_set_int(j, "volume-size", (int64_t)c->v.virtual_size);
	return j;
}

int
copy_run(struct copy *c, const char *format, uint64_t virtual_size, char **ret_ref,
	 struct smd_error *err)
{
	CLEANUP_JSON json *undo = NULL, *redo = NULL, *resume = NULL;
	struct job_plan plan = { .resume = NULL };

	c->v = new_volume_name(c->daemon, c->sr, format, virtual_size);
	new_volume_plan(&c->v, &undo);
	if (c->into.vdi_ref)
		job_plan_add(&redo, sr_uuid(c->sr), c->into.location);
	c->journal = journal(c);
	c->lasting = &c->job;
	plan.undo = undo;
	plan.redo = redo;
	plan.resume = resume = journal(c);
	if (lasting_begin(&c->job, c->daemon, &copy_kind, c, c->task_ref, c->waits, &plan, err) < 0)
		return -1;
	return lasting_run(&c->job, ret_ref, err);
}

/* ---- Taking it up again ---- */

/* Open and lock a disk that must be the one of the plan. */
static int
open_disk(struct copy *c, json *j, bool write, struct disk *ret, struct smd_error *err)
{
	const char *ref = smd_json_str(j, "vdi", "");

	if (disk_find(c->daemon, ref, ret, err) < 0 ||
	    disk_open(c->daemon, ret, write, "copy", err) < 0)
		return -1;
	if (strcmp(ret->location, smd_json_str(j, "location", "")) == 0 &&
	    strcmp(ret->format, smd_json_str(j, "format", "")) == 0 &&
	    ret->virtual_size == (uint64_t)smd_json_int(j, "size", 0))
		return 0;
	return smd_fail_VDI_IN_USE(err, SMD_PARAMS(ref, "copy"),
				   "VDI %s is not what it was when its copy began; what was copied "
				   "is gone: ask for it again", ret->uuid);
}

static int
note_vdis(struct copy *c, json *source, json *into, struct smd_error *err)
{
	if (op_set_begin(c->ops, "VDI", smd_json_str(source, "vdi", ""), "copy", err) < 0)
		return -1;
	return into ? op_set_begin(c->ops, "VDI", smd_json_str(into, "vdi", ""), "mirror", err) : 0;
}

static int
open_again(void *opaque, struct smd_error *err)
{
	struct copy *c = opaque;
	json *source = smd_json_member(c->journal, "source"), *into = smd_json_member(c->journal, "into");
	const char *to = smd_json_str(c->journal, "to", "");

	if (note_vdis(c, source, into, err) < 0 || sr_use(c->daemon, to, &c->sr, err) < 0 ||
	    open_disk(c, source, false, &c->source, err) < 0 ||
	    (into && open_disk(c, into, true, &c->into, err) < 0) ||
	    op_set_begin(c->ops, "SR", sr_ref(c->source.sr), "vdi_copy", err) < 0 ||
	    op_set_begin(c->ops, "SR", to, "vdi_copy", err) < 0)
		return -1;
	c->v = new_volume_named(c->daemon, c->sr, smd_json_str(c->journal, "volume", ""),
				(uint64_t)smd_json_int(c->journal, "volume-size", 0));
	return new_volume_find(&c->v, err);
}

static void
close_files(struct copy *c)
{
	new_volume_done(&c->v);
	disk_done(&c->source);
	disk_done(&c->into);
	sr_release(c->sr);
	c->sr = NULL;
}

void
copy_done(struct copy *c)
{
	close_files(c);
	if (c->lasting == &c->job)
		lasting_done(&c->job, c->ops);
	json_object_put(c->journal);
	c->journal = NULL;
}

static void *
load(struct lasting *l, json *resume)
{
	struct copy *c = smd_calloc(1, sizeof *c);

	*c = (struct copy)COPY_INIT;
	c->daemon = l->daemon;
	c->task_ref = l->task_ref;
	c->lasting = l;
	c->journal = smd_json_copy(resume);
	c->ops = smd_calloc(1, sizeof *c->ops);
	op_set_init(c->ops, l->daemon, l->task_ref);
	return c;
}

static void
close_all(void *opaque)
{
	struct copy *c = opaque;

	close_files(c);
	op_set_leave(c->ops, "SR");
}

static void
free_all(void *opaque)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct copy *c = opaque;
	const char *to = smd_json_str(c->journal, "to", "");

	lasting_done(c->lasting, c->ops);
	op_set_done(c->ops);
	free(c->ops);
	sr_update_stats(c->daemon, to, &err);
	collect_kick(c->daemon, to);
	json_object_put(c->journal);
	free(c);
}

const struct lasting_kind copy_kind = {
	.name = "VDI.copy", .load = load, .open = open_again, .work = work, .close = close_all,
	.free = free_all,
};
