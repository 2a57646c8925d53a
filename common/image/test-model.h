/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A format for the engine's own tests, plain enough to be right: a header, one
 * entry per 4 KiB unit, units behind. It has every kind of extent and place,
 * and it writes its metadata at once.
 */
#ifndef SMD_COMMON_IMAGE_TEST_MODEL_H
#define SMD_COMMON_IMAGE_TEST_MODEL_H

#include "common/image/io.h"
#include "plugins/smd-format.h"

#define MODEL_UNIT 4096u
#define MODEL_DATA 16384u		/* the first unit's offset */
#define MODEL_HAS_PARENT 1u
#define MODEL_DIRTY_SPACE 2u		/* new units hold rubbish until written */
#define MODEL_LARGE_UNITS 4u		/* it asks for places of 2 MiB at a time */

/* What an entry says; larger values are host offsets. */
#define MODEL_PARENT 0u
#define MODEL_ZERO 1u
#define MODEL_FILL(byte) (2u | (uint64_t)(byte) << 8)	/* encoded: this byte throughout */

/* Units of a byte with one of these bits: encode, or write_encoded, says no. */
#define MODEL_NO_ENCODE 4u
#define MODEL_NO_WRITE_ENCODED 8u

extern const struct smd_format model_format;
extern const struct smd_format flat_format;	/* raw, as far as the tests need it */

struct smd_io *model_new(uint64_t size, uint8_t flags, uint8_t uuid, uint8_t parent_uuid);
void model_set(struct smd_io *io, uint64_t unit, uint64_t entry);
uint64_t model_get(struct smd_io *io, uint64_t unit);
/* Give a unit data of its own: this byte throughout. */
void model_put(struct smd_io *io, uint64_t unit, uint8_t byte);

/* A chain of one layer; the test fails where it does not open. */
struct smd_chain *open_format(const struct smd_format *format, struct smd_io *io, uint32_t flags);

/* What progress must look like (its opaque); it stops the work at its stop_at-th call. */
struct model_steps {
	uint64_t last, total;
	size_t n, stop_at;
};
int model_step(void *steps, uint64_t done, uint64_t total);

#endif
