#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The bandwidth of an SR is its jobs': together they go no faster, and what one leaves is
the other's. It changes while they run, by the SR's other_config and by task.set_speed."""
from smdtest import *


def done(smd, task):
    return int(smd.call("task.get_other_config", task).get("bytes_done", 0))


def wait_begun(smd, task):
    deadline = time.monotonic() + 60
    while not done(smd, task):
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.05)


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    vdis = [smd.make_vdi(one, 64 * MIB, "raw", name) for name in ("first", "second")]
    for vdi in vdis:
        with open(smd.vdi_file(vdi), "r+b") as f:
            f.write(os.urandom(64 * MIB))
    smd.call("SR.scan", one)
    smd.call("SR.add_to_other_config", two, "bytes-per-second", str(MIB // 8))
    began = time.monotonic()
    tasks = [smd.call("Async.VDI.pool_migrate", vdi, two, {"dest-img-format": "qcow2"})
             for vdi in vdis]
    for task in tasks:
        wait_begun(smd, task)
    while time.monotonic() - began < 4:
        time.sleep(0.1)
    moved = [done(smd, task) for task in tasks]
    most = MIB // 8 * (time.monotonic() - began)
    # However loaded the machine is they are not faster; what is in flight comes on top.
    assert sum(moved) <= most + 24 * MIB, "%r bytes, at most %d" % (moved, most)
    for task in tasks:
        expect_eq(smd.call("task.get_status", task), "pending", "status")

    # A limit of one's own, and one that is no number.
    smd.call("task.set_speed", tasks[0], str(MIB))
    expect_eq(smd.call("task.get_other_config", tasks[0])["bytes_per_second_limit"], str(MIB),
              "limit")
    expect_error("INVALID_VALUE", smd.call, "task.set_speed", tasks[0], "-1")
    smd.call("task.set_speed", tasks[0], "0")
    assert "bytes_per_second_limit" not in smd.call("task.get_other_config", tasks[0])

    # A quarter of an hour at the speed they had: now they end.
    smd.call("SR.remove_from_other_config", two, "bytes-per-second")
    for task in tasks:
        expect_eq(smd.wait_task(task)["status"], "success", "status")
    expect_error("OPERATION_NOT_ALLOWED", smd.call, "task.set_speed", tasks[0], "1")
