#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Every file of code names its licence first; none names this machine's paths or
# says of itself that it is unfinished. No two tests would have one log: one would not be run.
import re
from smdtest import expect_eq
from styletest import files, sources

CODE = r"\.(c|h|def|mk|am|ac|sh|py|sql)$|^(run|runtests|quickstart|\.ci/run)$|\.conf$"
# A home directory, or a folder only this machine has.
MACHINE = re.compile(r"(?<![\w.$}])/(home|root|work|Users)/\w")
UNFINISHED = re.compile(r"\b(TODO|FIX" "ME|XX" "X|HA" "CK)\b")

wrong = []
for path, text in sources(CODE):
    head = text.splitlines()[:2]
    if head and head[0].startswith("#!"):
        head = head[1:]
    if not head or not re.match(r"(/\*|#|--) SPDX-License-Identifier: BSD-2-Clause( \*/)?$",
                                head[0]):
        wrong.append(path + ": its first line is not the licence's")

for path, text in sources(CODE + r"|\.pod$|README|CHANGES|\.service|\.socket"):
    if path.endswith("style-files.py"):
        continue
    for n, line in enumerate(text.splitlines(), 1):
        for what, found in (("a path of a machine", MACHINE.search(line)),
                            ("unfinished", UNFINISHED.search(line)),
                            ("white space at its end", re.search(r"[ \t]$", line))):
            if found:
                wrong.append("%s:%d: %s: %s" % (path, n, what, line.strip()))

wrong += [path + ": a name with spaces" for path in files() if " " in path]

by_log = {}
for path in sorted(files()):
    if re.match(r"tests/[^/]+\.(py|sh)$", path):
        by_log.setdefault(path.rpartition(".")[0], []).append(path)
wrong += [" and ".join(paths) + ": one log for both" for paths in by_log.values()
          if len(paths) > 1]
expect_eq(wrong, [], "files against the style")
