#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""VDI.copy with base_vdi writes what differs and nothing else; an export with base
lies on the base's own export."""
from smdtest import *

requires("qemu-img")

SIZE = 24 * MIB
SAME = 7 * MIB          # a place where both disks are equal
FORMATS = ["raw", "vhd", "qcow2"]


def make_disks(smd, sr, old, new):
    """Two disks: the earlier content, and the later one."""
    base = smd.make_vdi(sr, SIZE, "vhd", "base")
    smd.import_vdi(base, old)
    later = smd.make_vdi(sr, SIZE, "qcow2", "later")
    smd.import_vdi(later, new)
    return base, later


def write_contents(smd):
    old, new = os.path.join(smd.dir, "old.raw"), os.path.join(smd.dir, "new.raw")
    fill_raw(old, SIZE, runs=12)
    with open(old, "r+b") as f:
        f.seek(SAME)
        f.write(b"s" * MIB)
        f.seek(12 * MIB)
        f.write(b"g" * MIB)             # goes
    shutil.copyfile(old, new)
    with open(new, "r+b") as f:
        f.seek(12 * MIB)
        f.write(bytes(MIB))
        f.seek(3 * MIB + 512)
        f.write(b"n" * 5000)            # new
        f.seek(SIZE - 700)
        f.write(b"e" * 700)
    return old, new


def mark(path):
    """Change what both disks have in common, behind smd's back."""
    with open(path, "r+b") as f:
        f.seek(SAME)
        f.write(b"x" * 4096)


def into_every_format(smd, base, later, new):
    for sr in srs:
        for fmt in FORMATS:
            into = smd.make_vdi(sr, SIZE, fmt, "into")
            smd.call("VDI.copy", base, NULL_REF, NULL_REF, into)
            expect_eq(smd.call_async("VDI.copy", later, NULL_REF, base, into), into, "result")
            expect_eq(sha256_of_disk(smd.vdi_file(into), fmt), sha256_of_file(new), fmt)
            if fmt == "qcow2":
                qemu_img("check", smd.vdi_file(into))
            smd.call("VDI.destroy", into)


def only_what_differs(smd, base, later, new):
    into = smd.make_vdi(srs[1], SIZE, "raw", "into")
    smd.call("VDI.copy", base, NULL_REF, NULL_REF, into)
    path = smd.vdi_file(into)
    mark(path)
    smd.call("VDI.copy", later, srs[0], base, into)
    with open(path, "rb") as f:
        f.seek(SAME)
        expect_eq(f.read(4096), b"x" * 4096, "what is equal in both")
    with open(path, "r+b") as f:
        f.seek(SAME)
        f.write(b"s" * 4096)
    expect_eq(sha256_of_file(path), sha256_of_file(new), "the rest")


def into_a_fresh_one(smd, base, later, old, new):
    """As xapi has it: the differences, over zeroes."""
    fresh = smd.call("VDI.copy", later, srs[1], base)
    path = os.path.join(smd.dir, "fresh.raw")
    smd.export_vdi(fresh, path)
    with open(old, "rb") as a, open(new, "rb") as b, open(path, "rb") as c:
        for at in range(0, SIZE, 2 * MIB):
            was, now, got = a.read(2 * MIB), b.read(2 * MIB), c.read(2 * MIB)
            for i in range(0, len(now), 512):
                if was[i:i + 512] != now[i:i + 512]:
                    expect_eq(got[i:i + 512], now[i:i + 512], "block at %d" % (at + i))
        c.seek(SAME)
        expect_eq(c.read(MIB), bytes(MIB), "what is equal")


def refusals(smd, base, later):
    small = smd.make_vdi(srs[0], 8 * MIB, "raw")
    expect_error("VDI_TOO_SMALL", smd.call, "VDI.copy", later, NULL_REF, base, small)
    expect_error("INVALID_VALUE", smd.call, "VDI.copy", small, srs[0], base)
    expect_error("HANDLE_INVALID", smd.call, "VDI.copy", later, srs[0], "OpaqueRef:none")
    status, _, body = export(smd, later, base, "raw")
    expect_eq(status, 400, "raw has no differences")
    assert b"VALUE_NOT_SUPPORTED" in body, body
    status, _, body = export(smd, later, "OpaqueRef:none", "vhd")
    expect_eq(status, 404, "no such base")


def export(smd, vdi, base, fmt):
    return smd.http("GET", "/export_raw_vdi?session_id=%s&vdi=%s&base=%s&format=%s"
                    % (smd.login(), vdi, base, fmt))


def exports(smd, base, later, new):
    uuids = [smd.call("VDI.get_uuid", v) for v in (base, later)]
    for fmt in ("vhd", "qcow2"):
        parent = os.path.join(smd.dir, "%s.%s" % (uuids[0], fmt))
        child = os.path.join(smd.dir, "%s.%s" % (uuids[1], fmt))
        smd.export_vdi(base, parent, fmt)
        # Both are exported whole here; what lies below is the base's.
        status, _, body = export(smd, later, uuids[0], fmt)
        expect_eq(status, 200, "export with base")
        with open(child, "wb") as f:
            f.write(body)
        info = json.loads(run("smd-img", "info", "-u", "--json", "-f", fmt, child))
        expect_eq(info["backing-filename"], "%s.%s" % (uuids[0], fmt), "its parent")
        run("smd-img", "check", "-f", fmt, child)
        flat = child + ".raw"
        run("smd-img", "convert", "--chain", "-f", fmt, "-O", "raw", child, flat)
        expect_eq(sha256_of_file(flat), sha256_of_file(new), "the chain of exports as " + fmt)
        if fmt == "qcow2":
            qemu_img("compare", "-f", "qcow2", "-F", "raw", child, new)
        else:
            expect_eq(info["uuid"], uuids[1], "the image's uuid")
            expect_eq(info["parent-uuid"], uuids[0], "its parent's uuid")


def between_snapshots(smd):
    """What a backup does each night: only what was written since goes over the wire."""
    for fmt in FORMATS:
        vdi = smd.make_vdi(srs[0], SIZE, fmt, "nightly")
        smd.write_vdi(vdi, os.urandom(12 * MIB))
        first = smd.call("VDI.snapshot", vdi, {})
        smd.write_vdi(vdi, os.urandom(MIB))
        second = smd.call("VDI.snapshot", vdi, {})
        smd.write_vdi(vdi, os.urandom(3 * MIB))
        wire = "vhd" if fmt == "raw" else fmt
        files = []
        for v in first, second:
            files.append(os.path.join(smd.dir, "%s.%s" % (smd.call("VDI.get_uuid", v), wire)))
        smd.export_vdi(first, files[0], wire)
        status, _, body = export(smd, second, first, wire)
        expect_eq(status, 200, "export with base")
        assert len(body) < 3 * MIB, "%d bytes for one written" % len(body)
        with open(files[1], "wb") as f:
            f.write(body)
        run("smd-img", "convert", "--chain", "-f", wire, "-O", "raw", files[1], files[1] + ".raw")
        expect_eq(sha256_of_file(files[1] + ".raw"), smd.vdi_sha256(second), "second night")
        # The other way round, to a copy in another SR: first's content, then back to it.
        copy = smd.make_vdi(srs[1], SIZE, "qcow2")
        smd.call("VDI.copy", second, NULL_REF, NULL_REF, copy)
        smd.call("VDI.copy", first, NULL_REF, second, copy)
        expect_eq(smd.vdi_sha256(copy), smd.vdi_sha256(first), "back to the first night")


with Smd() as smd:
    srs = [smd.make_sr("one"), smd.make_sr("two")]
    old, new = write_contents(smd)
    base, later = make_disks(smd, srs[0], old, new)
    into_every_format(smd, base, later, new)
    only_what_differs(smd, base, later, new)
    into_a_fresh_one(smd, base, later, old, new)
    refusals(smd, base, later)
    exports(smd, base, later, new)
    between_snapshots(smd)
