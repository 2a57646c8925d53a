#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A merge writes what the smaller of the two images holds, and the run's task counts it."""
from smdtest import *

requires("qemu-img")


def make(smd, sr, fmt, base, delta):
    """A disk whose base and delta hold so many bytes; what it shows."""
    vdi = smd.make_vdi(sr, 24 * MIB, fmt)
    smd.write_vdi(vdi, os.urandom(base))
    snapshot = smd.call("VDI.snapshot", vdi, {})
    smd.write_vdi(vdi, os.urandom(delta))
    base_file = smd.vdi_chain(vdi)[1]
    want = smd.vdi_sha256(vdi)
    smd.call("VDI.destroy", snapshot)
    return vdi, smd.vdi_file(vdi), base_file, want


def merge(smd, fmt, base, delta, into_parent, limit):
    sr = smd.make_sr("%s-%d-%d" % (fmt, base, delta))
    smd.hold_collector(sr)
    vdi, own, base_file, want = make(smd, sr, fmt, base, delta)
    tasks = set(smd.collections())
    smd.let_collect(sr)
    smd.wait_collected(sr, 1)
    expect_eq(smd.vdi_sha256(vdi), want, "content")
    expect_eq(smd.vdi_file(vdi), base_file if into_parent else own, "the image that is left")
    (task,) = [r for ref, r in smd.collections().items() if ref not in tasks]
    total = int(task["other_config"]["bytes_total"])
    assert 0 < total <= limit, "%d bytes were written, and %d do" % (total, limit)
    expect_eq(int(task["other_config"]["bytes_done"]), total, "bytes done")
    smd.check_chains(sr)


with Smd() as smd:
    for fmt in "vhd", "qcow2":
        # The delta is small: into its parent. The base is small and wholly hidden but for
        # its end: what of it is seen goes into the child.
        merge(smd, fmt, 16 * MIB, MIB, True, MIB)
        merge(smd, fmt, 9 * MIB, 8 * MIB, False, MIB)
    # A raw disk becomes raw again, whatever that takes; never more than its delta.
    merge(smd, "raw", MIB, 8 * MIB, True, 8 * MIB)
