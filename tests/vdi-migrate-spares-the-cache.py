#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a migration writes does not push out what others have in the page cache: of the new
image hardly a page is there afterwards. Each pair of formats, in windows and in large blocks."""
import random

from smdtest import *

requires("qemu-img")
SIZE = 544 * MIB        # so much that many writes are under way at a time


def cached(path):
    """The share of a file that can be read without its disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        places = range(0, os.fstat(fd).st_size - 4096, 256 << 10)
        there = 0
        for at in places:
            try:
                there += os.preadv(fd, [bytearray(4096)], at, os.RWF_NOWAIT) == 4096
            except BlockingIOError:
                pass
        return there / len(places)
    finally:
        os.close(fd)


def has_a_cache(directory):
    """Whether its files can be anywhere else: those of a tmpfs can't."""
    path = os.path.join(directory, "forgotten")
    with open(path, "wb") as f:
        f.write(bytes(MIB))
        f.flush()
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    try:
        return cached(path) == 0
    except OSError:     # it cannot be asked either
        return False
    finally:
        os.unlink(path)


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    if not has_a_cache(smd.dir):
        skip("this file system forgets nothing")
    raw = os.path.join(smd.dir, "disk.raw")
    with open(raw, "wb") as f:
        for _ in range(SIZE // MIB):
            f.write(random.randbytes(MIB))
    digest = sha256_of_file(raw)
    vdi = smd.make_vdi(one, SIZE, "raw")
    smd.import_vdi(vdi, raw)
    for fmt, sr in ("qcow2", two), ("vhd", one), ("raw", two):
        vdi = smd.call("VDI.pool_migrate", vdi, sr, {"dest-img-format": fmt})
        share = cached(smd.vdi_file(vdi))
        assert share < 0.25, "%s: %.0f%% of it are in the page cache" % (fmt, 100 * share)
        expect_eq(sha256_of_disk(smd.vdi_file(vdi), fmt), digest, "content as " + fmt)
