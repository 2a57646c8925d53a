/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/job/phase.h"

#include "common/error.h"
#include "daemon/job/task.h"

/* Of what moves bytes the task says itself how far it is. */
static const struct {
	const char *name;
	double from;
} phases[] = {
	[PHASE_PLAN] = { "plan", 0 },
	[PHASE_RESERVE] = { "reserve", 0.01 },
	[PHASE_COPY] = { "copy", PHASE_MOVES_FROM },
	[PHASE_VERIFY] = { "verify", PHASE_MOVES_FROM },
	[PHASE_SWITCH] = { "switch", PHASE_MOVES_TO },
	[PHASE_CLEAN_UP] = { "clean-up", 0.99 },
};

void
phase_begin(struct daemon *daemon, const char *task_ref, bool verifies)
{
	task_note(daemon->tasks, task_ref, SMD_PARAMS(
		  "phases", verifies ? "plan=1 reserve=1 copy=48 verify=48 switch=1 clean-up=1"
				     : "plan=1 reserve=1 copy=96 switch=1 clean-up=1",
		  "phase", phases[PHASE_PLAN].name));
}

void
phase_begin_download(struct daemon *daemon, const char *task_ref)
{
	task_note(daemon->tasks, task_ref, SMD_PARAMS("phases", "plan=2 copy=96 clean-up=2",
						      "phase", phases[PHASE_PLAN].name));
}

void
phase_enter(struct daemon *daemon, const char *task_ref, enum phase phase)
{
	task_note(daemon->tasks, task_ref, SMD_PARAMS("phase", phases[phase].name));
	task_progress(daemon->tasks, task_ref, phases[phase].from);
}
