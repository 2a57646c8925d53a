/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * QEMU's image locks, taken by the daemon on the descriptors it hands out, so
 * that a disk qemu or qemu-img has open is refused before any work. The bytes are
 * those of qemu's block/file-posix.c: 100 + permission is locked by who uses
 * it, 200 + permission by who denies it to others; every lock is a shared one,
 * and a conflict is a byte of the other row that somebody has locked.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "daemon/sr/volume.h"

#define PERM_CONSISTENT_READ 0x1u
#define PERM_WRITE 0x2u
#define PERM_RESIZE 0x8u
#define N_PERMS 4
#define BYTE_USED 100
#define BYTE_DENIED 200

/* 0, 1: somebody has a conflicting one, -1 with errno. */
static int
claim(int fd, int base, int other, int perm)
{
	struct flock mine = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = base + perm,
			      .l_len = 1 };
	struct flock theirs = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = other + perm,
				.l_len = 1 };

	if (fcntl(fd, F_OFD_SETLK, &mine) < 0)
		return errno == EAGAIN || errno == EACCES ? 1 : -1;
	if (fcntl(fd, F_OFD_GETLK, &theirs) < 0)
		return -1;
	return theirs.l_type != F_UNLCK;
}

int
volume_lock(int fd, bool write, const char *name, struct smd_error *err)
{
	unsigned used = PERM_CONSISTENT_READ | (write ? PERM_WRITE | PERM_RESIZE : 0);
	unsigned denied = PERM_WRITE | PERM_RESIZE;
	int r = 0;

	for (int i = 0; i < N_PERMS && r == 0; i++) {
		if (used & 1u << i)
			r = claim(fd, BYTE_USED, BYTE_DENIED, i);
		if (r == 0 && denied & 1u << i)
			r = claim(fd, BYTE_DENIED, BYTE_USED, i);
	}
	if (r < 0)
		return smd_fail_IMAGE_IO(err, name, "%s: locking: %s", name, strerror(errno));
	return r;
}

void
volume_unlock(int fd)
{
	struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0 };

	fcntl(fd, F_OFD_SETLK, &all);
}
