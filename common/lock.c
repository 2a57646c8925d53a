/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * qemu's image locks (qemu, block/file-posix.c): a shared lock on byte 100 + i
 * says "I use permission i", on byte 200 + i "I let nobody else use it". A
 * claim holds when no other descriptor contradicts it.
 */
#include "common/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define LOCK_USED 100
#define LOCK_DENIED 200

enum {
	PERM_CONSISTENT_READ = 1,
	PERM_WRITE = 2,
	PERM_RESIZE = 8,
};
#define N_PERMS 4

static int
lock_range(int fd, int command, short type, off_t byte, off_t n, struct flock *ret)
{
	*ret = (struct flock){
		.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = n,
	};
	return fcntl(fd, command, ret);
}

static int
lock_byte(int fd, int command, short type, off_t byte, struct flock *ret)
{
	return lock_range(fd, command, type, byte, 1, ret);
}

void
smd_image_unlock(int fd)
{
	struct flock fl;

	for (int i = 0; i < N_PERMS; i++) {
		lock_byte(fd, F_OFD_SETLK, F_UNLCK, LOCK_USED + i, &fl);
		lock_byte(fd, F_OFD_SETLK, F_UNLCK, LOCK_DENIED + i, &fl);
	}
}

/* 0: the byte is ours and nobody holds the opposite one; 1: somebody does. */
static int
lock_claim(int fd, int base, int i)
{
	int opposite = base == LOCK_USED ? LOCK_DENIED : LOCK_USED;
	struct flock fl;

	if (lock_byte(fd, F_OFD_SETLK, F_RDLCK, base + i, &fl) < 0)
		return errno == EAGAIN || errno == EACCES ? 1 : -1;
	if (lock_byte(fd, F_OFD_GETLK, F_WRLCK, opposite + i, &fl) < 0)
		return -1;
	return fl.l_type == F_UNLCK ? 0 : 1;
}

int
smd_image_lock(int fd, bool write, const char *name, struct smd_error *err)
{
	unsigned used = PERM_CONSISTENT_READ | (write ? PERM_WRITE | PERM_RESIZE : 0);
	unsigned denied = PERM_WRITE | PERM_RESIZE;
	int r = 0;

	/* Our own bytes overlap (we use what we deny others), so all opposites
	 * are looked at through GETLK, which never reports our descriptor's. */
	for (int i = 0; i < N_PERMS && r == 0; i++) {
		if (used & 1u << i)
			r = lock_claim(fd, LOCK_USED, i);
		if (r == 0 && denied & 1u << i)
			r = lock_claim(fd, LOCK_DENIED, i);
	}
	if (r == 0)
		return 0;
	if (r < 0) {
		int e = errno;

		smd_fail_IMAGE_IO(err, name, "%s: locking: %s", name, strerror(e));
		err->errnum = e;
	}
	smd_image_unlock(fd);
	return r;
}

bool
smd_image_has_writer(int fd)
{
	struct flock fl;

	/* Mostly nobody has any of them. */
	if (lock_range(fd, F_OFD_GETLK, F_WRLCK, LOCK_USED, N_PERMS, &fl) == 0 &&
	    fl.l_type == F_UNLCK)
		return false;
	for (int i = 0; i < N_PERMS; i++) {
		if ((PERM_WRITE | PERM_RESIZE) & 1u << i &&
		    lock_byte(fd, F_OFD_GETLK, F_WRLCK, LOCK_USED + i, &fl) == 0 &&
		    fl.l_type != F_UNLCK)
			return true;
	}
	return false;
}
