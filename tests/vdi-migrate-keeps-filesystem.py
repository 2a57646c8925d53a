#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A file system survives vhd -> qcow2 -> raw -> vhd: e2fsck and its files agree."""
from smdtest import *

requires("qemu-img", "mkfs.ext4", "e2fsck", "debugfs")

with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    raw = os.path.join(smd.dir, "fs.raw")
    with open(raw, "wb") as f:
        f.truncate(96 * MIB)
    run("mkfs.ext4", "-q", "-F", "-d", os.path.join(SRC, "common"), raw)
    digest = sha256_of_file(raw)
    vdi = smd.make_vdi(one, 96 * MIB, "vhd")
    smd.import_vdi(vdi, raw)
    for fmt, sr in ("qcow2", two), ("raw", one), ("vhd", two):
        vdi = smd.call("VDI.pool_migrate", vdi, sr, {"dest-img-format": fmt})
        path = smd.vdi_file(vdi)
        expect_eq(sha256_of_disk(path, fmt), digest, "content as " + fmt)
        back = os.path.join(smd.dir, "back.raw")
        qemu_img("convert", "-f", qemu_format(fmt), "-O", "raw", path, back)
        run("e2fsck", "-fn", back)
        assert allocated(path) <= allocated(raw) * 1.01 + 8 * MIB, fmt
        compared = run("qemu-img", "compare", "-f", "raw", "-F", qemu_format(fmt), raw, path)
        assert "identical" in compared, compared
