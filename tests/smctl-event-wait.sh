#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# smctl event-wait returns when an object is as its words say, and not before.
source "$(dirname "$0")/functions.sh"

start_smd
sr=$(make_sr one)
vdi=$(smctl vdi-create sr-uuid="$sr" name-label=first virtual-size=1MiB)

smctl event-wait class=vdi name-label=first	# it is so already
(
	smctl event-wait class=vdi uuid="$vdi" name-label=third
	smctl vdi-param-get uuid="$vdi" param-name=name-label >"$t/seen"
) &
waiting=$!
smctl vdi-param-set uuid="$vdi" name-label=second
kill -0 $waiting || fail "it did not wait"
smctl vdi-param-set uuid="$vdi" name-label=third
wait $waiting
expect_eq "$(cat "$t/seen")" third "what was waited for"

expect_fail smctl event-wait class=nonsense
expect_eq "$output" "Unknown class: nonsense" "a class that is none"
expect_fail smctl event-wait class=vdi no-such-field=1
