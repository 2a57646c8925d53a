/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/again.h"

#include <signal.h>

#include "common/log.h"

bool
again_may(const struct worker_job *job, const struct smd_error *err)
{
	return smd_error_is(err, SMD_E_JOB_WORKER_FAILED) && job->signal != SIGSYS &&
	       job->signal != SIGXCPU && job->signal != SIGXFSZ;
}

static int
run_once(struct daemon *daemon,
	 int (*fill)(void *opaque, struct worker_job *job, struct smd_error *err), void *opaque,
	 struct worker_job *job, json **ret, struct smd_error *err)
{
	CLEANUP_JSON json *request = json_object_new_object();

	job->request = request;
	if (fill(opaque, job, err) < 0) {
		worker_job_done(job);
		return -1;
	}
	return worker_run(daemon, job, ret, err);
}

int
again_run(struct daemon *daemon,
	  int (*fill)(void *opaque, struct worker_job *job, struct smd_error *err), void *opaque,
	  json **ret, struct smd_error *err)
{
	for (int tries = 1;; tries++) {
		struct worker_job job = { 0 };

		if (run_once(daemon, fill, opaque, &job, ret, err) == 0)
			return 0;
		if (tries == AGAIN_TRIES || !again_may(&job, err))
			return -1;
		smd_log_fields(SMD_LOG_WARNING, SMD_FIELDS("TASK", job.task_ref),
			       "another worker takes over: %s", err->message);
		smd_error_clear(err);
	}
}
