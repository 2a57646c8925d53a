#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An image that is broken keeps its own chain as it is, says so in its row and in
VDI.get_chain, and stops nothing else; mended, it is collected like any other."""
from smdtest import *

requires("qemu-img")


def chain_of_two(smd, sr, fmt):
    """A disk on a hidden base whose other child is gone; what it shows."""
    vdi = smd.make_vdi(sr, 4 * MIB, fmt)
    smd.write_vdi(vdi, os.urandom(3 * MIB))
    snapshot = smd.call("VDI.snapshot", vdi, {})
    smd.write_vdi(vdi, os.urandom(MIB))
    want = smd.vdi_sha256(vdi)
    smd.call("VDI.destroy", snapshot)
    return vdi, want


def state(smd, vdi):
    return smd.json_call("VDI.get_chain", vdi)


with Smd() as smd:
    sr = smd.make_sr("one")
    smd.hold_collector(sr)
    broken, broken_want = chain_of_two(smd, sr, "qcow2")
    missing, _ = chain_of_two(smd, sr, "vhd")
    whole, want = chain_of_two(smd, sr, "vhd")
    for vdi in broken, missing, whole:
        deadline = time.monotonic() + 30
        while state(smd, vdi)[1]["state"] != "waiting":
            assert time.monotonic() < deadline, state(smd, vdi)
            time.sleep(0.1)
        assert "gc is false" in state(smd, vdi)[1]["waits_for"], state(smd, vdi)
    base = smd.vdi_chain(broken)[1]
    with open(base, "r+b") as f:
        f.seek(40)                  # where the L1 table is
        l1 = f.read(8)
        f.seek(40)
        f.write(b"\x7f" * 8)
    os.rename(smd.vdi_chain(missing)[1], os.path.join(smd.dir, "aside"))
    smd.let_collect(sr)
    smd.wait_collected(sr, 5)       # two chains of two, and the disk that is alone now
    expect_eq(smd.vdi_sha256(whole), want, "content")
    leaf, node = state(smd, broken)
    expect_eq([leaf["state"], node["state"]], ["live", "failed"], "states")
    assert "qcow2" in node["reason"], node
    ref = smd.call("VDI.get_by_uuid", node["uuid"])
    assert "IMAGE_CORRUPT" in smd.call("VDI.get_sm_config", ref)["image-error"]
    expect_eq(state(smd, missing)[1]["state"], "failed", "state of what is missing")
    log = smd.read_log()
    assert node["reason"] in log, "the log does not say why"

    # Once it is whole again, a scan is enough.
    with open(base, "r+b") as f:
        f.seek(40)
        f.write(l1)
    os.rename(os.path.join(smd.dir, "aside"), smd.vdi_chain(missing)[1])
    smd.call("SR.scan", sr)
    smd.wait_collected(sr, 3)
    expect_eq(smd.vdi_sha256(broken), broken_want, "content")
    assert "image-error" not in smd.call("VDI.get_sm_config", broken)
    smd.check_chains(sr)

    # What the collector may take for garbage is only what smd itself has left so.
    image = os.path.join(smd.sr_path(sr), "11111111-2222-4333-8444-555555555555.raw")
    with open(image, "wb") as f:
        f.truncate(MIB)
    kept = smd.call("VDI.introduce", "11111111-2222-4333-8444-555555555555", "kept", "", sr, "user",
                    False, True, {}, os.path.basename(image), {}, {}, False)
    # Garbage whose image is gone already goes.
    smd.hold_collector(sr)
    child, _ = chain_of_two(smd, sr, "vhd")
    os.unlink(smd.vdi_chain(child)[1])
    smd.call("VDI.destroy", child)
    smd.let_collect(sr)
    smd.wait_collected(sr, 4)
    assert os.path.exists(image) and smd.call("VDI.get_managed", kept)
