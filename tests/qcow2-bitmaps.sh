#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Persistent bitmaps stay valid as long as no disk changes; with the first change
# they are switched off, and their space can be had back.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-io
cd "$t"

bitmaps()	# as qemu sees them
{
	qemu-img info -U -f qcow2 image.qcow2 | grep -c 'granularity: ' || true
}

qemu-img create -q -f raw parent.raw 4M
qemu-img create -q -f qcow2 -b parent.raw -F raw image.qcow2 4M
for name in one two; do
	qemu-img bitmap --add image.qcow2 $name
	qemu-io -c 'write -q -P 1 1M 300k' image.qcow2
done
expect_eq "$(bitmaps)" 2 "bitmaps to begin with"
smd-img info -u -f qcow2 image.qcow2 | grep -q 'bitmaps: 2' || fail "info tells of no bitmaps"

# Looking, checking, copying and another name for the parent change no disk.
sum=$(sha256sum <image.qcow2)
smd-img check -f qcow2 image.qcow2 >/dev/null
smd-img repair --dry-run -f qcow2 image.qcow2 >/dev/null
smd-img convert --chain -f qcow2 -O raw image.qcow2 copy.raw
expect_eq "$(sha256sum <image.qcow2)" "$sum" "the image after it was read"
mv parent.raw moved.raw
smd-img rebase -u -f qcow2 -b moved.raw -F raw image.qcow2
expect_eq "$(bitmaps)" 2 "bitmaps after another name for the parent"
qemu-img check -q image.qcow2 || fail "qemu-img check after that"
smd-img check -f qcow2 image.qcow2 >/dev/null || fail "our check after that"

# A change.
smd-img resize --chain -f qcow2 image.qcow2 5M
expect_eq "$(bitmaps)" 0 "bitmaps after a change"
smd-img info -u -f qcow2 image.qcow2 | grep -q 'bitmaps: 0' || fail "info tells of dead bitmaps"
status=0
smd-img check -f qcow2 image.qcow2 >/dev/null || status=$?
expect_eq $status 3 "the check of an image with dead bitmaps"
smd-img check -f qcow2 -r leaks image.qcow2 >/dev/null || fail "their space is not given back"
smd-img check -f qcow2 image.qcow2 >/dev/null || fail "the check after that"
qemu-img check -q image.qcow2 || fail "qemu-img check at the end"
smd-img resize --chain --shrink -f qcow2 image.qcow2 4M
smd-img compare -q --chain -f raw -F qcow2 copy.raw image.qcow2 || fail "other content"
