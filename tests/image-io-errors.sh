#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Each call of the store fails once, under every format: that operation says so,
# the next ones work, and the image stays good.
source "$(dirname "$0")/functions.sh"
failed=

for how in FAIL SHORT; do
	for layer in raw,300k vhd,5M vhd,300k,subformat=fixed qcow2,300k,cluster_size=512 \
		qcow2,2M qcow2,600k,cluster_size=16k,extended_l2=on qcow2,400k,compat=0.10; do
		# shellcheck disable=SC2086 # SMD_VALGRIND is words
		${SMD_VALGRIND:-} "$SMD_BUILD/tests/image-io-errors" $layer $how || failed="$failed [$layer $how]"
	done
done
[ -z "$failed" ] || fail "after a failing call:$failed"
