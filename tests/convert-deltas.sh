#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# smd-img convert -B: a chain of qemu-img's goes over image by image, into any
# format, and each image of the copy shows the same disk. What a layer leaves to its
# parent stays there, zeroes over the parent's data hide it, sizes grow.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-io
cd "$t"

# write FILE COMMAND...: with qemu-io, which follows the chain.
write()
{
	local file=$1

	shift
	qemu-io -f qcow2 "${@/#/-c}" "$file" >/dev/null
}

# base <- mid <- leaf: each larger than the one before, ends amid clusters.
mkdir chain
qemu-img create -q -f raw chain/base $(((16 << 20) + 512 * 3))
qemu-io -f raw -c 'write -P 1 0 6M' -c 'write -P 2 9M 3M' -c 'write -P 9 16380k 5k' chain/base >/dev/null
qemu-img create -q -f qcow2 -b base -F raw chain/mid $(((24 << 20) + 512 * 7))
write chain/mid ' write -P 3 1M 2M' ' write -z 4M 1M' ' write -P 4 16M 100k' ' write -P 0 5M 64k' \
	' write -P 5 23M 300k' ' write -z 18M 1M'
qemu-img create -q -f qcow2 -o cluster_size=4k -b mid -F qcow2 chain/leaf 40M
write chain/leaf ' write -P 6 512 512' ' write -P 7 4100k 4k' ' write -z 9M 64k' ' write -P 8 39M 1M' \
	' write -z 23M 100k' ' write -P 2 10M 64k'
for i in base mid leaf; do
	qemu-img convert -f "$([ $i = base ] && echo raw || echo qcow2)" -O raw chain/$i $i.raw
done

# same DIR FORMAT ROOTFORMAT: each image of the copied chain shows its disk.
same()
{
	local i as=$3

	for i in base mid leaf; do
		smd-img convert --chain -f $as -O raw "$1/$i" out.raw
		# A format may round a size up, with zeroes.
		smd-img compare -q -f raw -F raw $i.raw out.raw || fail "$1: $i differs"
		smd-img check -f $as "$1/$i" >/dev/null || [ $as = raw ] || fail "$1: $i is not sound"
		[ "$as" != qcow2 ] || qemu-img check -q -f qcow2 "$1/$i" || fail "$1: qemu-img on $i"
		as=$2
	done
}

for root in raw vhd qcow2; do
	for as in vhd qcow2 qcow2,cluster_size=2M qcow2,extended_l2=on,cluster_size=128k; do
		[ $root-$as != qcow2-vhd ] || continue	# a VHD can name vhd and raw only
		dir=$root-$as format=${as%%,*} options=()
		[ "$format" = "$as" ] || options=(-o "${as#*,}")
		mkdir "$dir"
		smd-img convert -f raw -O $root chain/base "$dir/base"
		smd-img convert --verify -O $format "${options[@]}" -B "$dir/base" -F $root \
			-f qcow2 chain/mid "$dir/mid"
		smd-img convert --verify -O $format "${options[@]}" -B "$dir/mid" -F $format \
			-f qcow2 chain/leaf "$dir/leaf"
		same "$dir" $format $root
	done
done

# It holds no more than qemu-img's own copy does, and qemu-img reads it.
qemu-img convert -f qcow2 -O qcow2 -B chain/mid -F qcow2 chain/leaf theirs
for dir in raw-qcow2 qcow2-qcow2; do
	qemu-img compare -q -f qcow2 -F raw $dir/leaf leaf.raw || fail "qemu-img sees another disk"
done
smd-img convert -f qcow2 -O qcow2 -o cluster_size=4k -B chain/mid -F qcow2 chain/leaf chain/ours
[ "$(stat -c %b chain/ours)" -le $(($(stat -c %b theirs) + 64)) ] || fail "more than qemu-img's"
qemu-img compare -q -f qcow2 -F qcow2 chain/leaf chain/ours || fail "over the same parent"

# The grain of a VHD is a sector: 512 bytes of the leaf are no block of 2 MiB.
[ "$(du -k raw-vhd/leaf | cut -f1)" -lt 1700 ] || fail "the leaf takes $(du -k raw-vhd/leaf)"

# Back again: vhd over vhd to qcow2 over raw, compressed.
mkdir back
smd-img convert -f vhd -O raw vhd-vhd/base back/base
smd-img convert -f vhd -O qcow2 -c -B back/base -F raw vhd-vhd/mid back/mid
smd-img convert -f vhd -O qcow2 -c -B back/mid -F qcow2 vhd-vhd/leaf back/leaf
same back qcow2 raw

# An input without a parent is compared: only what differs goes.
smd-img convert -f raw -O qcow2 -B chain/mid -F qcow2 leaf.raw chain/found
qemu-img compare -q -f qcow2 -F raw chain/found leaf.raw || fail "the difference"
[ "$(du -k chain/found | cut -f1)" -lt 3000 ] || fail "the difference takes $(du -k chain/found)"
smd-img convert --verify -f raw -O vhd -B base.raw -F raw base.raw same.vhd
[ "$(du -k same.vhd | cut -f1)" -lt 100 ] || fail "no difference takes $(du -k same.vhd)"

# Refused, and nothing left behind.
expect_fail smd-img convert -f qcow2 -O raw -B chain/mid -F qcow2 chain/leaf refused
grep -q "raw has no parents" <<<"$output" || fail "raw: $output"
expect_fail smd-img convert -f qcow2 -O qcow2 -B chain/mid chain/leaf refused
grep -q "needs -F" <<<"$output" || fail "no -F: $output"
expect_fail smd-img convert -f qcow2 -O qcow2 -B chain/none -F qcow2 chain/leaf refused
[ ! -e refused ] || fail "the result is left behind"
expect_fail smd-img convert -f qcow2 -O qcow2 -B chain/mid -F qcow2 chain/leaf chain/mid
