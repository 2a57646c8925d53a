/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk under test: an image on an io that records, and a history of what was
 * written to it, so that any state a power cut leaves can be judged.
 */
#ifndef SMD_PLUGINS_FORMAT_VHD_TEST_DISK_H
#define SMD_PLUGINS_FORMAT_VHD_TEST_DISK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/image/format.h"
#include "common/image/io-test.h"
#include "plugins/format/vhd/vhd.h"

#define RW (SMD_IO_WRITABLE | SMD_IO_CAN_GROW)
#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define N_WRITES 32

/* Sectors [first, first + n) hold tag, 0: zeroes, from record begun on; after
 * record durable nothing older may show. */
struct written {
	uint64_t first, n;
	uint8_t tag;
	size_t begun, durable;
};

struct disk {
	struct smd_io *memory, *io;
	void *img;
	struct written writes[N_WRITES];
	size_t n_writes;
	bool failed;		/* a call failed; the ones after it were left out */
};

extern const struct smd_format *vhd;
/* Registers the module; a group's setup. */
int disk_module(void **state);

/* A new image, flushed, open for writing. */
void disk_make(struct disk *d, const struct smd_create *params);
void disk_done(struct disk *d);
struct smd_create disk_params(uint64_t size, const char *parent);

/* Write, zero, flush; each stops the test at an error unless the io was told to
 * fail, and sets failed then. */
void disk_write(struct disk *d, uint64_t offset, uint64_t count, uint8_t tag);
void disk_zero(struct disk *d, uint64_t offset, uint64_t count);
void disk_flush(struct disk *d);
size_t disk_now(struct disk *d);

/* Every sector that was ever written, and those beside, hold what they may
 * hold when records [0, now) had begun. */
void disk_judge(const struct disk *d, struct smd_io *image, size_t now);

/* The image opens, holds what it may, has no corruption, and repaired can be
 * written and still does. */
void disk_survives(const struct disk *d, struct smd_io *image, size_t now);

/* Cut the power after each record, with all, some, or the torn rest of what was
 * not flushed; each is given to judge. */
typedef void disk_judge_fn(const struct disk *d, struct smd_io *image, size_t now, void *opaque);
void disk_cut_everywhere(struct disk *d, disk_judge_fn *judge, void *opaque);

#endif
