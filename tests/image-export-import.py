#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A chain that is exported and imported again is as deep as before and shows the same,
whatever the format; its archive keeps nova's rules for XenServer's images; with depth=
less, the last member holds the rest, and depth=1 is a disk that qemu-img reads."""
import tarfile

from smdtest import *
from vhdwriter import *

requires("qemu-img", "tar")

SIZE = 64 * MIB


def members(archive):
    """The archive's members by what nova and vhd-util ask of them."""
    names, parent = [], None
    run("tar", "tzf", archive)
    with tarfile.open(archive) as t:
        for info in t:
            assert info.isreg(), info
            data = t.extractfile(info).read()
            foot = data[-SECTOR:]
            expect_eq(foot, data[:SECTOR], info.name + ": the copy of the footer")
            expect_eq(foot[28:32], b"tap\0", info.name + ": creator")
            expect_eq(foot[85], 0, info.name + ": hidden")
            expect_eq(struct.unpack(">I", foot[64:68])[0], checksum(foot, 64), "checksum")
            if parent:
                expect_eq(foot[68:84], parent, info.name + ": the uuid its child names")
            kind = struct.unpack(">I", foot[60:64])[0]
            parent = data[SECTOR + 40:SECTOR + 56] if kind == 4 else None
            names.append(info.name)
    expect_eq(parent, None, "the last has no parent")
    expect_eq(names, ["./%d.vhd" % i for i in range(len(names))], "names in sequence")
    return len(names)


def export(vdi, name, **words):
    run("smctl", "image-export", "vdi=" + vdi, "file=" + name,
        *["%s=%s" % item for item in words.items()])
    return members(name)


def depth(vdi):
    n, ref = 1, smd.call("VDI.get_by_uuid", vdi)
    while True:
        parent = smd.call("VDI.get_sm_config", ref).get("vhd-parent")
        if not parent:
            return n
        n, ref = n + 1, smd.call("VDI.get_by_uuid", parent)


def content(vdi):
    smd.export_vdi(smd.call("VDI.get_by_uuid", vdi), "content.raw")
    return sha256_of_file("content.raw")


with Smd() as smd:
    os.chdir(smd.dir)
    os.environ["SMD_SOCKET"] = smd.socket
    sr = smd.make_sr("one")
    smd.call("SR.add_to_other_config", sr, "gc", "false")      # chains stay as they are
    sr = smd.call("SR.get_uuid", sr)
    raws = ["%d.raw" % i for i in range(4)]
    size = SIZE
    for i, raw in enumerate(raws):      # 0 is the base here; each is larger than the last
        if i:
            run("cp", "--sparse=always", raws[i - 1], raw)
            os.truncate(raw, size)
            with open(raw, "r+b") as f:
                for at in (i * 4096, (9 + i) * MIB, size - i * 8192):
                    f.seek(at)
                    f.write(os.urandom(4096))
                f.seek(20 * MIB + i * 65536)
                f.write(bytes(65536))   # emptied: zeroes that hide what is below
        else:
            fill_raw(raw, size, runs=12)
        size += 3 * MIB
    image = None
    for i, raw in enumerate(raws):
        image = write_vhd("%d.vhd" % (3 - i), os.path.getsize(raw),
                          delta(raws[i - 1], raw) if i else split_raw(raw), parent=image)
    run("tar", "czf", "x.tgz", "0.vhd", "1.vhd", "2.vhd", "3.vhd")
    wanted = sha256_of_file("3.raw")

    for fmt in "vhd", "qcow2":
        vdi = run("smctl", "image-import", "file=x.tgz", "sr-uuid=" + sr, "format=" + fmt).strip()
        expect_eq((depth(vdi), content(vdi)), (4, wanted), fmt + ": imported")
        expect_eq(export(vdi, fmt + ".tgz"), 4, "members")
        again = run("smctl", "image-import", "file=%s.tgz" % fmt, "sr-uuid=" + sr).strip()
        expect_eq((depth(again), content(again)), (4, wanted), fmt + ": there and back")
        expect_eq(smd.call("VDI.get_virtual_size", smd.call("VDI.get_by_uuid", again)),
                  str(os.path.getsize("3.raw")), "size")
        for n in 3, 2, 1:
            expect_eq(export(vdi, "cut.tgz", depth=n), n, "members of depth=%d" % n)
            cut = run("smctl", "image-import", "file=cut.tgz", "sr-uuid=" + sr).strip()
            expect_eq((depth(cut), content(cut)), (n, wanted), "%s: depth=%d" % (fmt, n))
        run("tar", "xzf", "cut.tgz", "./0.vhd")
        expect_eq(sha256_of_disk("0.vhd", "vhd"), wanted, "qemu-img's view of depth=1")

    run("tar", "xzf", "vhd.tgz")
    if shutil.which("vhd-util"):
        for i in 2, 1, 0:
            run("vhd-util", "modify", "-n", "%d.vhd" % i, "-p", "%d.vhd" % (i + 1))
        run("vhd-util", "check", "-n", "0.vhd", "-p")
    for i in range(4):
        run("smd-img", "check", "-f", "vhd", "%d.vhd" % i)
    run("smd-img", "convert", "--chain", "-f", "vhd", "-O", "raw", "0.vhd", "flat.raw")
    expect_eq(sha256_of_file("flat.raw"), wanted, "the archive's chain, untarred")

    vdi = run("smctl", "image-import", "file=x.tgz", "sr-uuid=" + sr, "flatten=true").strip()
    expect_eq((depth(vdi), content(vdi)), (1, wanted), "flatten=true")
    expect_eq(export(vdi, "one.tgz", depth=30), 1, "members of a single image")
    for bad in "0", "-1", "x", "99999999999999999999":
        run("smctl", "image-export", "vdi=" + vdi, "file=bad.tgz", "depth=" + bad, status=1)
    assert not os.path.exists("bad.tgz")
