#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A cancelled migration ends at once, says so, and leaves the disk as it was."""
from smdtest import *

with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    vdi = smd.make_vdi(one, 256 * MIB, "raw", "stays")
    fill_raw(smd.vdi_file(vdi), 256 * MIB, runs=96, longest=3 * MIB)
    smd.call("SR.scan", one)
    digest = sha256_of_file(smd.vdi_file(vdi))
    for fmt in "raw", "vhd", "qcow2":
        task = smd.call("Async.VDI.pool_migrate", vdi, two,
                        {"dest-img-format": fmt, "bytes-per-second": str(4 * MIB)})
        while float(smd.call("task.get_progress", task)) < 0.03:
            expect_eq(smd.call("task.get_status", task), "pending", "status")
            time.sleep(0.01)
        assert os.listdir(smd.sr_path(two)), "nothing is being made"
        expect_eq(smd.call("task.get_allowed_operations", task), ["cancel", "pause"], "allowed")
        smd.call("task.cancel", task)
        record = smd.wait_task(task, timeout=20)
        expect_eq(record["status"], "cancelled", "status")
        expect_eq(record["error_info"], ["TASK_CANCELLED", task], "error")
        left = [f for f in os.listdir(smd.sr_path(two)) if not f.startswith(".")]
        expect_eq(left, [], "volumes left in the destination")
        expect_eq(smd.call("VDI.get_current_operations", vdi), {}, "operations")
        expect_eq(smd.call("SR.get_VDIs", two), [], "VDIs of the destination")
    expect_eq(sha256_of_file(smd.vdi_file(vdi)), digest, "the source")
    # And nothing of it stands in the way.
    new = smd.call("VDI.pool_migrate", vdi, two, {"dest-img-format": "qcow2"})
    expect_eq(smd.call("VDI.get_name_label", new), "stays", "name")
