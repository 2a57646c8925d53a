#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Overlays and snapshots without the daemon: rebase keeps the disk, commit moves it
# down, snapshots go back; qemu-img sees what we do, and the import policy refuses.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-io
cd "$t"

# make FORMAT: base and other, and over base a leaf with data of its own.
make()
{
	rm -f base other leaf want
	smd-img create -f "$1" base 8M
	smd-img create -f "$1" other 8M
	head -c 8M /dev/urandom > noise.raw
	smd-img convert -f raw -O "$1" noise.raw base
	truncate -s 8M zero.raw
	smd-img create -f "$1" -b base -F "$1" leaf
}

same()	# WANT.raw IMAGE FORMAT WHAT
{
	smd-img compare -q --chain -f raw -F "$3" "$1" "$2" || fail "$4: other content"
}

for format in qcow2 vhd; do
	make $format
	same noise.raw leaf $format "a new overlay"
	expect_fail smd-img info --output=json -f $format leaf
	case $output in *EXTERNAL_REF*) ;; *) fail "info: $output" ;; esac
	smd-img info -u -f $format leaf | grep -q base || fail "info -u names no parent"

	# Another parent with other content: what differs is copied first.
	smd-img rebase -f $format -b other -F $format leaf
	same noise.raw leaf $format "rebase onto another parent"
	smd-img rebase -f $format -b "" leaf
	same noise.raw leaf $format "rebase onto nothing"
	smd-img info -f $format leaf >/dev/null || fail "rebase onto nothing left a parent"

	# A parent that moved.
	make $format
	mv base moved
	expect_fail smd-img map --chain --output=json -f $format leaf
	case $output in *MISSING_PARENT*) ;; *) fail "map: $output" ;; esac
	smd-img rebase -u -f $format -b moved -F $format leaf
	same noise.raw leaf $format "rebase -u"

	# An image that had no parent: what it says is zero may not become the parent's.
	make $format
	smd-img create -f $format leaf 8M
	smd-img rebase -f $format -b base -F $format leaf
	same zero.raw leaf $format "rebase of an image that had no parent"

	# Commit into a parent that is smaller: it grows first.
	make $format
	smd-img create -f $format small 4M
	smd-img create -f $format -b small -F $format large 8M
	smd-img rebase -f $format -b base -F $format large
	smd-img convert --chain -f $format -O raw large want.raw
	smd-img rebase -f $format -b small -F $format large
	smd-img commit -p -f $format large 2>/dev/null
	same want.raw small $format "commit into a smaller parent"
done

# Commit: qemu writes into the overlay, we write it down.
make qcow2
qemu-io -f qcow2 -c "write -P 9 1M 256k" -c "write -z 3M 512k" -c "write -P 5 8388096 512" leaf >/dev/null
smd-img convert --chain -f qcow2 -O raw leaf want.raw
smd-img commit -f qcow2 leaf
same want.raw base qcow2 "commit"
same want.raw leaf qcow2 "the overlay after its commit"
qemu-img check -q base || fail "commit: check"

# Snapshots inside an image, which qemu-img knows too.
smd-img convert -f raw -O qcow2 noise.raw snap
smd-img snapshot -f qcow2 -c one snap
qemu-img snapshot -l snap | grep -q one || fail "qemu-img does not see the snapshot"
qemu-io -f qcow2 -c "write -P 1 0 1M" snap >/dev/null
smd-img snapshot -f qcow2 -a one snap
same noise.raw snap qcow2 "snapshot -a"
smd-img snapshot -f qcow2 -d one snap
[ "$(smd-img snapshot -f qcow2 -l snap | wc -l)" -eq 1 ] || fail "the snapshot is still listed"
qemu-img check -q snap || fail "snapshots: check"
# Over a VHD, qcow2 says what qemu calls one, and qemu reads the chain.
smd-img convert -f raw -O vhd noise.raw mixed.vhd
smd-img create -f qcow2 -b mixed.vhd -F vhd mixed.qcow2
for how in create rebase; do
	expect_eq "$(qemu-img info mixed.qcow2 | sed -n 's/^backing file format: //p')" vpc "$how"
	qemu-img compare -q -f qcow2 -F raw mixed.qcow2 noise.raw || fail "qemu over a VHD: $how"
	same noise.raw mixed.qcow2 qcow2 "qcow2 over a VHD: $how"
	smd-img rebase -u -f qcow2 -b mixed.vhd -F vhd mixed.qcow2
done

expect_fail smd-img snapshot -f vhd -c one base
