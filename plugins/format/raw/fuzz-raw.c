/* SPDX-License-Identifier: BSD-2-Clause */
/* Any bytes as a raw disk. */
#include "common/image/fuzz-format.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_format(data, size);
}
