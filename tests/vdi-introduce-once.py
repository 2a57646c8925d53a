#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A volume has one VDI, however many introduce it at once; what a job has under way is
nobody's disk; and a file of the administrator's own is never taken for a leftover."""
import threading
import uuid

from smdtest import *


def put(smd, sr, name, size=4096):
    with open(os.path.join(smd.sr_path(sr), name), "wb") as f:
        f.write(b"x" * size)


def introduce(smd, sr, name):
    return smd.call("VDI.introduce", str(uuid.uuid4()), name, "", sr, "user", False, False, {},
                    name, {}, {})


with Smd() as smd:
    sr, other = smd.make_sr("one"), smd.make_sr("two")
    for _ in range(4):
        name = str(uuid.uuid4()) + ".raw"
        put(smd, sr, name)
        codes = []

        def one():
            try:
                introduce(smd, sr, name)
                codes.append("")
            except ApiError as e:
                codes.append(e.code)

        threads = [threading.Thread(target=one) for _ in range(4)]
        threads.append(threading.Thread(target=smd.call, args=("SR.scan", sr)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = [r for r in smd.call("VDI.get_all_records").values() if r["location"] == name]
        expect_eq(len(rows), 1, "VDIs of one volume")
        assert set(codes) <= {"", "LOCATION_NOT_UNIQUE"}, codes

    # A job's volume in the making.
    vdi = smd.make_vdi(sr, 8 * MIB, "raw")
    fill_raw(smd.vdi_file(vdi), 8 * MIB)
    task = smd.call("Async.VDI.pool_migrate", vdi, other,
                    {"dest-img-format": "raw", "bytes-per-second": str(256 << 10)})
    while True:
        names = [f for f in os.listdir(smd.sr_path(other)) if not f.startswith(".")]
        if names:
            break
        expect_eq(smd.call("task.get_status", task), "pending", "status")
    expect_error("LOCATION_NOT_UNIQUE", introduce, smd, other, names[0])
    smd.call("task.cancel", task)
    smd.wait_task(task)

    # Only names that smd makes itself are temporary.
    leftover = "tmp-%s.raw" % uuid.uuid4()
    for name in "tmp-mine.raw", "tmp-notes", leftover:
        put(smd, sr, name)
    mine = introduce(smd, sr, "tmp-mine.raw")
    smd.restart()
    left = os.listdir(smd.sr_path(sr))
    assert "tmp-mine.raw" in left and "tmp-notes" in left, left
    assert leftover not in left, left
    expect_eq(smd.call("VDI.get_virtual_size", mine), "4096", "size of the introduced disk")
