#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Images that qemu-img 7.2 reads wrongly, repairs to death or falls over, each made
# here by changing a few bytes: smd-img reads what is there, or says what is wrong.
# What qemu-img makes of them is printed, for another version may do better.
import json
import os
import struct
import subprocess
import tempfile

MIB = 1 << 20


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True)


def ours(*argv):
    done = run("smd-img", *argv)
    assert done.returncode == 0, "%s: %s" % (" ".join(argv), done.stderr)
    return done.stdout


def refused(reason, *argv):
    done = run("smd-img", *argv, "--output=json")
    assert done.returncode != 0, "%s was accepted" % " ".join(argv)
    got = json.loads(done.stdout)["error"]["reason"]
    assert got == reason, "%s: %s, not %s" % (" ".join(argv), got, reason)


def finds(reason, path, *more):
    done = run("smd-img", "check", "-f", "qcow2", path, *more, "--output=json")
    assert done.returncode == 2, "%s: the check ends with %d" % (path, done.returncode)
    found = [f["reason"] for f in json.loads(done.stdout)["findings"]]
    assert reason in found, "%s: %s, not %s" % (path, found, reason)


def qemu(*argv):
    done = run("qemu-img", *argv)
    said = (done.stdout + done.stderr).strip().splitlines()
    print("qemu-img %s: %d %s" % (" ".join(argv), done.returncode, said[-1] if said else ""))
    return done


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def patch(path, *changes):
    data = bytearray(read(path))
    for at, new in changes:
        data[at:at + len(new)] = new
    write(path, data)


def be64(path, at):
    return struct.unpack(">Q", read(path)[at:at + 8])[0]


def footer(path, *changes):
    """Change the footer, and its copy if there is one, checksum included."""
    data = bytearray(read(path))
    copy = bytearray(data[-512:])
    for at, new in changes:
        copy[at:at + len(new)] = new
    copy[64:68] = bytes(4)
    copy[64:68] = struct.pack(">I", ~sum(copy) & 0xffffffff)
    data[-512:] = copy
    if data[:8] == b"conectix":
        data[:512] = copy
    write(path, data)


def disk(*argv):
    ours("convert", *argv, "-O", "raw", "out.raw")
    return read("out.raw")


def vhd_size():
    ours("create", "-f", "vhd", "-o", "subformat=fixed", "size.vhd", "35840000")
    footer("size.vhd", (28, b"vpc "))
    qemu("info", "-f", "vpc", "size.vhd")
    assert len(disk("-f", "vhd", "size.vhd")) == 35840000


def vhd_children():
    data = os.urandom(3 * MIB)
    write("base.raw", data)
    ours("convert", "-f", "raw", "-O", "vhd", "base.raw", "base.vhd")
    ours("create", "-f", "vhd", "-b", "base.vhd", "-F", "vhd", "child.vhd")
    qemu("compare", "-f", "vpc", "-F", "raw", "child.vhd", "base.raw")
    assert disk("--chain", "-f", "vhd", "child.vhd") == data
    refused("EXTERNAL_REF", "convert", "-f", "vhd", "-O", "raw", "child.vhd", "no.raw")


def vhd_sectors_without_a_bit():
    write("full.raw", os.urandom(2 * MIB))
    ours("convert", "-f", "raw", "-O", "vhd", "-o", "creator=win", "full.raw", "holes.vhd")
    block = struct.unpack(">I", read("holes.vhd")[16384:16388])[0] * 512
    patch("holes.vhd", (block, bytes(256)))
    qemu("compare", "-f", "vpc", "-F", "raw", "holes.vhd", "full.raw")
    assert disk("-f", "vhd", "holes.vhd") == bytes(MIB) + read("full.raw")[MIB:]


def vhd_planted_header():
    ours("create", "-f", "vhd", "planted.vhd", "8M")
    write("guest.raw", read("planted.vhd").ljust(4 * MIB, b"\1"))
    ours("convert", "-f", "raw", "--chain", "-O", "vhd", "-o", "subformat=fixed", "guest.raw",
         "fixed.vhd")
    qemu("info", "-f", "vpc", "fixed.vhd")
    assert disk("-f", "vhd", "--chain", "fixed.vhd") == read("guest.raw")


def vhd_blocks_that_overlap():
    write("two.raw", os.urandom(4 * MIB))
    ours("convert", "-f", "raw", "-O", "vhd", "two.raw", "two.vhd")
    patch("two.vhd", (16388, read("two.vhd")[16384:16388]))
    qemu("convert", "-f", "vpc", "-O", "raw", "two.vhd", "out.raw")
    refused("DATA_OVERLAP", "convert", "-f", "vhd", "-O", "raw", "two.vhd", "out.raw")


def qcow2(name):
    write("q.raw", os.urandom(MIB))
    ours("convert", "-f", "raw", "-O", "qcow2", "q.raw", name)
    l1 = be64(name, 40)
    return l1, be64(name, l1) & 0x00fffffffffffe00


def qcow2_data_over_the_l1():
    l1, l2 = qcow2("over.qcow2")
    patch("over.qcow2", (l2, struct.pack(">Q", l1 | 1 << 63)))
    finds("TABLE_OVERLAP", "over.qcow2")
    write("copy.qcow2", read("over.qcow2"))
    qemu("check", "-r", "all", "copy.qcow2")
    qemu("check", "copy.qcow2")
    finds("TABLE_OVERLAP", "copy.qcow2")
    finds("TABLE_OVERLAP", "over.qcow2", "-r", "all")
    refused("CORRUPT_BIT", "resize", "-f", "qcow2", "--chain", "over.qcow2", "2M")


def qcow2_cut_off_l2():
    ours("create", "-f", "qcow2", "-o", "cluster_size=512", "cut.qcow2", "1M")
    write("some.raw", os.urandom(512) + bytes(MIB - 512))
    ours("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=512", "some.raw", "cut.qcow2")
    l2 = be64("cut.qcow2", be64("cut.qcow2", 40)) & 0x00fffffffffffe00
    data = read("cut.qcow2")
    # The table to the end of the file, and half of it away.
    end = -(-len(data) // 512) * 512
    write("cut.qcow2", data.ljust(end, b"\0") + data[l2:l2 + 256])
    patch("cut.qcow2", (be64("cut.qcow2", 40), struct.pack(">Q", end | 1 << 63)))
    qemu("convert", "-f", "qcow2", "-O", "raw", "cut.qcow2", "out.raw")
    refused("TABLE_BOUNDS", "convert", "-f", "qcow2", "-O", "raw", "cut.qcow2", "out.raw")
    finds("TABLE_BOUNDS", "cut.qcow2")


def qcow2_headers():
    qcow2("odd.qcow2")
    patch("odd.qcow2", (24, struct.pack(">Q", MIB + 1)))
    qemu("info", "odd.qcow2")
    refused("BAD_SIZE", "info", "-f", "qcow2", "odd.qcow2")
    qcow2("luks.qcow2")
    patch("luks.qcow2", (32, struct.pack(">I", 2)))
    qemu("info", "luks.qcow2")
    refused("UNSUPPORTED", "info", "-f", "qcow2", "luks.qcow2")


def chains_without_an_end():
    ours("create", "-f", "qcow2", "a.qcow2", "1M")
    ours("create", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "b.qcow2")
    qemu("rebase", "-u", "-f", "qcow2", "-b", "b.qcow2", "-F", "qcow2", "a.qcow2")
    refused("CHAIN_CYCLE", "convert", "--chain", "-f", "qcow2", "-O", "raw", "b.qcow2", "out.raw")
    os.mkfifo("pipe.raw")
    ours("create", "-f", "qcow2", "c.qcow2", "1M")
    data = bytearray(read("c.qcow2"))
    data[8:20] = struct.pack(">QI", 400, 8)
    data[400:408] = b"pipe.raw"
    data[112:128] = struct.pack(">II", 0xe2792aca, 3) + b"raw" + bytes(5)
    write("c.qcow2", data)
    refused("NOT_REGULAR", "convert", "--chain", "-f", "qcow2", "-O", "raw", "c.qcow2", "out.raw")


if run("sh", "-c", "command -v qemu-img").returncode:
    print("skipped: qemu-img is missing")
    raise SystemExit(77)
with tempfile.TemporaryDirectory(prefix="smd-test.") as where:
    os.chdir(where)
    for case in (vhd_size, vhd_children, vhd_sectors_without_a_bit, vhd_planted_header,
                 vhd_blocks_that_overlap, qcow2_data_over_the_l1, qcow2_cut_off_l2,
                 qcow2_headers, chains_without_an_end):
        print("--- %s" % case.__name__.replace("_", " "))
        case()
