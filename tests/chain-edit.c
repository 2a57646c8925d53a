/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chain-edit PATH FORMAT [PATH FORMAT]... -- EDIT...
 *
 * Writes to the leaf of a chain of files, leaf first, as a guest would that has
 * the disk: EDIT is OFFSET:COUNT:BYTE, or OFFSET:COUNT:zero. All images are locked
 * first; then "ready" is printed and a line is waited for, so that the caller can
 * see whether this is still the chain of the disk. Ends with 75 where somebody else
 * has an image, 1 where an edit fails, 0 when all is durable.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/lock.h"
#include "common/mem.h"
#include "tests/image-case.h"

#define STATUS_LOCKED 75

static void
open_layer(const char *path, const char *format, bool write, struct smd_layer *ret)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	int locked;

	if (fd < 0)
		exit(STATUS_LOCKED);	/* the chain has changed already */
	locked = smd_image_lock(fd, write, path, &err);
	if (locked == 1)
		exit(STATUS_LOCKED);
	if (locked != 0 || smd_format_get(format, &ret->format, &err) != 0 ||
	    smd_io_file(fd, path, write ? SMD_IO_WRITABLE : 0, &ret->io, &err) != 0)
		image_die(&err, "%s", path);
}

static void
edit(struct smd_chain *chain, const char *text)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	uint64_t offset, count;
	char what[8];
	int r;

	if (sscanf(text, "%" SCNu64 ":%" SCNu64 ":%7s", &offset, &count, what) != 3)
		image_die(NULL, "%s: no OFFSET:COUNT:BYTE", text);
	if (strcmp(what, "zero") == 0) {
		r = smd_chain_zero(chain, offset, count, true, &err);
	} else {
		CLEANUP_FREE void *buf = smd_malloc(count);

		memset(buf, atoi(what), count);
		r = smd_chain_pwrite(chain, buf, count, offset, &err);
	}
	if (r != 0)
		image_die(&err, "%s", text);
}

int
main(int argc, char **argv)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_layer layers[SMD_CHAIN_MAX];
	struct smd_chain *chain;
	size_t n = 0;
	int i = 1;

	image_modules();
	for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
		if (n == SMD_CHAIN_MAX)
			image_die(NULL, "more than %d layers", SMD_CHAIN_MAX);
		open_layer(argv[i], argv[i + 1], n == 0, &layers[n]);
		n++;
	}
	if (n == 0 || i >= argc)
		image_die(NULL, "usage: chain-edit PATH FORMAT... -- EDIT...");
	puts("ready");
	fflush(stdout);
	if (getchar() != '\n')
		exit(STATUS_LOCKED);
	if (smd_chain_open(layers, n, SMD_CHAIN_WRITE, &chain, &err) != 0)
		image_die(&err, "open");
	while (++i < argc)
		edit(chain, argv[i]);
	if (smd_chain_flush(chain, &err) != 0)
		image_die(&err, "flush");
	smd_chain_close(chain);
	return 0;
}
