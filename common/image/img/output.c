/* SPDX-License-Identifier: BSD-2-Clause */
#include <inttypes.h>
#include <string.h>

#include "common/image/img/img.h"
#include "common/clock.h"
#include "common/mem.h"

#define BAR_WIDTH 30
#define SHOW_INTERVAL_MS 200

void
img_print_json(json *value)
{
	puts(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_NOSLASHESCAPE |
					    JSON_C_TO_STRING_SPACED));
}

/* The class of an image's fault, of plugins/smd-format.h; "": not an image's. */
static const char *
error_reason(const struct smd_error *err)
{
	if (smd_error_is(err, SMD_E_IMAGE_CORRUPT) || smd_error_is(err, SMD_E_IMAGE_UNSUPPORTED))
		return err->params[1];
	return smd_error_is(err, SMD_E_IMAGE_IO) ? "IO" : "";
}

void
img_print_error(const struct img_options *o, const struct smd_error *err)
{
	fprintf(stderr, "smd-img: %s\n", err->message);
	if (o->json) {
		CLEANUP_JSON json *line = json_object_new_object();
		json *error = smd_json_from_error(err);

		smd_json_set_str(error, "reason", error_reason(err));
		smd_json_set(line, "error", error);
		img_print_json(line);
	}
}

static char *
scaled(double n, const char *per)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	size_t u = 0;

	while (n >= 1024 && u + 1 < sizeof units / sizeof *units) {
		n /= 1024;
		u++;
	}
	return smd_asprintf("%.3g %s%s", n, units[u], per);
}

char *
img_size_text(uint64_t size)
{
	CLEANUP_FREE char *short_text = scaled((double)size, "");

	return smd_asprintf("%s (%" PRIu64 " bytes)", short_text, size);
}

void
img_progress_start(struct img_progress *p, bool enabled)
{
	*p = (struct img_progress){ .enabled = enabled, .started_ms = smd_now_ms() };
}

int
img_progress_show(void *opaque, uint64_t done, uint64_t total)
{
	struct img_progress *p = opaque;
	uint64_t now = smd_now_ms(), spent = now - p->started_ms;
	double part = total ? (double)done / (double)total : 1;
	CLEANUP_FREE char *rate = NULL;
	char bar[BAR_WIDTH + 1];

	if (!p->enabled || (now - p->shown_ms < SHOW_INTERVAL_MS && done != total))
		return 0;
	p->shown_ms = now;
	memset(bar, '-', BAR_WIDTH);
	memset(bar, '#', (size_t)(part * BAR_WIDTH));
	bar[BAR_WIDTH] = '\0';
	rate = scaled(spent ? (double)done * 1000 / (double)spent : 0, "/s");
	fprintf(stderr, "\r[%s] %5.1f%%  %12s", bar, part * 100, rate);
	if (part > 0 && spent > 1000)
		fprintf(stderr, "  %4.0f s left ", (double)spent / 1000 * (1 / part - 1));
	fflush(stderr);
	return 0;
}

void
img_progress_end(struct img_progress *p)
{
	if (p->enabled && p->shown_ms)
		fputc('\n', stderr);
}

void
img_copy_options(const struct img_options *o, struct img_progress *progress,
		 struct smd_copy_options *ret)
{
	img_progress_start(progress, o->progress);
	*ret = (struct smd_copy_options){
		.n_threads = o->n_threads,
		.bytes_per_second = o->rate,
		.verify = o->verify,
		.compress = o->compress || o->small,
		.small = o->small,
		.progress = img_progress_show,
		.opaque = progress,
	};
}
