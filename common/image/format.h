/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The format modules of this process.
 *
 * Threads: load before the first use, from one thread; then read only.
 */
#ifndef SMD_COMMON_IMAGE_FORMAT_H
#define SMD_COMMON_IMAGE_FORMAT_H

#include "common/error.h"
#include "plugins/smd-format.h"

/* Load every smd-format-*.so of dirs (':'-separated, first wins on a name),
 * RTLD_NOW | RTLD_LOCAL. A module with another abi, without a required
 * callback or with a bad name is left out; why is logged at debug level and
 * kept for smd_formats_refused(). Fails only where a directory can't be read. */
int smd_formats_load(const char *dirs, struct smd_error *err);

/* Add a table that is already in the process (tests, fuzzers). */
int smd_formats_add(const struct smd_format *format, struct smd_error *err);

/* By name or alias; NULL: not loaded. */
const struct smd_format *smd_format_find(const char *name);

/* Whether images of the format can lie on one of the parent's. */
bool smd_format_lies_on(const struct smd_format *format, const struct smd_format *parent);

/* Its name as other programs spell it in images that name a parent ("vpc"). */
const char *smd_format_elsewhere(const struct smd_format *format);

/* The same as smd_format_find, failing with FORMAT_UNKNOWN [name, "raw, vhd"]. */
int smd_format_get(const char *name, const struct smd_format **ret, struct smd_error *err);

/* All, sorted by name; NULL-terminated. */
const struct smd_format *const *smd_formats(void);

/* "path: reason" lines of the modules that were left out; "": none. */
const char *smd_formats_refused(void);

/* What modules are given; one for the process. */
extern const struct smd_format_host smd_the_format_host;

/* smd_fail of the contract, for the host itself; always -1. */
int smd_image_fail(struct smd_error *err, enum smd_reason reason, const char *image,
		   const char *fmt, ...) SMD_PRINTF(4, 5);

const char *smd_reason_name(enum smd_reason reason);	/* "BAD_MAGIC" */
const char *smd_reason_text(enum smd_reason reason);

/* Check text options ("cluster_size=64k,compat=1.1" split by the caller)
 * against the format's table: names, types, ranges; sizes take k, M, G, T. The
 * result is canonical text in plain numbers. Errors: INVALID_VALUE. */
struct smd_options {
	size_t n;
	const char **names;	/* the format's own strings */
	const char **values;	/* owned */
};
int smd_options_add(struct smd_options *o, const struct smd_format *format,
		    const char *name, const char *value, struct smd_error *err);
void smd_options_free(struct smd_options *o);

/* "64k", "10G", "1.5T" or plain bytes. */
int smd_size_parse(const char *text, uint64_t *ret, struct smd_error *err);

#endif
