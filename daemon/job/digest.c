/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/digest.h"

#include <string.h>

#include "common/mem.h"
#include "daemon/config.h"
#include "daemon/db/db.h"
#include "daemon/job/again.h"
#include "daemon/job/task.h"

/* ---- Reading a disk ---- */

bool
digest_wanted(struct daemon *daemon, const char *sr_ref, const char *verify)
{
	struct smd_error ignored CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *configured = config_str(daemon->config, "read_for_digests");
	CLEANUP_FREE char *text = NULL;

	if (verify && *verify)
		return strcmp(verify, "false") != 0 && strcmp(verify, "0") != 0;
	if (db_map_get(daemon->db, "SR", sr_ref, "other_config", DIGEST_READ_KEY, &text,
		       &ignored) == 0 && text)
		return strcmp(text, "no") != 0;
	return strcmp(configured, "no") != 0;
}

static int
fill_reading(void *opaque, struct worker_job *job, struct smd_error *err)
{
	const struct digest_reading *r = opaque;
	json *source = r->source(r->opaque, job, err);

	if (!source)
		return -1;
	smd_json_set_str(job->request, "op", "checksum");
	smd_json_set(job->request, "source", source);
	job->task_ref = r->task_ref;
	job->progress_from = r->progress_from;
	job->progress_to = r->progress_to;
	job->stoppable = r->stoppable;
	worker_loads(job, r->sr_ref);
	return 0;
}

int
digest_read(const struct digest_reading *r, json **ret, struct smd_error *err)
{
	struct digest_reading reading = *r;
	json *result = NULL;

	if (again_run(r->daemon, fill_reading, &reading, &result, err) < 0)
		return -1;
	json_object_put(*ret);
	*ret = result;
	return 0;
}

/* ---- What is told of it ---- */

void
digest_set(json *other_config, const char *digest)
{
	CLEANUP_FREE char *now = db_now();

	json_object_object_del(other_config, DIGEST_KEY);
	json_object_object_del(other_config, DIGEST_TIME_KEY);
	if (!digest)
		return;
	smd_json_set_str(other_config, DIGEST_KEY, digest);
	smd_json_set_str(other_config, DIGEST_TIME_KEY, now);
}

int
digest_set_row(struct daemon *daemon, const char *vdi_ref, const char *digest,
	       struct smd_error *err)
{
	CLEANUP_JSON json *other = NULL;

	if (db_get(daemon->db, "VDI", vdi_ref, "other_config", &other, err) < 0)
		return -1;
	if (!digest && !smd_json_member(other, DIGEST_KEY))
		return 0;
	digest_set(other, digest);
	return db_set(daemon->db, "VDI", vdi_ref, "other_config", other, err);
}

void
digest_show(struct daemon *daemon, const char *task_ref, const char *digest, const char *absent)
{
	if (digest)
		task_note(daemon->tasks, task_ref, SMD_PARAMS("digest", digest));
	else
		task_note(daemon->tasks, task_ref, SMD_PARAMS("digest_absent", absent ? absent :
			  "smd was ended when the copy was over"));
}
