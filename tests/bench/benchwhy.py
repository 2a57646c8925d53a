# SPDX-License-Identifier: BSD-2-Clause
"""Of rows that fell short of their bar: what perf and strace found to take the time when they
were last looked into. It is printed below the table for those that are over theirs."""

WHY = {
    "durable raw -> qcow2":
        "the disk: it took blocks that are new to it at some 0.9 GB/s at any queue depth tried, "
        "and the copies between the page cache and the buffers are most of the processor's time",
    "durable qcow2 -> raw":
        "pwrite takes 33 % of the processor's time, pread 23 %, waiting for what was written 12 %, "
        "dropping it 10 %, taking space 10 %. Writes past the page cache take less of it and more "
        "time: one into a hole holds the inode's lock until it is on the disk",
    "compare raw, qcow2":
        "two thirds of the time are the kernel's copies out of the page cache, at the speed of "
        "memory",
    "VDI.create, durable":
        "four syncs, each after the one before: the plan's commit, the image, its name, the row's "
        "commit; what is begun and what is answered must both be on the disk",
    "VDI.snapshot, durable":
        "two workers are forked, one to create and, behind the commit, one to hide; seven syncs, "
        "for the daemon makes two images where the peer makes one",
    "SR.scan of 10000, first":
        "10 000 rows of a VDI take 0.14 to 0.2 s in sqlite alone, about half of the peer's whole "
        "refresh; the workers' looks and the rows' JSON are most of the rest",
    "SR.scan of 10000, again":
        "10 000 fstatat in one thread, 30 ms in the kernel",
    "smallest call":
        "the peer's has no HTTP: half of the time is the parsing of its headers and of JSON",
}
