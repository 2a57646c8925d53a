#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# Ctrl-C cancels the task, waits until it is undone, and exits with 130.
source "$(dirname "$0")/functions.sh"

start_smd
fast=$(make_sr fast)
make_sr big >/dev/null
vdi=$(smctl vdi-create sr-uuid="$fast" name-label=d virtual-size=2GiB sm-config:image-format=raw)
head -c 500M /dev/urandom >"$t/disk"
smctl vdi-import uuid="$vdi" filename="$t/disk"

smctl vdi-pool-migrate uuid="$vdi" sr-uuid=big dest-img-format=vhd --progress 2>"$t/bar" >"$t/out" &
client=$!
for ((i = 0; i < 600; i++)); do
	[ -s "$t/bar" ] && break
	sleep 0.1
done
kill -INT $client
status=0
wait $client || status=$?

if [ $status -eq 0 ]; then
	echo "skipped: the move was over before it could be interrupted"
	exit 77
fi
expect_eq $status 130 "the exit status"
grep -q '^The task was cancelled' "$t/bar" || fail "no reason: $(cat "$t/bar")"
expect_eq "$(cat "$t/out")" "" "standard output"
expect_eq "$(smctl vdi-list params=uuid --minimal)" "$vdi" "the disks there are"
expect_eq "$(find "$t/big" -size +1M)" "" "left in the destination"
expect_eq "$(smctl task-list --minimal)" "" "tasks"
