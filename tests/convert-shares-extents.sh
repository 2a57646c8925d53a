#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# On xfs and btrfs a conversion between any two formats shares the data's extents:
# it takes next to no space, and neither disk changes with the other. Skipped
# where nothing can be mounted.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-io mount umount python3
[ "$(id -u)" = 0 ] || { echo "skipped: only root can mount"; exit 77; }
cd "$t"
done=

unmount()
{
	cd "$t"
	! mountpoint -q "$t/mnt" || umount "$t/mnt" || umount -l "$t/mnt"
}
cleanup_fn unmount

used()	# bytes taken on the file system, all written back
{
	sync -f .
	df -B1 --output=used . | tail -1
}

convert()	# FORMAT FROM FORMAT TO [OPTIONS]
{
	local before after data shared

	before=$(used)
	read -r data shared < <(smd-img convert --json -t writeback -f "$1" -O "$3" \
		${5:+-o "$5"} "$2" "$4" | python3 -c '
import json, sys
result = json.load(sys.stdin)
print(result["data"], result["shared"])')
	after=$(used)
	[ "$data" -ge 20000000 ] || fail "$fs: $2 to $4: $data bytes of data"
	[ "$shared" -ge $((data / 100 * 99)) ] || fail "$fs: $2 to $4: $shared of $data shared"
	[ $((after - before)) -lt $((data / 8)) ] ||
		fail "$fs: $2 to $4: took $((after - before)) bytes for $data"
	qemu-img compare -q -f raw -F "${3/vhd/vpc}" disk.raw "$4" ||
		fail "$fs: $2 to $4: other content"
}

make_fs()	# FS [OPTIONS]
{
	command -v mkfs.$1 >/dev/null || return
	rm -f fs.img
	truncate -s 400M fs.img
	mkfs.$1 -q "${@:2}" fs.img >/dev/null 2>&1 || return
	mkdir -p mnt
	mount -o loop fs.img mnt 2>/dev/null
}

for fs in xfs btrfs; do
	make_fs $fs || continue
	cd mnt
	head -c 24M /dev/urandom >disk.raw
	truncate -s 40M disk.raw
	dd if=/dev/urandom of=disk.raw bs=1M seek=33 count=3 conv=notrunc status=none

	convert raw disk.raw raw copy.raw
	convert raw disk.raw vhd one.vhd
	convert raw disk.raw qcow2 one.qcow2
	convert raw disk.raw vhd fixed.vhd subformat=fixed
	convert vhd one.vhd raw two.raw
	convert vhd one.vhd vhd two.vhd
	convert vhd one.vhd qcow2 two.qcow2
	convert qcow2 one.qcow2 raw three.raw
	convert qcow2 one.qcow2 vhd three.vhd
	convert qcow2 one.qcow2 qcow2 three.qcow2 cluster_size=256k
	convert qcow2 one.qcow2 qcow2 four.qcow2 extended_l2=on,cluster_size=128k
	convert vhd fixed.vhd qcow2 five.qcow2 cluster_size=4k

	# Verified, what is shared is read through both images, and has a digest.
	smd-img convert --json --verify -f raw -O vhd disk.raw four.vhd | python3 -c '
import json, sys
result = json.load(sys.stdin)
assert result["shared"] >= result["data"] * 0.99, result
print(result["digest"] + "  four.vhd")' >told
	smd-img checksum -f vhd four.vhd | cmp - told || fail "$fs: --verify: another digest"

	# What lies across pages is copied like on any file system.
	qemu-img convert -f raw -O vpc disk.raw across.vhd
	smd-img convert --json -f vhd -O raw across.vhd across.raw | python3 -c '
import json, sys
result = json.load(sys.stdin)
assert result["shared"] == 0 and "digest" in result, result'
	cmp -n 40M disk.raw across.raw || fail "$fs: what lies across pages: other content"

	# Pages that alternate with holes; and a cluster that is zero, where its old data lie
	# between those of its neighbours.
	truncate -s 8M comb.raw
	python3 -c '
with open("disk.raw", "rb") as whole, open("comb.raw", "r+b") as comb:
    for i in range(1000):
        comb.seek(i * 8192)
        comb.write(whole.read(4096))'
	qemu-img convert -f raw -O qcow2 disk.raw zero.qcow2
	qemu-io -f qcow2 -c 'write -q -z 1M 64k' -c 'write -q -z 2M 192k' zero.qcow2
	for to in raw vhd qcow2; do
		smd-img convert -f raw -O $to comb.raw comb.$to.copy
		qemu-img compare -q -f raw -F ${to/vhd/vpc} comb.raw comb.$to.copy ||
			fail "$fs: pages and holes to $to: other content"
		smd-img convert -f qcow2 -O $to zero.qcow2 zero.$to.copy
		qemu-img compare -q -f qcow2 -F ${to/vhd/vpc} zero.qcow2 zero.$to.copy ||
			fail "$fs: zeroes over data to $to: other content"
	done

	# Holes that are of another store, or elsewhere in it: what lies between the data on
	# either side is not the disk's.
	smd-img convert -f raw -O raw disk.raw below.raw
	qemu-img create -q -f qcow2 -b below.raw -F raw dug.qcow2
	qemu-io -f qcow2 -c 'write -q -P 0 1M 64k' -c 'write -q -P 0 2M 192k' dug.qcow2
	qemu-img create -q -f qcow2 order.qcow2 8M
	qemu-io -f qcow2 -c 'write -q -P 1 0 64k' -c 'write -q -P 2 4M 64k' \
		-c 'write -q -P 1 128k 64k' -c 'write -q -P 0 64k 64k' order.qcow2
	for image in dug order; do
		fallocate --dig-holes $image.qcow2
		smd-img convert --chain -f qcow2 -O vhd $image.qcow2 $image.vhd
		qemu-img compare -q -f qcow2 -F vpc $image.qcow2 $image.vhd ||
			fail "$fs: $image.qcow2, which has holes of its own, to vhd: other content"
	done

	# A chain, image by image: what the overlay holds is shared, too.
	qemu-img create -q -f qcow2 -b two.qcow2 -F qcow2 over.qcow2
	qemu-io -f qcow2 -c 'write -q -P 3 4M 8M' -c 'write -q -z 20M 1M' -c 'write -q -P 4 100 30k' \
		over.qcow2
	for as in qcow2 vhd; do
		smd-img convert -f raw -O $as disk.raw base.$as
		before=$(used)
		smd-img convert -t writeback -f qcow2 -O $as -B base.$as -F $as over.qcow2 over.$as.copy
		[ $(($(used) - before)) -lt 1000000 ] ||
			fail "$fs: an overlay as $as took $(($(used) - before)) bytes"
		smd-img convert --chain -f $as -O raw over.$as.copy over.raw
		qemu-img compare -q -f qcow2 -F raw over.qcow2 over.raw ||
			fail "$fs: an overlay as $as: other content"
	done

	# What is written to one is not in the others.
	qemu-io -f qcow2 -c 'write -q -P 1 0 20M' two.qcow2
	qemu-io -f vpc -c 'write -q -P 2 5M 10M' one.vhd
	for image in copy.raw two.raw three.raw; do
		cmp disk.raw $image || fail "$fs: $image changed with another"
	done
	for image in one three four five; do
		qemu-img compare -q -f raw -F qcow2 disk.raw $image.qcow2 ||
			fail "$fs: $image.qcow2 changed with another"
	done
	cd "$t"
	umount mnt
	done="$done $fs"
done
echo "shared on:$done"

# An xfs that was made without: a copy like any other.
if make_fs xfs -m reflink=0; then
	cd mnt
	head -c 4M /dev/urandom >disk.raw
	truncate -s 12M disk.raw
	fallocate -l 8M disk.raw
	dd if=/dev/zero of=disk.raw bs=1M seek=4 count=2 conv=notrunc status=none
	smd-img convert --json -f raw -O qcow2 disk.raw copy.qcow2 | python3 -c '
import json, sys
result = json.load(sys.stdin)
assert result["shared"] == 0 and "digest" in result, result
assert result["written"] < 5 << 20, result'
	cd "$t"
	umount mnt
fi
[ -n "$done" ] || { echo "skipped: neither xfs nor btrfs can be made and mounted here"; exit 77; }
