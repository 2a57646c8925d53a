#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Who may include whom, and through which door each library is met. An include is
# written from the root, so a wrong arrow shows on its line.
import re
from smdtest import expect_eq
from styletest import sources

# The first rule whose prefix fits the file: what its includes may begin with.
# Unit tests stand in for the host, so they may see one layer more.
ARROWS = [
    (r"common/image/smd-img/", ["common/"]),
    (r"common/image/", ["common/", "plugins/smd-format.h"]),
    (r"common/", ["common/(?!image/)"]),
    (r"plugins/format/[^/]+/(test|fuzz)-", ["common/", "plugins/smd-format.h", "SELF/"]),
    (r"plugins/format/", ["common/(?!image/)", "plugins/smd-format.h", "SELF/"]),
    (r"plugins/sr/", ["common/(?!image/)", "plugins/smd-sr.h", "SELF/"]),
    (r"plugins/nbdkit/", ["common/", "plugins/smd-format.h", "SELF/"]),
    (r"plugins/", []),
    (r"schema/", ["common/(?!image/)", "schema/"]),
    (r"daemon/worker/", ["common/", "plugins/smd-format.h", "daemon/worker/"]),
    (r"daemon/cli/", ["common/(?!image/)", "daemon/cli/"]),
    (r"daemon/[^/]+/test-", ["common/(?!image/)", "plugins/smd-sr.h", "schema/", "daemon/"]),
    (r"daemon/db/", ["common/(?!image/)", "schema/", "daemon/db/", "daemon/[^/]+$"]),
    (r"daemon/(job|sr)/", ["common/(?!image/)", "plugins/smd-sr.h", "schema/", "daemon/worker/protocol.h",
                           "daemon/(db|job|sr)/", "daemon/[^/]+$"]),
    (r"daemon/api/", ["common/(?!image/)", "schema/", "daemon/(db|job|sr|rpc|api)/",
                      "daemon/[^/]+$"]),
    (r"daemon/rpc/", ["common/(?!image/)", "schema/", "daemon/(rpc|api|db|job)/",
                      "daemon/[^/]+$"]),
    (r"daemon/", ["common/(?!image/)", "schema/", "daemon/"]),
    (r"tests/", ["common/", "plugins/", "schema/", "tests/"]),
]

# A library's header: the only files that may include it.
DOORS = [
    (r"sqlite3\.h", r"daemon/db/"),
    (r"microhttpd\.h", r"daemon/rpc/http[^/]*$"),
    (r"xmlrpc-c/", r"daemon/rpc/xmlrpc[^/]*$"),
    (r"json-c/|json\.h", r"common/json\.h$"),
    (r"systemd/sd-daemon\.h", r"daemon/main\.c$"),
    (r"systemd/sd-journal\.h", r"daemon/journald\.c$"),
    (r"uuid/|uuid\.h", r"common/uuid\.c$"),
    (r"libnbd\.h", r"common/image/io-nbd\.c$"),
    (r"nbdkit-", r"plugins/nbdkit/"),
    (r"curl/", r"daemon/cli/"),
    (r"seccomp\.h|linux/landlock\.h", r"daemon/worker/sandbox\.c$"),
    (r"archive(_entry)?\.h", r"daemon/worker/archive\.c$"),
    (r"xxhash\.h", r"common/image/|daemon/worker/blocks\.c$"),
    (r"nettle/", r"daemon/worker/blocks\.c$"),
    (r"libdeflate\.h|zstd\.h|isa-l/",
     r"plugins/format/|common/codec|daemon/worker/(coding|gzip)\.c$"),
    (r"gnutls/", r"daemon/rpc/tls\.c$"),
    (r"crypt\.h", r"daemon/(rpc|cli)/"),
    (r"dlfcn\.h", r"common/image/format\.c$|daemon/sr/driver\.c$|common/module\.c$|tests/|/test-[^/]*$"),
]


def arrow_ok(path, target):
    rule = next((allowed for prefix, allowed in ARROWS if re.match(prefix, path)), [])
    own = re.escape("/".join(path.split("/")[:3]))
    return target == "config.h" or any(
        re.match(a.replace("SELF", own), target) for a in rule)


def door_ok(path, target):
    return all(re.search(door, path) for header, door in DOORS if re.match(header, target))


# The rules themselves.
assert not arrow_ok("plugins/format/vhd/vhd.c", "daemon/db/db.h")
assert not arrow_ok("plugins/format/vhd/vhd.c", "plugins/format/raw/raw.h")
assert not arrow_ok("common/error.c", "common/image/io.h")
assert not arrow_ok("daemon/sr/sr.c", "common/image/format.h")
assert not arrow_ok("daemon/db/db.c", "daemon/rpc/http.h")
assert arrow_ok("daemon/db/db.c", "daemon/daemon.h")
assert not door_ok("daemon/sr/sr.c", "sqlite3.h")
assert door_ok("daemon/db/db.c", "sqlite3.h")

wrong = []
for path, text in sources(r"\.[ch]$"):
    if path.startswith("tests/old-abi/"):
        continue
    for n, line in enumerate(text.splitlines(), 1):
        ours = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        theirs = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        if ours and not arrow_ok(path, ours[1]) or theirs and not door_ok(path, theirs[1]):
            wrong.append("%s:%d: %s" % (path, n, line.strip()))
expect_eq(wrong, [], "includes against STYLE's arrows and doors")
