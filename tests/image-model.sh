#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Chains of every format against a flat array, under random operations. More of
# them: SMD_MODEL_OPS=1000000 (each), other ones: SMD_MODEL_SEED, some of the
# list: SMD_MODEL_ONLY=REGEX.
source "$(dirname "$0")/functions.sh"
requires qemu-img
[ -x "$SMD_BUILD/tests/image-model" ] || fail "image-model is not built"
judge=$SMD_SRC/tests/image-model-judge.sh
failed=

model()	# NAME ARGUMENT...
{
	local name=$1

	shift
	[[ $name =~ ${SMD_MODEL_ONLY:-} ]] || return 0
	mkdir "$t/$name"
	# shellcheck disable=SC2086 # SMD_VALGRIND is words
	${SMD_VALGRIND:-} "$SMD_BUILD/tests/image-model" --ops "${SMD_MODEL_OPS:-2000}" \
		--seed "${SMD_MODEL_SEED:-1}" --judge "$judge" "$@" || {
		[ -z "${SMD_MODEL_KEEP:-}" ] || cp -r "$t/$name" "$SMD_MODEL_KEEP"
		failed="$failed $name"
	}
	rm -r "${t:?}/$name"
	echo "$name: done"
}

model raw --shrink "$t/raw" raw,12345677
model raw-threads --threads 4 "$t/raw-threads" raw,8M
model vhd --shrink "$t/vhd" vhd,13M
model vhd-odd --threads 3 "$t/vhd-odd" vhd,9999872
model vhd-fixed --shrink "$t/vhd-fixed" vhd,5000704,subformat=fixed
model vhd-win "$t/vhd-win" vhd,7M,creator=win
model vhd-chain --shrink --threads 2 "$t/vhd-chain" vhd,7M vhd,9437696 vhd,12M vhd,12M
model vhd-win-chain --threads 2 "$t/vhd-win-chain" vhd,5M,creator=win,subformat=fixed \
	vhd,6M,creator=win vhd,7M
model vhd-over-raw "$t/vhd-over-raw" raw,5M vhd,6M
for size in 512 1k 2k 4k 8k 16k 32k 64k 128k 256k 512k 1M 2M; do
	model qcow2-$size --shrink "$t/qcow2-$size" qcow2,12M,cluster_size=$size
done
for size in 16k 32k 64k 128k 256k 512k 1M 2M; do
	model qcow2-extended-$size --threads 3 --shrink "$t/qcow2-extended-$size" \
		qcow2,9M,extended_l2=on,cluster_size=$size
done
for bits in 1 2 4 8 16 32 64; do
	model qcow2-refcount-$bits --threads 2 "$t/qcow2-refcount-$bits" \
		qcow2,6M,cluster_size=1k,refcount_bits=$bits
done
model qcow2-v2 --shrink "$t/qcow2-v2" qcow2,6M,compat=0.10,cluster_size=2k
model qcow2-v2-chain "$t/qcow2-v2-chain" qcow2,3M,compat=0.10 qcow2,4M,compat=0.10,cluster_size=512
model qcow2-extended-chain "$t/qcow2-extended-chain" raw,3000001 qcow2,6M,extended_l2=on \
	qcow2,5M,extended_l2=on,cluster_size=32k
model qcow2-chain --shrink --threads 2 "$t/qcow2-chain" qcow2,9M,cluster_size=4k qcow2,4M \
	qcow2,11M,cluster_size=128k qcow2,8388096,cluster_size=512
model qcow2-over-all "$t/qcow2-over-all" raw,2M vhd,6M qcow2,5M qcow2,7M,cluster_size=8k
model qcow2-snapshots --snapshots "$t/qcow2-snapshots" qcow2,6M,cluster_size=4k qcow2,6M
model qcow2-snapshots-narrow --snapshots "$t/qcow2-snapshots-narrow" \
	qcow2,5M,cluster_size=512,refcount_bits=2 qcow2,4M,cluster_size=64k,refcount_bits=4
model qcow2-snapshots-extended --snapshots "$t/qcow2-snapshots-extended" \
	qcow2,6M,cluster_size=16k,extended_l2=on
model qcow2-zlib --compress "$t/qcow2-zlib" qcow2,6M qcow2,7M,cluster_size=16k
model qcow2-zlib-threads --compress --threads 4 "$t/qcow2-zlib-threads" qcow2,6M,cluster_size=4k
model qcow2-zstd --compress "$t/qcow2-zstd" qcow2,6M,compression_type=zstd,cluster_size=8k
[ -z "$failed" ] || fail "differ from the array:$failed"
