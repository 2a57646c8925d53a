#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What refuses a snapshot, clone or revert, with which error, leaving nothing behind; and how
little room they take."""
from smdtest import *


def files(sr):
    return sorted(f for f in os.listdir(smd.sr_path(sr)) if f[0] != ".")


def refuse(code, method, vdi, *args, params=None):
    sr = smd.call("VDI.get_SR", vdi)
    before = files(sr), smd.call("SR.get_VDIs", sr), smd.call("VDI.get_location", vdi)
    expect_error(code, smd.call, method, vdi, *args, params=params)
    expect_eq((files(sr), smd.call("SR.get_VDIs", sr), smd.call("VDI.get_location", vdi)), before,
              "what a refused %s left" % method)
    expect_eq(smd.call("VDI.get_current_operations", vdi), {}, "operations left")


def allocated_in(sr):
    return sum(allocated(os.path.join(smd.sr_path(sr), f)) for f in files(sr))


with Smd() as smd:
    sr = smd.make_sr("one")

    # Next to no room, however large the disk.
    for fmt in "vhd", "qcow2", "raw":
        vdi = smd.make_vdi(sr, 100 * GIB, fmt)
        before = allocated_in(sr)
        smd.call("VDI.snapshot", vdi)
        taken = allocated_in(sr) - before
        assert taken < MIB, "a snapshot of a %s disk takes %d bytes" % (fmt, taken)

    # A sharable disk is not snapshotted; a clone of it is its user's business.
    vdi = smd.make_vdi(sr, MIB)
    smd.call("VDI.set_sharable", vdi, True)
    assert "snapshot" not in smd.call("VDI.get_allowed_operations", vdi)
    refuse("VDI_IS_SHARABLE", "VDI.snapshot", vdi, params=[vdi])
    smd.call("VDI.clone", vdi)

    # driver_params are the format's options.
    vdi = smd.make_vdi(sr, MIB, "qcow2")
    refuse("VALUE_NOT_SUPPORTED", "VDI.snapshot", vdi, {"nonsense": "1"},
           params=["driver_params", "nonsense", "not an option of the format"])
    refuse("VALUE_NOT_SUPPORTED", "VDI.clone", vdi, {"type": "single"})
    refuse("INVALID_VALUE", "VDI.clone", vdi, {"cluster_size": "3"})
    clone = smd.call("VDI.clone", vdi, {"type": "double", "cluster_size": "131072"})
    expect_eq(image_info(smd.vdi_file(clone), "qcow2")["cluster-size"], 131072, "cluster_size")

    # A raw disk needs a format that can lie on it and hold it.
    raw_only = smd.make_sr("raw-only")
    vdi = smd.make_vdi(raw_only, 3 << 40, "raw")
    snapshot = smd.call("VDI.snapshot", vdi)
    expect_eq(smd.vdi_format(snapshot), "qcow2", "format of what is too large for vhd")

    # A chain of 30 images is the longest.
    vdi = smd.make_vdi(sr, MIB, "qcow2")
    for i in range(29):
        smd.write_vdi(vdi, bytes([i + 1]) * 512)
        last = smd.call("VDI.snapshot", vdi)
    expect_eq(len(smd.vdi_chain(vdi)), 30, "depth")
    content = smd.vdi_sha256(vdi)
    smd.write_vdi(vdi, b"x" * 512)
    refuse("SR_BACKEND_FAILURE_109", "VDI.snapshot", vdi)
    refuse("SR_BACKEND_FAILURE_109", "VDI.clone", vdi)
    # One that holds nothing itself makes no chain longer.
    expect_eq(len(smd.vdi_chain(smd.call("VDI.clone", last))), 30, "depth of a clone")
    smd.call("VDI.revert", last)
    expect_eq(smd.vdi_sha256(vdi), content, "content of the deepest")

    # A broken or lost image below.
    vdi = smd.make_vdi(sr, MIB, "vhd")
    smd.write_vdi(vdi, b"x" * 512)
    snapshot = smd.call("VDI.snapshot", vdi)
    base = smd.vdi_chain(vdi)[1]
    os.rename(base, base + "~")
    refuse("VDI_MISSING", "VDI.snapshot", vdi)
    refuse("VDI_MISSING", "VDI.revert", snapshot)
    os.rename(base + "~", base)
    smd.call("VDI.revert", snapshot)

    # Another program writes to the disk.
    with open(smd.vdi_file(vdi), "r+b") as f:
        assert image_lock(f, True)
        refuse("VDI_IN_USE", "VDI.snapshot", vdi, params=[vdi, "snapshot"])
    smd.call("VDI.snapshot", vdi)

    # Detached.
    smd.call("PBD.unplug", smd.call("SR.get_PBDs", raw_only)[0])
    vdi = smd.call("SR.get_VDIs", raw_only)[0]
    expect_error("SR_NOT_ATTACHED", smd.call, "VDI.snapshot",
                 [v for v in smd.call("SR.get_VDIs", raw_only) if smd.call("VDI.get_managed", v)][0])

    # While it is copied: a clone, no snapshot.
    vdi = smd.make_vdi(sr, 64 * MIB, "raw")
    smd.write_vdi(vdi, os.urandom(64 * MIB))
    connection = smd.connect(600)
    connection.request("GET", "/export_raw_vdi?session_id=%s&vdi=%s&format=raw"
                       % (smd.login(), vdi))
    reply = connection.getresponse()
    data = reply.read(MIB)
    assert "clone" in smd.call("VDI.get_allowed_operations", vdi)
    expect_error("OPERATION_NOT_ALLOWED", smd.call, "VDI.snapshot", vdi)
    expect_error("OTHER_OPERATION_IN_PROGRESS", smd.call, "VDI.destroy", vdi)
    clone = smd.call("VDI.clone", vdi)
    smd.write_vdi(vdi, b"after the clone")
    digest = hashlib.sha256(data + reply.read()).hexdigest()
    connection.close()
    expect_eq(digest, smd.vdi_sha256(clone), "an export whose disk is cloned meanwhile")
