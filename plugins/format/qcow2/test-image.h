/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the module's tests share: images in memory, and a model of the disk that
 * knows for each sector which values it may have.
 */
#ifndef QCOW2_TEST_IMAGE_H
#define QCOW2_TEST_IMAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/image/format.h"
#include "common/image/io.h"
#include "common/image/io-test.h"
#include "plugins/smd-format.h"

#define TEST_RW (SMD_IO_WRITABLE | SMD_IO_CAN_GROW)

extern const struct smd_format *qcow2;

/* Group set-up: qcow2 is the module, hosted by this process. */
int test_load(void **state);

/* A new image in memory; options are "name=value" up to NULL. */
struct smd_io *test_create(uint64_t size, const char *const *options);
void *test_open(struct smd_io *io, uint32_t flags);

/* Fill sectors with one byte. Whole write units, or more where data exist.
 * Returns what the module returned. */
int test_write(void *img, struct smd_io *io, uint64_t offset, uint64_t count, uint8_t fill,
	       struct smd_error *err);
/* The same for whole allocation units, of unit bytes each, compressed. */
int test_write_encoded(void *img, uint64_t unit, uint64_t offset, uint64_t count, uint8_t fill,
		       struct smd_error *err);
/* The disk's bytes; the caller frees them. */
uint8_t *test_read(void *img, struct smd_io *io, uint64_t *ret_size, struct smd_error *err);
/* One byte that a sector is filled with; -1: it is not one byte throughout. */
int test_sector(const uint8_t *disk, uint64_t sector);

/* Check: how many findings of each kind, and the first corruption's reason. */
struct test_findings {
	unsigned corruptions, leaks, repaired;
	enum smd_reason reason;
};
struct test_findings test_check(struct smd_io *io, uint32_t repair);

#endif
