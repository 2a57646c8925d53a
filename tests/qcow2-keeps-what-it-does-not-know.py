#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Header fields and extensions of a qcow2 that nobody knows stay byte for byte, whatever is
done to the image; unknown compatible features too, and unknown autoclear features go with
the first write."""
import struct

from smdtest import *

requires("qemu-img", "qemu-io")

KNOWN = 112                     # header_length with everything that is defined today
FIELDS = bytes(range(0xa0, 0xb8))
EXTENSION = (0x5eedf00d, b"nobody knows what this is")
COMPATIBLE, AUTOCLEAR = 1 << 33, 1 << 34


def header(path):
    """(header_length, compatible, autoclear, unknown fields, {type: data})"""
    with open(path, "rb") as f:
        cluster = f.read(65536)
    compatible, autoclear = struct.unpack_from(">QQ", cluster, 80)
    length, = struct.unpack_from(">I", cluster, 100)
    at, extensions = length, {}
    while True:
        kind, size = struct.unpack_from(">II", cluster, at)
        if kind == 0:
            return length, compatible, autoclear, cluster[KNOWN:length], extensions
        extensions[kind] = cluster[at + 8:at + 8 + size]
        at += 8 + (size + 7) // 8 * 8


def strange(path, parent=None):
    """An image whose header says more than today's readers know."""
    options = ["-b", parent, "-F", "raw"] if parent else []
    qemu_img("create", "-q", "-f", "qcow2", *options, path, str(64 * MIB))
    length, _, _, _, extensions = header(path)
    expect_eq(length, KNOWN, "what qemu-img knows")
    with open(path, "r+b") as f:
        cluster = bytearray(f.read(65536))
        backing, = struct.unpack_from(">Q", cluster, 8)
        size, = struct.unpack_from(">I", cluster, 16)
        name = bytes(cluster[backing:backing + size]) if backing else b""
        out = cluster[:KNOWN] + FIELDS
        for kind, data in [EXTENSION, *extensions.items()]:
            out += struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)
        out += bytes(8)
        struct.pack_into(">QQ", out, 80, COMPATIBLE, AUTOCLEAR)
        struct.pack_into(">I", out, 100, KNOWN + len(FIELDS))
        if backing:
            struct.pack_into(">Q", out, 8, len(out))
        out += name
        f.seek(0)
        f.write(out.ljust(65536, b"\0"))


def expect_kept(path, what, written=True):
    _, compatible, autoclear, fields, extensions = header(path)
    expect_eq(fields, FIELDS, "fields after " + what)
    expect_eq(extensions.get(EXTENSION[0]), EXTENSION[1], "extension after " + what)
    expect_eq(compatible & COMPATIBLE, COMPATIBLE, "compatible features after " + what)
    expect_eq(autoclear & AUTOCLEAR, 0 if written else AUTOCLEAR, "autoclear features after " + what)
    run("smd-img", "check", "-q", "-f", "qcow2", path)
    qemu_img("check", "-q", "-f", "qcow2", path)


with tempfile.TemporaryDirectory() as d:
    image, base, other = (os.path.join(d, name) for name in ("a.qcow2", "base.raw", "other.raw"))
    strange(image)
    for verb in "info", "check", "map":
        run("smd-img", verb, "-f", "qcow2", image)
    expect_kept(image, "reading", written=False)
    for what, *args in (("growing", "resize", "-f", "qcow2", image, "96M"),
                        ("a snapshot", "snapshot", "-c", "one", image),
                        ("going back", "snapshot", "-a", "one", image),
                        ("the snapshot's end", "snapshot", "-d", "one", image),
                        ("shrinking", "resize", "-f", "qcow2", "--shrink", image, "32M"),
                        ("repair", "repair", "-f", "qcow2", "-r", "all", image)):
        run("smd-img", *args)
        expect_kept(image, what)
    for path in base, other:
        with open(path, "wb") as f:
            f.truncate(64 * MIB)
    os.unlink(image)
    strange(image, base)
    run("smd-img", "rebase", "-f", "qcow2", "-u", "-b", other, "-F", "raw", image)
    expect_kept(image, "another parent")
    run("smd-img", "rebase", "-f", "qcow2", "-b", "", image)
    expect_kept(image, "no parent")
    qemu_img("compare", "-q", "-f", "qcow2", "-F", "raw", image, base)

    # A disk of the daemon's, written into by a client.
    with Smd() as smd:
        sr = smd.make_sr("one")
        vdi = smd.make_vdi(sr, 64 * MIB, "qcow2")
        path = smd.vdi_file(vdi)
        os.unlink(path)
        strange(path)
        smd.write_vdi(vdi, os.urandom(MIB))
        smd.call("VDI.resize", vdi, str(128 * MIB))
        expect_kept(path, "an import and a resize")
