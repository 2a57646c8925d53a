#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# From an import over a move to another SR and format to an export: nothing is lost.
source "$(dirname "$0")/functions.sh"

start_smd
fast=$(make_sr fast)
big=$(make_sr big)
head -c 20M /dev/urandom >"$t/disk"
truncate -s 64M "$t/disk"
vdi=$(smctl vdi-create sr-uuid="$fast" name-label=root virtual-size=64MiB sm-config:image-format=vhd)
[[ $vdi =~ ^[0-9a-f-]{36}$ ]] || fail "vdi-create printed: $vdi"

smctl vdi-import uuid="$vdi" filename="$t/disk" --progress 2>"$t/bar"
grep -q '^100% .* of 64.0 MiB' "$t/bar" || fail "no progress: $(cat "$t/bar")"

# By name, without progress: standard error stays silent.
moved=$(smctl vdi-pool-migrate uuid=root sr-uuid=big dest-img-format=raw 2>"$t/stderr")
expect_eq "$(cat "$t/stderr")" "" "standard error"
[ "$moved" != "$vdi" ] || fail "the disk has its old uuid"
expect_eq "$(smctl vdi-list params=uuid --minimal)" "$moved" "the disks there are"
expect_eq "$(smctl vdi-param-get uuid="$moved" param-name=sr-uuid)" "$big" "its SR"
expect_eq "$(smctl vdi-param-get uuid="$moved" param-name=sm-config param-key=image-format)" raw "its format"

smctl vdi-export uuid="$moved" filename="$t/out"
cmp "$t/disk" "$t/out"
[ "$(du -k "$t/out" | cut -f1)" -lt 30000 ] || fail "the export has no holes"
smctl vdi-export uuid="$moved" filename=- | cmp "$t/disk" -

# Streams in the other formats, from a pipe to a pipe.
for format in vhd qcow2; do
	other=$(smctl vdi-create sr-uuid="$fast" name-label=$format virtual-size=64MiB)
	smctl vdi-export uuid="$moved" filename=- format=$format |
		smctl vdi-import uuid="$other" filename=- format=$format
	smctl vdi-export uuid="$other" filename=- | cmp "$t/disk" -
	smctl vdi-destroy uuid="$other"
done

# A pipe has no size; a copy has a uuid of its own; sizes have suffixes.
copy=$(smctl vdi-copy uuid="$moved" sr-uuid="$fast")
tr '\0' 'x' <"$t/disk" | smctl vdi-import uuid="$copy" filename=-
smctl vdi-export uuid="$copy" filename=- | cmp <(tr '\0' 'x' <"$t/disk") -
smctl vdi-resize uuid="$copy" disk-size=80MiB
expect_eq "$(smctl vdi-param-get uuid="$copy" param-name=virtual-size)" $((80 << 20)) "the new size"
smctl vdi-destroy uuid="$copy"

# No task is left over.
expect_eq "$(smctl task-list --minimal)" "" "tasks"
