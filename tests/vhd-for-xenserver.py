#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The VHDs smd writes are XenServer's kind: creator tap 1.3, a batmap that is true,
a geometry that fits, the exact size; and qemu-img, libvhdi and vhd-util agree."""
import shutil
import struct
import uuid

from smdtest import *
from vhdwriter import SECTOR, checksum, geometry

requires("qemu-img", "vhdiinfo")


def check_bytes(path, size):
    with open(path, "rb") as f:
        data = f.read()
    footer = data[-SECTOR:]
    expect_eq(footer, data[:SECTOR], "the two footers")
    expect_eq(footer[:8], b"conectix", "cookie")
    expect_eq(footer[28:32], b"tap\0", "creator")
    expect_eq(struct.unpack(">I", footer[32:36])[0], 0x00010003, "creator version")
    expect_eq(struct.unpack(">Q", footer[48:56])[0], size, "current size")
    expect_eq(struct.unpack(">HBB", footer[56:60]), geometry(size), "geometry")
    expect_eq(struct.unpack(">I", footer[64:68])[0], checksum(footer, 64), "checksum")
    header = data[SECTOR:SECTOR + 1024]
    bat_at, _, entries, block = struct.unpack(">QIII", header[16:36])
    expect_eq(struct.unpack(">I", header[36:40])[0], checksum(header, 36), "header's checksum")
    batmap_at = bat_at + (entries * 4 + SECTOR - 1) // SECTOR * SECTOR
    batmap = data[batmap_at:batmap_at + SECTOR]
    expect_eq(batmap[:8], b"tdbatmap", "batmap's cookie")
    at, sectors, version, summed = struct.unpack(">QIII", batmap[8:28])
    expect_eq(version, 0x00010002, "batmap's version")
    bits = data[at:at + sectors * SECTOR]
    expect_eq(summed, ~sum(bits) & 0xffffffff, "batmap's checksum")
    for n in range(entries):
        sector = struct.unpack(">I", data[bat_at + 4 * n:bat_at + 4 * n + 4])[0]
        full = sector != 0xffffffff and \
            data[sector * SECTOR:(sector + 1) * SECTOR] == b"\xff" * SECTOR
        expect_eq(bool(bits[n // 8] & 0x80 >> n % 8), full, "batmap's bit of block %d" % n)
        assert sector == 0xffffffff or (sector + 1) % 8 == 0, "block %d is not aligned" % n


def media_size(path):
    for line in run("vhdiinfo", path).splitlines():
        if "Media size" in line:
            return int(line.split("(")[1].split()[0]) if "(" in line else int(line.split()[-2])
    raise AssertionError("vhdiinfo says no media size")


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    for size in 6 * MIB, 64 * MIB, 100 * MIB + SECTOR, 513 * MIB:
        raw = os.path.join(smd.dir, "disk.raw")
        fill_raw(raw, size)
        vdi = smd.make_vdi(one, size, "qcow2")
        smd.import_vdi(vdi, raw)
        vdi = smd.call("VDI.pool_migrate", vdi, two, {"dest-img-format": "vhd"})
        path = smd.vdi_file(vdi)
        expect_eq(smd.call("VDI.get_virtual_size", vdi), str(size), "size in the record")
        check_bytes(path, size)
        expect_eq(image_info(path, "vhd")["virtual-size"], size, "size for qemu-img")
        expect_eq(media_size(path), size, "size for libvhdi")
        assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "vpc", raw, path)
        if shutil.which("vhd-util"):
            run("vhd-util", "check", "-b", "-n", path)
            run("vhd-util", "read", "-p", "-n", path)
            if size % (2 * MIB) == 0:
                journal = path + "." + str(uuid.uuid4())
                run("vhd-util", "resize", "-n", path, "-s", str(size // MIB + 64), "-j", journal)
                run("vhd-util", "check", "-n", path)
                run("smd-img", "check", "-f", "vhd", path)
        smd.call("VDI.destroy", vdi)
        os.unlink(raw)
