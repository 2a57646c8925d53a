/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as a VHD. */
#include <stdlib.h>
#include <string.h>

#include "common/image/fuzz-format.h"
#include "plugins/format/vhd/vhd.h"

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

	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	checksums_mend(bytes, size);
	return fuzz_format(bytes, size);
}
