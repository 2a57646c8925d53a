#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What other programs say of the images of image-model and image-power-cut:
#	judge DIR WANT FILE FORMAT...	check every layer, compare what qemu can open
#	compress FILE FORMAT		rewrite a qcow2 image with compressed clusters
set -eu
verb=$1
shift

judge_chain()
{
	local want=$2 leaf=$3 format=$4 qemu=1

	shift 2
	# qemu knows no VHD with a parent, and no VHD as one under that name.
	[ "$format" != vhd ] || [ $# -eq 2 ] || qemu=
	while [ $# -gt 0 ]; do
		case $2 in
		qcow2) qemu-img check -q "json:{'driver': 'qcow2', 'backing': null,
				'file': {'driver': 'file', 'filename': '$1'}}" ;;
		vhd)
			[ -z "$vhd_util" ] || "$vhd_util" check -n "$1" >"$want.log" || {
				cat "$want.log"
				exit 1
			} ;;
		esac
		[ "$2" != vhd ] || [ "$1" = "$leaf" ] || qemu=
		shift 2
	done
	[ -z "$qemu" ] || qemu-img compare -q -f "${format/vhd/vpc}" -F raw "$leaf" "$want"
}

vhd_util=${VHD_UTIL-$(command -v vhd-util || true)}
case $verb in
judge) judge_chain "$@" ;;
compress)
	[ "$2" = qcow2 ] || exit 0
	backing=$(qemu-img info -U --output=json "$1" | python3 -c '
import json, sys
i = json.load(sys.stdin)
print(i.get("backing-filename", ""), i.get("backing-filename-format", ""))')
	read -r name format <<<"$backing"
	type=$(qemu-img info -U "$1" | sed -n 's/ *compression type: //p')
	size=$(qemu-img info -U --output=json "$1" | sed -n 's/ *"cluster-size": \([0-9]*\),/\1/p')
	options=cluster_size=$size,compression_type=${type:-zlib}
	if [ -n "$name" ]; then
		qemu-img convert -c -O qcow2 -o "$options" -B "$name" -F "$format" "$1" "$1.new"
	else
		qemu-img convert -c -O qcow2 -o "$options" "$1" "$1.new"
	fi
	mv "$1.new" "$1" ;;
esac
