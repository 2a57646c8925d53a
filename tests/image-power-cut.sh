#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The power fails at every write of chains of every format, of a copy into them and of
# merges, either way. Other runs: SMD_CUT_SEED, longer ones: SMD_CUT_OPS.
source "$(dirname "$0")/functions.sh"
failed=

cut()
{
	# shellcheck disable=SC2086 # SMD_VALGRIND is words
	${SMD_VALGRIND:-} "$SMD_BUILD/tests/image-power-cut" --seed "${SMD_CUT_SEED:-1}" \
		--ops "${SMD_CUT_OPS:-60}" "$@" || failed="$failed [$*]"
}

cut raw,300k
cut vhd,300k
cut vhd,1500k
cut vhd,300k,subformat=fixed
cut vhd,300k vhd,400k
cut vhd,500k vhd,300k
cut raw,200k vhd,300k
cut qcow2,300k,cluster_size=512
cut qcow2,400k,cluster_size=4k,refcount_bits=1
cut qcow2,1300k,cluster_size=64k
cut qcow2,200k,compat=0.10 qcow2,300k,compat=0.10,cluster_size=1k
cut raw,300k qcow2,400k,extended_l2=on,cluster_size=16k
cut qcow2,500k,cluster_size=512 qcow2,300k,cluster_size=2k
cut vhd,300k qcow2,200k,cluster_size=4k
# Three layers, for merges into a leaf that keeps a parent.
cut vhd,500k vhd,200k vhd,400k
cut qcow2,500k,cluster_size=4k qcow2,300k,cluster_size=4k qcow2,400k,cluster_size=4k
cut raw,200k vhd,300k vhd,300k
cut qcow2,500k,cluster_size=512 qcow2,300k,cluster_size=512 qcow2,400k,cluster_size=8k
cut --long-names qcow2,100k qcow2,200k,cluster_size=4k
cut --long-names qcow2,100k qcow2,200k,cluster_size=64k
# The names of features that qemu writes leave the first sector no room.
if command -v qemu-img >/dev/null; then
	for compat in 0.10 1.1; do
		qemu-img create -q -u -f qcow2 -o cluster_size=4k,compat=$compat -F raw -b parent \
			"$t/qemu.qcow2" 200k
		cut --leaf "$t/qemu.qcow2" raw,100k qcow2,200k
		cut --long-names --leaf "$t/qemu.qcow2" raw,100k qcow2,200k
	done
fi
[ -z "$failed" ] || fail "after a cut:$failed"
