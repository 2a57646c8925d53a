#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Errors: the sentence, the parameters with uuids for references, exit status 1.
source "$(dirname "$0")/functions.sh"

start_smd
sr=$(make_sr one)
vdi=$(smctl vdi-create sr-uuid="$sr" name-label=d virtual-size=1MiB)

# refused EXPECTED WORD...
refused()
{
	local wanted=$1

	shift
	expect_fail smctl "$@"
	expect_eq "$output" "$wanted" "smctl $*"
}

refused "The SR is attached: unplug its PBDs first.
sr: $sr (one)" sr-destroy uuid=one
expect_fail smctl vdi-pool-migrate uuid="$vdi" sr-uuid="$sr" dest-img-format=zip
[[ $output == "The operation cannot be done on this kind of VDI.
vdi: Image format zip is not supported by $sr
message: "*"it supports: "* ]] || fail "a format that is none: $output"
refused "No VDI has the uuid or the name \"nobody\"" vdi-destroy uuid=nobody
refused "No object has this uuid.
type: VDI
uuid: $sr" vdi-destroy uuid="$sr"
refused "virtual-size: \"9999999TiB\" is too large" vdi-create sr-uuid="$sr" virtual-size=9999999TiB
refused "Unknown command: vdi-frob
For the commands there are, run: smctl help" vdi-frob
refused "Required parameter not found: sr-uuid" vdi-create name-label=x virtual-size=1MiB
refused "Required parameter not found: uuid" vdi-destroy
refused "Unknown parameter: typo" vdi-destroy uuid="$vdi" typo=1
refused "Unknown parameter: snaphots; as options there are: dest-img-format, snapshots, verify, \
bytes-per-second, exact" vdi-pool-migrate uuid="$vdi" sr-uuid="$sr" snaphots=true
refused "sharable: \"maybe\" is neither true nor false" vdi-create sr-uuid="$sr" virtual-size=1MiB sharable=maybe
refused "\"extra\" is no WORD=VALUE" vdi-destroy extra uuid="$vdi"
refused "$t/none: Couldn't connect to server: No such file or directory" --socket "$t/none" vdi-list
refused "$t/none: No such file or directory" vdi-import uuid="$vdi" filename="$t/none"
expect_fail smctl vdi-export uuid="$vdi" filename="$t/out" format=zip
[[ $output == *"there are tar, which is raw in blocks, "*qcow2* ]] || fail "which formats: $output"
[ ! -e "$t/out" ] || fail "an export that failed left a file"

# A name that two have is no name.
smctl vdi-create sr-uuid="$sr" name-label=d virtual-size=1MiB >/dev/null
refused "2 objects of class VDI have the name \"d\": give the uuid" vdi-destroy uuid=d
expect_eq "$(smctl vdi-list --minimal | tr ',' '\n' | wc -l)" 2 "the disks there are"
