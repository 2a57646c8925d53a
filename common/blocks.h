/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets of blocks of a disk, as changed block tracking counts them: blocks of 64 KiB, a
 * bit each, the lowest of a byte first.
 */
#ifndef SMD_COMMON_BLOCKS_H
#define SMD_COMMON_BLOCKS_H

#include "common/checked.h"

#define SMD_BLOCK (UINT64_C(64) << 10)
#define SMD_BLOCKS_DISK_MAX (UINT64_C(1) << 46)	/* whose set takes 128 MiB */

static inline uint64_t
smd_blocks_bytes(uint64_t size)
{
	return smd_div_round_up_u64(smd_div_round_up_u64(size, SMD_BLOCK), 8);
}

#endif
