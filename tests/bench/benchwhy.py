# SPDX-License-Identifier: BSD-2-Clause
"""Of rows that fell short of their bar: what perf and strace found to take the time when they
were last looked into. It is printed below the table for those that are over theirs."""

WHY = {
    "durable raw -> qcow2":
        "the disk: to write as much past the page cache, into space taken beforehand, takes 84 "
        "% of this time by itself. Blocks that were discarded, as those of removed files are, "
        "cost its host something: 1.2 GB/s at any depth and size of requests, 2.2 GB/s where it "
        "has them",
    "durable qcow2 -> raw":
        "the disk, as for qcow2: writing alone takes 80 % of this time. Of the processor's, "
        "pread and pwrite take 27 % each, writing behind 14 %, taking space and turns 8 % each, "
        "dropping 7 %. Long runs past the page cache would take a third less of it, 32 MiB more "
        "memory and no less time, for all wait while space is taken; to write whole clusters "
        "and punch their zeroes afterwards would halve it and take a third more time, for "
        "punches wait for discards",
    "compare raw, qcow2":
        "two thirds of the time are the kernel's copies out of the page cache, at the speed of "
        "memory",
    "VHD coalesce, durable":
        "the disk keeps up, the last flush waits 3 ms: writes into one file go one at a time. "
        "pwrite takes 35 % of the processors' time, a quarter of it to wait for that lock, pread "
        "22 %, sending off what was written 10 %; a sixth is idle. 2 to 8 threads, and space taken "
        "ahead: the same; smaller windows, writes past the page cache: slower",
    "VDI.create, durable":
        "four syncs, each after the one before: the plan's commit 0.3 ms, the image 0.8, its name "
        "0.3, the row's commit 0.3 (0.7 each while the log still grows); what is begun and what is "
        "answered must both be on the disk. Half of the processor's time are the syncs' requests",
    "VDI.snapshot, durable":
        "of 11 ms, in uprobes, each of two workers took 2.3 (its fork 0.6, now 0.1; walls 0.4, the "
        "work 0.5, its end 0.5), one to create and, behind the commit, one to hide; seven syncs 4, "
        "for the daemon makes two images where the peer makes one",
    "SR.scan of 10000, first":
        "half of the time is one thread's making of rows and the inserts, each into seven "
        "indexes (0.14 to 0.2 s in sqlite alone, half of the peer's whole refresh); most of the "
        "other half is the looks by two workers at a time, which come before the rows",
    "smallest call":
        "the peer's has no HTTP: half of the time is the parsing of its headers and of JSON",
}
