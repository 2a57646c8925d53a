#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""VDI.revert: the disk shows what its snapshot shows, and stays who it was."""
from smdtest import *


def life(smd, fmt):
    sr = smd.make_sr("sr-" + fmt)
    vdi = smd.make_vdi(sr, 6 * MIB, fmt)
    smd.write_vdi(vdi, os.urandom(2 * MIB))
    first = smd.vdi_sha256(vdi)
    one = smd.call("VDI.snapshot", vdi)
    smd.write_vdi(vdi, os.urandom(3 * MIB))
    second = smd.vdi_sha256(vdi)
    two = smd.call("VDI.snapshot", vdi)
    smd.call("VDI.resize", vdi, str(8 * MIB))
    smd.write_vdi(vdi, os.urandom(MIB))
    smd.call("VDI.set_name_label", vdi, "renamed")
    before = smd.call("VDI.get_record", vdi)
    file = smd.vdi_file(vdi)

    # Back, further back, and forth again; the size goes along, the names stay.
    for snapshot, wanted in ((two, second), (one, first), (two, second), (two, second)):
        smd.call("VDI.revert", snapshot)
        expect_eq(smd.vdi_sha256(vdi), wanted, "what the disk shows")
        expect_eq([smd.vdi_sha256(v) for v in (one, two)], [first, second], "the snapshots")
    assert not os.path.exists(file), "the disk's old volume is still there"
    record = smd.call("VDI.get_record", vdi)
    expect_eq([record[f] for f in ("uuid", "name_label", "is_a_snapshot", "virtual_size")],
              [before["uuid"], "renamed", False, str(6 * MIB)], "the disk's record")
    expect_eq(sorted(record["snapshots"]), sorted([one, two]), "its snapshots")
    expect_eq(smd.call("VDI.get_snapshot_of", two), vdi, "whose snapshot")

    # What is written now is the disk's alone; a written snapshot is reverted to as it is.
    smd.write_vdi(vdi, os.urandom(MIB))
    expect_eq([smd.vdi_sha256(v) for v in (one, two)], [first, second], "the snapshots")
    smd.write_vdi(one, os.urandom(4 * MIB))
    changed = smd.vdi_sha256(one)
    smd.call_async("VDI.revert", one)
    expect_eq([smd.vdi_sha256(v) for v in (vdi, one)], [changed] * 2, "after a written snapshot")
    smd.write_vdi(vdi, os.urandom(MIB))
    expect_eq(smd.vdi_sha256(one), changed, "the written snapshot")

    # A disk whose volume is lost comes back from its snapshot.
    os.unlink(smd.vdi_file(vdi))
    expect_error("VDI_MISSING", smd.call, "VDI.snapshot", vdi)
    smd.call("VDI.revert", two)
    expect_eq(smd.vdi_sha256(vdi), second, "after the loss")

    expect_error("ONLY_REVERT_SNAPSHOT", smd.call, "VDI.revert", vdi, params=[])
    smd.call("VDI.destroy", vdi)
    expect_error("OPERATION_NOT_ALLOWED", smd.call, "VDI.revert", two)
    smd.expect_files_of_rows(sr)


with Smd() as smd:
    for fmt in "vhd", "qcow2", "raw":
        life(smd, fmt)
    # The disk has moved on without its snapshot.
    sr, other = smd.make_sr("one"), smd.make_sr("two")
    vdi = smd.make_vdi(sr, MIB)
    snapshot = smd.call("VDI.snapshot", vdi)
    smd.call("VDI.pool_migrate", vdi, other, {})
    expect_error("OPERATION_NOT_ALLOWED", smd.call, "VDI.revert", snapshot)
