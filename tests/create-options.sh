#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Every create option is in the image, as qemu-img sees it; what cannot
# be made is refused before a file is left behind.
source "$(dirname "$0")/functions.sh"
requires qemu-img python3
cd "$t"

# field FILE NAME: of qemu-img info.
field()
{
	qemu-img info --output=json -f qcow2 "$1" | python3 -c '
import json, sys
info = json.load(sys.stdin)
print(str({**info, **info["format-specific"]["data"]}[sys.argv[1]]).lower())' "$2"
}

sound()
{
	qemu-img check -q -f qcow2 "$1" || fail "qemu-img check of $2"
	smd-img check -f qcow2 "$1" >check.log || fail "$2: $(cat check.log)"
}

qcow2()	# OPTIONS FIELD VALUE
{
	smd-img create -f qcow2 -o "$1" q 20M
	expect_eq "$(field q "$2")" "$3" "$1"
	sound q "$1"
}

for size in 512 1024 2048 4096 8192 16384 32768 65536 131072 262144 524288 1048576 2097152; do
	qcow2 cluster_size=$size cluster-size $size
done
for bits in 1 2 4 8 16 32 64; do
	qcow2 refcount_bits=$bits refcount-bits $bits
done
for compat in 0.10 1.1; do
	qcow2 compat=$compat compat $compat
done
qcow2 compat=v2 compat 0.10
qcow2 compat=v3 compat 1.1
qcow2 compression_type=zlib compression-type zlib
qcow2 compression_type=zstd compression-type zstd
qcow2 extended_l2=on extended-l2 true
qcow2 extended_l2=on,cluster_size=16k cluster-size 16384

# What is taken beforehand: nothing, the tables, all.
for kind in off metadata falloc full; do
	for more in cluster_size=64k cluster_size=16k,extended_l2=on compat=0.10; do
		smd-img create -f qcow2 -o "preallocation=$kind,$more" q 20M
		sound q "preallocation=$kind,$more"
		taken=$(($(stat -c %b q) * 512))
		case $kind in
		off) [ $taken -lt 1000000 ] && [ "$(stat -c %s q)" -lt 1000000 ] ;;
		metadata) [ $taken -lt 10000000 ] && [ "$(stat -c %s q)" -gt 20000000 ] ;;
		*) [ $taken -ge 20971520 ] ;;
		esac || fail "preallocation=$kind,$more takes $taken bytes"
		[ "$(smd-img convert -f qcow2 -O raw q zero.raw && tr -d '\0' <zero.raw | wc -c)" = 0 ] ||
			fail "preallocation=$kind,$more shows something"
	done
done

# Raw and VHD.
smd-img create -f raw -o preallocation=falloc r 5M
[ "$(stat -c %b r)" -ge 10240 ] || fail "raw preallocation=falloc"
smd-img create -f vhd -o subformat=fixed v 5M
expect_eq "$(stat -c %s v)" $((5 * 1048576 + 512)) "the length of a fixed VHD"
expect_eq "$(tail -c 512 v | head -c 32 | tail -c 4 | tr '\0' 0)" tap0 "its creator"
smd-img create -f vhd -o subformat=fixed,creator=win v 5M
expect_eq "$(tail -c 512 v | head -c 32 | tail -c 4)" "win " "the creator for Azure"
expect_eq "$(qemu-img info --output=json -f vpc v | grep -c '"virtual-size": 5242880')" 1 \
	"qemu's size of a disk for Azure"
smd-img create -f vhd v 5M
smd-img info -f vhd v | grep -q 'batmap: true' || fail "no batmap"

# What cannot be.
refused()	# FORMAT OPTIONS SIZE WHY
{
	rm -f no
	if [ -n "$2" ]; then set -- "$1" "-o $2" "$3" "$4"; fi
	# shellcheck disable=SC2086 # -o and its options
	expect_fail smd-img create -f "$1" $2 no "$3"
	case $output in *"$4"*) ;; *) fail "$1 $2 $3: $output" ;; esac
	[ ! -e no ] || fail "$1 $2 $3 left a file"
}
refused vhd "" 0 "an empty disk can be no VHD"
refused vhd "" 2041G "passes the limit of vhd"
refused vhd subformat=fixed,creator=win 5000704 "whole MiB"
refused qcow2 cluster_size=3000 1M "power of two"
refused qcow2 cluster_size=4M 1M cluster_size
refused qcow2 refcount_bits=3 1M "power of two"
refused qcow2 compat=0.10,extended_l2=on 1M compat=1.1
refused qcow2 compat=0.10,compression_type=zstd 1M compat=1.1
refused qcow2 compat=0.10,refcount_bits=8 1M compat=1.1
refused qcow2 extended_l2=on,cluster_size=8k 1M 16384
refused qcow2 cluster_size=512 200G larger
refused qcow2 encryption=on 1M encryption
refused qcow2 data_file=x 1M data_file
truncate -s 0 empty.raw
expect_fail smd-img convert -f raw -O vhd empty.raw no
case $output in *"an empty disk can be no VHD"*) ;; *) fail "an empty disk: $output" ;; esac
