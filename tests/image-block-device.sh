#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Images of every format on a block device, which cannot grow: made, written, grown
# as far as there is room, checked, and read by qemu. Skipped where no loop device
# can be had.
source "$(dirname "$0")/functions.sh"
requires qemu-img losetup
cd "$t"
truncate -s 48M store
device=$(losetup --find --show store 2>/dev/null) || {
	echo "skipped: no loop device can be had"
	exit 77
}
cleanup_fn losetup -d "$device"

head -c 20M /dev/urandom >disk.raw
truncate -s 24M disk.raw
dd if=/dev/urandom of="$device" bs=1M count=48 status=none	# what was there before

sound()	# FORMAT WHAT
{
	[ "$1" = raw ] || smd-img check -f "$1" "$device" >check.log || fail "$2: $(cat check.log)"
}

for format in raw vhd qcow2; do
	smd-img convert -f raw -O $format disk.raw "$device"
	sound $format "a new $format"
	smd-img compare -q -f raw -F $format disk.raw "$device" || fail "$format: other content"
	[ $format = raw ] && continue
	qemu-img compare -q -f raw -F ${format/vhd/vpc} disk.raw "$device" ||
		fail "$format: qemu sees other content"

	# A larger disk has room; one whose data has none says so, and stays whole.
	smd-img resize -f $format "$device" 400M
	sound $format "$format after a resize"
	smd-img compare -q -f raw -F $format disk.raw "$device" || fail "$format grown: other content"
	truncate -s 60M large.raw
	dd if=/dev/urandom of=large.raw bs=1M count=50 conv=notrunc status=none
	smd-img create -f $format "$device" 60M
	expect_fail smd-img convert -f raw -O $format large.raw "$device"
	case $output in *"no room"* | *"No space"*) ;; *) fail "$format: $output" ;; esac
	smd-img convert -f raw -O $format disk.raw "$device"
	smd-img compare -q -f raw -F $format disk.raw "$device" || fail "$format again: other content"
done

# Never larger than the device.
expect_fail smd-img convert -f raw -O raw large.raw "$device"
expect_eq "$(blockdev --getsize64 "$device")" $((48 << 20)) "the device's size"
