/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets of blocks, and the logs that hold them, laid out as SM's cbt-util has it: a
 * header of 48 bytes, little-endian here (uuid of the parent's VDI, 16 zeroes where SM has
 * the child's, int32 1: consistent, 4 bytes, uint64 size of the disk), then a bit a
 * block, the lowest of a byte first.
 *
 * Threads: one for each set.
 */
#ifndef SMD_DAEMON_SR_CBT_LOG_H
#define SMD_DAEMON_SR_CBT_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/blocks.h"

#define CBT_LOG_SUFFIX "cbtlog"

/* The blocks of a disk of this size; grows as others are added to it. */
struct cbt_set {
	uint64_t size;
	uint8_t *bits;		/* smd_blocks_bytes(size); NULL while size is 0 */
};
#define CBT_SET_INIT { 0, NULL }

/* All of them are in it, or none. IMAGE_UNSUPPORTED over SMD_BLOCKS_DISK_MAX. */
int cbt_set_init(struct cbt_set *set, uint64_t size, bool all, struct smd_error *err);
int cbt_set_add(struct cbt_set *set, const struct cbt_set *other, struct smd_error *err);
void cbt_set_done(struct cbt_set *set);
#define CLEANUP_CBT_SET CLEANUP(cbt_set_done)

/* Whether a volume's name is a log's. */
bool cbt_log_is(const char *volume);
/* name: of the volume, for messages. read: SR_BACKEND_FAILURE_459 for one that is none. */
int cbt_log_write(int fd, const char *name, const char *parent_uuid, const struct cbt_set *set,
		  struct smd_error *err);
int cbt_log_read(int fd, const char *name, struct cbt_set *ret, struct smd_error *err);

/* The set of a disk of this size in the API's form: base64, the highest bit of a byte
 * first, whole groups of 32 blocks. The caller frees. */
char *cbt_set_text(const struct cbt_set *set, uint64_t size);

#endif
