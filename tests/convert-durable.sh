#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Durable conversions go past the page cache, or out of it again, and grow their file ahead of
# what they write: what comes of it is as any other conversion's, to the end of the file; also
# where the file fits on the disk and what it would grow by does not. Nothing of it stays in the
# page cache. One that does not fit says so and leaves nothing. The latter two are skipped where
# nothing can be mounted.
source "$(dirname "$0")/functions.sh"
requires qemu-img mount umount fincore
cd "$t"

unmount()
{
	! mountpoint -q "$t/mnt" || umount "$t/mnt" || umount -l "$t/mnt"
}
cleanup_fn unmount

convert()	# FORMAT FROM TO [OPTION...]
{
	smd-img convert -t writeback -f raw -O "$1" "${@:4}" "$2" "$3"
}

same()	# FORMAT FROM TO
{
	smd-img compare -q -f raw -F "$1" "$2" "$3" || fail "$3: other content"
	qemu-img compare -q -f raw -F "${1/vhd/vpc}" "$2" "$3" || fail "$3: other content for qemu-img"
	[ "$1" = raw ] || smd-img check -q -f "$1" "$3" || fail "$3: errors"
}

# No whole pages, pieces of all sizes, data up to the end.
head -c 3000000 /dev/urandom >data
truncate -s $((70 * 1024 * 1024 + 3 * 512)) disk.raw
for i in 0 1 2 3 4 5 6 7; do
	dd if=data of=disk.raw bs=512 seek=$((i * 17000 + i)) count=$((1 + i * 800)) conv=notrunc \
		status=none
done
dd if=data of=disk.raw bs=512 seek=143360 count=3 conv=notrunc status=none
for format in raw vhd qcow2; do
	convert $format disk.raw durable.$format
	smd-img convert -f raw -O $format disk.raw cached.$format
	same $format disk.raw durable.$format
	expect_eq "$(stat -c %s durable.$format)" "$(stat -c %s cached.$format)" \
		"bytes of durable.$format"
done
convert qcow2 disk.raw durable.qcow2 -o cluster_size=512
same qcow2 disk.raw durable.qcow2

[ "$(id -u)" = 0 ] || exit 0
truncate -s 64M fs.img
mkfs.ext4 -q fs.img
mkdir mnt
mount -o loop fs.img mnt || exit 0
head -c 40M /dev/urandom >fits.raw
head -c 80M /dev/urandom >does-not.raw
for format in raw vhd qcow2; do
	convert $format fits.raw mnt/image
	cached=$(fincore -nb -o RES mnt/image)
	[ "$cached" -le $((4 << 20)) ] || fail "$format: $cached bytes are in the page cache"
	same $format fits.raw mnt/image
	rm mnt/image
	expect_fail convert $format does-not.raw mnt/image
	grep -q "No space left on device" <<<"$output" || fail "$output"
	[ ! -e mnt/image ] || fail "what does not fit is left"
done
