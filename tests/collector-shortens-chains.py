#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""After snapshots are destroyed their chains become as short as they can be: every disk
shows what it showed, every image is sound and names the right parent, the space is free
again, and a raw disk is a raw image again."""
from smdtest import *

requires("qemu-img")


def contents(smd, vdis):
    return {vdi: smd.vdi_sha256(vdi) for vdi in vdis}


def written(smd, vdi, n):
    """Bytes over others, and zeroes over what is there."""
    smd.write_vdi(vdi, bytes(n * 100 * 1024) + os.urandom(n * 300 * 1024 + 512))


def one_disk(smd, fmt):
    """A disk and its snapshots, all in a row; the disk grew on the way."""
    sr = smd.make_sr("row-" + fmt)
    smd.hold_collector(sr)
    vdi = smd.make_vdi(sr, 6 * MIB, fmt)
    snapshots = []
    for n in range(1, 5):
        written(smd, vdi, n)
        snapshots.append(smd.call("VDI.snapshot", vdi, {}))
    smd.call("VDI.resize", vdi, str(8 * MIB))
    written(smd, vdi, 1)
    keep = snapshots.pop(1)
    want, uuid = contents(smd, [vdi, keep]), smd.call("VDI.get_uuid", vdi)
    for snapshot in snapshots:
        smd.call("VDI.destroy", snapshot)
    before = sum(allocated(os.path.join(smd.sr_path(sr), f)) for f in os.listdir(smd.sr_path(sr)))
    smd.let_collect(sr)
    smd.wait_collected(sr, 3)       # the disk, its snapshot, their base
    expect_eq(contents(smd, want), want, "content beside a snapshot")
    expect_eq([len(smd.vdi_chain(v)) for v in (vdi, keep)], [2, 2], "depths")
    smd.check_chains(sr)

    smd.call("VDI.destroy", keep)
    smd.wait_collected(sr, 1)
    expect_eq(contents(smd, [vdi]), {vdi: want[vdi]}, "content alone")
    expect_eq([smd.call("VDI.get_uuid", vdi), smd.vdi_format(vdi), len(smd.vdi_chain(vdi))],
              [uuid, fmt, 1], "uuid, format and depth")
    expect_eq(int(smd.call("VDI.get_virtual_size", vdi)), 8 * MIB, "size")
    expect_eq(int(smd.call("VDI.get_physical_utilisation", vdi)), allocated(smd.vdi_file(vdi)),
              "physical_utilisation")
    assert "vhd-parent" not in smd.call("VDI.get_sm_config", vdi)
    smd.check_chains(sr)
    expect_eq(sha256_of_disk(smd.vdi_file(vdi), fmt), want[vdi], "what qemu reads")
    after = sum(allocated(os.path.join(smd.sr_path(sr), f)) for f in os.listdir(smd.sr_path(sr)))
    assert after < before - MIB, "%d bytes of %d were freed" % (before - after, before)
    assert not smd.call("SR.get_orphans", sr)


def a_tree(smd, fmt):
    """Nodes in the middle go, and what lies on them lies on others then."""
    sr = smd.make_sr("tree-" + fmt)
    smd.hold_collector(sr)
    vdi = smd.make_vdi(sr, 6 * MIB, fmt)
    written(smd, vdi, 3)
    one = smd.call("VDI.snapshot", vdi, {})
    written(smd, vdi, 2)
    two = smd.call("VDI.snapshot", vdi, {})
    clones = [smd.call("VDI.clone", two, {}) for _ in range(3)]
    for n, clone in enumerate(clones):
        written(smd, clone, n + 1)
    written(smd, vdi, 4)
    want = contents(smd, [vdi, two] + clones)
    smd.call("VDI.destroy", one)
    smd.let_collect(sr)
    smd.wait_collected(sr, 6)       # five disks on one base
    expect_eq(contents(smd, want), want, "content")
    expect_eq({len(smd.vdi_chain(v)) for v in want}, {2}, "depths")
    smd.check_chains(sr)
    # It is as good as any other base.
    for v in clones + [two]:
        smd.call("VDI.destroy", v)
    smd.wait_collected(sr, 1)
    expect_eq(contents(smd, [vdi]), {vdi: want[vdi]}, "content")
    smd.check_chains(sr)
    # Nothing is left of what nobody needs.
    smd.call("VDI.destroy", smd.call("VDI.snapshot", vdi, {}))
    smd.call("VDI.destroy", vdi)
    smd.wait_collected(sr, 0)
    smd.check_chains(sr)


with Smd() as smd:
    for fmt in "vhd", "qcow2", "raw":
        one_disk(smd, fmt)
        a_tree(smd, fmt)
    for record in smd.collections().values():
        expect_eq((record["status"], float(record["progress"])), ("success", 1.0), "a run")
    smd.restart()
    for sr in smd.call("SR.get_all"):
        smd.call("SR.scan", sr)
        smd.check_chains(sr)
