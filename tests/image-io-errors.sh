#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Each call of the store fails once, under chains of every format: that operation
# says so, the next ones work, and the image stays good.
source "$(dirname "$0")/functions.sh"
failed=

errors()
{
	local how

	for how in FAIL SHORT LATE; do
		# shellcheck disable=SC2086 # SMD_VALGRIND is words
		${SMD_VALGRIND:-} "$SMD_BUILD/tests/image-io-errors" $option \
			--every "${SMD_ERRORS_EVERY:-1}" $how "$@" ||
			failed="$failed [$option $how $*]"
	done
}

option=
errors raw,300k
errors vhd,5M
errors vhd,300k,subformat=fixed
errors vhd,300k vhd,400k
errors raw,400k vhd,300k vhd,2M
errors qcow2,300k,cluster_size=512
errors qcow2,2M
errors qcow2,600k,cluster_size=16k,extended_l2=on
errors qcow2,400k,compat=0.10
errors qcow2,300k,cluster_size=4k qcow2,280k,cluster_size=1k
errors raw,500k qcow2,400k,cluster_size=16k,extended_l2=on
errors vhd,300k qcow2,300k,compat=0.10,cluster_size=512
option=--parent
errors vhd,300k vhd,400k
errors qcow2,300k,cluster_size=4k qcow2,400k
errors raw,300k vhd,300k qcow2,400k,cluster_size=512
[ -z "$failed" ] || fail "after a failing call:$failed"
