/* SPDX-License-Identifier: BSD-2-Clause */
/* The detector: it never chooses a format, it only refuses one. */
#include <string.h>

#include "common/checked.h"
#include "common/image/io.h"
#include "common/image/ops.h"

#define DETECT_BYTES 4096	/* of each end of the store */

/* Formats that no module may be loaded for, by the bytes they begin with: a file
 * that is one of them is not the raw disk somebody says it is. */
static const struct {
	const char *name;
	size_t offset, len;
	const char *bytes;
} signatures[] = {
	{ "vmdk", 0, 4, "KDMV" },			/* VMDK 5.0, hosted sparse extent */
	{ "vmdk", 0, 4, "COWD" },			/* the same, ESX */
	{ "vmdk", 0, 21, "# Disk DescriptorFile" },
	{ "vhdx", 0, 8, "vhdxfile" },			/* MS-VHDX 2.2.1 */
	{ "vdi", 64, 4, "\x7f\x10\xda\xbe" },		/* little-endian BEDA107F */
	{ "qed", 0, 4, "QED" },				/* with its NUL */
};

static int
mismatch(struct smd_io *io, const struct smd_format *declared, const char *found,
	 struct smd_error *err)
{
	return smd_image_fail(err, SMD_REASON_FORMAT_MISMATCH, io->name,
			      "%s is declared %s and looks like %s", io->name, declared->name,
			      found);
}

static int
refuse_signatures(struct smd_io *io, const struct smd_format *declared, const uint8_t *head,
		  size_t len, struct smd_error *err)
{
	for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
		if (signatures[i].offset + signatures[i].len <= len &&
		    memcmp(head + signatures[i].offset, signatures[i].bytes,
			   signatures[i].len) == 0)
			return mismatch(io, declared, signatures[i].name, err);
	}
	return 0;
}

int
smd_detect_refuse(struct smd_io *io, const struct smd_format *declared, struct smd_error *err)
{
	uint8_t head[DETECT_BYTES], tail[DETECT_BYTES];
	size_t len = (size_t)smd_min_u64(io->size, DETECT_BYTES);

	if (smd_io_pread(io, head, len, 0, err) != 0 ||
	    smd_io_pread(io, tail, len, io->size - len, err) != 0)
		return -1;
	for (const struct smd_format *const *f = smd_formats(); *f; f++) {
		if (*f != declared && ((*f)->caps & SMD_CAP_PROBE) &&
		    (*f)->probe(head, len, tail, len, io->size) > 0)
			return mismatch(io, declared, (*f)->name, err);
	}
	/* A format with a signature of its own has it where these would be. */
	if (declared->caps & SMD_CAP_PROBE)
		return 0;
	return refuse_signatures(io, declared, head, len, err);
}
