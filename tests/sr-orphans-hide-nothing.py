#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""SR.get_orphans looks at what there is, and changes nothing: the SR.scan behind it still finds
what it has seen first, an image that has grown and a new one."""

from smdtest import *


def image(path, number, size):
    name = "%08d-1111-4111-8111-111111111111.raw" % number
    with open(os.path.join(path, name), "wb") as f:
        f.truncate(size)
    long_ago = time.time() - 1000
    os.utime(f.name, (long_ago, long_ago))


def sizes(smd):
    return sorted(int(r["virtual_size"]) for r in smd.call("VDI.get_all_records").values())


with Smd() as smd:
    sr = smd.make_sr("one")
    path = smd.sr_path(sr)
    image(path, 1, MIB)
    time.sleep(4)       # a change of ctime from now on would show
    smd.call("SR.scan", sr)
    smd.call("SR.scan", sr)
    expect_eq(sizes(smd), [MIB], "sizes")
    image(path, 1, 2 * MIB)
    image(path, 2, MIB)
    time.sleep(4)
    expect_eq(smd.call("SR.get_orphans", sr), {}, "orphans")
    smd.call("SR.scan", sr)
    expect_eq(sizes(smd), [MIB, 2 * MIB], "sizes")
