#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A durable conversion, or merge, of so much that many of its writes are under way at a time: the
disk is what it should be, no larger than it must be, whatever cuts it off; and what fails is said."""
import random
import resource

from smdtest import *

requires("qemu-img")
SIZE = 640 * MIB + 512
scratch = tempfile.TemporaryDirectory(prefix="smd-test.")
os.chdir(scratch.name)
rng = random.Random(12)
block = rng.randbytes(8 * MIB)
with open("in.raw", "wb") as f:
    f.truncate(SIZE)
    at = 0
    while at < SIZE:            # runs of any length, of pages or not, holes and zeroes between
        n = min(rng.choice((512, 4096, 70000, 1 * MIB, 8 * MIB, 8 * MIB)), SIZE - at)
        f.seek(at)
        f.write(block[:n])
        at += n
        gap = rng.choice((0, 512, 4096, 100000, 1 * MIB))
        if rng.random() < 0.5 and at + gap <= SIZE:
            f.write(bytes(gap))
        at += gap
    f.seek(SIZE - 512)          # the disk's end is no page's
    f.write(block[:512])
WANTED = sha256_of_file("in.raw")
DATA = allocated("in.raw")
assert DATA > 512 * MIB, "too little for a queue"


def argv(fmt, *options, source="in.raw", source_format="raw"):
    return ["smd-img", "convert", "-t", "writeback", "-f", source_format, "-O", fmt,
            *options, source, "out." + fmt]


def expect_disk(fmt, what):
    expect_eq(sha256_of_disk("out." + fmt, fmt), WANTED, what)
    if fmt != "raw":
        run("smd-img", "check", "-f", fmt, "out." + fmt)
    if fmt == "qcow2":
        run("qemu-img", "check", "-q", "out.qcow2")


for fmt in "qcow2", "vhd", "raw":
    run(*argv(fmt))
    expect_disk(fmt, "raw as " + fmt)
    assert allocated("out." + fmt) < 1.15 * DATA, fmt + " takes too much"
os.unlink("out.raw")
run(*argv("raw", source="out.qcow2", source_format="qcow2"))
expect_disk("raw", "qcow2 as raw")
# Over what is there, and with clusters larger than a thread's window or as large as the peak.
for size in "4k", "2M":
    run(*argv("qcow2", "-o", "cluster_size=" + size, source="out.vhd", source_format="vhd"))
    expect_disk("qcow2", "vhd as qcow2 of " + size)
for fmt in "qcow2", "raw":
    os.unlink("out." + fmt)

# Killed some time and gone on with.
for fmt in "qcow2", "raw":
    for _ in range(6):
        child = subprocess.Popen(argv(fmt, "--marks", "marks"), stdout=subprocess.DEVNULL)
        time.sleep(rng.random() * 0.6)
        child.kill()
        if child.wait() == 0:
            break
    if child.returncode != 0:
        run(*argv(fmt, "--marks", "marks"))
    expect_disk(fmt, "killed, as " + fmt)
    os.unlink("out." + fmt)


# A delta into its parent, in parts that are no whole units of it, with zeroes among them.
with open("new.raw", "wb") as f:
    f.truncate(SIZE)
    other = rng.randbytes(8 * MIB)
    at = 512 * rng.randrange(300)
    while at < SIZE:
        f.seek(at)
        n = min(512 * rng.randrange(8 * MIB // 512), SIZE - at)
        f.write(other[:n])
        at += n + 512 * rng.randrange(300)
assert allocated("new.raw") > 512 * MIB
for fmt in "qcow2", "vhd":
    run(*argv(fmt))
    os.rename("out." + fmt, "base." + fmt)
    run("smd-img", "convert", "-f", "raw", "-O", fmt, "-B", "base." + fmt, "-F", fmt, "new.raw",
        "over." + fmt)
    child = subprocess.Popen(["smd-img", "commit", "-f", fmt, "over." + fmt])
    time.sleep(rng.random() * 0.3)
    child.kill()
    child.wait()                # begun again it ends what was begun
    subprocess.run(["smd-img", "check", "-r", "all", "-f", fmt, "base." + fmt],
                   stdout=subprocess.DEVNULL)
    run("smd-img", "commit", "-f", fmt, "over." + fmt)
    expect_eq(sha256_of_disk("base." + fmt, fmt), sha256_of_file("new.raw"), "merged, " + fmt)
    run("smd-img", "check", "-f", fmt, "base." + fmt)
    for name in "base.", "over.":
        os.unlink(name + fmt)
os.unlink("new.raw")


def no_room():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2 // MIB * MIB,) * 2)


for fmt in "qcow2", "raw":
    child = subprocess.run(argv(fmt), preexec_fn=no_room, capture_output=True, text=True)
    assert child.returncode != 0 and "out." + fmt in child.stderr and \
        os.strerror(27) in child.stderr, "%s: %s" % (fmt, child.stderr)
    assert not os.path.exists("out." + fmt), fmt + " is left"
