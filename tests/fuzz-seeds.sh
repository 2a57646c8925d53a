#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What fuzzing found once, and what it starts from: each seed through its format's
# target, without a fuzzer.
source "$(dirname "$0")/functions.sh"

for format in raw vhd qcow2; do
	"$SMD_BUILD/plugins/format/$format/replay-$format" "$SMD_SRC/tests/fuzz/$format"/* ||
		fail "the last one named"
done
