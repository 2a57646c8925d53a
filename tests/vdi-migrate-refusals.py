#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What cannot be migrated is refused before anything is made, with xapi's code."""
from smdtest import *

requires("qemu-img", "qemu-io")


def volumes(smd, sr):
    return sorted(f for f in os.listdir(smd.sr_path(sr)) if not f.startswith("."))


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    two_uuid = smd.call("SR.get_uuid", two)
    vdi = smd.make_vdi(one, 64 * MIB, "vhd")
    before = volumes(smd, one)

    def refused(code, sr, options, params=None, disk=vdi):
        error = expect_error(code, smd.call, "VDI.pool_migrate", disk, sr, options, params=params)
        expect_eq(volumes(smd, two), [], "volumes of the destination")
        assert set(before) <= set(volumes(smd, one)), "the source is gone"
        expect_eq(smd.call("VDI.get_current_operations", disk), {}, "operations left")
        return error

    # A format nobody has.
    refused("VDI_INCOMPATIBLE_TYPE", two, {"dest-img-format": "vmdk"},
            ["Image format vmdk is not supported by " + two_uuid])

    # 3 TiB to vhd; the format that would fit takes it.
    large = smd.make_vdi(one, 3 << 40, "qcow2")
    error = refused("VDI_TOO_LARGE", two, {"dest-img-format": "vhd"}, disk=large)
    expect_eq(error.params, [large, str(2040 * GIB)])
    expect_error("VDI_TOO_LARGE", smd.make_vdi, one, 3 << 40, "vhd")
    moved = smd.call("VDI.pool_migrate", large, two, {})
    expect_eq(smd.vdi_format(moved), "qcow2", "the format chosen for 3 TiB")
    smd.call("VDI.destroy", moved)

    # No room; what fits goes.
    small = os.path.join(smd.dir, "small")
    os.mkdir(small)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", small],
                      stderr=subprocess.DEVNULL).returncode == 0:
        try:
            third = smd.make_sr("small")
            heavy = smd.make_vdi(one, 64 * MIB, "raw")
            fill_raw(smd.vdi_file(heavy), 64 * MIB, runs=120, longest=MIB)
            for fmt in "raw", "vhd", "qcow2":
                error = expect_error("SR_FULL", smd.call, "VDI.pool_migrate", heavy, third,
                                     {"dest-img-format": fmt})
                requested, maximum = map(int, error.params)
                assert requested > maximum and maximum <= 24 * MIB, error
                expect_eq(volumes(smd, third), [], "volumes of the full SR")
            empty = smd.make_vdi(one, 64 * MIB, "raw")
            smd.call("VDI.pool_migrate", empty, third, {})
            # Full in the middle: the disk is as it was.
            tight = smd.make_vdi(third, 64 * MIB, "vhd")
            for sent in "raw", "vhd":
                path = smd.vdi_file(heavy)
                if sent == "vhd":
                    path = os.path.join(smd.dir, "heavy.vhd")
                    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on",
                             smd.vdi_file(heavy), path)
                try:
                    smd.import_vdi(tight, path, sent)
                    raise AssertionError("64 MiB fitted into 24")
                except HttpError as e:
                    assert b"SR_BACKEND_FAILURE_44" in e.body, e
                expect_eq(len([f for f in volumes(smd, third) if f.startswith("tmp-")]), 0)
                expect_eq(smd.call("VDI.get_current_operations", tight), {}, "operations")
            smd.call("VDI.destroy", tight)
            smd.call("VDI.destroy", heavy)
        finally:
            run("umount", "-l", small)

    # Held by another program.
    path = smd.vdi_file(vdi)
    holder = subprocess.Popen(["qemu-io", "-f", "vpc", path], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    holder.stdin.write(b"write -P 1 0 512\n")
    holder.stdin.flush()
    while b"wrote" not in holder.stdout.readline():
        pass
    refused("VDI_IN_USE", two, {"dest-img-format": "qcow2"}, [vdi, "mirror"])
    expect_error("VDI_IN_USE", smd.call, "VDI.destroy", vdi, params=[vdi, "destroy"])
    holder.communicate(b"quit\n")

    # SR detached, SR without a PBD, no such SR.
    pbd = smd.call("SR.get_PBDs", two)[0]
    two_path = smd.sr_path(two)
    smd.call("PBD.unplug", pbd)
    expect_error("SR_NOT_ATTACHED", smd.call, "VDI.pool_migrate", vdi, two, {}, params=[two])
    smd.call("PBD.plug", pbd)
    bare = smd.call("SR.introduce", "", "bare", "", "file", "user", False, {})
    expect_error("SR_HAS_NO_PBDS", smd.call, "VDI.pool_migrate", vdi, bare, {}, params=[bare])
    expect_error("HANDLE_INVALID", smd.call, "VDI.pool_migrate", vdi, "OpaqueRef:NULL", {})

    # Another operation runs on the VDI.
    fill = os.path.join(smd.dir, "fill.raw")
    fill_raw(fill, 64 * MIB, runs=64)
    smd.import_vdi(vdi, fill)
    task = smd.call("Async.VDI.pool_migrate", vdi, two, {"bytes-per-second": str(MIB)})
    while not smd.call("VDI.get_current_operations", vdi):
        time.sleep(0.01)
    error = expect_error("OTHER_OPERATION_IN_PROGRESS", smd.call, "VDI.destroy", vdi)
    expect_eq(error.params, ["VDI", vdi, "mirror", task])
    expect_error("OTHER_OPERATION_IN_PROGRESS", smd.call, "VDI.pool_migrate", vdi, one, {})
    expect_error("OTHER_OPERATION_IN_PROGRESS", smd.call, "PBD.unplug", pbd)
    smd.call("task.cancel", task)
    expect_eq(smd.wait_task(task)["status"], "cancelled", "status of the task")

    # Options nobody knows do no harm; wrong values of known ones do.
    expect_error("INVALID_VALUE", smd.call, "VDI.pool_migrate", vdi, two, {"verify": "maybe"})
    smd.call("VDI.pool_migrate", vdi, two, {"network": "OpaqueRef:x", "dest-img-format": ""})
