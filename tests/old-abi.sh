#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# A module built against a header as it was released still works; one of another
# ABI, or without a callback it needs, is left out, and the rest go on.
source "$(dirname "$0")/functions.sh"
requires cc
old=$SMD_SRC/tests/old-abi

mkdir "$t/plugins"
build()
{
	local name=$1 header=$2

	shift 2
	cc -std=c99 -fPIC -shared -Wall -Wextra -Werror -I"$header" -DFORMAT_NAME="\"$name\"" "$@" \
		-o "$t/plugins/smd-format-$name.so" "$old/format-old.c"
}
for abi in "$old"/[0-9]*; do
	build "old-${abi##*/}" "$abi"
done
build short "$old/1" -DSHORT_BY=4
build newer "$old/1" -DABI_SAYS=2
build broken "$old/1" -DNO_INFO -Wno-unused-function
build now "$SMD_SRC/plugins"

seq 100000 >"$t/want.raw"
truncate -s 524288 "$t/want.raw"
{
	printf 'OLDDISK\0'
	head -c 4088 /dev/zero
	cat "$t/want.raw"
} >"$t/disk.old"

img()
{
	SMD_PLUGIN_PATH=$t/plugins:$SMD_PLUGIN_PATH smd-img "$@"
}
for name in now short $(cd "$old" && printf 'old-%s ' [0-9]*); do
	img info -f "$name" --output=json "$t/disk.old" | grep -q '"virtual-size": *524288' ||
		fail "$name is not served"
	img convert -f "$name" -O raw "$t/disk.old" "$t/got.raw"
	cmp "$t/want.raw" "$t/got.raw"
	rm "$t/got.raw"
done
for name in newer broken; do
	expect_fail img info -f "$name" "$t/disk.old"
	grep -q "no module for the format\|FORMAT_UNKNOWN\|is not loaded" <<<"$output" ||
		fail "$name: $output"
	# The others are there all the same.
	img info -f now "$t/disk.old" >/dev/null
done
