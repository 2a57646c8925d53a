/* SPDX-License-Identifier: BSD-2-Clause */
#include "daemon/cli/progress.h"

#include <inttypes.h>
#include <string.h>

#include "common/mem.h"
#include "common/cleanup.h"

#define BAR_WIDTH 30

void
progress_start(struct progress *p, int wanted)
{
	bool terminal = isatty(STDERR_FILENO);

	*p = (struct progress){
		.on = wanted > 0 || (wanted < 0 && terminal), .terminal = terminal,
		.last_percent = -1,
	};
}

char *
progress_size(uint64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double n = (double)bytes;
	size_t unit = 0;

	while (n >= 1024 && unit < 6) {
		n /= 1024;
		unit++;
	}
	return smd_asprintf(unit == 0 ? "%.0f %s" : "%.1f %s", n, units[unit]);
}

static char *
progress_time(int64_t s)
{
	if (s >= 3600)
		return smd_asprintf("%" PRId64 ":%02" PRId64 ":%02" PRId64 " left", s / 3600,
				    s / 60 % 60, s % 60);
	return smd_asprintf("%" PRId64 ":%02" PRId64 " left", s / 60, s % 60);
}

char *
progress_text(const struct progress_state *state)
{
	double share = state->share > 1 ? 1 : state->share;
	int filled = share > 0 ? (int)(share * BAR_WIDTH) : 0;
	CLEANUP_FREE char *done = state->done || state->total ? progress_size(state->done) : NULL,
		     *total = state->total ? progress_size(state->total) : NULL,
		     *rate = state->rate ? progress_size(state->rate) : NULL,
		     *left = state->left_s >= 0 && share < 1 ? progress_time(state->left_s) : NULL;
	CLEANUP_FREE char *bar = NULL, *bytes = NULL, *speed = NULL;
	char cells[BAR_WIDTH + 1];

	memset(cells, ' ', BAR_WIDTH);
	memset(cells, '=', (size_t)filled);
	if (filled > 0 && filled < BAR_WIDTH)
		cells[filled] = '>';
	cells[BAR_WIDTH] = '\0';
	bar = share < 0 ? smd_strdup("") : smd_asprintf("%3d%% [%s]", (int)(share * 100), cells);
	bytes = smd_asprintf("%s%s%s%s", done ? " " : "", done ? done : "", total ? " of " : "",
			     total ? total : "");
	speed = smd_asprintf("%s%s%s", rate ? ", " : "", rate ? rate : "", rate ? "/s" : "");
	return smd_asprintf("%s%s%s%s%s", bar, bytes, speed, left ? ", " : "", left ? left : "");
}

void
progress_show(struct progress *p, const struct progress_state *state)
{
	CLEANUP_FREE char *text = NULL;
	int percent = state->share < 0 ? 0 : (int)(state->share * 100);
	int pad;

	if (!p->on || (!p->terminal && percent == p->last_percent))
		return;
	text = progress_text(state);
	p->last_percent = percent;
	if (!p->terminal) {
		fprintf(stderr, "%s\n", text);
		return;
	}
	pad = (int)p->last_len - (int)strlen(text);
	fprintf(stderr, "\r%s%*s", text, pad > 0 ? pad : 0, "");
	fflush(stderr);
	p->last_len = (unsigned)strlen(text);
}

void
progress_end(struct progress *p)
{
	if (p->on && p->terminal && p->last_percent >= 0)
		fputc('\n', stderr);
	p->on = false;
}
