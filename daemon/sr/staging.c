/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/sr/staging.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/mem.h"
#include "daemon/job/job.h"

/* Behind the uuid of a temporary name, in the place of a format. */
#define STAGING_SUFFIX "staged"

static int
make_volumes(struct staging *s, struct smd_error *err)
{
	const struct smd_sr_driver *driver = sr_get_driver(s->sr);

	for (size_t i = 0; i < s->n; i++) {
		if (driver->volume_create(sr_handle(s->sr), s->volumes[i].tmp, 0, &s->volumes[i].fd,
					  err) < 0)
			return -1;
	}
	return 0;
}

int
staging_begin(struct daemon *daemon, const char *kind, struct sr *sr, size_t n,
	      struct staging *ret, struct smd_error *err)
{
	struct staging s CLEANUP_STAGING = STAGING_INIT;
	CLEANUP_JSON json *undo = NULL;

	assert(n > 0 && n <= STAGING_MAX);
	s.daemon = daemon;
	s.sr = sr;
	for (; s.n < n; s.n++) {
		struct staged *v = &s.volumes[s.n];

		v->fd = -1;
		v->uuid = smd_uuid_new();
		v->tmp = smd_asprintf(VOLUME_TMP_PREFIX "%s." STAGING_SUFFIX, v->uuid.text);
		job_plan_add(&undo, sr_uuid(sr), v->tmp);
	}
	if (job_begin(daemon, &(struct job_plan){ kind, undo, NULL, NULL }, &s.job_id, err) < 0 ||
	    make_volumes(&s, err) < 0)
		return -1;
	*ret = s;
	s = (struct staging)STAGING_INIT;
	return 0;
}

void
staging_keep(struct staging *s, size_t i, const char *format)
{
	struct staged *v = &s->volumes[i];

	free(v->name);
	v->name = format ? smd_asprintf("%s.%s", v->uuid.text, format) : NULL;
}

int
staging_publish(struct staging *s, struct smd_error *err)
{
	CLEANUP_JSON json *undo = NULL;

	for (size_t i = 0; i < s->n; i++) {
		const struct staged *v = &s->volumes[i];

		if (!v->name)
			continue;
		job_plan_add(&undo, sr_uuid(s->sr), v->name);
		if (fsync(v->fd) < 0)
			return smd_fail_IMAGE_IO(err, v->name, "%s: fsync: %s", v->name,
						 strerror(errno));
	}
	if (job_begin(s->daemon, &(struct job_plan){ "staging", undo, NULL, NULL }, &s->publish_id,
		      err) < 0)
		return -1;
	for (size_t i = 0; i < s->n; i++) {
		const struct staged *v = &s->volumes[i];

		if (v->name && sr_get_driver(s->sr)->volume_rename(sr_handle(s->sr), v->tmp, v->name,
								   err) < 0)
			return -1;
	}
	return 0;
}

int
staging_committed(struct staging *s, struct smd_error *err)
{
	return job_committed(s->daemon, s->publish_id, err);
}

void
staging_done(struct staging *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct staged *v = &s->volumes[i];

		if (v->fd >= 0)
			close(v->fd);
		free(v->tmp);
		free(v->name);
	}
	if (s->publish_id)
		job_end(s->daemon, s->publish_id);
	if (s->job_id)
		job_end(s->daemon, s->job_id);
	free(s->publish_id);
	free(s->job_id);
	*s = (struct staging)STAGING_INIT;
}
