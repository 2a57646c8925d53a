#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A migration's progress grows from its start to its end in steps of at most 5%."""
from smdtest import *

with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    vdi = smd.make_vdi(one, 512 * MIB, "raw")
    fill_raw(smd.vdi_file(vdi), 512 * MIB, runs=128, longest=MIB)
    smd.call("SR.scan", one)
    # Slow enough that what is seen is the daemon's grain and not the test's.
    task = smd.call("Async.VDI.pool_migrate", vdi, two,
                    {"dest-img-format": "qcow2", "bytes-per-second": str(12 * MIB)})
    seen = [0.0]
    steps = []
    details = []
    last = time.monotonic()

    def look(progress):
        global last
        now = time.monotonic()
        assert progress >= seen[-1], "it went back from %f to %f" % (seen[-1], progress)
        if now - last < 0.1:    # else the test was kept from looking
            steps.append(progress - seen[-1])
        last = now
        seen.append(progress)
        if 0.1 < progress < 0.9:
            details.append(smd.call("task.get_other_config", task))

    record = smd.wait_task(task, on_progress=look)
    expect_eq(record["status"], "success", "status")
    expect_eq(float(record["progress"]), 1.0, "progress at the end")
    assert len(steps) > 20, "%d looks soon after another" % len(steps)
    assert max(steps) <= 0.05, "a step of %f in %r" % (max(steps), sorted(set(seen)))
    for key in "bytes_done", "bytes_total", "bytes_per_second", "seconds_left":
        assert any(key in d for d in details), key + " never showed"
