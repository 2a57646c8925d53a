#!/bin/bash
# SPDX-License-Identifier: BSD-2-Clause
# smctl --help and smctl(1) name the same flags; help lists what the server has.
source "$(dirname "$0")/functions.sh"

flags()
{
	grep -oE '(^|[ <])--?[a-z][a-z-]*' | tr -d ' <' | sort -u
}

smctl --help | grep -E '^  -' | flags >"$t/help"
sed -n '/^=head1 FLAGS/,/^=back/p' "$SMD_SRC/daemon/cli/smctl.pod" | grep '^=item' | flags >"$t/page"
diff "$t/help" "$t/page" || fail "--help (<) and the page (>) differ"
[ "$(wc -l <"$t/help")" -gt 8 ] || fail "too few flags were found: $(cat "$t/help")"

start_smd
smctl help >"$t/all"
for command in sm-list vdi-pool-migrate vdi-import vdi-tree event-wait passwd; do
	grep -q "^  $command " "$t/all" || fail "help lacks $command"
done
smctl vdi-pool-migrate --help >"$t/one"
cmp "$t/one" <(smctl help vdi-pool-migrate)
expect_eq "$(head -n 1 "$t/one")" "Usage: smctl vdi-pool-migrate uuid= sr-uuid= [KEY=VALUE ...]" "usage"
expect_fail smctl help no-such-command
expect_fail smctl
