/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The least a format can be: eight bytes of magic, then from byte 4096 on the
 * disk as it is. Read only. ABI_SAYS makes it claim another ABI, SHORT_BY a
 * table that ends some members earlier, as a header before they were appended
 * would have it; NO_INFO leaves a required callback out.
 */
#include <stdlib.h>
#include <string.h>

#include "smd-format.h"

#define OLD_DATA 4096u

static int
old_open(struct smd_io *io, uint32_t flags, void **ret_img, struct smd_error *err)
{
	char magic[8];

	(void)flags;
	if (io->ops->pread(io, magic, sizeof magic, 0, err) < 0)
		return -1;
	if (memcmp(magic, "OLDDISK", 8) != 0 || io->size <= OLD_DATA)
		return smd_fail(err, SMD_REASON_BAD_MAGIC, io->name, "no OLDDISK at its start");
	*ret_img = io;
	return 0;
}

static void
old_close(void *img)
{
	(void)img;
}

static int
old_info(void *img, struct smd_image_info *ret, struct smd_error *err)
{
	const struct smd_io *io = img;

	(void)err;
	ret->virtual_size = io->size - OLD_DATA;
	ret->write_unit = SMD_SECTOR;
	ret->alloc_unit = 65536;
	ret->host_align = OLD_DATA;
	ret->flags = SMD_INFO_READ_ONLY;
	return 0;
}

static int
old_extents(void *img, uint64_t offset, uint64_t count, smd_extent_fn *add, void *opaque,
	    struct smd_error *err)
{
	struct smd_extent extent = { SMD_EXTENT_DATA, offset, count, OLD_DATA + offset };

	(void)img;
	return add(opaque, &extent, err);
}

#ifndef FORMAT_NAME
#define FORMAT_NAME "old"
#endif

static const struct smd_format old_format = {
	.name = FORMAT_NAME,
	.doc = "a module of an earlier day",
	.max_virtual_size = UINT64_C(1) << 40,
	.size_unit = SMD_SECTOR,
	.open = old_open,
	.close = old_close,
#ifndef NO_INFO
	.info = old_info,
#endif
	.extents = old_extents,
};

#if defined(ABI_SAYS) || defined(SHORT_BY)
const struct smd_format_host *smd_format_host;
__attribute__((visibility("default"))) const struct smd_format *
smd_format_init(const struct smd_format_host *host)
{
	/* Past its end this table holds what must not be read. */
	static struct smd_format registered;

	smd_format_host = host;
	registered = old_format;
	registered.abi = SMD_FORMAT_ABI;
	registered.struct_size = sizeof registered;
#ifdef ABI_SAYS
	registered.abi = ABI_SAYS;
#endif
#ifdef SHORT_BY
	registered.struct_size -= SHORT_BY * sizeof(void *);
	memset((char *)&registered + registered.struct_size, 0xee, SHORT_BY * sizeof(void *));
#endif
	return &registered;
}
#else
SMD_REGISTER_FORMAT(old_format)
#endif
