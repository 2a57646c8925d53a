/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugins/format/vhd/vhd.h"

static const struct smd_format vhd_format = {
	.name = "vhd",
	.alias = "vpc",
	.doc = "Virtual Hard Disk, as XenServer, Microsoft and others write it",
	.caps = SMD_CAP_PROBE,
	.max_virtual_size = VHD_MAX_SIZE,
	.size_unit = VHD_SECTOR,
	.probe = vhd_probe,
	.open = vhd_open,
	.close = vhd_close,
	.info = vhd_info,
	.extents = vhd_extents,
};

SMD_REGISTER_FORMAT(vhd_format)
