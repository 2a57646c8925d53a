/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdarg.h>
#include <stdio.h>

#include "plugins/format/vhd/vhd.h"

int
vhd_fault(struct vhd_fault *f, enum smd_reason reason, const char *fmt, ...)
{
	va_list ap;

	f->reason = reason;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof f->text, fmt, ap);
	va_end(ap);
	return VHD_FAULT;
}

int
vhd_fault_fail(int ret, const struct vhd_fault *f, const struct smd_io *io, struct smd_error *err)
{
	if (ret == VHD_FAULT)
		return smd_fail(err, f->reason, io->name, "%s", f->text);
	return ret;
}
