#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Without the qcow2 module smd says so and loses nothing; with it back all works."""
from smdtest import *

requires("qemu-img")


def plugin_path(smd, without=None):
    """The modules in a folder of the test's own, one left out."""
    folder = os.path.join(smd, "plugins")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    for source in os.environ["SMD_PLUGIN_PATH"].split(":"):
        for name in os.listdir(source):
            if name.endswith(".so") and name != without:
                os.symlink(os.path.join(source, name), os.path.join(folder, name))
    return folder


def formats(smd):
    sm = [r for r in smd.call("SM.get_all_records").values() if r["type"] == "file"]
    expect_eq(len(sm), 1, "SM rows of type file")
    return sm[0]["supported_image_formats"]


base = tempfile.mkdtemp(prefix="smd-test.")
try:
    with Smd(plugin_dir=plugin_path(base)) as smd:
        expect_eq(formats(smd), ["qcow2", "raw", "vhd"], "all modules")
        one, two = smd.make_sr("one"), smd.make_sr("two")
        disk = smd.make_vdi(one, 16 * MIB, "qcow2", "precious")
        other = smd.make_vdi(one, 16 * MIB, "vhd")
        digest = sha256_of_file(smd.vdi_file(disk))

        smd.stop()
        plugin_path(base, without="smd-format-qcow2.so")
        smd.start()
        expect_eq(formats(smd), ["raw", "vhd"], "without qcow2")
        shown = run("smctl", "--socket", smd.socket, "sm-list", "type=file", "params=all")
        assert "supported-image-formats ( RO): raw; vhd" in shown, shown
        expect_error("VDI_INCOMPATIBLE_TYPE", smd.call, "VDI.pool_migrate", other, two,
                     {"dest-img-format": "qcow2"},
                     params=["Image format qcow2 is not supported by " +
                             smd.call("SR.get_uuid", two)])
        expect_error("VDI_INCOMPATIBLE_TYPE", smd.make_vdi, one, MIB, "qcow2")
        # The disk is listed, and reported as unreadable.
        smd.call("SR.scan", one)
        record = smd.call("VDI.get_record", disk)
        expect_eq(record["name_label"], "precious", "name")
        expect_eq(record["virtual_size"], str(16 * MIB), "size")
        assert "qcow2" in record["sm_config"]["image-error"], record
        expect_error("FORMAT_UNKNOWN", smd.call, "VDI.pool_migrate", disk, two, {})
        expect_eq(sha256_of_file(smd.vdi_file(disk)), digest, "the image itself")

        smd.stop()
        plugin_path(base)
        smd.start()
        expect_eq(formats(smd), ["qcow2", "raw", "vhd"], "with qcow2 again")
        smd.call("SR.scan", one)
        assert "image-error" not in smd.call("VDI.get_sm_config", disk)
        moved = smd.call("VDI.pool_migrate", disk, two, {"dest-img-format": "raw"})
        expect_eq(smd.vdi_format(moved), "raw", "format")
        moved = smd.call("VDI.pool_migrate", other, two, {"dest-img-format": "qcow2"})
        expect_eq(smd.vdi_format(moved), "qcow2", "format")
finally:
    shutil.rmtree(base)
