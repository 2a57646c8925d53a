#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Of volumes with the same uuid one becomes its VDI, in whichever SR; the others of the scan all
become theirs."""
from smdtest import *

N = 1200


def name(i, fmt="raw"):
    return "%08d-1111-4111-8111-111111111111.%s" % (i, fmt)


def make(directory, *names):
    for each in names:
        with open(os.path.join(directory, each), "wb") as f:
            f.truncate(64 << 10)


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    make(smd.sr_path(one), name(0), name(1))
    smd.call("SR.scan", one)
    make(smd.sr_path(two), *map(name, range(N)))
    # The first rows of a transaction, the last one and some in the middle.
    twice = {0, 1, 2, 500, 999, 1000, 1001, N - 1}
    make(smd.sr_path(two), *(name(i, "vhd") for i in twice - {0, 1}))
    smd.call("SR.scan", two)
    uuids = [r["uuid"] for r in smd.call("VDI.get_all_records").values()]
    expect_eq(sorted(uuids), sorted(name(i)[:36] for i in range(N)), "uuids")
    expect_eq(len(smd.call("SR.get_VDIs", one)), 2, "VDIs of one")
    orphans = smd.call("SR.get_orphans", two)
    expect_eq(sorted(each[:36] for each in orphans), sorted(name(i)[:36] for i in twice), "orphans")
    assert all("known already" in why for why in orphans.values()), orphans
    token = smd.json_call("event.from", ["VDI"], "", 0.0)["token"]
    smd.call("SR.scan", two)
    expect_eq(smd.json_call("event.from", ["VDI"], token, 0.0)["events"], [], "events")
