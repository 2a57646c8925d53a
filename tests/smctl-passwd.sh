#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# smctl passwd makes accounts that a running daemon lets in, by their roles.
source "$(dirname "$0")/functions.sh"

start_smd --tcp
users=$t/state/users
remote=(-s 127.0.0.1 -p "$SMD_PORT")

echo secret | smctl passwd --file "$users" root pool-admin
echo first | smctl passwd --file "$users" eve read-only
echo 'two words' | smctl passwd --file "$users" eve read-only
expect_eq "$(cut -d: -f1,2 "$users" | tr '\n' ' ')" "root:pool-admin eve:read-only " "the accounts"
expect_eq "$(cut -d: -f3 "$users" | cut -c1-3 | sort -u)" "\$y\$" "the kind of hash"
expect_eq "$(stat -c %a "$users")" 600 "the mode"
expect_eq "$(find "$t/state" -name 'users?*')" "" "temporary files"

pool=$(smctl pool-list --minimal)
expect_eq "$(smctl "${remote[@]}" -pw secret pool-list --minimal)" "$pool" "root"
expect_eq "$(echo secret | smctl "${remote[@]}" pool-list --minimal)" "$pool" "root, asked"
expect_eq "$(smctl server=127.0.0.1 port="$SMD_PORT" username=eve password='two words' pool-list --minimal)" \
	"$pool" "eve"
echo 'password=two words' >"$t/pw"
expect_eq "$(smctl "${remote[@]}" -u eve -pwf "$t/pw" pool-list --minimal)" "$pool" "eve, from a file"
expect_fail smctl "${remote[@]}" -u eve -pw first pool-list
[[ $output == *'user: eve'* ]] || fail "the old password: $output"
expect_fail smctl "${remote[@]}" -u eve -pwf "$t/pw" pool-param-set uuid="$pool" name-label=hers
[[ $output == 'The role of this user does not allow the call.'* ]] || fail "read-only: $output"
smctl "${remote[@]}" -pw secret pool-param-set uuid="$pool" name-label=ours
expect_eq "$(smctl pool-list params=name-label --minimal)" ours "what root did"

cp "$users" "$t/before"
for account in "a:b read-only" "x king" "'' read-only"; do
	eval "set -- $account"
	expect_fail smctl passwd --file "$users" "$@" <<<pw
done
expect_fail smctl passwd --file "$users" x read-only </dev/null
expect_fail smctl passwd --file "$users" x read-only <<<''
expect_fail smctl passwd --file "$t/no/such/dir" x read-only <<<pw
cmp "$users" "$t/before"
