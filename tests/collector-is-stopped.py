#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A merge under way is stopped by task.cancel, by the SR's switches, by unplugging and at
the daemon's end; the disk shows what it showed, and the next run ends the work."""
from smdtest import *

requires("qemu-img")
RATE = 2 * MIB


def start_merge(smd, sr, fmt):
    """A merge that takes seconds; what the disk shows."""
    smd.hold_collector(sr)
    vdi = smd.make_vdi(sr, 16 * MIB, fmt)
    smd.write_vdi(vdi, os.urandom(14 * MIB))
    snapshot = smd.call("VDI.snapshot", vdi, {})
    smd.write_vdi(vdi, os.urandom(6 * MIB))
    want = smd.vdi_sha256(vdi)
    smd.call("VDI.destroy", snapshot)
    smd.let_collect(sr)
    return vdi, want


def wait_merging(smd, vdi):
    """The run's task, once bytes have moved."""
    deadline = time.monotonic() + 60
    while True:
        for ref, record in smd.collections().items():
            if record["status"] == "pending" and \
                    int(record["other_config"].get("bytes_done", 0)) > 0:
                expect_eq(smd.json_call("VDI.get_chain", vdi)[1]["state"], "merging", "state")
                return ref
        assert time.monotonic() < deadline, smd.collections()
        time.sleep(0.02)


def cancelled(smd, vdi, sr, want):
    task = wait_merging(smd, vdi)
    record = smd.call("task.get_record", task)
    assert "cancel" in record["allowed_operations"], record
    for key in "bytes_done", "bytes_total", "bytes_per_second", "seconds_left":
        assert int(record["other_config"][key]) >= 0, record
    smd.call("task.cancel", task)
    expect_eq(smd.wait_task(task, 30)["status"], "cancelled", "the task")
    expect_eq(len(smd.vdi_chain(vdi)), 2, "depth")
    expect_eq(smd.vdi_sha256(vdi), want, "content")
    smd.call("SR.scan", sr)


def switched_off(smd, vdi, sr, want):
    task = wait_merging(smd, vdi)
    smd.call("SR.add_to_other_config", sr, "coalesce", "false")
    deadline = time.monotonic() + 30
    while smd.json_call("VDI.get_chain", vdi)[1]["state"] != "waiting" or \
            smd.call("task.get_status", task) == "pending":
        assert time.monotonic() < deadline, smd.json_call("VDI.get_chain", vdi)
        time.sleep(0.05)
    assert "coalesce is false" in smd.json_call("VDI.get_chain", vdi)[1]["waits_for"]
    expect_eq(smd.vdi_sha256(vdi), want, "content")
    smd.call("SR.remove_from_other_config", sr, "coalesce")


def unplugged(smd, vdi, sr, want):
    wait_merging(smd, vdi)
    (pbd,) = smd.call("SR.get_PBDs", sr)
    smd.call("PBD.unplug", pbd)
    smd.call("PBD.plug", pbd)


def ended(smd, vdi, sr, want):
    wait_merging(smd, vdi)
    smd.restart()
    expect_eq(smd.vdi_sha256(vdi), want, "content")


with Smd(config="collect_bytes_per_second = %d\n" % RATE) as smd:
    for fmt, stop in (("raw", cancelled), ("vhd", switched_off), ("qcow2", unplugged),
                      ("raw", ended)):
        sr = smd.make_sr(stop.__name__)
        vdi, want = start_merge(smd, sr, fmt)
        stop(smd, vdi, sr, want)
        smd.wait_collected(sr, 1)
        expect_eq(smd.vdi_sha256(vdi), want, "content")
        smd.check_chains(sr)
