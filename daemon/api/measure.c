/* SPDX-License-Identifier: BSD-2-Clause */
/* VDI.measure, SR.measure. */
#include "daemon/job/measure.h"

#include "daemon/api/handlers.h"

static int
vdi_measure(struct call *call, json **ret, struct smd_error *err)
{
	return measure_move(call->daemon, call->task_ref, call_str(call, 0), call_str(call, 1),
			    call_arg(call, 2), ret, err);
}

static int
sr_measure(struct call *call, json **ret, struct smd_error *err)
{
	return measure_arrival(call->daemon, call_str(call, 0), call_arg(call, 1), ret, err);
}

const struct call_binding api_measure_handlers[] = {
	{ "SR.measure", sr_measure },
	{ "VDI.measure", vdi_measure },
	{ NULL, NULL },
};
