# SPDX-License-Identifier: BSD-2-Clause
"""Of rows that fell short of their bar: what perf and strace found to take the time when they
were last looked into. It is printed below the table for those that are over theirs."""

WHY = {
    "durable qcow2 -> raw":
        "pwrite takes 33 % of the processor's time, pread 23 %, waiting for what was written 12 %, "
        "dropping it 10 %, taking space 10 %. Writes past the page cache take less of it and more "
        "time: one into a hole holds the inode's lock until it is on the disk",
    "compare raw, qcow2":
        "two thirds of the time are the kernel's copies out of the page cache, at the memory's speed",
    "VDI.create, durable":
        "four syncs, each after the one before: the plan's commit, the image, its name, the row's "
        "commit",
    "VDI.snapshot, durable":
        "two workers are forked, and each has its walls put up",
    "SR.scan of 10000, first":
        "10 000 rows of 50 columns each go into tables with indexes",
    "SR.scan of 10000, again":
        "a stat of each file, and their names sorted",
    "smallest call":
        "the peer's has no HTTP: half of the time is the parsing of its headers and of JSON",
}
