/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preloaded into smd: its disks. Where $SMD_FAULT_DIR/fail is, syncs of the database's log, a
 * file whose name ends in -wal, fail with EIO; while it is not, each leaves what is durable then
 * in $SMD_FAULT_DIR/durable. Where $SMD_FAULT_DIR/hold-images is, syncs of images whose path has
 * what it says wait until it goes; where $SMD_FAULT_DIR/fail-images is, they fail.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IN_PLACE_OF_LIBC __attribute__((visibility("default")))

static int
path_of(int fd, char path[4096])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, path, 4095);
	if (n < 0)
		return -1;
	path[n] = '\0';
	return 0;
}

static int
ends_in(int fd, const char *end)
{
	char path[4096];
	size_t len = strlen(end);

	return path_of(fd, path) == 0 && strlen(path) > len &&
	       strcmp(path + strlen(path) - len, end) == 0;
}

static int
is_held(const char *dir, int fd)
{
	char path[4096], said[4096] = "";
	FILE *f;

	snprintf(path, sizeof path, "%s/hold-images", dir);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(said, sizeof said, f))
		said[0] = '\0';
	fclose(f);
	return path_of(fd, path) == 0 && strstr(path, said);
}

static int
is_there(const char *dir, const char *name)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return access(path, F_OK) == 0;
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
sync_log(const char *dir, int fd, long number)
{
	int rc;

	if (is_there(dir, "fail")) {
		errno = EIO;
		return -1;
	}
	rc = (int)syscall(number, fd);
	if (rc == 0)
		note_durable(dir, fd);
	return rc;
}

static int
sync_image(const char *dir, int fd, long number)
{
	while (is_held(dir, fd))
		usleep(1000);
	if (is_there(dir, "fail-images")) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(number, fd);
}

static int
sync_fd(int fd, long number)
{
	const char *dir = getenv("SMD_FAULT_DIR");

	if (dir && ends_in(fd, "-wal"))
		return sync_log(dir, fd, number);
	if (dir && (ends_in(fd, ".qcow2") || ends_in(fd, ".vhd") || ends_in(fd, ".raw")))
		return sync_image(dir, fd, number);
	return (int)syscall(number, fd);
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
