#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# smd-img convert, every format to every other, from images that qemu-img made:
# all kinds of clusters and both codecs, fixed and dynamic VHDs, odd sizes. qemu-img
# must read the same disk from the result, of exactly the source's size.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-io
cd "$t"

# disk FILE SIZE: data, zeroes as data, and holes.
disk()
{
	truncate -s "$2" "$1"
	head -c 3000000 /dev/urandom | dd of="$1" bs=64k seek=3 conv=notrunc status=none
	head -c 1048576 /dev/zero | dd of="$1" bs=64k seek=60 conv=notrunc status=none
	head -c 2500000 /dev/zero | tr '\0' s |
		dd of="$1" bs=1M oflag=seek_bytes seek=9000001 conv=notrunc status=none
	printf end | dd of="$1" bs=1 seek=$(($2 - 3)) conv=notrunc status=none
}
disk even.raw $((16 << 20))
disk odd.raw $(((13 << 20) + 512 * 7))

declare -A format
source_image()	# NAME FORMAT RAW QEMU-IMG-ARGUMENT...
{
	local name=$1 as=$2 raw=$3

	shift 3
	qemu-img convert -f raw -O "$as" "$@" "$raw" "$name"
	format[$name]=$as
	raw_of[$name]=$raw
}
declare -A raw_of
for raw in even odd; do
	for cluster in 512 4k 64k 2M; do
		source_image "$raw-$cluster.qcow2" qcow2 "$raw.raw" -o cluster_size=$cluster
		source_image "$raw-$cluster-zlib.qcow2" qcow2 "$raw.raw" -c -o cluster_size=$cluster
	done
	source_image "$raw-zstd.qcow2" qcow2 "$raw.raw" -c -o compression_type=zstd
	source_image "$raw-v2.qcow2" qcow2 "$raw.raw" -o compat=0.10
	source_image "$raw-ext.qcow2" qcow2 "$raw.raw" -o extended_l2=on
	source_image "$raw-dynamic.vhd" vpc "$raw.raw" -o force_size=on
	source_image "$raw-fixed.vhd" vpc "$raw.raw" -o force_size=on,subformat=fixed
	format[$raw.raw]=raw raw_of[$raw.raw]=$raw.raw
done

# same RAW FORMAT WHAT: "out" is the same disk. (compare -s would want the same holes.)
same()
{
	qemu-img compare -q -f raw -F "$2" "$1" out || fail "$3: other content"
	expect_eq "$(qemu-img info --output=json -f "$2" out |
		python3 -c 'import json, sys; print(json.load(sys.stdin)["virtual-size"])')" \
		"$(stat -c %s "$1")" "$3: size"
}

n=0
for image in "${!format[@]}"; do
	raw=${raw_of[$image]}
	for as in raw qcow2 vhd; do
		qemu=${as/vhd/vpc}
		rm -f out
		smd-img convert --verify -f "${format[$image]}" -O $as "$image" out
		same "$raw" "$qemu" "$image -> $as"
		[ $as != qcow2 ] || qemu-img check -q out || fail "$image -> $as: check"
		smd-img compare -q -s -f "${format[$image]}" -F $as "$image" out ||
			fail "$image -> $as: smd-img sees other content"
		n=$((n + 1))
	done
done

# The clusters and sizes of the destination, too; and no multiple of 512 is needed.
for cluster in 512 4k 2M; do
	smd-img convert --verify -f raw -O qcow2 -o cluster_size=$cluster odd.raw out
	same odd.raw qcow2 "cluster_size=$cluster"
	qemu-img check -q out || fail "cluster_size=$cluster: check"
done
head -c 1000003 odd.raw > uneven.raw
smd-img convert --verify -f raw -O raw uneven.raw out
cmp uneven.raw out || fail "a size that is no multiple of 512"

# Holes stay holes.
smd-img convert -f qcow2 -O raw even-64k.qcow2 out
[ "$(stat -c %b out)" -le $((12 << 11)) ] || fail "the result is not sparse: $(stat -c %b out)"
echo "$n conversions"
