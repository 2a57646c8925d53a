#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A disk whose image a power cut left without its last footer grows all the same."""
from smdtest import *

with Smd() as smd:
    sr = smd.make_sr("one")
    raw = os.path.join(smd.dir, "disk.raw")
    fill_raw(raw, 32 * MIB)
    vdi = smd.make_vdi(sr, 32 * MIB, "vhd")
    smd.import_vdi(vdi, raw)
    path = smd.vdi_file(vdi)
    os.truncate(path, os.path.getsize(path) - 512)
    smd.call("VDI.resize", vdi, str(64 * MIB))
    expect_eq(smd.call("VDI.get_virtual_size", vdi), str(64 * MIB), "size")
    with open(raw, "r+b") as f:
        f.truncate(64 * MIB)
    expect_eq(sha256_of_disk(path, "vhd"), sha256_of_file(raw), "content")
    run("smd-img", "check", "-f", "vhd", path)
