/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as a VHD: open, what it says, all its extents, check and repair. */
#include <stdlib.h>

#include "common/image/format.h"
#include "common/image/io.h"
#include "plugins/format/vhd/vhd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
extent_check(void *opaque, const struct smd_extent *e, struct smd_error *err)
{
	struct smd_io *io = opaque;

	(void)err;
	if (e->kind == SMD_EXTENT_DATA && !smd_range_ok(e->host_offset, e->count, io->size))
		abort();
	return 0;
}

static void
finding_ignore(void *opaque, const struct smd_finding *finding)
{
	(void)opaque;
	(void)finding;
}

static void
image_walk(struct smd_io *io)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_image_info info;
	void *img;

	if (vhd_open(io, SMD_OPEN_FOREIGN, &img, &err) < 0)
		return;
	if (vhd_info(img, &info, &err) == 0) {
		free(info.details);
		vhd_extents(img, 0, info.virtual_size, extent_check, io, &err);
	}
	vhd_close(img);
}

static void
image_check(struct smd_io *io, uint32_t repair)
{
	struct smd_error err CLEANUP_ERROR = SMD_ERROR_INIT;
	struct smd_check check;

	vhd_check(io, repair, finding_ignore, NULL, &check, &err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smd_io *io CLEANUP_IO = smd_io_memory(data, size, "fuzz",
						     SMD_IO_WRITABLE | SMD_IO_CAN_GROW);

	smd_format_init(&smd_the_format_host);
	image_walk(io);
	image_check(io, SMD_REPAIR_NONE);
	image_check(io, SMD_REPAIR_ALL);
	image_walk(io);
	return 0;
}
