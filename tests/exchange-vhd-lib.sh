#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# VHDs to and from the npm package vhd-lib, Xen Orchestra's own reader and writer:
# disks, chains, merges, and what it makes. Skipped where npm cannot fetch it.
source "$(dirname "$0")/functions.sh"
requires node npm
cd "$t"
timeout 120 npm install --prefix "$t/npm" --no-audit --no-fund --silent --ignore-scripts \
	vhd-lib@0.7.2 >npm.log 2>&1 || {
	echo "skipped: npm could not fetch vhd-lib"
	exit 77
}
cat >npm/it.js <<'END'
const fs = require('fs')
const { pipeline } = require('stream')
const lib = require('vhd-lib')
const handler = {
	openFile: async (path, flags) => fs.openSync(path, flags),
	closeFile: async fd => fs.closeSync(fd),
	getSize: async file => (typeof file === 'number' ? fs.fstatSync : fs.statSync)(file).size,
	async on(file, flags, fn) {
		const fd = typeof file === 'number' ? file : fs.openSync(file, flags)
		try {
			return fn(fd)
		} finally {
			fd === file || fs.closeSync(fd)
		}
	},
	read: (file, buffer, at) => handler.on(file, 'r', fd =>
		({ bytesRead: fs.readSync(fd, buffer, 0, buffer.length, at), buffer })),
	write: (file, buffer, at) => handler.on(file, 'r+', fd =>
		fs.writeSync(fd, buffer, 0, buffer.length, at)),
}
const save = async (stream, path) => new Promise((resolve, reject) =>
	pipeline(stream, fs.createWriteStream(path), e => e ? reject(e) : resolve()))
const fragments = async function* (data, size) {
	for (let at = 0; at < data.length; at += size)
		yield { logicalAddressBytes: at, data: data.slice(at, at + size) }
}
const blocks = data => {
	const all = [{ logicalAddressBytes: 0, data }, null]
	return { next: async () => all.shift() }
}
const verbs = {
	content: async (vhd, raw) => save(lib.createContentStream(handler, vhd), raw),
	chain: async (parent, child) => lib.chainVhd(handler, parent, handler, child, true),
	check: async leaf => lib.checkVhdChain(handler, leaf),
	flat: async (leaf, vhd) => save(await lib.createSyntheticStream(handler, leaf), vhd),
	merge: async (parent, child) => lib.mergeVhd(handler, parent, handler, child),
	sparse: async (raw, vhd) => {
		const data = fs.readFileSync(raw), at = [...Array(data.length / 65536).keys()]
		save(await lib.createReadableSparseStream(data.length, 65536, at.map(i => i * 65536),
			fragments(data, 65536)), vhd)
	},
	fixed: async (raw, vhd) => save(await lib.createReadableRawStream(
		fs.statSync(raw).size, blocks(fs.readFileSync(raw))), vhd),
}
verbs[process.argv[2]](...process.argv.slice(3)).catch(e => {
	console.error(e)
	process.exit(1)
})
END

it()
{
	node npm/it.js "$@" || fail "vhd-lib: $*"
}

same()	# WANT.raw VHD WHAT
{
	smd-img compare -q --chain -f raw -F vhd "$1" "$2" || fail "$3: other content"
}

sound()	# VHD... ours or not, the check finds nothing
{
	for vhd; do
		smd-img check -f vhd "$vhd" >check.log || fail "$vhd: $(cat check.log)"
	done
}

# Ours, read by it: data here and there, an end within a block, both dialects.
truncate -s 9999872 disk.raw
for at in 0 3 4 7; do
	dd if=/dev/urandom of=disk.raw bs=1M count=1 seek=$at conv=notrunc status=none
done
for creator in tap win; do
	smd-img convert -f raw -O vhd -o creator=$creator disk.raw $creator.vhd
	it content $creator.vhd read.raw
	cmp disk.raw read.raw || fail "it reads $creator.vhd differently"
done

# A disk that grew, and one that shrank.
smd-img resize -f vhd tap.vhd 600M
it content tap.vhd read.raw
same read.raw tap.vhd "a grown disk"
smd-img resize -f vhd --shrink tap.vhd 5M
it content tap.vhd read.raw
cmp -n 5242880 disk.raw read.raw || fail "it reads a disk that shrank differently"

# Our chain: its check, its flat view, its merge.
smd-img convert -f raw -O vhd disk.raw base.vhd
smd-img create -f vhd -b base.vhd -F vhd child.vhd
cp disk.raw want.raw
for at in 1 4 9; do
	dd if=/dev/urandom of=want.raw bs=300000 count=1 seek=$at conv=notrunc status=none
done
truncate -s 9999872 want.raw
smd-img create -f vhd -b base.vhd -F vhd child.vhd
smd-img convert -f raw -O vhd -B base.vhd -F vhd want.raw child.vhd
same want.raw child.vhd "our overlay"
it check child.vhd
it flat child.vhd flat.vhd
same want.raw flat.vhd "its flat view of our chain"
it merge base.vhd child.vhd
same want.raw base.vhd "its merge of our chain"
sound base.vhd child.vhd

# What it makes. Its sizes are whole cylinders: the disk is longer, by zeroes.
truncate -s 8M disk.raw
it sparse disk.raw sparse.vhd
it fixed disk.raw fixed.vhd
for vhd in sparse.vhd fixed.vhd; do
	same disk.raw $vhd "its $vhd"
done
sound sparse.vhd
smd-img convert -f vhd -O vhd sparse.vhd again.vhd
same disk.raw again.vhd "a copy of its disk"

# Its link between ours: it writes another locator, and our reader follows it.
smd-img convert -f raw -O vhd disk.raw base.vhd
smd-img create -f vhd child.vhd 8M
it chain base.vhd child.vhd
sound child.vhd
same disk.raw child.vhd "an overlay that it linked"
