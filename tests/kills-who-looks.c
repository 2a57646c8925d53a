/* SPDX-License-Identifier: BSD-2-Clause */
/* A format module for sr-scan-survives-images.py: an image's first byte says what it does to
 * the worker that opens it. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "plugins/smd-format.h"

static int
mad_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	char what;

	(void)flags;
	if (io->ops->pread(io, &what, 1, 0, err) != 0)
		return -1;
	if (what == 'k')
		raise(SIGKILL);
	if (what == 'f')
		abort();
	if (what == 's')
		socket(AF_INET, SOCK_STREAM, 0);
	if (what == 'x')
		_exit(0);
	if (what == 'a')	/* an answer in place of the worker's */
		write(STDOUT_FILENO, "{\"images\":[1,2,3]}\n", 19);
	if (what == 'w')
		write(STDERR_FILENO, "words of an image\n", 18);
	if (what == 'e')
		return smd_fail(err, SMD_REASON_BAD_HEADER, io->name, "it is no image");
	*ret_img = io;
	return 0;
}

static void
mad_close(void *img)
{
	(void)img;
}

static int
mad_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	(void)img;
	(void)err;
	ret->virtual_size = 3 << 20;
	return 0;
}

static int
mad_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
	    struct smd_error *err)
{
	const struct smd_extent e = { SMD_EXTENT_ZERO, offset, count, 0 };

	(void)img;
	return add(opaque, &e, err);
}

static const struct smd_format mad_format = {
	.name = "mad", .doc = "kills who looks at it", .max_virtual_size = 1ull << 30,
	.size_unit = 512, .open = mad_open, .close = mad_close, .info = mad_info,
	.extents = mad_extents,
};
SMD_REGISTER_FORMAT(mad_format)
