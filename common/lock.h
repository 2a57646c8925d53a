/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who may have an image open: qemu's locks, so that smd, qemu, qemu-img and nbdkit
 * keep out of each other's way.
 *
 * Threads: any; the locks belong to the open file description.
 */
#ifndef SMD_COMMON_LOCK_H
#define SMD_COMMON_LOCK_H

#include <stdbool.h>

#include "common/error.h"

/* Take qemu's image locks on a file's descriptor (OFD locks on bytes 100 and 200
 * up, as qemu's file-posix driver does): write as the only writer, else shared with
 * other readers but with no writer. Returns 0 held until the description is closed
 * (a child that inherits it holds it too) or unlocked, 1 somebody else has it, -1. */
int smd_image_lock(int fd, bool write, const char *name, struct smd_error *err);
/* Whether somebody else has the file open for writing, by these locks; takes none. */
bool smd_image_has_writer(int fd);
/* Closing is not always enough: a process being spawned meanwhile holds every
 * descriptor until it executes its program. */
void smd_image_unlock(int fd);

#endif
