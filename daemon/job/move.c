/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/move.h"

#include <inttypes.h>

#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/again.h"
#include "daemon/job/digest.h"
#include "daemon/job/phase.h"
#include "daemon/job/task.h"
#include "daemon/sr/tree.h"

/* An open disk as a member of a request; the job is done with where that fails. */
static int
add_source(json *object, const char *member, struct disk *disk, struct worker_job *job,
	   struct smd_error *err)
{
	json *source = disk_source(disk, job, false, err);

	if (!source) {
		worker_job_done(job);
		return -1;
	}
	smd_json_set(object, member, source);
	return 0;
}

int
move_check_into(const struct disk *source, const struct disk *into, struct smd_error *err)
{
	if (smd_json_bool(into->record, "read_only", false))
		return smd_fail_VDI_READONLY(err, into->vdi_ref, "VDI %s is read-only: VDI.set_read_only "
					    "changes that", into->uuid);
	if (into->virtual_size < source->virtual_size)
		return smd_fail_VDI_TOO_SMALL(err, into->vdi_ref, SMD_U64(source->virtual_size),
					      "VDI %s has %" PRIu64 " bytes, and %" PRIu64
					      " are to be copied: VDI.resize makes it larger",
					      into->uuid, into->virtual_size, source->virtual_size);
	return 0;
}

int
move_check_base(const struct disk *source, const struct disk *base, struct smd_error *err)
{
	if (base->virtual_size <= source->virtual_size)
		return 0;
	return smd_fail_INVALID_VALUE(err, "base_vdi", base->vdi_ref,
				      "VDI %s has %" PRIu64 " bytes, more than VDI %s with its %" PRIu64
				      ", which is no later state of it", base->uuid,
				      base->virtual_size, source->uuid, source->virtual_size);
}

int
move_plan(const struct move *move, struct plan *plan, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();
	struct worker_job job = { .request = request, .task_ref = move->task_ref, .urgent = true };
	struct disk *disk = move->source;
	uint64_t size = format_round_size(move->daemon, move->format, disk->virtual_size);
	json *source, *target;

	source = disk_source(disk, &job, false, err);
	if (!source)
		return -1;
	smd_json_set(request, "source", source);
	target = target_of_fd(-1, "the new image", move->format, move->virtual_size, &job, err);
	smd_json_set(request, "target", target);
	if (move->base && add_source(target, "parents", move->base, &job, err) < 0)
		return -1;
	/* What is copied is the disk of the row; the source goes when it has been. */
	return plan_image(plan, &job, disk, &size, NULL, err);
}

int
move_check(const struct move *move, struct smd_error *err)
{
	struct plan plan = {
		.daemon = move->daemon, .from = move->source->sr, .to = move->sr,
	};

	phase_begin(move->daemon, move->task_ref, move->reads);
	if (move_plan(move, &plan, err) < 0)
		return -1;
	return plan_room(&plan, err);
}

static void
show_moves(void *opaque, bool reads_back)
{
	const struct move *move = opaque;

	phase_enter(move->daemon, move->task_ref, reads_back ? PHASE_VERIFY : PHASE_COPY);
}

struct difference {
	struct move move;
	double progress_to;
	move_target_fn *target;
	void *opaque;
};

/* What another worker left undone the next one finds by the same comparison. */
static int
fill_difference(void *opaque, struct worker_job *job, struct smd_error *err)
{
	struct difference *d = opaque;
	const struct move *move = &d->move;
	json *target = d->target(d->opaque, true, job, err);

	if (!target)
		return -1;
	smd_json_set_str(job->request, "op", "update");
	smd_json_set(job->request, "onto", target);
	smd_json_set_int(job->request, "quota", (int64_t)move->virtual_size);
	job->task_ref = move->task_ref;
	job->moves = show_moves;
	job->opaque = &d->move;
	job->progress_from = PHASE_MOVES_FROM;
	job->progress_to = d->progress_to;
	worker_loads(job, sr_ref(move->sr));
	worker_loads(job, sr_ref(move->source->sr));
	if (add_source(job->request, "source", move->source, job, err) < 0)
		return -1;
	return add_source(job->request, "base", move->base, job, err);
}

static json *
difference_source(void *opaque, struct worker_job *job, struct smd_error *err)
{
	const struct difference *d = opaque;

	return d->target(d->opaque, false, job, err);
}

/* What did not differ has not passed by. */
static int
read_difference(struct difference *d, json **ret, struct smd_error *err)
{
	const struct move *move = &d->move;
	const struct digest_reading reading = {
		.daemon = move->daemon, .task_ref = move->task_ref, .sr_ref = sr_ref(move->sr),
		.progress_from = d->progress_to, .progress_to = PHASE_MOVES_TO,
		.source = difference_source, .opaque = d,
	};

	phase_enter(move->daemon, move->task_ref, PHASE_VERIFY);
	return digest_read(&reading, ret, err);
}

int
move_difference(const struct move *move, move_target_fn *target, void *opaque,
		char **ret_digest, struct smd_error *err)
{
	struct difference d = { .move = *move, .target = target, .opaque = opaque };
	CLEANUP_JSON json *result = NULL;

	d.progress_to = move->reads ? PHASE_VERIFIES_FROM : PHASE_MOVES_TO;
	phase_enter(move->daemon, move->task_ref, PHASE_RESERVE);
	if (again_run(move->daemon, fill_difference, &d, &result, err) < 0 ||
	    (move->reads && read_difference(&d, &result, err) < 0)) {
		smd_error_prefix(err, "VDI %s", move->source->uuid);
		return volume_fail(move->sr, err);
	}
	*ret_digest = smd_json_dup(result, "digest");
	digest_show(move->daemon, move->task_ref, *ret_digest,
		    smd_json_str(result, "digest_absent", NULL));
	phase_enter(move->daemon, move->task_ref, PHASE_SWITCH);
	return 0;
}

int
move_replace(struct disk *disk, struct new_volume *v, const char *digest, const char *task_ref,
	     struct smd_error *err)
{
	struct db *db = v->daemon->db;

	if (db_begin(db, DB_DURABLE, err) < 0)
		return -1;
	if (new_volume_give(v, disk->vdi_ref, err) < 0 ||
	    digest_set_row(v->daemon, disk->vdi_ref, digest, err) < 0 ||
	    tree_set_parent(db, disk->vdi_ref, NULL, err) < 0 ||
	    task_promise(v->daemon->tasks, task_ref, disk->vdi_ref, err) < 0 ||
	    new_volume_committed(v, err) < 0) {
		db_rollback(db);
		return -1;
	}
	if (db_commit(db, err) < 0)
		return -1;
	records_forget(disk->sr, disk->location);
	return 0;
}
