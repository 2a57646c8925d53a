# SPDX-License-Identifier: BSD-2-Clause
"""Of rows that fell short of their bar: what perf and strace found to take the time when they
were last looked into. It is printed below the table for those that are over theirs."""

WHY = {
    "durable raw -> qcow2":
        "the disk: to write as much past the page cache, into space taken beforehand, takes 84 "
        "% of this time by itself. Blocks that were discarded, as those of removed files are, "
        "cost its host something: 1.2 GB/s at any depth and size of requests, 2.2 GB/s where it "
        "has them. 30 ms are the kernel's, which takes back its queue of writes",
    "durable qcow2 -> raw":
        "the disk, as for qcow2. A program that wrote from the source's own pages, mapped, took as "
        "long with half of the processor's time",
    "durable raw -> raw":
        "the disk, for both: nbdcopy writes as much in as long through the page cache, which it "
        "fills, with two thirds more of the processors' time",
    "zlib qcow2 -> raw":
        "77 % of the processors' time are libdeflate's, 20 % the kernel's copies",
    "zstd qcow2 -> raw":
        "69 % of the processors' time are libzstd's, 26 % the kernel's copies",
    "compare raw, qcow2":
        "three fifths of the processors' time are memcmp at the speed of memory, which the host "
        "shares out, the rest is to map and to let go: 0.10 to 0.13 from hour to hour, and 0.09 "
        "where the files lie in large folios, as after they were read anew",
    "btrfs: qcow2 -> raw":
        "of some 6 ms 930 FICLONERANGE take 5 us each, one for each run of clusters, and the start "
        "0.9. The peer takes 20 to 100 ms from run to run for the same calls, each of which it hands "
        "to a thread and waits for: where its median is 40 the bar is 6 ms",
    "VHD coalesce, durable":
        "of 0.16 s the last flush waits 4 ms. pwrite takes 48 % of the processors' time, a fifth of "
        "it to wait for the file's lock, pread 40 %, sending off what was written 7 %. 2 to 8 "
        "threads, turns to write in, and space taken ahead: the same; smaller windows: slower; a "
        "queue of writes past the page cache, as for 512 MiB and more, as long, for the kernel "
        "takes 30 ms to take it back",
    "VDI.create, durable":
        "of 0.95 ms the journal's one sync takes 0.2, the image by a worker 0.1, the file and its "
        "name 0.1, and the daemon 0.5: the call, one transaction of 10 pages, and its row as JSON. "
        "The images' own syncs, behind the answers, take the disk a tenth of the time",
    "VDI.snapshot, durable":
        "of 2.5 ms the one worker takes 1.5: to begin 0.2, to be closed in 0.25, the two images "
        "0.4, to hide the base 0.3, two thirds of it a sync; the commit takes 0.7, half of it a "
        "sync, for the daemon makes two images where the peer makes one",
    "SR.scan of 10000, first":
        "of 75 to 85 ms one thread lists the names for 8; both processors look at the images for "
        "30 to 35, 20 of it in openat2, fstat, fcntl, pread and close as a program takes that does "
        "nothing else; then one thread inserts the rows for 26, of which sqlite alone, in a program "
        "of its own, takes 23: a table and five indexes, 0.85 KiB of log for each row; 4 sort, "
        "judge and answer. The peer makes no rows, and where it takes 0.17 s, as here, the bar "
        "is 42 ms",
    "SR.scan of 10000, again":
        "of 11 to 15 ms of two threads, 17 of the processors' time, 10 000 fstatat of names that "
        "no cache of the processor has take 9 and the listing 3",
    "smallest call":
        "the peer's has no HTTP: half of the time is the parsing of its headers and of JSON",
}
