#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# smd-img compare says where two disks first differ, to the byte, whichever way it looks at
# them: long stretches of a file where the page cache has them, the rest read or decoded.
# What it must say is worked out here.
import os
import random
import subprocess
import tempfile

MIB = 1 << 20
SIZE = 21 * MIB + 4096
EDGES = (0, 1, 4095, 256 << 10, (256 << 10) - 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 65536,
         9 * MIB + 17, SIZE - 1)


def qemu(*argv):
    subprocess.run(["qemu-img", *argv], check=True, stdout=subprocess.DEVNULL)


def compare(a, b, *more):
    done = subprocess.run(["smd-img", "compare", *more, a, b], capture_output=True, text=True)
    if done.returncode == 0:
        assert done.stdout == "Images are identical.\n", done.stdout
        return None
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("Content mismatch at offset "), done.stdout
    return int(done.stdout.split()[-1].rstrip("!"))


def disk(rng):
    """Data, zeroes that take room, and holes, of all lengths."""
    data, at = bytearray(SIZE), 0
    while at < SIZE:
        n = min(SIZE - at, rng.choice((4096, 20480, 65536, 300 << 10, 3 * MIB)))
        if rng.random() < 0.6:
            data[at:at + n] = rng.randbytes(n)
        at += n
    return data


def write_sparse(path, data, rng):
    with open(path, "wb") as f:
        for at in range(0, SIZE, 4096):
            page = data[at:at + 4096]
            if any(page) or rng.random() < 0.3:
                f.seek(at)
                f.write(page)
        f.truncate(SIZE)


def others(raw):
    qemu("convert", "-f", "raw", "-O", "qcow2", raw, "a.qcow2")
    qemu("convert", "-f", "raw", "-O", "qcow2", "-c", raw, "c.qcow2")
    qemu("convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=2M", raw, "l.qcow2")
    qemu("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=dynamic,force_size=on", raw, "a.vhd")
    # In reverse order: each stretch is short.
    qemu("create", "-q", "-f", "qcow2", "r.qcow2", str(SIZE))
    writes = []
    with open(raw, "rb") as f:
        for at in reversed(range(0, SIZE, 65536)):
            f.seek(at)
            piece = f.read(65536)
            if any(piece):
                with open("piece.%d" % at, "wb") as p:
                    p.write(piece)
                writes += ["-c", "write -q -s piece.%d %d %d" % (at, at, len(piece))]
    subprocess.run(["qemu-io", "-f", "qcow2", *writes, "r.qcow2"], check=True)
    qemu("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "top.qcow2")
    return [("a.qcow2",), ("c.qcow2",), ("l.qcow2",), ("r.qcow2",), ("a.vhd", "-F", "vhd"),
            ("top.qcow2", "--chain"), ("same.raw", "-F", "raw")]


def main():
    rng = random.Random(7)
    data = disk(rng)
    write_sparse("a.raw", data, rng)
    write_sparse("same.raw", data, rng)
    images = others("a.raw")
    for image, *more in images:
        assert compare("a.raw", image, "-f", "raw", *more) is None, image
    places = list(EDGES) + [rng.randrange(SIZE) for _ in range(12)]
    for first in places:
        changed = bytearray(data)
        for at in {first, *(p for p in places if p > first)}:
            changed[at] ^= 1 << rng.randrange(8)
        write_sparse("b.raw", changed, rng)
        for image, *more in images:
            got = compare("b.raw", image, "-f", "raw", *more)
            assert got == first, "%s: %s, not %d" % (image, got, first)
    # A longer disk is the same, but for strict eyes, as long as what is more is zeroes.
    os.truncate("same.raw", SIZE + 5 * MIB)
    assert compare("a.raw", "same.raw", "-f", "raw", "-F", "raw") is None
    assert compare("a.raw", "same.raw", "-f", "raw", "-F", "raw", "-s") == SIZE
    with open("same.raw", "r+b") as f:
        f.seek(SIZE + 4 * MIB + 9)
        f.write(b"x")
    assert compare("a.raw", "same.raw", "-f", "raw", "-F", "raw") == SIZE + 4 * MIB + 9
    print("ok: %d places in %d kinds of image" % (len(places), len(images)))


with tempfile.TemporaryDirectory() as tmp:
    os.chdir(tmp)
    main()
