/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Past the page cache.
 */
#ifndef SMD_COMMON_DIRECT_H
#define SMD_COMMON_DIRECT_H

/* Another description of an open file, O_DIRECT, for writing too; the caller closes it. 0: there
 * is none, for its file system knows no such thing, or nobody may open it so. */
int smd_open_direct(int fd);

#endif
