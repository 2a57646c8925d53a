/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/land.h"

#include <string.h>

#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/again.h"
#include "daemon/job/digest.h"
#include "daemon/job/phase.h"
#include "daemon/job/plan.h"
#include "daemon/job/task.h"
#include "daemon/sr/tree.h"

#define BASE_NAME "base copy"	/* as XenServer's SRs name them */

/* One image of the chain, where it is and where it goes. */
struct landed {
	struct staged *staged;
	char *found_format;
	uint64_t virtual_size;
	bool writable;
	struct new_volume volume;	/* converted */
	char *digest_sum;		/* what that of the next is found from */
	char *ref;
};

struct land {
	const struct landing *l;
	size_t n;			/* leaf first */
	struct landed images[STAGING_MAX];
	char *format;			/* of the result */
	size_t n_converted;
	char *digest, *digest_absent;	/* of the leaf */
};

static void
land_done(struct land *land)
{
	for (size_t i = 0; i < STAGING_MAX; i++) {
		new_volume_done(&land->images[i].volume);
		free(land->images[i].found_format);
		free(land->images[i].ref);
		free(land->images[i].digest_sum);
	}
	free(land->format);
	free(land->digest);
	free(land->digest_absent);
}

/* The answer of a worker that has read hostile bytes. */
static int
land_parse(struct land *land, struct smd_error *err)
{
	json *list = land->l->images;
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	struct staging *staging = land->l->staging;

	for (size_t i = 0; i < STAGING_MAX; i++)
		land->images[i].volume = (struct new_volume)NEW_VOLUME_INIT;
	for (; land->n < n && n <= staging->n; land->n++) {
		json *entry = json_object_array_get_idx(list, land->n);
		struct landed *image = &land->images[land->n];
		int64_t volume = smd_json_int(entry, "volume", -1);

		if (volume < 0 || volume >= (int64_t)staging->n)
			break;
		image->staged = &staging->volumes[volume];
		image->found_format = smd_strdup(smd_json_str(entry, "format", ""));
		image->virtual_size = (uint64_t)smd_json_int(entry, "virtual-size", 0);
		image->writable = smd_json_bool(entry, "writable", false);
		if (!storage_format(land->l->daemon, image->found_format))
			break;
	}
	if (n > 0 && land->n == n)
		return 0;
	return smd_fail_JOB_WORKER_FAILED(err, "import-image", "its answer makes no sense",
					  "import-image: the worker's answer makes no sense");
}

static bool
format_can(struct daemon *daemon, const char *format, const char *cap)
{
	json *caps = smd_json_member(storage_format(daemon, format), "caps");

	for (size_t i = 0; caps && i < json_object_array_length(caps); i++) {
		if (strcmp(json_object_get_string(json_object_array_get_idx(caps, i)), cap) == 0)
			return true;
	}
	return false;
}

static bool
sr_takes(struct daemon *daemon, const char *ref, const char *format)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_JSON json *names = NULL;

	if (sr_formats(daemon, ref, &names, &err) < 0)
		return false;
	for (size_t i = 0; i < json_object_array_length(names); i++) {
		if (strcmp(json_object_get_string(json_object_array_get_idx(names, i)), format) == 0)
			return true;
	}
	return json_object_array_length(names) == 0;
}

/* In which format, and as how many images. */
static int
land_choose(struct land *land, struct smd_error *err)
{
	const struct landing *l = land->l;
	const char *sr = sr_ref(l->staging->sr), *asked = l->format;
	const struct landed *leaf = &land->images[0];
	bool as_it_is;

	if (!*asked && sr_takes(l->daemon, sr, leaf->found_format))
		asked = leaf->found_format;
	if (sr_choose_format(l->daemon, sr, asked, leaf->virtual_size, "", &land->format, err) < 0)
		return -1;
	as_it_is = strcmp(land->format, leaf->found_format) == 0 && leaf->writable &&
		   (!l->flatten || land->n == 1);
	if (!as_it_is)
		land->n_converted = l->flatten || !format_can(l->daemon, land->format, "parent") ?
				    1 : land->n;
	return 0;
}

/* ---- Another format, or one disk ---- */

/* S: the images from the i-th down, as they came. */
static json *
found_source(const struct land *land, size_t i, struct worker_job *job, struct smd_error *err)
{
	const struct landed *image = &land->images[i];
	CLEANUP_JSON json *source = source_of_fd(image->staged->fd, image->staged->uuid.text,
						 image->found_format, false, false, job, err);

	while (source && ++i < land->n) {
		image = &land->images[i];
		if (source_add(source, image->staged->fd, image->staged->uuid.text,
			       image->found_format, job, err) < 0)
			return NULL;
	}
	return TAKE_PTR(source);
}

/* The converted ones below the i-th; NULL without err: none. */
static json *
converted_source(const struct land *land, size_t i, struct worker_job *job,
		 struct smd_error *err)
{
	CLEANUP_JSON json *source = NULL;

	while (++i < land->n_converted) {
		const struct new_volume *v = &land->images[i].volume;

		if (!source) {
			source = source_of_fd(v->fd, v->name, v->format, false, false, job, err);
			if (!source)
				return NULL;
		} else if (source_add(source, v->fd, v->name, v->format, job, err) < 0) {
			return NULL;
		}
	}
	return TAKE_PTR(source);
}

/* Both sides of a request about the i-th image; the job is done with where that fails. */
static int
land_sides(const struct land *land, size_t i, struct worker_job *job, struct smd_error *err)
{
	const struct new_volume *v = &land->images[i].volume;
	bool overlay = i + 1 < land->n_converted, convert = v->fd >= 0;
	json *source = found_source(land, i, job, err), *target, *parents;

	if (!source)
		goto fail;
	smd_json_set(job->request, "source", source);
	target = target_of_fd(v->fd, convert ? v->name : "the new image", land->format,
			      land->images[i].virtual_size, job, err);
	if (!target)
		goto fail;
	smd_json_set(job->request, "target", target);
	if (overlay)
		smd_json_set_int(target, "upper", 1);
	if (overlay && convert) {
		parents = converted_source(land, i, job, err);
		if (!parents)
			goto fail;
		smd_json_set(target, "parents", parents);
		smd_json_set_str(target, "parent_name", land->images[i + 1].volume.name);
		if (land->images[i + 1].digest_sum)
			smd_json_set_str(target, "below_sum", land->images[i + 1].digest_sum);
	}
	worker_loads(job, sr_ref(land->l->staging->sr));
	return 0;
fail:
	worker_job_done(job);
	return -1;
}

static int
land_plan(const struct land *land, struct smd_error *err)
{
	struct plan plan = { .daemon = land->l->daemon, .to = land->l->staging->sr };

	for (size_t i = 0; i < land->n_converted; i++) {
		CLEANUP_JSON json *request = json_object_new_object();
		struct worker_job job = { .request = request, .urgent = true };

		if (land_sides(land, i, &job, err) < 0 ||
		    plan_image(&plan, &job, NULL, NULL, NULL, err) < 0)
			return -1;
	}
	return plan_room(&plan, err);
}

/* The i-th image's conversion, for every worker that is needed. */
struct converting {
	struct land *land;
	size_t i;
	double from, to;		/* of the task */
};

static int
fill_convert(void *opaque, struct worker_job *job, struct smd_error *err)
{
	const struct converting *c = opaque;
	const struct landing *l = c->land->l;

	job->task_ref = l->task_ref;
	job->progress_from = c->from;
	job->progress_to = c->to;
	smd_json_set_str(job->request, "op", "convert");
	smd_json_set_bool(job->request, "verify", l->verify);
	smd_json_set_bool(job->request, "digest", l->reads);
	if (new_volume_empty(&c->land->images[c->i].volume, err) < 0)
		return -1;
	return land_sides(c->land, c->i, job, err);
}

/* From the base up, since each lies on the one before it. */
static int
land_convert(struct land *land, struct smd_error *err)
{
	const struct landing *l = land->l;
	double share = (l->progress_to - l->progress_from) / (double)land->n_converted;

	if (share > 0)
		phase_enter(l->daemon, l->task_ref, PHASE_VERIFY);
	if (land_plan(land, err) < 0)
		return -1;
	for (size_t i = land->n_converted; i-- > 0;) {
		double from = l->progress_from + share * (double)(land->n_converted - 1 - i);
		struct converting converting = { land, i, from, from + share };
		CLEANUP_JSON json *result = NULL;
		struct landed *image = &land->images[i];
		uint64_t size = format_round_size(l->daemon, land->format, image->virtual_size);

		if (new_volume_begin(l->daemon, "import_image", l->staging->sr, land->format, size,
				     NULL, NULL, &image->volume, err) < 0)
			return -1;
		if (again_run(l->daemon, fill_convert, &converting, &result, err) < 0)
			return volume_fail(l->staging->sr, err);
		image->digest_sum = smd_json_dup(result, "digest_sum");
		free(land->digest);
		free(land->digest_absent);
		land->digest = smd_json_dup(result, "digest");
		land->digest_absent = smd_json_dup(result, "digest_absent");
		if (new_volume_publish(&image->volume, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- As it came ---- */

static json *
kept_source(void *opaque, struct worker_job *job, struct smd_error *err)
{
	return found_source(opaque, 0, job, err);
}

static int
land_read(struct land *land, struct smd_error *err)
{
	const struct landing *l = land->l;
	const struct digest_reading reading = {
		.daemon = l->daemon, .task_ref = l->task_ref, .sr_ref = sr_ref(l->staging->sr),
		.progress_from = l->progress_from, .progress_to = l->progress_to,
		.source = kept_source, .opaque = land,
	};
	CLEANUP_JSON json *result = NULL;

	phase_enter(l->daemon, l->task_ref, PHASE_VERIFY);
	if (digest_read(&reading, &result, err) < 0)
		return -1;
	land->digest = smd_json_dup(result, "digest");
	return 0;
}

static int
land_keep(struct land *land, struct smd_error *err)
{
	const struct landing *l = land->l;

	if (l->reads && land_read(land, err) < 0)
		return -1;
	if (!l->reads)
		land->digest_absent = smd_strdup("it is as it came, and was not to be read");
	for (size_t i = 0; i < land->n; i++)
		staging_keep(l->staging, (size_t)(land->images[i].staged - l->staging->volumes),
			     land->format);
	return staging_publish(l->staging, err) < 0 ? volume_fail(l->staging->sr, err) : 0;
}

/* ---- The rows ---- */

static json *
row_of(const struct land *land, size_t i)
{
	const struct landed *image = &land->images[i];
	const struct landing *l = land->l;
	const struct new_volume *v = &image->volume;
	const char *name = v->name ? v->name : image->staged->name;
	json *row = json_object_new_object(), *sm_config = json_object_new_object();
	json *other_config = json_object_new_object();

	if (i == 0)
		digest_set(other_config, land->digest);
	smd_json_set(row, "other_config", other_config);
	smd_json_set_str(row, "uuid", v->name ? v->uuid.text : image->staged->uuid.text);
	smd_json_set_str(row, "name_label", i == 0 ? l->name_label : BASE_NAME);
	smd_json_set_str(row, "name_description", i == 0 ? l->name_description : "");
	smd_json_set_str(row, "type", "user");
	smd_json_set_str(row, "SR", sr_ref(l->staging->sr));
	smd_json_set_str(row, "location", name);
	smd_json_set_int(row, "virtual_size",
			 (int64_t)(v->name ? v->virtual_size : image->virtual_size));
	smd_json_set_int(row, "physical_utilisation",
			 (int64_t)volume_allocated(l->staging->sr, name));
	smd_json_set_bool(row, "managed", i == 0);
	smd_json_set_bool(row, "read_only", i > 0);
	smd_json_set_str(sm_config, "image-format", land->format);
	smd_json_set(row, "sm_config", sm_config);
	return row;
}

static int
land_rows(struct land *land, size_t n, struct smd_error *err)
{
	struct db *db = land->l->daemon->db;

	for (size_t i = n; i-- > 0;) {
		CLEANUP_JSON json *row = row_of(land, i);
		struct landed *image = &land->images[i];

		image->ref = db_new_ref();
		if (db_insert(db, "VDI", image->ref, row, err) < 0 ||
		    (i + 1 < n && tree_set_parent(db, image->ref, land->images[i + 1].ref, err) < 0))
			return -1;
		if (image->volume.name && new_volume_committed(&image->volume, err) < 0)
			return -1;
	}
	if (!land->n_converted && staging_committed(land->l->staging, err) < 0)
		return -1;
	return task_promise(land->l->daemon->tasks, land->l->task_ref, land->images[0].ref, err);
}

/* Base first, in one transaction with the end of the jobs' undo. */
static int
land_commit(struct land *land, struct smd_error *err)
{
	size_t n = land->n_converted ? land->n_converted : land->n;
	struct daemon *daemon = land->l->daemon;

	if (db_begin(daemon->db, DB_DURABLE, err) < 0)
		return -1;
	if (db_end(daemon->db, land_rows(land, n, err), err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		op_refresh(daemon, "VDI", land->images[i].ref);
	return 0;
}

int
land_images(const struct landing *l, char **ret_ref, struct smd_error *err)
{
	CLEANUP(land_done) struct land land = { .l = l };

	if (land_parse(&land, err) < 0 || land_choose(&land, err) < 0)
		return -1;
	if ((land.n_converted ? land_convert(&land, err) : land_keep(&land, err)) < 0)
		return -1;
	phase_enter(l->daemon, l->task_ref, PHASE_SWITCH);
	/* Before the commit: a kill behind it leaves the task no other end. */
	digest_show(l->daemon, l->task_ref, land.digest, land.digest_absent);
	if (land_commit(&land, err) < 0)
		return -1;
	*ret_ref = TAKE_PTR(land.images[0].ref);
	return 0;
}
