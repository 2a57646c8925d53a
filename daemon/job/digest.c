/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/digest.h"

#include "common/mem.h"
#include "daemon/db/db.h"
#include "daemon/job/task.h"

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
