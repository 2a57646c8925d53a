#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A disk that others lie on, as SR.scan finds them where another program made the snapshots:
none of its own operations harms the others."""
from smdtest import *

requires("qemu-img", "qemu-io")
SIZE = 4 * MIB


def volume(number):
    return "%08d-%04d-4222-8222-222222222222.qcow2" % (number, tree)


def layer(path, number, parent=None):
    """An image with a mark of its own; on a parent, as qemu makes a snapshot."""
    name = os.path.join(path, volume(number))
    backing = ["-b", volume(parent), "-F", "qcow2"] if parent else []
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2"] + backing + [name, str(SIZE)],
                   cwd=path, check=True)
    run("qemu-io", "-f", "qcow2", "-c", "write -P %d %d 64k" % (number, number * 65536), name)


with Smd() as smd:
    for tree, (what, call) in enumerate((
            ("VDI.destroy", lambda vdi, sr: smd.call("VDI.destroy", vdi)),
            ("VDI.pool_migrate", lambda vdi, sr: smd.call("VDI.pool_migrate", vdi, sr,
                                                          {"dest-img-format": "raw"})),
            ("VDI.snapshot", lambda vdi, sr: smd.call("VDI.snapshot", vdi)),
            ("VDI.clone", lambda vdi, sr: smd.call("VDI.clone", vdi)),
            ("VDI.copy", lambda vdi, sr: smd.call("VDI.copy", vdi, sr)))):
        sr = smd.make_sr("sr%d" % tree)
        smd.call("SR.add_to_other_config", sr, "gc", "false")
        #   1 <- 2 <- 3
        #         \\-- 4
        for n, parent in ((1, None), (2, 1), (3, 2), (4, 2)):
            layer(smd.sr_path(sr), n, parent)
        smd.call("SR.scan", sr)
        by_name = {r["location"]: v for v, r in smd.vdis_of(sr).items()}
        vdis = {n: by_name[volume(n)] for n in (1, 2, 3, 4)}
        shows = {n: smd.vdi_sha256(v) for n, v in vdis.items()}
        middle = vdis[2]

        # It does not change under the others.
        expect_error("VDI_IN_USE", smd.call, "VDI.resize", middle, str(2 * SIZE),
                     params=[middle, "resize"])
        expect_error("VDI_IN_USE", smd.call, "VDI.forget", middle, params=[middle, "forget"])
        with open(os.path.join(smd.dir, "x.raw"), "wb") as f:
            f.truncate(SIZE)
        for code, read_only in (("VDI_READONLY", True), ("VDI_IN_USE", False)):
            smd.call("VDI.set_read_only", middle, read_only)
            expect_error(code, smd.call, "VDI.copy", vdis[3], NULL_REF, NULL_REF, middle)
            try:
                smd.import_vdi(middle, f.name)
                raise AssertionError("an upload over a disk that others lie on")
            except HttpError as e:
                assert b"VDI_IN_USE" in e.body, e
        smd.call("VDI.set_read_only", middle, True)

        new = call(middle, sr)
        for n in (1, 3, 4):
            expect_eq(smd.vdi_sha256(vdis[n]), shows[n], "%s: disk %d" % (what, n))
        if isinstance(new, str) and new:
            expect_eq(smd.vdi_sha256(new), shows[2], "what %s gave" % what)
        if what == "VDI.pool_migrate":
            expect_eq(smd.call("VDI.get_read_only", new), False, "read_only where it is alone")
        if what in ("VDI.destroy", "VDI.pool_migrate"):
            expect_error("HANDLE_INVALID", smd.call, "VDI.get_uuid", middle)
            base = smd.call("VDI.get_by_uuid", smd.call("VDI.get_sm_config", vdis[3])["vhd-parent"])
            record = smd.call("VDI.get_record", base)
            expect_eq([record[f] for f in ("managed", "location", "name_label")],
                      [False, volume(2), "base copy"], "what is left")
        if what in ("VDI.snapshot", "VDI.clone"):
            # The disk can be written again, by itself.
            expect_eq(smd.call("VDI.get_read_only", middle), False, "read_only")
            smd.call("VDI.resize", middle, str(2 * SIZE))
            smd.write_vdi(middle, b"mine")
            expect_eq(smd.vdi_sha256(vdis[3]), shows[3], "disk 3")
            expect_eq(smd.vdi_sha256(new), shows[2], "what %s gave" % what)
        for vdi in vdis[3], vdis[4]:
            if what == "VDI.destroy":
                smd.write_vdi(vdi, b"theirs")
                smd.call("VDI.destroy", vdi)

    # A disk that holds nothing of its own is snapshotted beside, with a child on it; what
    # reverts it leaves the child what it lies on.
    tree += 1
    sr = smd.make_sr("beside")
    smd.call("SR.add_to_other_config", sr, "gc", "false")
    path = smd.sr_path(sr)
    layer(path, 1)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", volume(1), "-F", "qcow2",
                    volume(2), str(SIZE)], cwd=path, check=True)
    layer(path, 3, 2)
    smd.call("SR.scan", sr)
    by_name = {r["location"]: v for v, r in smd.vdis_of(sr).items()}
    vdi, child = by_name[volume(2)], by_name[volume(3)]
    before, childs = smd.vdi_sha256(vdi), smd.vdi_sha256(child)
    snapshot = smd.call("VDI.snapshot", vdi)
    expect_eq([os.path.basename(f) for f in smd.vdi_chain(snapshot)[1:]], [volume(1)],
              "the snapshot's parents")
    smd.call("VDI.revert", snapshot)
    assert smd.call("VDI.get_location", vdi) != volume(2)
    smd.write_vdi(vdi, os.urandom(MIB))
    expect_eq([smd.vdi_sha256(child), smd.vdi_sha256(snapshot)], [childs, before], "content")
    expect_eq([os.path.basename(f) for f in smd.vdi_chain(child)], [volume(n) for n in (3, 2, 1)],
              "the child's chain")
    # With the collector at work, all of it again.
    smd.call("SR.remove_from_other_config", sr, "gc")
    smd.call("SR.scan", sr)
    smd.call("VDI.destroy", by_name[volume(1)])
    smd.expect_files_of_rows(sr)
    expect_eq([smd.vdi_sha256(child), smd.vdi_sha256(snapshot)], [childs, before], "content")
