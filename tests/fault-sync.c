/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preloaded into smd: the disk under the database's log. Where $SMD_FAULT_DIR/fail
 * is, syncs of a file whose name ends in -wal fail with EIO; while it is not, each
 * leaves what is durable then in $SMD_FAULT_DIR/durable.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IN_PLACE_OF_LIBC __attribute__((visibility("default")))

static int
is_log(int fd)
{
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof path);
	return n > 4 && memcmp(path + n - 4, "-wal", 4) == 0;
}

static void
note_durable(const char *dir, int fd)
{
	char path[4096], buf[4096];
	FILE *f;
	ssize_t n;

	snprintf(path, sizeof path, "%s/durable", dir);
	f = fopen(path, "we");
	for (off_t at = 0; f && (n = pread(fd, buf, sizeof buf, at)) > 0; at += n)
		fwrite(buf, 1, (size_t)n, f);
	if (f)
		fclose(f);
}

static int
sync_fd(int fd, long number)
{
	const char *dir = getenv("SMD_FAULT_DIR");
	char path[4096];
	int rc;

	if (!dir || !is_log(fd))
		return (int)syscall(number, fd);
	snprintf(path, sizeof path, "%s/fail", dir);
	if (access(path, F_OK) == 0) {
		errno = EIO;
		return -1;
	}
	rc = (int)syscall(number, fd);
	if (rc == 0)
		note_durable(dir, fd);
	return rc;
}

IN_PLACE_OF_LIBC int
fdatasync(int fd)
{
	return sync_fd(fd, SYS_fdatasync);
}

IN_PLACE_OF_LIBC int
fsync(int fd)
{
	return sync_fd(fd, SYS_fsync);
}
