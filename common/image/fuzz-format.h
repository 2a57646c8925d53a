/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the fuzz targets of all formats do with an image from outside: open it, ask
 * it for everything, check it, write to a copy, repair it, look again. Beside what
 * the sanitizers see, this must hold, or the target aborts:
 *
 *   - extents are in order and without gaps, and their data lies inside the file;
 *   - an image whose check found no corruption has none after writes to it;
 *   - a repair that says so has repaired: the next check finds nothing repairable.
 *
 * The work per image is bounded: an input that takes seconds is a finding.
 */
#ifndef SMD_FUZZ_FORMAT_H
#define SMD_FUZZ_FORMAT_H

#include <stddef.h>
#include <stdint.h>

/* The format is the one linked into the program. Returns 0, as a target does. */
int fuzz_format(const uint8_t *data, size_t size);
/* libFuzzer's entry, which AFL++ calls, too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
