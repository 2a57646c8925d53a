#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What the VDIs of an SR take adds up to what the SR says is in use, through chains,
resizes and imports, without a scan."""
from smdtest import *

SIZE = 40 * MIB

with Smd() as smd:
    path = os.path.join(smd.dir, "one")
    os.mkdir(path)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "none", path],
                      stderr=subprocess.DEVNULL).returncode != 0:
        skip("no file system of its own can be mounted")
    try:
        sr = smd.make_sr("one")
        smd.call("SR.add_to_other_config", sr, "gc", "false")   # for now
        data = os.path.join(smd.dir, "data.raw")
        fill_raw(data, SIZE, runs=20)

        def sums():
            """Of the SR, of its VDIs, and whether they are the same."""
            used = int(smd.call("SR.get_physical_utilisation", sr))
            vdis = sum(int(r["physical_utilisation"])
                       for r in smd.call("VDI.get_all_records").values())
            return used, vdis, abs(used - vdis) <= used / 100

        def expect_sum(what):
            used, vdis, same = sums()
            assert same, "%s: %d of VDIs, %d of the SR" % (what, vdis, used)

        disks = [smd.make_vdi(sr, SIZE, fmt) for fmt in ("raw", "vhd", "qcow2")]
        for disk in disks:
            smd.import_vdi(disk, data)
        expect_sum("imported")
        snapshots = [smd.call("VDI.snapshot", disk) for disk in disks]
        expect_sum("with snapshots")
        for disk in disks:
            smd.import_vdi(disk, data)
        expect_sum("imported once more")
        for disk in disks:
            smd.call("VDI.resize", disk, str(2 * SIZE))
        copy = smd.call("VDI.copy", disks[1], sr, NULL_REF, NULL_REF)
        expect_sum("resized and copied")
        smd.call("VDI.destroy", snapshots[2])
        smd.call("SR.scan", sr)
        expect_sum("scanned")
        smd.call("VDI.destroy", snapshots[0])
        smd.call("SR.remove_from_other_config", sr, "gc")
        deadline = time.monotonic() + 60
        # One base keeps its two children.
        while [r["managed"] for r in smd.call("VDI.get_all_records").values()].count(False) > 1 or \
                not sums()[2]:
            assert time.monotonic() < deadline, "collected: %d of the SR, %d of VDIs" % sums()[:2]
            time.sleep(0.1)
        smd.call("PBD.unplug", smd.call("SR.get_PBDs", sr)[0])
    finally:
        run("umount", "-l", path)
