#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# A thousand idle watchers: what each costs in memory, and that every one of them sees
# the last state of every object, whatever it was told of on the way.
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "bench"))
from smdtest import *
import watchers as bench

WATCHERS = 1000
KIB_EACH = 100

bench.raise_limits(WATCHERS)
with Smd(config="max_connections = %d\n" % (2 * WATCHERS)) as smd:
    sr = smd.make_sr("one")
    before = bench.status(smd.process.pid, "VmRSS")
    waiting = bench.Watchers(smd, WATCHERS, "sr", "label 19")
    time.sleep(1)
    each = (bench.status(smd.process.pid, "VmRSS") - before) / WATCHERS
    print("%.1f KiB a watcher" % each)
    assert each < KIB_EACH or sanitized(), "a watcher takes %.1f KiB" % each
    for i in range(20):
        smd.call("SR.set_name_label", sr, "label %d" % i)
    assert len(waiting.heard()) >= WATCHERS
    # Others are served meanwhile, and the daemon ends all of them when it stops.
    expect_eq(smd.call("SR.get_name_label", sr), "label 19")
