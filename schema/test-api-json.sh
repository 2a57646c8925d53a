#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# schema/api.json is what the tables say: a change of the wire is seen in review.
./print-api --json | diff -u "$srcdir/api.json" - && exit 0
echo "schema/api.json is behind the tables: make -C schema api" >&2
exit 1
