#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Who needs a disk that is being merged gets it: the merge ends at once, and begins again
when nobody needs the disk any more."""
from smdtest import *

requires("qemu-img")
RATE = MIB


def start_merge(smd, name):
    """An SR with one disk, whose merge would take 8 s and more, begun."""
    sr = smd.make_sr(name)
    smd.hold_collector(sr)
    vdi = smd.make_vdi(sr, 24 * MIB, "qcow2")
    smd.write_vdi(vdi, os.urandom(20 * MIB))
    snapshot = smd.call("VDI.snapshot", vdi, {})
    smd.write_vdi(vdi, os.urandom(9 * MIB))
    want = smd.vdi_sha256(vdi)
    smd.call("VDI.destroy", snapshot)
    smd.let_collect(sr)
    deadline = time.monotonic() + 60
    while smd.json_call("VDI.get_chain", vdi)[1]["state"] != "merging":
        assert time.monotonic() < deadline, smd.json_call("VDI.get_chain", vdi)
        time.sleep(0.02)
    return sr, vdi, want


with Smd(config="collect_bytes_per_second = %d\n" % RATE) as smd:
    other = smd.make_sr("other")

    # Each of these would find the images locked, were it not for that. The merge is as
    # far from its end as it can be: what comes first shows in the depth of the chain.
    sr, vdi, want = start_merge(smd, "export")
    expect_eq(smd.vdi_sha256(vdi), want, "an export")
    expect_eq(len(smd.vdi_chain(vdi)), 2, "depth after an export")
    copy = smd.call("VDI.copy", vdi, other)
    expect_eq(smd.vdi_sha256(copy), want, "a copy")
    snapshot = smd.call("VDI.snapshot", vdi, {})
    expect_eq(len(smd.vdi_chain(vdi)), 3, "depth after a snapshot")
    clone = smd.call("VDI.clone", vdi, {})
    (task,) = [r for r in smd.collections().values() if r["status"] == "pending"]
    assert float(task["progress"]) < 1, task
    expect_eq([smd.vdi_sha256(v) for v in (vdi, snapshot, clone)], [want] * 3, "content")
    # What is still to be merged is, though nobody asks for it again.
    smd.wait_collected(sr, 4)
    expect_eq([smd.vdi_sha256(v) for v in (vdi, snapshot, clone)], [want] * 3, "content")
    smd.check_chains(sr)

    sr, vdi, want = start_merge(smd, "resize")
    smd.call("VDI.resize", vdi, str(25 * MIB))
    expect_eq(len(smd.vdi_chain(vdi)), 2, "depth after a resize")
    moved = smd.call("VDI.pool_migrate", vdi, other, {"dest-img-format": "raw"})
    expect_eq(sha256_of_file(smd.vdi_file(moved), 24 * MIB), want, "a migration")
    smd.wait_collected(sr, 0)

    sr, vdi, want = start_merge(smd, "destroy")
    smd.call("VDI.destroy", vdi)
    smd.wait_collected(sr, 0)
    smd.check_chains(sr)

    # Whoever else has an image open is not disturbed, but waited for and named.
    sr = smd.make_sr("waits")
    smd.hold_collector(sr)
    vdi = smd.make_vdi(sr, 4 * MIB, "qcow2")
    smd.call("VDI.destroy", smd.call("VDI.snapshot", vdi, {}))
    holder = subprocess.Popen(["qemu-io", "-f", "qcow2", smd.vdi_file(vdi)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder.stdin.write("read 0 512\n")
    holder.stdin.flush()
    holder.stdout.readline()
    smd.let_collect(sr)
    deadline = time.monotonic() + 30
    while "in use" not in smd.json_call("VDI.get_chain", vdi)[1]["waits_for"]:
        assert time.monotonic() < deadline, smd.json_call("VDI.get_chain", vdi)
        time.sleep(0.1)
    assert smd.call("VDI.get_uuid", vdi) in smd.json_call("VDI.get_chain", vdi)[1]["waits_for"]
    holder.communicate("quit\n")
    smd.call("SR.scan", sr)
    smd.wait_collected(sr, 1)
