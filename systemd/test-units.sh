#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# systemd itself reads our units, and finds nothing to say about them.
set -eu
if ! command -v systemd-analyze >/dev/null; then
	echo "skipped: systemd-analyze is missing"
	exit 77
fi
t=$(mktemp -d "${TMPDIR:-/tmp}/smd-test.XXXXXX")
trap 'rm -rf "$t"' EXIT
cp "${srcdir:-.}/smd.socket" "$t"
# The programs need not be installed for the rest to be judged.
sed 's|^\(Exec[A-Za-z]*\)=[^ ]*|\1=/bin/true|' smd.service >"$t/smd.service"
grep -q '@[a-z_]*@' "$t/smd.service" smd.tmpfiles.conf && { echo "left unfilled"; exit 1; }
said=$(systemd-analyze verify --man=no "$t/smd.service" "$t/smd.socket" 2>&1 |
	grep 'smd\.' || true)
echo "$said"
test -z "$said"
