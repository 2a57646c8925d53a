#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A volume that somebody changed behind smd is not moved as what it was: nothing of it is
lost, and nothing outside the SR is reached through it."""
from smdtest import *

SIZE = 4 * MIB

with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    for size in 2 * SIZE, SIZE // 2:
        for fmt in "raw", "vhd", "qcow2":
            vdi = smd.make_vdi(one, SIZE, "raw")
            path = smd.vdi_file(vdi)
            fill_raw(path, size)
            digest = sha256_of_file(path)
            expect_error("IMAGE_CORRUPT", smd.call, "VDI.pool_migrate", vdi, two,
                         {"dest-img-format": fmt})
            expect_error("IMAGE_CORRUPT", smd.call, "VDI.copy", vdi, two)
            expect_eq(os.listdir(smd.sr_path(two)).count(".smd-sr"), 1, "the other SR")
            expect_eq(smd.call("SR.get_VDIs", two), [], "disks of the other SR")
            expect_eq(sha256_of_file(path), digest, "the volume")
            smd.call("SR.scan", one)
            moved = smd.call("VDI.pool_migrate", vdi, two, {"dest-img-format": fmt})
            content = os.path.join(smd.dir, "content")
            smd.export_vdi(moved, content)
            expect_eq(sha256_of_file(content, size), digest, "what was moved as " + fmt)
            smd.call("VDI.destroy", moved)

    def symlink(path):
        os.symlink("/etc/passwd", path)

    for other in symlink, os.mkfifo, os.mkdir:
        vdi = smd.make_vdi(one, SIZE, "raw")
        path = smd.vdi_file(vdi)
        os.unlink(path)
        other(path)
        for call in (("VDI.pool_migrate", vdi, two, {"dest-img-format": "raw"}),
                     ("VDI.copy", vdi, two), ("VDI.resize", vdi, str(2 * SIZE)),
                     ("VDI.destroy", vdi)):
            expect_error("SR_BACKEND_FAILURE_46", smd.call, *call)
        expect_eq(smd.http("GET", "/export_raw_vdi?session_id=%s&vdi=%s" % (smd.login(), vdi))[0],
                  500, "status of an export")
        smd.call("SR.scan", one)
        expect_eq(smd.call("SR.get_VDIs", two), [], "disks of the other SR")
        smd.call("VDI.forget", vdi)
        assert os.path.lexists(path), "what somebody put there is gone"
