#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What every format must do, for each that the loader finds: see image-every-format.c.
# Another program then judges the images.
source "$(dirname "$0")/functions.sh"

# shellcheck disable=SC2086 # SMD_VALGRIND is words
formats=$(${SMD_VALGRIND:-} "$SMD_BUILD/tests/image-every-format" "$t")
echo $formats
command -v qemu-img >/dev/null || exit 0
for format in $formats; do
	bash "$SMD_SRC/tests/image-model-judge.sh" judge "$t" "$t/disk.raw" "$t/$format" "$format" ||
		fail "another program does not like $format"
done
