#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# An installed header needs nothing before it: alone it is C99 and C++ without a
# warning. Our own headers compile alone too.
source "$(dirname "$0")/functions.sh"
requires cc

for header in smd-format.h smd-sr.h; do
	echo "#include <$header>" >"$t/alone.c"
	cc -std=c99 -pedantic-errors -Wall -Wextra -Werror -I"$SMD_SRC/plugins" \
		-fsyntax-only "$t/alone.c"
	grep -q '#include "' "$SMD_SRC/plugins/$header" && fail "$header includes a header of ours"
	cxx=$(command -v c++ || command -v clang++) || continue
	cp "$t/alone.c" "$t/alone.cc"
	"$cxx" -std=c++11 -Wall -Wextra -Werror -I"$SMD_SRC/plugins" -fsyntax-only "$t/alone.cc"
done

cflags=$(pkg-config --cflags json-c libsystemd 2>/dev/null)
cd "$SMD_SRC"
for header in common/*.h common/image/*.h schema/*.h daemon/*.h daemon/*/*.h; do
	# shellcheck disable=SC2086 # cflags is words
	cc -D_GNU_SOURCE -I. -I"$SMD_BUILD" $cflags -Wall -Wextra -Werror -fsyntax-only \
		-include config.h -x c "$header" ||
		fail "$header does not compile alone"
done
