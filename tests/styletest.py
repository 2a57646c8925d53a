# SPDX-License-Identifier: BSD-2-Clause
"""What the style tests share: the files of the source tree."""
import os
import re
import subprocess

from smdtest import SRC

# Made by autoreconf, configure or make when they run in the source tree.
MADE = re.compile(r"(^|/)(Makefile(\.in)?|configure|aclocal\.m4|config\.h(\.in)?|libtool|stamp-h1)$"
                  r"|~$|\.(o|lo|la|trs|log|pyc|in|[1-8])$"
                  r"|(^|/)(\.git|\.deps|\.libs|autom4te\.cache|build-aux|build[^/]*|m4|_build|_inst"
                  r"|__pycache__)/")


def files():
    """The source tree's files, from its root: git's list, else what a release has."""
    done = subprocess.run(["git", "-C", SRC, "ls-files", "-z", "--cached", "--others",
                           "--exclude-standard"], capture_output=True, text=True)
    if done.returncode == 0 and os.path.exists(os.path.join(SRC, ".git")):
        found = [name for name in done.stdout.split("\0") if name]
    else:
        found = [os.path.relpath(os.path.join(at, name), SRC)
                 for at, _, names in os.walk(SRC) for name in names]
    return sorted(name for name in found
                  if not MADE.search(name) and os.path.isfile(os.path.join(SRC, name)))


def sources(pattern):
    """(path, text) of the files whose path the pattern finds."""
    found = [name for name in files() if re.search(pattern, name)]
    assert found, "no file has the pattern " + pattern
    for name in found:
        with open(os.path.join(SRC, name), encoding="utf-8") as f:
            yield name, f.read()
