/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/image-case.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/uuid.h"

void
image_die(const struct smd_error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("FAILED: ", stderr);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s%s\n", err && err->message ? ": " : "",
		err && err->message ? err->message : "");
	exit(1);
}

void
image_modules(void)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	const char *dirs = getenv("SMD_PLUGIN_PATH");

	if (!dirs)
		image_die(NULL, "SMD_PLUGIN_PATH is not set");
	if (smd_formats_load(dirs, &err) != 0)
		image_die(&err, "modules");
}

void
image_spec_parse(const char *text, struct image_spec *ret)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	CLEANUP_FREE char *copy = smd_strdup(text);
	char *rest = copy;
	const char *format = strsep(&rest, ",");
	const char *size = strsep(&rest, ",");
	char *option;

	memset(ret, 0, sizeof *ret);
	if (!size || smd_format_get(format, &ret->format, &err) != 0 ||
	    smd_size_parse(size, &ret->size, &err) != 0)
		image_die(&err, "%s: no FORMAT,SIZE", text);
	while ((option = strsep(&rest, ","))) {
		const char *name = strsep(&option, "=");

		if (smd_options_add(&ret->options, ret->format, name, option ? option : "", &err) != 0)
			image_die(&err, "%s", text);
	}
}

int
image_create(const struct image_spec *spec, struct smd_io *io, struct smd_chain *parent,
	     const char *parent_name, struct smd_error *err)
{
	struct smd_create params = {
		.virtual_size = spec->size,
		.n_options = spec->options.n,
		.option_names = spec->options.names,
		.option_values = (const char *const *)spec->options.values,
		.timestamp_unix = 1700000000,
	};

	smd_uuid_new_bytes(params.uuid);
	if (parent) {
		params.parent_name = parent_name;
		params.parent_format = smd_chain_format(parent, 0)->name;
		params.parent_virtual_size = smd_chain_size(parent);
		memcpy(params.parent_uuid, smd_chain_info(parent, 0)->uuid, 16);
	}
	return spec->format->create(io, &params, err);
}

uint64_t
image_random(struct image_random *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15u;	/* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

uint64_t
image_below(struct image_random *r, uint64_t limit)
{
	return image_random(r) % limit;
}

void
image_fill(struct image_random *r, uint8_t *buf, size_t count)
{
	uint64_t first = image_random(r), kind = image_below(r, 8);

	if (kind == 0) {
		memset(buf, 0, count);
		return;
	}
	for (size_t i = 0; i < count; i += 8) {
		uint64_t word = kind == 1 ? first : first + i * 0x9e3779b97f4a7c15u;

		memcpy(buf + i, &word, count - i < 8 ? count - i : 8);
	}
}

void
image_same(const uint8_t *got, const uint8_t *want, uint64_t count, uint64_t offset,
	   const char *what)
{
	uint64_t i = 0;

	if (memcmp(got, want, count) == 0)
		return;
	while (got[i] == want[i])
		i++;
	image_die(NULL, "%s: byte %" PRIu64 " is %02x and should be %02x (%" PRIu64
		  " from the beginning, %" PRIu64 " from the end of what was read)",
		  what, offset + i, got[i], want[i], i, count - i);
}
