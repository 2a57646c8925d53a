/* SPDX-License-Identifier: BSD-2-Clause */
/* A bar on standard error: share, bytes, rate, time left. */
#ifndef SMD_DAEMON_CLI_PROGRESS_H
#define SMD_DAEMON_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool on;
	bool terminal;		/* a bar that redraws itself; else a line a percent */
	int last_percent;	/* -1: nothing shown yet */
	unsigned last_len;	/* of the bar on the screen */
};

struct progress_state {
	double share;		/* 0..1; negative: unknown */
	uint64_t done, total;	/* bytes; total 0: unknown */
	uint64_t rate;		/* bytes per second; 0: unknown */
	int64_t left_s;		/* negative: unknown */
};

/* wanted: 1 always, 0 never, -1 when standard error is a terminal. */
void progress_start(struct progress *p, int wanted);
void progress_show(struct progress *p, const struct progress_state *state);
/* Leave the last bar and go to a new line. */
void progress_end(struct progress *p);

/* The text of a bar, without "\r"; the caller frees. */
char *progress_text(const struct progress_state *state);
/* "1.5 GiB"; the caller frees. */
char *progress_size(uint64_t bytes);

#endif
