#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Damage of each kind that can be mended: a dry run says so and writes nothing, the
# repair mends it, and the disk is what it was. What could only be guessed at stays.
import hashlib
import json
import os
import struct
import subprocess
import tempfile

MIB = 1 << 20
CLUSTER = 65536


def img(*argv):
    return subprocess.run(("smd-img",) + argv, capture_output=True, text=True)


def ours(*argv):
    done = img(*argv)
    assert done.returncode == 0, "%s: %s" % (" ".join(argv), done.stderr)
    return done.stdout


def sha(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def patch(path, at, new):
    with open(path, "r+b") as f:
        f.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        f.write(new)


def be64(path, at):
    with open(path, "rb") as f:
        f.seek(at)
        return struct.unpack(">Q", f.read(8))[0] & 0x00fffffffffffe00


def checked(path, name, *more):
    done = img("check", "-f", name, path, "--output=json", *more)
    assert done.returncode in (0, 2, 3), "%s: %s" % (path, done.stderr)
    return done.returncode, json.loads(done.stdout)["findings"]


def case(name, what, code, reason, damage, mended=True):
    path = "image." + name
    ours("convert", "-f", "raw", "-O", name, "disk.raw", path)
    damage(path)
    before = sha(path)
    got, findings = checked(path, name)
    assert got == code, "%s: the check ends with %d, not %d: %s" % (what, got, code, findings)
    assert reason in [f["reason"] for f in findings], "%s: %s" % (what, findings)

    got, findings = checked(path, name, "-r", "all", "--dry-run")
    assert sha(path) == before, "%s: the dry run wrote" % what
    assert not any(f["repaired"] for f in findings), "%s: the dry run repaired" % what
    assert any(f["repairable"] for f in findings) == mended, "%s: %s" % (what, findings)

    checked(path, name, "-r", "all")
    got, findings = checked(path, name)
    assert (got == 0) == mended, "%s: after the repair: %s" % (what, findings)
    if mended:
        ours("compare", "-f", "raw", "-F", name, "disk.raw", path)
        again = sha(path)
        checked(path, name, "-r", "all")
        assert sha(path) == again, "%s: a second repair wrote" % what


def refcount(cluster, value):
    def damage(path):
        patch(path, be64(path, be64(path, 48)) + 2 * cluster(path), struct.pack(">H", value))
    return damage


def first_data(path):
    return be64(path, be64(path, be64(path, 40))) // CLUSTER


def past_the_end(path):
    return -(-os.path.getsize(path) // CLUSTER) + 3


def l2_entry(change):
    def damage(path):
        at = be64(path, be64(path, 40))
        with open(path, "rb") as f:
            f.seek(at)
            word = struct.unpack(">Q", f.read(8))[0]
        patch(path, at, struct.pack(">Q", change(word)))
    return damage


def one_block_twice(path):
    with open(path, "rb") as f:
        f.seek(16384)
        entry = f.read(4)
    patch(path, 16388, entry)


with tempfile.TemporaryDirectory(prefix="smd-test.") as where:
    os.chdir(where)
    with open("disk.raw", "wb") as f:
        f.write(os.urandom(3 * MIB))
        f.truncate(9 * MIB)
    case("qcow2", "a leak", 3, "LEAK", refcount(past_the_end, 1))
    case("qcow2", "a low refcount", 2, "REFCOUNT_LOW", refcount(first_data, 0))
    case("qcow2", "a high refcount", 2, "COPIED_FLAG", refcount(first_data, 2))
    case("qcow2", "no copied flag", 2, "COPIED_FLAG", l2_entry(lambda w: w & ~(1 << 63)))
    case("qcow2", "no refcount block", 2, "REFCOUNT_LOW",
         lambda path: patch(path, be64(path, 48), bytes(8)))
    case("qcow2", "data past the end", 2, "DATA_BOUNDS",
         l2_entry(lambda w: 1 << 63 | 1 << 40), mended=False)
    case("qcow2", "reserved bits", 2, "RESERVED_BITS", l2_entry(lambda w: w | 4), mended=False)
    case("vhd", "no footer at the end", 3, "BAD_COOKIE", lambda path: patch(path, -512, bytes(8)))
    case("vhd", "a damaged copy", 3, "BAD_CHECKSUM", lambda path: patch(path, 40, b"\xff"))
    case("vhd", "blocks that overlap", 2, "DATA_OVERLAP", one_block_twice, mended=False)

    # Dirty: all counts are right, and writing waits for a repair all the same.
    ours("convert", "-f", "raw", "-O", "qcow2", "disk.raw", "dirty.qcow2")
    patch("dirty.qcow2", 79, b"\1")
    assert img("resize", "-f", "qcow2", "dirty.qcow2", "10M").returncode != 0
    ours("repair", "-f", "qcow2", "dirty.qcow2")
    ours("resize", "-f", "qcow2", "dirty.qcow2", "10M")
