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

/* Right checksums, so that what lies behind them is reached; an odd last byte
 * leaves them as they are. */
static void
checksums_mend(uint8_t *p, size_t size)
{
	const size_t footers[] = { 0, size - VHD_FOOTER_SIZE };

	if (size < 2 * VHD_FOOTER_SIZE + VHD_HEADER_SIZE || p[size - 1] % 2)
		return;
	for (size_t i = 0; i < 2; i++) {
		uint8_t *f = p + footers[i];
		uint64_t header = smd_load_be64(f + 16);

		smd_store_be32(f + 64, vhd_checksum(f, VHD_FOOTER_SIZE, 64));
		if (smd_range_ok(header, VHD_HEADER_SIZE, size))
			smd_store_be32(p + header + 36,
				       vhd_checksum(p + header, VHD_HEADER_SIZE, 36));
	}
	smd_store_be32(p + 64, vhd_checksum(p, VHD_FOOTER_SIZE, 64));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE uint8_t *bytes = malloc(size + 1);
	struct smd_io *io CLEANUP_IO = NULL;

	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	checksums_mend(bytes, size);
	io = smd_io_memory(bytes, size, "fuzz", SMD_IO_WRITABLE | SMD_IO_CAN_GROW);

	smd_format_init(&smd_the_format_host);
	image_walk(io);
	image_check(io, SMD_REPAIR_NONE);
	image_check(io, SMD_REPAIR_ALL);
	image_walk(io);
	return 0;
}
