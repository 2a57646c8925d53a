/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the engine's random tests share: a chain described in words, base first,
 * "FORMAT,SIZE[,OPTION=VALUE...]" a layer; numbers that are random and the same
 * in every run with one seed; an end that says why.
 */
#ifndef SMD_TESTS_IMAGE_CASE_H
#define SMD_TESTS_IMAGE_CASE_H

#include "common/image/chain.h"
#include "common/image/format.h"
#include "common/image/io.h"

#define IMAGE_LAYERS_MAX 4

struct image_spec {
	const struct smd_format *format;
	uint64_t size;
	struct smd_options options;
};

/* Load the modules of SMD_PLUGIN_PATH. */
void image_modules(void);
void image_spec_parse(const char *text, struct image_spec *ret);

/* Make the image a spec describes, over the leaf of parent (NULL: none). */
int image_create(const struct image_spec *spec, struct smd_io *io, struct smd_chain *parent,
		 const char *parent_name, struct smd_error *err);

/* Print why, with the error's message if there is one, and end the test. */
_Noreturn void image_die(const struct smd_error *err, const char *fmt, ...) SMD_PRINTF(2, 3);

struct image_random {
	uint64_t state;
};
uint64_t image_random(struct image_random *r);
uint64_t image_below(struct image_random *r, uint64_t limit);	/* limit > 0 */
/* Bytes that no two calls share; now and then one byte only, or zeroes. */
void image_fill(struct image_random *r, uint8_t *buf, size_t count);

/* Stop the test where the two differ, saying at which byte. */
void image_same(const uint8_t *got, const uint8_t *want, uint64_t count, uint64_t offset,
		const char *what);

#endif
