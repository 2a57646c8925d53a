/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kinds of io share among themselves.
 */
#ifndef SMD_COMMON_IMAGE_IO_IMPL_H
#define SMD_COMMON_IMAGE_IO_IMPL_H

#include "common/image/io.h"

/* An io that is not a file begins with this: smd_io_close calls close. */
struct smd_io_other {
	struct smd_io io;
	void (*close)(struct smd_io *io);
};

#define IO_DIRECT_ALIGN 4096u		/* what any device and file system is content with */

/* Files only: the descriptor of smd_io_set_direct, -1: none; and note that the file ends there at
 * the earliest. */
int smd_io_direct_fd(const struct smd_io *io);
void smd_io_grown_to(struct smd_io *io, uint64_t end);

/* io-map.c: a page of a mapping that cannot be read ends nothing but smd_mapped_equal. */
void smd_mapped_guard(void);
void smd_seen_add(struct smd_seen *seen, uint8_t *start, size_t size);

static inline void
smd_io_close_other(struct smd_io *io)
{
	((struct smd_io_other *)io)->close(io);
}

#endif
