#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Compare the time of smd-img convert with qemu-img convert -m 8 -W.

    ./run tests/bench/convert.py IMAGE.raw [--rounds N] [--pairs raw:qcow2,...]

The two take turns on the same files; the numbers are medians of the ratios of
neighbours (below 1: smd is faster), of wall time, of CPU time, and of wall time
up to the end of a sync. A file system image of a GiB or more gives figures
worth having. Between runs free memory is touched, so that neither command pays
for pages that the hypervisor took back (--no-settle leaves that out).
"""

import argparse
import mmap
import os
import resource
import statistics
import subprocess
import tempfile
import time

QEMU = {"raw": "raw", "qcow2": "qcow2", "vhd": "vpc"}
PAIRS = "raw:qcow2,raw:vhd,qcow2:raw,vhd:raw,qcow2:vhd,vhd:qcow2,raw:raw"
TOUCH = 3 << 30


def settle(out):
    if os.path.exists(out):
        os.unlink(out)
    os.sync()
    time.sleep(2.6)
    with mmap.mmap(-1, TOUCH) as pages:
        for at in range(0, TOUCH, 4096):
            pages[at] = 1


def timed(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    subprocess.run(command, check=True)
    wall = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    os.sync()
    total = time.monotonic() - start
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, total


def compare(args, source, src, dst):
    out = os.path.join(args.dir, "out." + dst)
    qemu = ["qemu-img", "convert", "-f", QEMU[src], "-O", QEMU[dst], "-m", "8", "-W", source, out]
    smd = ["smd-img", "convert", "-f", src, "-O", dst, source, out]
    if args.durable:
        for command in (qemu, smd):
            command[2:2] = ["-t", "writeback"]
    ratios, walls = [], []
    for _ in range(args.rounds):
        times = []
        for command in (qemu, smd):
            if args.settle:
                settle(out)
            elif os.path.exists(out):
                os.unlink(out)
            times.append(timed(command))
        ratios.append([b / a for a, b in zip(*times)])
        walls.append((times[0][0], times[1][0]))
    os.unlink(out)
    wall, cpu, total = (statistics.median(column) for column in zip(*ratios))
    a, b = (statistics.median(column) for column in zip(*walls))
    print(f"{src:>6} -> {dst:<6} qemu {a:6.3f} s  smd {b:6.3f} s  "
          f"wall x{wall:.2f}  cpu x{cpu:.2f}  synced x{total:.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("image")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", default=PAIRS)
    parser.add_argument("--durable", action="store_true")
    parser.add_argument("--no-settle", dest="settle", action="store_false")
    args = parser.parse_args()
    base = os.path.dirname(os.path.abspath(args.image))
    with tempfile.TemporaryDirectory(dir=base) as args.dir:
        sources = {"raw": args.image}
        for pair in args.pairs.split(","):
            src, dst = pair.split(":")
            if src not in sources:
                sources[src] = os.path.join(args.dir, "source." + src)
                subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", QEMU[src],
                                args.image, sources[src]], check=True)
            with open(sources[src], "rb") as f:
                while f.read(1 << 20):
                    pass
            compare(args, sources[src], src, dst)


main()
