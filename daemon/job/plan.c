/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/plan.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/log.h"
#include "common/mem.h"
#include "daemon/db/db.h"

#define RATE_KEY "rate-from-"		/* in SR.sm_config, before the source's uuid */
#define RATE_LEAST (4u << 20)		/* bytes of a copy that says something */

/* A merge that was cut off may have grown a hidden node, whose row does not say so. */
static int
check_size(const struct disk *source, uint64_t measured, uint64_t *size, struct smd_error *err)
{
	if (!source || measured == *size)
		return 0;
	if (measured > *size && !smd_json_bool(source->record, "managed", true)) {
		*size = measured;
		return 0;
	}
	return smd_fail_IMAGE_CORRUPT(err, source->location, "BAD_SIZE",
				      "VDI %s is known to have %" PRIu64 " bytes, and its volume has "
				      "been changed to another size: SR.scan takes that over",
				      source->uuid, source->virtual_size);
}

int
plan_image(struct plan *plan, struct worker_job *job, const struct disk *source, uint64_t *size,
	   uint64_t *ret_data, struct smd_error *err)
{
	CLEANUP_JSON json *result = NULL;

	smd_json_set_str(job->request, "op", "measure");
	smd_json_set_bool(job->request, "exact", plan->exact);
	if (worker_run(plan->daemon, job, &result, err) < 0)
		return source ? smd_error_prefix(err, "VDI %s", source->uuid) : -1;
	if (check_size(source, (uint64_t)smd_json_int(result, "virtual-size", 0), size, err) < 0)
		return -1;
	plan->n++;
	plan->required += (uint64_t)smd_json_int(result, "allocated", 0);
	if (plan->from && sr_shares(plan->from, plan->to))
		plan->shared += (uint64_t)smd_json_int(result, "shareable", 0);
	plan->data += (uint64_t)smd_json_int(result, "data", 0);
	if (ret_data)
		*ret_data = (uint64_t)smd_json_int(result, "data", 0);
	return 0;
}

int
plan_room(const struct plan *plan, struct smd_error *err)
{
	return sr_check_room(plan->to, plan_needs(plan), err);
}

/* ---- The rate ---- */

uint64_t
plan_rate(struct daemon *daemon, const char *from_uuid, const char *to_ref)
{
	CLEANUP_FREE char *key = smd_asprintf(RATE_KEY "%s", from_uuid), *text = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;

	if (db_map_get(daemon->db, "SR", to_ref, "sm_config", key, &text, &err) < 0 || !text)
		return 0;
	return strtoull(text, NULL, 10);	/* clients may write there: what is no number is 0 */
}

void
plan_rate_seen(struct daemon *daemon, const char *from_uuid, const char *to_ref, json *result,
	       bool verified)
{
	CLEANUP_FREE char *key = smd_asprintf(RATE_KEY "%s", from_uuid), *text = NULL;
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	double bytes = (double)smd_json_int(result, "data", 0) * (verified ? 2 : 1);
	double seconds = json_object_get_double(smd_json_member(result, "seconds"));
	double rate = seconds > 0 ? bytes / seconds : 0, before;

	/* Of one that was cut off the seconds are its last worker's alone. */
	if (bytes < RATE_LEAST || rate < 1 || smd_json_int(result, "resumed_at", 0) > 0 ||
	    smd_json_bool(result, WORKER_HELD_BACK, false))
		return;
	before = (double)plan_rate(daemon, from_uuid, to_ref);
	if (before >= 1)
		rate = (before + rate) / 2;
	text = smd_asprintf("%.0f", rate);
	if (db_map_set(daemon->db, "SR", to_ref, "sm_config", key, text, &err) < 0)
		smd_log(SMD_LOG_WARNING, "the rate of copies into SR %s: %s", to_ref, err.message);
}
