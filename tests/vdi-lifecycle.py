#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A VDI's life: create, resize, copy, update, forget, introduce, destroy, and their errors."""
from smdtest import *

requires("qemu-img")


def digest(smd, vdi):
    return sha256_of_disk(smd.vdi_file(vdi), smd.vdi_format(vdi))


def fill(smd, vdi, seed=1):
    path = os.path.join(smd.dir, "fill.raw")
    fill_raw(path, int(smd.call("VDI.get_virtual_size", vdi)), seed)
    smd.import_vdi(vdi, path)
    return sha256_of_file(path)


with Smd() as smd:
    sr, other = smd.make_sr("one"), smd.make_sr("two", preferred_image_formats="qcow2,raw")

    # Formats: what is asked, what the SR prefers, what the older key says.
    for where, asked, wanted in ((sr, None, "vhd"), (other, None, "qcow2"), (sr, "RAW", "raw"),
                                 (other, "vhd", "vhd")):
        vdi = smd.make_vdi(where, 5 * MIB + 512, asked)
        expect_eq(smd.vdi_format(vdi), wanted, "format")
        expect_eq(smd.call("VDI.get_location", vdi),
                  "%s.%s" % (smd.call("VDI.get_uuid", vdi), wanted), "location")
        expect_eq(smd.call("VDI.get_virtual_size", vdi), str(5 * MIB + 512), "exact size")
        expect_eq(image_info(smd.vdi_file(vdi), wanted)["virtual-size"], 5 * MIB + 512, "qemu's")
        assert allocated(smd.vdi_file(vdi)) < MIB, "an empty disk takes room"
        smd.call("VDI.destroy", vdi)
    vdi = smd.call("VDI.create", {
        "name_label": "n", "name_description": "d", "SR": sr, "virtual_size": "1000",
        "type": "system", "sharable": True, "read_only": False, "other_config": {"a": "b"},
        "xenstore_data": {"c": "d"}, "sm_config": {"type": "raw", "other": "kept"},
        "tags": ["t"]})
    record = smd.call("VDI.get_record", vdi)
    for field, wanted in (("type", "system"), ("sharable", True), ("other_config", {"a": "b"}),
                          ("xenstore_data", {"c": "d"}), ("tags", ["t"]),
                          ("sm_config", {"image-format": "raw", "other": "kept"})):
        expect_eq(record[field], wanted, field)
    smd.call("VDI.destroy", vdi)
    for size in "0", "-5":
        expect_error("SR_BACKEND_FAILURE_79", smd.make_vdi, sr, size)
    expect_error("HANDLE_INVALID", smd.make_vdi, "OpaqueRef:nosuch", MIB,
                 params=["SR", "OpaqueRef:nosuch"])
    left = [f for f in os.listdir(smd.sr_path(sr)) if not f.startswith(".")]
    expect_eq(left, [], "what refused creations left")

    for fmt in "raw", "vhd", "qcow2":
        # Grow; the old content stays, the new room is zero.
        vdi = smd.make_vdi(sr, 4 * MIB, fmt)
        before = fill(smd, vdi)
        smd.call("VDI.resize", vdi, str(9 * MIB + 512))
        expect_eq(smd.call("VDI.get_virtual_size", vdi), str(9 * MIB + 512), "size")
        path = os.path.join(smd.dir, "grown.raw")
        qemu_img("convert", "-f", qemu_format(fmt), "-O", "raw", smd.vdi_file(vdi), path)
        expect_eq(sha256_of_file(path, 4 * MIB), before, "the old content")
        expect_eq(os.path.getsize(path), 9 * MIB + 512, "the size inside")
        smd.call("VDI.resize", vdi, str(9 * MIB + 512))
        expect_error("SR_BACKEND_FAILURE_79", smd.call, "VDI.resize", vdi, str(MIB))
        if fmt == "vhd":
            expect_error("VDI_TOO_LARGE", smd.call, "VDI.resize", vdi, str(3 << 40))

        # Copy: another disk, in the other SR's format, with the same names.
        smd.call("VDI.set_name_label", vdi, "original")
        whole = digest(smd, vdi)
        copy = smd.call("VDI.copy", vdi, other)
        expect_eq(smd.call("VDI.get_name_label", copy), "original", "name of the copy")
        expect_eq(smd.vdi_format(copy), "qcow2", "format of the copy")
        expect_eq(digest(smd, copy), whole, "content of the copy")
        expect_eq(digest(smd, vdi), whole, "content of the original")

        # Copy into a larger one: it keeps its size, format, ref.
        into = smd.make_vdi(other, 12 * MIB, "vhd")
        fill(smd, into, seed=9)
        expect_eq(smd.call("VDI.copy", vdi, NULL_REF, NULL_REF, into), into, "result")
        qemu_img("convert", "-f", "vpc", "-O", "raw", smd.vdi_file(into), path)
        expect_eq(os.path.getsize(path), 12 * MIB, "its own size")
        expect_eq(sha256_of_file(path, 9 * MIB + 512), whole, "content")
        small = smd.make_vdi(sr, MIB)
        expect_error("VDI_TOO_SMALL", smd.call, "VDI.copy", vdi, NULL_REF, NULL_REF, small,
                     params=[small, str(9 * MIB + 512)])
        smd.call("VDI.set_read_only", into, True)
        expect_error("VDI_READONLY", smd.call, "VDI.copy", vdi, NULL_REF, NULL_REF, into)
        expect_error("HANDLE_INVALID", smd.call, "VDI.copy", vdi)

        # Forget and introduce.
        record = smd.call("VDI.get_record", vdi)
        smd.call("VDI.forget", vdi)
        assert os.path.exists(os.path.join(smd.sr_path(sr), record["location"]))

        def introduce(uuid, location):
            return smd.call("VDI.introduce", uuid, "again", "", sr, "user", False, False, {},
                            location)

        expect_error("UUID_INVALID", introduce, "nonsense", record["location"],
                     params=["VDI", "nonsense"])
        expect_error("VDI_LOCATION_MISSING", introduce, record["uuid"], "x.raw",
                     params=[sr, "x.raw"])
        expect_error("VDI_LOCATION_MISSING", introduce, record["uuid"], "../one/x.raw")
        vdi = introduce(record["uuid"], record["location"])
        expect_error("LOCATION_NOT_UNIQUE", introduce, record["uuid"], record["location"],
                     params=[sr, record["location"]])
        expect_eq(smd.call("VDI.get_virtual_size", vdi), str(9 * MIB + 512), "size")
        expect_eq(digest(smd, vdi), whole, "content")

        # Lost behind our back.
        os.rename(smd.vdi_file(vdi), smd.vdi_file(vdi) + ".away")
        expect_error("VDI_MISSING", smd.call, "VDI.update", vdi, params=[sr, vdi])
        expect_eq(smd.call("VDI.get_missing", vdi), True, "missing")
        expect_error("VDI_MISSING", smd.call, "VDI.pool_migrate", vdi, other, {})
        os.rename(smd.vdi_file(vdi) + ".away", smd.vdi_file(vdi))
        smd.call("VDI.update", vdi)
        expect_eq(smd.call("VDI.get_missing", vdi), False, "found again")
        for v in vdi, copy, into, small:
            smd.call("VDI.destroy", v)

    # A snapshot's relation follows the disk it was taken of.
    base = smd.make_vdi(sr, MIB, "raw")
    record = smd.call("VDI.get_record", smd.make_vdi(sr, MIB, "raw"))
    smd.call("VDI.forget", smd.call("VDI.get_by_uuid", record["uuid"]))
    snapshot = smd.call("VDI.introduce", record["uuid"], "snap", "", sr, "user", False, True, {},
                        record["location"], {}, {}, True, "0", "0", NULL_REF, True,
                        "20261121T00:00:00Z", base)
    expect_eq(smd.call("VDI.get_snapshots", base), [snapshot], "snapshots")
    moved = smd.call("VDI.pool_migrate", base, other, {})
    expect_eq(smd.call("VDI.get_snapshot_of", snapshot), moved, "snapshot_of after the move")
    smd.call("VDI.destroy", moved)
    expect_eq(smd.call("VDI.get_snapshot_of", snapshot), NULL_REF, "snapshot_of after destroy")
