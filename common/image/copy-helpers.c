/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Processes that do a part of the work.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/image/copy-impl.h"

/* Which ends with who started it, and leaves to that one what is to be done at the end. */
static void
helper_run(pid_t parent, void (*work)(void *opaque), void *opaque)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent)
		work(opaque);
	_exit(0);
}

unsigned
helpers_start(struct helpers *helpers, unsigned n, void (*work)(void *opaque), void *opaque)
{
	pid_t parent = getpid();

	for (helpers->n = 0; helpers->n < n; helpers->n++) {
		pid_t pid = fork();

		if (pid == 0)
			helper_run(parent, work, opaque);
		if (pid < 0)
			break;
		helpers->pids[helpers->n] = pid;
	}
	return helpers->n;
}

void
helpers_end(struct helpers *helpers, bool at_once)
{
	for (unsigned i = 0; i < helpers->n; i++) {
		if (at_once && waitpid(helpers->pids[i], NULL, WNOHANG) == 0)
			kill(helpers->pids[i], SIGKILL);
		while (waitpid(helpers->pids[i], NULL, 0) < 0 && errno == EINTR)
			;
	}
}
