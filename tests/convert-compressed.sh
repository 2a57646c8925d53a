#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# smd-img convert -c: qemu-img must find the result sound and the same disk, for
# both codecs, the smallest and largest clusters, and counts that cannot be
# shared; what shrinks is compressed, what does not is stored as it is.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-io python3
cd "$t"

# Text, random bytes, zeroes as data, holes, and an end amid a cluster.
truncate -s $(((24 << 20) + 512 * 5)) mixed.raw
seq 900000 | dd of=mixed.raw bs=64k seek=3 conv=notrunc status=none
head -c 3000000 /dev/urandom | dd of=mixed.raw bs=64k seek=110 conv=notrunc status=none
head -c 1048576 /dev/zero | dd of=mixed.raw bs=64k seek=200 conv=notrunc status=none
for _ in 1 2 3 4 5 6 7 8; do	# in turn, so that plain and packed clusters mix
	head -c 70000 /dev/urandom
	seq 20000
done | dd of=mixed.raw bs=64k seek=230 conv=notrunc status=none
printf end | dd of=mixed.raw bs=1 seek=$(((24 << 20) + 512 * 5 - 3)) conv=notrunc status=none
head -c 4194304 /dev/urandom >random.raw
truncate -s 1T sparse.raw
seq 300000 | dd of=sparse.raw bs=1M seek=700000 conv=notrunc status=none

# sound RAW WHAT: "out" is a sound image of the same disk.
sound()
{
	qemu-img check -q -f qcow2 out || fail "$2: qemu-img check"
	smd-img check -f qcow2 out >/dev/null || fail "$2: smd-img check"
	qemu-img compare -q -f raw -F qcow2 "$1" out || fail "$2: qemu-img sees another disk"
	smd-img compare -q -s -f raw -F qcow2 "$1" out || fail "$2: smd-img sees another disk"
}
compressed()
{
	smd-img check -f qcow2 --output=json out |
		python3 -c 'import json, sys; print(json.load(sys.stdin)["compressed-clusters"])'
}

for codec in zlib zstd; do
	for cluster in 512 4k 64k 2M; do
		for raw in mixed random; do
			smd-img convert --verify -f raw -O qcow2 -c \
				-o cluster_size=$cluster,compression_type=$codec $raw.raw out
			sound $raw.raw "$raw, $codec, $cluster"
		done
		expect_eq "$(compressed)" 0 "$codec, $cluster: random data made compressed"
	done
	for more in refcount_bits=4 refcount_bits=64 extended_l2=on; do
		smd-img convert -f raw -O qcow2 -c -o $more,compression_type=$codec mixed.raw out
		sound mixed.raw "$more, $codec"
		[ "$(compressed)" -gt 90 ] || fail "$more, $codec: $(compressed) compressed"
	done
	smd-img convert -f raw -O qcow2 -c -o compression_type=$codec sparse.raw out
	qemu-img check -q out || fail "sparse, $codec"
	smd-img compare -q -f raw -F qcow2 sparse.raw out || fail "sparse, $codec: other content"
	[ "$(stat -c %s out)" -lt 2500000 ] || fail "sparse, $codec: $(stat -c %s out) bytes"
done

# One bit counts one user of a host cluster, two bits leave none for a snapshot.
for bits in 1 2; do
	smd-img convert -f raw -O qcow2 -c -o refcount_bits=$bits mixed.raw out
	sound mixed.raw refcount_bits=$bits
	expect_eq "$(compressed)" 0 "refcount_bits=$bits"
done
smd-img convert -f raw -O qcow2 -c -o compat=0.10 mixed.raw out
sound mixed.raw compat=0.10

# It is smaller than a plain one, hardly larger than qemu-img's.
smd-img convert -f raw -O qcow2 mixed.raw plain
qemu-img convert -f raw -O qcow2 -c mixed.raw theirs
[ "$(stat -c %s out)" -lt $(($(stat -c %s plain) * 3 / 4)) ] || fail "not smaller than a plain one"
[ "$(stat -c %s out)" -lt $(($(stat -c %s theirs) * 5 / 4)) ] || fail "larger than qemu-img's"

# Every stream keeps to the 4 KiB window that QEMU's inflate is given. Fed out byte
# by byte zlib has no more than its window to look back at.
python3 - out <<'END' || fail "a stream passes its window"
import struct, sys, zlib
data = open(sys.argv[1], "rb").read()
bits, = struct.unpack_from(">I", data, 20)
l1_size, l1 = struct.unpack_from(">IQ", data, 36)
size, shift, seen = 1 << bits, 62 - (bits - 8), 0
for (entry,) in struct.iter_unpack(">Q", data[l1:l1 + 8 * l1_size]):
    table = entry & 0x00fffffffffffe00
    for (word,) in struct.iter_unpack(">Q", data[table:table + size] if table else b""):
        if not word >> 62 & 1:
            continue
        host = word & (1 << shift) - 1
        sectors = ((word & (1 << 62) - 1) >> shift) + 1
        stream, out = data[host:host + sectors * 512 - host % 512], 0
        inflate = zlib.decompressobj(wbits=-12)
        while out < size:
            piece = inflate.decompress(stream, 997)
            stream, out = inflate.unconsumed_tail, out + len(piece)
            assert piece, host
        seen += 1
assert seen > 90, seen
END

# For size: smaller, and qemu-img reads it, both codecs and the largest clusters.
for codec in zlib zstd; do
	for cluster in 64k 2M; do
		options=cluster_size=$cluster,compression_type=$codec
		smd-img convert -f raw -O qcow2 -c -o $options mixed.raw quick
		smd-img convert --verify -f raw -O qcow2 --small -o $options mixed.raw out
		sound mixed.raw "small, $codec, $cluster"
		[ "$(stat -c %s out)" -lt "$(stat -c %s quick)" ] || fail "small, $codec, $cluster: not smaller"
	done
done

# A disk from a compressed image, and back; snapshots and writes leave it sound.
smd-img convert --verify -f qcow2 -O qcow2 -c -o compression_type=zstd out again
smd-img compare -q -s -f qcow2 -F qcow2 out again || fail "compressed to compressed"
smd-img snapshot -f qcow2 -c before out
qemu-io -f qcow2 -c 'write -P 7 200k 3M' -c 'discard 8M 2M' out >/dev/null
qemu-img check -q out || fail "written to"
smd-img snapshot -f qcow2 -a before out
smd-img snapshot -f qcow2 -d before out
sound mixed.raw "gone back to a snapshot"

# Formats that cannot.
for as in raw vhd; do
	expect_fail smd-img convert -f raw -O $as -c mixed.raw refused
	grep -q "cannot be compressed" <<<"$output" || fail "$as: $output"
	[ ! -e refused ] || fail "$as: the result is left behind"
done
