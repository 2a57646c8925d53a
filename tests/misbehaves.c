/* SPDX-License-Identifier: BSD-2-Clause */
/* A format module gone bad, for worker-misbehaves.py: making an image of N MiB does what
 * its N-th line says. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "plugins/smd-format.h"

static void
take_memory(void)
{
	for (size_t taken = 0; taken < 10ull << 30; taken += 64u << 20)
		memset(malloc(64u << 20), 1, 64u << 20);
}

static void
spin(void)
{
	for (volatile unsigned n = 0;; n++)
		;
}

static void
act(unsigned n)
{
	struct sigaction sa = { .sa_handler = SIG_IGN };

	switch (n) {
	case 2: socket(AF_INET, SOCK_STREAM, 0); break;
	case 3: fork(); break;
	case 4: execve("/bin/true", NULL, NULL); break;
	case 5: ptrace(PTRACE_ATTACH, getppid(), NULL, NULL); break;
	case 6: kill(getppid(), SIGKILL); break;
	case 7: take_memory(); break;
	case 8: spin(); break;
	case 10: syscall(SYS_pidfd_open, getppid(), 0); break;
	case 11: sigaction(SIGSYS, &sa, NULL); socket(AF_UNIX, SOCK_STREAM, 0); break;
	default: break;
	}
}

static int
bad_create(struct smd_io *io, const struct smd_create *params, struct smd_error *err)
{
	unsigned n = (unsigned)(params->virtual_size >> 20);
	int fd = n == 1 ? open("/etc/passwd", O_RDONLY) : -1;

	if (n == 1 && fd < 0)
		return smd_fail(err, SMD_REASON_BAD_HEADER, io->name, "no /etc/passwd");
	act(n);
	if (n == 9)
		return io->ops->pwrite(io, "x", 1, 1ull << 30, err);
	return 0;
}

static int
bad_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	(void)flags;
	(void)ret_img;
	return smd_fail(err, SMD_REASON_BAD_HEADER, io->name, "it is no image");
}

static void
bad_close(void *img)
{
	(void)img;
}

static int
bad_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	(void)img;
	(void)ret;
	(void)err;
	return 0;
}

static int
bad_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
	    struct smd_error *err)
{
	const struct smd_extent e = { SMD_EXTENT_ZERO, offset, count, 0 };

	(void)img;
	return add(opaque, &e, err);
}

static int
bad_measure(const struct smd_create *params, uint64_t data_size, uint64_t n_extents,
	    struct smd_measure *ret, struct smd_error *err)
{
	(void)data_size;
	(void)n_extents;
	(void)err;
	ret->required = ret->fully_allocated = params->virtual_size;
	return 0;
}

static const struct smd_format bad_format = {
	.name = "bad", .doc = "misbehaves", .max_virtual_size = 1ull << 30, .size_unit = 512,
	.caps = SMD_CAP_CREATE, .create = bad_create, .measure = bad_measure,
	.open = bad_open, .close = bad_close, .info = bad_info, .extents = bad_extents,
};
SMD_REGISTER_FORMAT(bad_format)
