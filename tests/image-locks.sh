#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# qemu and smd keep out of each other's images by the same locks: neither touches
# what the other writes, both may read at once, and -U reads all the same.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-io
cd "$t"

smd-img create -f raw disk.raw 64M

# A qemu that has the image open for writing, until its input ends.
coproc QEMU { qemu-io -f raw disk.raw 2>&1; }
echo "write -P 7 0 64k" >&"${QEMU[1]}"
read -r _ <&"${QEMU[0]}"
expect_fail smd-img convert -f raw -O raw disk.raw copy.raw
case $output in *"in use"*) ;; *) fail "another reason: $output" ;; esac
expect_fail smd-img resize -f raw disk.raw 128M
smd-img info -U -f raw disk.raw >/dev/null || fail "-U does not read"
pid=$QEMU_PID
echo quit >&"${QEMU[1]}"
wait "$pid" || true
smd-img convert -f raw -O raw disk.raw copy.raw || fail "the lock outlived qemu"

# The reverse: while smd writes, qemu-img refuses.
head -c 32M /dev/urandom > disk.raw
smd-img convert --rate 2M -f raw -O qcow2 disk.raw slow.qcow2 &
pid=$!
for _ in $(seq 100); do
	[ -s slow.qcow2 ] && break
	sleep 0.05
done
expect_fail qemu-img info slow.qcow2
case $output in *lock*) ;; *) fail "qemu-img did not speak of a lock: $output" ;; esac
qemu-img info -f raw disk.raw >/dev/null || fail "two readers do not get along"
expect_fail qemu-io -f raw -c "write 0 512" disk.raw
kill "$pid"
wait "$pid" || true
