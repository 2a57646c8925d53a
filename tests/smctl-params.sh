#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# CLASS-param-get, -set, -add, -remove, -clear.
source "$(dirname "$0")/functions.sh"

start_smd
sr=$(make_sr one)
vdi=$(smctl vdi-create sr-uuid="$sr" name-label=d virtual-size=1MiB)

get()
{
	smctl vdi-param-get uuid="$vdi" "$@"
}

smctl vdi-param-set uuid="$vdi" name-label='new name' sharable=true other-config:a=1 other-config:b=2=3
expect_eq "$(get param-name=name-label)" "new name" "a name set"
expect_eq "$(get param-name=sharable)" true "a flag set"
expect_eq "$(get param-name=other-config)" "a: 1; b: 2=3" "keys set"
smctl vdi-param-set uuid="$vdi" other-config:a=9
expect_eq "$(get param-name=other-config param-key=a)" 9 "a key set again"
smctl vdi-param-add uuid="$vdi" param-name=other-config c=4
expect_fail smctl vdi-param-add uuid="$vdi" param-name=other-config c=5
[[ $output == *$'\nkey: c' ]] || fail "a key added twice: $output"
smctl vdi-param-remove uuid="$vdi" param-name=other-config param-key=a
expect_eq "$(get param-name=other-config)" "b: 2=3; c: 4" "a key removed"
expect_fail get param-name=other-config param-key=a
expect_eq "$output" "Error: Key a not found in map" "a key that is gone"

smctl vdi-param-add uuid="$vdi" param-name=tags param-key=blue
smctl vdi-param-add uuid="$vdi" param-name=tags param-key=old
expect_eq "$(get param-name=tags)" "blue, old" "tags"
smctl vdi-param-remove uuid="$vdi" param-name=tags param-key=old
expect_eq "$(get param-name=tags)" blue "a tag removed"
for field in tags other-config name-label; do
	smctl vdi-param-clear uuid="$vdi" param-name=$field
	expect_eq "$(get param-name=$field)" "" "$field cleared"
done

# Sizes in options are sizes as well.
measured=$(smctl sr-measure uuid="$sr" virtual-size=2MiB bytes-raw=1MiB)
[[ $measured == *'virtual-size: 2097152 (2.0 MiB)'* ]] || fail "a size with a suffix: $measured"
expect_fail smctl sr-measure uuid="$sr" virtual-size=2MB
[[ $output == *'a number of bytes'* ]] || fail "no size: $output"

for words in "virtual-size=1" "uuid=x location=y" "tags:a=b"; do
	# shellcheck disable=SC2086
	expect_fail smctl vdi-param-set uuid="$vdi" $words
done
expect_fail smctl vdi-param-set uuid="$vdi" no-such-field=1
expect_eq "$output" "Unknown field: no-such-field" "a field that is none"
