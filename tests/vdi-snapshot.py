#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Snapshots and clones: what they show, what their records and files say, in each format."""
from smdtest import *

requires("qemu-img")


def fields(record, *names):
    return {name: record[name] for name in names}


def check_files(smd, sr):
    """Other programs find every image sound, and the same parents as smd."""
    for vdi in smd.call("SR.get_VDIs", sr):
        chain = smd.vdi_chain(vdi)
        if chain[0].endswith("vhd"):
            # qemu has no differencing VHD: the footer's hidden byte and type are ours to say.
            info = json.loads(run("smd-img", "info", "--output=json", "-u", "-f", "vhd", chain[0]))
        else:
            info = image_info(chain[0], chain[0].rpartition(".")[2])
        expect_eq(info.get("backing-filename"),
                  os.path.basename(chain[1]) if len(chain) > 1 else None, "the file's parent")
        if chain[0].endswith("qcow2"):
            qemu_img("check", "-f", "qcow2", chain[0])
            layers = json.loads(run("qemu-img", "info", "--backing-chain", "--output=json",
                                    "-f", "qcow2", chain[0]))
            expect_eq([os.path.realpath(l["filename"]) for l in layers],
                      [os.path.realpath(c) for c in chain], "qemu's chain")


def life(smd, call, fmt):
    sr = smd.make_sr("sr-" + fmt)
    smd.call("SR.add_to_other_config", sr, "gc", "false")   # chains as they were made
    vdi = smd.make_vdi(sr, 8 * MIB, fmt, name="a disk")
    call("VDI.set_name_description", vdi, "described")
    call("VDI.add_to_other_config", vdi, "k", "v")
    call("VDI.add_tags", vdi, "tag")
    smd.write_vdi(vdi, os.urandom(3 * MIB))
    before, uuid = smd.vdi_sha256(vdi), call("VDI.get_uuid", vdi)
    file = smd.vdi_file(vdi)

    snapshot = call("VDI.snapshot", vdi, {})
    expect_eq([smd.vdi_sha256(v) for v in (vdi, snapshot)], [before] * 2, "content")
    record, old = call("VDI.get_record", snapshot), call("VDI.get_record", vdi)
    expect_eq(fields(record, "is_a_snapshot", "snapshot_of", "managed", "read_only", "sharable"),
              {"is_a_snapshot": True, "snapshot_of": vdi, "managed": True, "read_only": False,
               "sharable": False}, "the snapshot")
    expect_eq(str(record["snapshot_time"])[:9], time.strftime("%Y%m%dT", time.gmtime()), "time")
    same = ("name_label", "name_description", "type", "other_config", "tags", "virtual_size",
            "SR")
    expect_eq(fields(record, *same), fields(old, *same), "what a snapshot takes over")
    expect_eq((old["uuid"], old["is_a_snapshot"], old["snapshots"]), (uuid, False, [snapshot]),
              "the disk itself")

    # The base: the disk's old volume, under a row of its own.
    base = [v for v in call("SR.get_VDIs", sr) if v not in (vdi, snapshot)]
    expect_eq(len(base), 1, "rows beside the disk and its snapshot")
    record = call("VDI.get_record", base[0])
    expect_eq(fields(record, "name_label", "managed", "read_only", "is_a_snapshot",
                     "allowed_operations", "sm_config"),
              {"name_label": "base copy", "managed": False, "read_only": True,
               "is_a_snapshot": False, "allowed_operations": [],
               "sm_config": {"image-format": fmt}}, "the base")
    expect_eq(smd.vdi_file(base[0]), file, "the base's volume")
    overlay = "vhd" if fmt == "raw" else fmt
    for v in vdi, snapshot:
        expect_eq(call("VDI.get_sm_config", v),
                  {"image-format": overlay, "vhd-parent": record["uuid"]}, "sm_config")
    for method, *args in (("VDI.destroy",), ("VDI.resize", str(9 * MIB)), ("VDI.copy", sr),
                          ("VDI.snapshot", {}), ("VDI.clone", {})):
        expect_error("VDI_NOT_MANAGED", call, method, base[0], *args, params=[base[0]])
    expect_error("VDI_IN_USE", call, "VDI.forget", base[0], params=[base[0], "forget"])
    if fmt == "vhd":
        info = json.loads(run("smd-img", "info", "--output=json", "-f", "vhd", file))
        assert info["hidden"], "XenServer is not told that this is a base"

    # Each goes its own way from here.
    smd.write_vdi(vdi, os.urandom(MIB))
    after = smd.vdi_sha256(vdi)
    assert after != before
    clone = call("VDI.clone", snapshot, {})
    record = call("VDI.get_record", clone)
    expect_eq(fields(record, "is_a_snapshot", "snapshot_of", "name_label", "tags"),
              {"is_a_snapshot": False, "snapshot_of": NULL_REF, "name_label": "a disk",
               "tags": ["tag"]}, "the clone")
    expect_eq(smd.vdi_chain(clone)[1:], smd.vdi_chain(snapshot)[1:],
              "the parents of a clone of a snapshot that holds nothing")
    smd.write_vdi(clone, os.urandom(2 * MIB))
    expect_eq([smd.vdi_sha256(v) for v in (vdi, snapshot)], [after, before], "content")
    second = call("VDI.snapshot", vdi)
    expect_eq(len(smd.vdi_chain(second)), 3, "depth")
    expect_eq(sorted(call("VDI.get_snapshots", vdi)), sorted([snapshot, second]), "snapshots")

    # What a chain shows goes anywhere; the chain stays.
    copy = call("VDI.copy", second, sr)
    expect_eq([smd.vdi_sha256(copy), len(smd.vdi_chain(copy))], [after, 1], "a copy")
    call("VDI.resize", vdi, str(11 * MIB))
    expect_eq([int(call("VDI.get_virtual_size", v)) // MIB for v in (vdi, second)], [11, 8], "sizes")
    path = os.path.join(smd.dir, "grown.raw")
    smd.export_vdi(vdi, path)
    expect_eq((sha256_of_file(path, 8 * MIB), os.path.getsize(path)), (after, 11 * MIB), "grown")
    with open(path, "rb") as f:
        f.seek(8 * MIB)
        assert not any(f.read()), "new room is not zero"
    check_files(smd, sr)

    # Who destroys a leaf leaves the rest alone.
    call("VDI.destroy", vdi)
    expect_eq(call("VDI.get_snapshot_of", snapshot), NULL_REF, "snapshot_of of what is gone")
    expect_eq([smd.vdi_sha256(v) for v in (snapshot, second)], [before, after], "content")
    smd.restart()
    expect_eq([smd.vdi_sha256(v) for v in (snapshot, second)], [before, after], "after a restart")
    check_files(smd, sr)


with Smd() as smd:
    sm = smd.call("SM.get_all_records")
    features = [r for r in sm.values() if r["type"] == "file"][0]["features"]
    for feature in "VDI_SNAPSHOT", "VDI_CLONE", "VDI_REVERT":
        assert feature in features, features
    for fmt, call in (("vhd", smd.call), ("qcow2", smd.call), ("raw", smd.json_call)):
        life(smd, call, fmt)
