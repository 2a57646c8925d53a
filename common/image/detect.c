/* SPDX-License-Identifier: BSD-2-Clause */
/* The detector: it never chooses a format, it only refuses one. */
#include <string.h>

#include "common/checked.h"
#include "common/image/io.h"
#include "common/image/ops.h"

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
mismatch(const char *name, const struct smd_format *declared, const char *found,
	 struct smd_error *err)
{
	return smd_image_fail(err, SMD_REASON_FORMAT_MISMATCH, name,
			      "it is declared %s and looks like %s: declare what it is%s",
			      declared->name, found, declared->caps & SMD_CAP_PROBE ? "" :
			      ", or that it may have any content where a guest wrote that");
}

static int
refuse_signatures(const struct smd_ends *ends, const char *name,
		  const struct smd_format *declared, struct smd_error *err)
{
	for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) {
		if (signatures[i].offset + signatures[i].len <= ends->len &&
		    memcmp(ends->head + signatures[i].offset, signatures[i].bytes,
			   signatures[i].len) == 0)
			return mismatch(name, declared, signatures[i].name, err);
	}
	return 0;
}

int
smd_detect_refuse_ends(const struct smd_ends *ends, const char *name,
		       const struct smd_format *declared, struct smd_error *err)
{
	for (const struct smd_format *const *f = smd_formats(); *f; f++) {
		if (*f != declared && ((*f)->caps & SMD_CAP_PROBE) &&
		    (*f)->probe(ends->head, ends->len, ends->tail, ends->len, ends->size) > 0)
			return mismatch(name, declared, (*f)->name, err);
	}
	/* A format with a signature of its own has it where these would be. */
	if (declared->caps & SMD_CAP_PROBE)
		return 0;
	return refuse_signatures(ends, name, declared, err);
}

int
smd_detect_refuse(struct smd_io *io, const struct smd_format *declared, struct smd_error *err)
{
	struct smd_ends ends = { .size = io->size };

	ends.len = (size_t)smd_min_u64(io->size, SMD_ENDS_MAX);
	if (smd_io_pread(io, ends.head, ends.len, 0, err) != 0 ||
	    smd_io_pread(io, ends.tail, ends.len, io->size - ends.len, err) != 0)
		return -1;
	return smd_detect_refuse_ends(&ends, io->name, declared, err);
}

void
smd_ends_add(struct smd_ends *ends, const void *bytes, size_t count)
{
	const uint8_t *from = bytes;
	size_t keep;

	if (ends->size < SMD_ENDS_MAX)
		memcpy(ends->head + ends->size, bytes,
		       smd_min_u64(count, SMD_ENDS_MAX - ends->size));
	/* The tail: what it has and the bytes after it, the last ones of them. */
	if (count > SMD_ENDS_MAX) {
		from += count - SMD_ENDS_MAX;
		ends->size += count - SMD_ENDS_MAX;
		count = SMD_ENDS_MAX;
	}
	keep = (size_t)smd_min_u64(ends->len, SMD_ENDS_MAX - count);
	memmove(ends->tail, ends->tail + ends->len - keep, keep);
	memcpy(ends->tail + keep, from, count);
	ends->len = keep + count;
	ends->size += count;
}
