/* SPDX-License-Identifier: BSD-2-Clause */
#include "plugins/format/vhd/vhd.h"

/* A null uuid says raw, any other a VHD: no other format has a way to be told. */
static const char *const vhd_parents[] = { "raw", NULL };

static const struct smd_format vhd_format = {
	.name = "vhd",
	.alias = "vpc",
	.doc = "Virtual Hard Disk, as XenServer, Microsoft and others write it",
	.caps = SMD_CAP_WRITE | SMD_CAP_CREATE | SMD_CAP_RESIZE | SMD_CAP_PARENT |
		SMD_CAP_CHECK | SMD_CAP_STREAM | SMD_CAP_HIDDEN | SMD_CAP_PROBE |
		SMD_CAP_NEEDS_GROW,
	.max_virtual_size = VHD_MAX_SIZE,
	.size_unit = VHD_SECTOR,
	.options = vhd_options,
	.probe = vhd_probe,
	.create = vhd_create,
	.measure = vhd_measure,
	.usage = vhd_usage,
	.taken = vhd_taken,
	.open = vhd_open,
	.close = vhd_close,
	.info = vhd_info,
	.extents = vhd_extents,
	.reserve = vhd_reserve,
	.commit = vhd_commit,
	.abandon = vhd_abandon,
	.zero = vhd_zero,
	.flush = vhd_flush,
	.resize = vhd_resize,
	.set_parent = vhd_set_parent,
	.set_hidden = vhd_set_hidden,
	.check = vhd_check,
	.stream = vhd_stream,
	.parents = vhd_parents,
};

SMD_REGISTER_FORMAT(vhd_format)
