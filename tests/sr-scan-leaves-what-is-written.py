#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A scan does not judge an image that another program has open for writing, and keeps
nobody from writing it."""
import fcntl
import struct

from smdtest import *

USED_FOR_WRITING = 101      # qemu's byte of an image that says so
F_OFD_SETLK = 37


def lock(f, kind):
    fcntl.fcntl(f, F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, USED_FOR_WRITING, 1, 0))


with Smd() as smd:
    sr = smd.make_sr("one")
    vdi = smd.make_vdi(sr, 3 * MIB, "qcow2")
    unknown = "11111111-2222-4333-8444-555555555555.vhd"
    with open(smd.vdi_file(vdi), "r+b") as known, \
            open(os.path.join(smd.sr_path(sr), unknown), "w+b") as new:
        before = known.read(4)
        for f in known, new:
            lock(f, fcntl.F_RDLCK)
        known.seek(0)
        known.write(b"half")
        known.flush()
        new.write(b"to become an image")
        new.flush()
        smd.call("SR.scan", sr)
        expect_eq(smd.call("SR.get_VDIs", sr), [vdi], "VDIs while they are written")
        assert "image-error" not in smd.call("VDI.get_sm_config", vdi)
        expect_eq(smd.call("VDI.get_virtual_size", vdi), str(3 * MIB), "size")

        for f in known, new:
            lock(f, fcntl.F_UNLCK)
        smd.call("SR.scan", sr)
        expect_eq(len(smd.call("SR.get_VDIs", sr)), 2, "VDIs when they are not")
        assert "BAD_MAGIC" in smd.call("VDI.get_sm_config", vdi)["image-error"]
        known.seek(0)
        known.write(before)
    smd.call("SR.scan", sr)
    assert "image-error" not in smd.call("VDI.get_sm_config", vdi)
