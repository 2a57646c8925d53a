#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# libvhdi and libqcow, the forensic readers, see in our images the disk that is in
# them: VHDs of every kind and their chains, qcow2 plain, compressed and as overlay.
# Skipped where their Python bindings are missing (python3-libvhdi, python3-libqcow).
import hashlib
import os
import random
import subprocess
import sys
import tempfile

sys.path.append("/usr/lib/python3/dist-packages")   # Debian's, for a python3 that is not
try:
    import pyqcow
    import pyvhdi
except ImportError as missing:
    print("skipped: %s" % missing)
    sys.exit(77)

MIB = 1 << 20
SIZE = 9 * MIB + 512 * 3


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, "%s: %s" % (" ".join(argv), done.stderr)
    return done.stdout


def content(image, size):
    digest, at = hashlib.sha256(), 0
    image.seek(0)
    while at < size:
        data = image.read(min(MIB, size - at))
        assert data, "ends at %d of %d" % (at, size)
        digest.update(data)
        at += len(data)
    return digest.hexdigest()


def opened(image, name):
    image.open(name)
    return image


def expect(got, want, what):
    assert got == want, "%s: %s, not %s" % (what, got, want)


def disk(seed, holes):
    dice, pieces = random.Random(seed), []
    while sum(map(len, pieces)) < SIZE:
        count = dice.randrange(1, 900) * 512
        pieces.append(bytes(count) if dice.random() < holes else
                      dice.randbytes(count // 4) * 4)
    return b"".join(pieces)[:SIZE]


with tempfile.TemporaryDirectory(prefix="smd-test.") as where:
    os.chdir(where)
    base, leaf = disk(1, 0.6), bytearray(disk(1, 0.6))
    leaf[3 * MIB:3 * MIB + 70000] = disk(2, 0)[:70000]
    leaf[SIZE - 1024:] = b"end!" * 256
    for name, data in (("base.raw", base), ("leaf.raw", leaf)):
        with open(name, "wb") as f:
            f.write(data)
    want = {name: hashlib.sha256(data).hexdigest() for name, data in
            (("base", base), ("leaf", leaf))}

    # Azure's dialect has whole MiB.
    for options in "creator=tap", "creator=win", "subformat=fixed", "subformat=fixed,creator=win":
        run("smd-img", "convert", "-f", "raw", "-O", "vhd", "-o", options, "base.raw", "one.vhd") \
            if options != "subformat=fixed,creator=win" else \
            run("smd-img", "create", "-f", "vhd", "-o", options, "one.vhd", "9M")
        image = opened(pyvhdi.file(), "one.vhd")
        if options == "subformat=fixed,creator=win":
            expect(image.get_media_size(), 9 * MIB, options)
        else:
            expect(image.get_media_size(), SIZE, options)
            expect(content(image, SIZE), want["base"], options)
        image.close()

    run("smd-img", "convert", "-f", "raw", "-O", "vhd", "base.raw", "base.vhd")
    run("smd-img", "convert", "-f", "raw", "-O", "vhd", "-B", "base.vhd", "-F", "vhd",
        "leaf.raw", "leaf.vhd")
    parent, child = opened(pyvhdi.file(), "base.vhd"), opened(pyvhdi.file(), "leaf.vhd")
    expect(child.get_parent_filename(), "base.vhd", "the parent's name")
    expect(child.get_parent_identifier(), parent.get_identifier(), "the parent's identity")
    child.set_parent(parent)
    expect(content(child, SIZE), want["leaf"], "a chain of VHDs")
    child.close()
    parent.close()

    # libqcow of 2020 knows neither zstd nor subclusters.
    for options in ("cluster_size=512", "cluster_size=64k", "cluster_size=2M", "compat=0.10",
                    "refcount_bits=64"):
        for compress in [], ["-c"]:
            run("smd-img", "convert", "-f", "raw", "-O", "qcow2", *compress, "-o", options,
                "base.raw", "one.qcow2")
            image = opened(pyqcow.file(), "one.qcow2")
            expect(image.get_media_size(), SIZE, options)
            expect(content(image, SIZE), want["base"], "%s %s" % (options, compress))
            image.close()

    run("smd-img", "convert", "-f", "raw", "-O", "qcow2", "base.raw", "base.qcow2")
    run("smd-img", "convert", "-f", "raw", "-O", "qcow2", "-B", "base.qcow2", "-F", "qcow2",
        "leaf.raw", "leaf.qcow2")
    parent, child = opened(pyqcow.file(), "base.qcow2"), opened(pyqcow.file(), "leaf.qcow2")
    expect(child.get_backing_filename(), "base.qcow2", "the backing file's name")
    child.set_parent(parent)
    expect(content(child, SIZE), want["leaf"], "a chain of qcow2")
