# SPDX-License-Identifier: BSD-2-Clause
"""Measuring: two commands in turn, each under the same conditions."""
import ctypes
import mmap
import os
import re
import socket
import statistics
import struct
import subprocess
import time

TOUCH = 6 << 30
PR_SET_CHILD_SUBREAPER = 36     # linux/prctl.h


def settle(touch=TOUCH):
    """The hypervisor takes back pages that were freed, two seconds later, and the next
    one to touch them pays: so what is measured does not."""
    os.sync()
    time.sleep(2.6)
    with open("/proc/meminfo") as f:
        available = next(int(line.split()[1]) for line in f if line.startswith("MemAvail")) << 10
    # In a process of its own: what it took would count as the peak of those started later.
    child = os.fork()
    if child == 0:
        with mmap.mmap(-1, min(touch, available // 2)) as pages:
            for at in range(0, len(pages), 4096):
                pages[at] = 1
        os._exit(0)
    os.waitpid(child, 0)


class Room:
    """Free memory that the hypervisor leaves where it is, for what the commands write. It takes
    back what is free in blocks of 2 MiB, and to get that again costs up to some seconds for a
    GiB. So a child takes memory, keeps one page of each such block, and frees the others: they
    go on being there, and are what the kernel gives first, for it breaks no large block while
    there are small ones."""

    SIZE = 5 << 30
    BLOCK = 9       # 2 MiB: so many pages, as a power of two

    def __init__(self):
        ours, childs = socket.socketpair()
        # In a process of its own: what it takes would count as the peak of those started later.
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            kept, blocks = [], set()
            while childs.recv(1) != b"":
                kept.append(keep_a_page_of_each(self.size(), self.BLOCK, blocks))
                childs.send(b"d")
            os._exit(0)
        childs.close()
        self.child = ours

    def size(self):
        with open("/proc/meminfo") as f:
            available = next(int(li.split()[1]) for li in f if li.startswith("MemAvail")) << 10
        return min(self.SIZE, available // 2) // mmap.PAGESIZE * mmap.PAGESIZE

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.close()
        os.waitpid(self.pid, 0)

    def make(self):
        self.child.send(b"m")
        self.child.recv(1)


def keep_a_page_of_each(size, block, blocks):
    """Take so much memory and free it, but for a page of each block that is not in blocks yet."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for at in range(0, size, mmap.PAGESIZE):
        memory[at] = 1
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory)) // mmap.PAGESIZE
    freed = 0
    with open("/proc/self/pagemap", "rb", buffering=0) as f:
        for page in range(size // mmap.PAGESIZE):
            if page % 4096 == 0:
                f.seek(8 * (first + page))
                frames = struct.unpack("%dQ" % 4096, f.read(8 * 4096))
            # Without root's rights the frame is 0: then neighbours count as such.
            frame = frames[page % 4096] & ((1 << 55) - 1) or page << 1
            if frame >> block in blocks:
                continue
            blocks.add(frame >> block)
            free(memory, freed, page)
            freed = page + 1
    free(memory, freed, size // mmap.PAGESIZE)
    return memory


def free(memory, start, end):
    if end > start:
        memory.madvise(mmap.MADV_DONTNEED, start * mmap.PAGESIZE, (end - start) * mmap.PAGESIZE)


def warm(paths):
    """Into the page cache, but for their holes."""
    for path in paths:
        with open(path, "rb", buffering=0) as f:
            end = 0
            while (start := next_data(f, end)) is not None:
                end = os.lseek(f.fileno(), start, os.SEEK_HOLE)
                f.seek(start)
                while f.tell() < end and f.read(min(1 << 20, end - f.tell())):
                    pass


def evict(path):
    """Out of the page cache; what is dirty stays there."""
    with open(path, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def next_data(f, at):
    try:
        return os.lseek(f.fileno(), at, os.SEEK_DATA)
    except OSError:
        return None         # none is left


def remove(path):
    if os.path.exists(path):
        os.unlink(path)


def page_cache():
    """Bytes of files that are in memory."""
    with open("/proc/meminfo") as f:
        return sum(int(line.split()[1]) for line in f if re.match("(Cached|Buffers):", line)) << 10


def stolen():
    """Seconds for which the machine's processors had work and its host had other work."""
    with open("/proc/stat") as f:
        return int(f.readline().split()[8]) / os.sysconf("SC_CLK_TCK")


class Sample:
    """One run of a command: seconds and bytes."""

    synced = None       # seconds until a sync after it had ended

    def __init__(self, wall, usage, cached, lost):
        self.wall = wall
        self.cached = cached
        self.cpu = usage.ru_utime + usage.ru_stime
        self.peak = usage.ru_maxrss << 10
        self.written = usage.ru_oublock * 512
        self.lost = lost        # the part of its time that the host took


# It begins when it is told to, in a shell's place, and not where nobody is left to tell it.
BEGIN = ('exec 3<&0; (read begin <&3 || exit; exec 3<&-; exec "$@" </dev/null) >/dev/null & '
         'echo $!')


def measure(command, cwd=None):
    """A process has the peak of the one that it was forked from: a shell, which is small, forks
    one for the command and leaves it to us. To start those two is no part of the time."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with subprocess.Popen(["sh", "-c", BEGIN, "sh", *command], cwd=cwd, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as shell:
        pid = int(shell.stdout.read())
        cached, lost = page_cache(), stolen()
        start = time.monotonic()
        os.write(shell.stdin.fileno(), b"\n")
        said = shell.stderr.read()
        _, status, usage = os.wait4(pid, 0)
        wall = time.monotonic() - start
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit("bench: %s: %s" % (" ".join(command), said.decode(errors="replace")))
    return Sample(wall, usage, page_cache() - cached, (stolen() - lost) / wall)


class Result:
    """The medians of all pairs: ratios are of neighbours, ours to the peer's."""

    def __init__(self, pairs, sizes):
        def middle(what):
            found = [getattr(b, what) / getattr(a, what) for a, b in pairs if getattr(a, what)]
            return statistics.median(found) if found else None

        self.wall, self.cpu, self.synced = middle("wall"), middle("cpu"), middle("synced")
        self.memory, self.written = middle("peak"), middle("written")
        walls = sorted(b.wall / a.wall for a, b in pairs)
        self.lowest, self.highest = walls[0], walls[-1]
        self.peer_seconds = statistics.median(a.wall for a, _ in pairs)
        self.our_seconds = statistics.median(b.wall for _, b in pairs)
        self.peak = max(b.peak for _, b in pairs)
        self.cached = max(b.cached for _, b in pairs)
        self.size = sizes[1] / sizes[0] if sizes and sizes[0] else None


class Ratios:
    """The same of seconds alone: pairs of the peer's and ours."""

    cpu = synced = memory = written = peak = size = None

    def __init__(self, pairs):
        walls = sorted(ours / peer for peer, ours in pairs)
        self.wall = statistics.median(walls)
        self.lowest, self.highest = walls[0], walls[-1]
        self.peer_seconds = statistics.median(peer for peer, _ in pairs)
        self.our_seconds = statistics.median(ours for _, ours in pairs)


def allocated(path):
    return os.stat(path).st_blocks * 512


class Bench:
    """Runs a row's commands, each under the same conditions."""

    SLOW = 5        # seconds: what took longer does not depend on how it began
    LOST = 0.05     # of its time the host may take from a run
    TRIES = 3       # or it is run again

    def __init__(self, room):
        self.room = room

    def once(self, row, command, out, last=False):
        """Its output is gone again, or on the disk if this is the last time."""
        samples = []
        while not samples or (samples[-1].lost > self.LOST and len(samples) < self.TRIES):
            row.before(command)
            if out:
                remove(out)
            warm(row.warm)
            if row.durable or row.shares:   # nobody has anything to do with what was removed
                os.sync()
            if row.durable:     # it is discarded, on the host, too
                time.sleep(1.5)
            samples.append(measure(command, row.cwd))
            if out and not last:
                remove(out)
        return min(samples, key=lambda sample: sample.lost)

    def once_synced(self, row, command, out):
        """Its output stays, but not in memory, of which the next run would find less."""
        sample = self.once(row, command, out, True)
        start = time.monotonic()
        os.sync()
        sample.synced = sample.wall + time.monotonic() - start
        if out:
            evict(out)
        return sample

    def quickest(self, row, commands):
        """Of the commands for the same work the one that took the least time, once."""
        if len(commands) == 1:
            return commands[0]
        return min(commands, key=lambda c: self.once(row, *c).wall)

    def pairs(self, row, peer, ours, n):
        """Run row's commands n times in turn, each first every other time, after a first time
        that does not count. peer, ours: (command, output or None)."""
        self.room.make()
        pairs = [[self.once(row, *peer), self.once(row, *ours)]]
        if sum(run.wall for run in pairs[0]) < self.SLOW:
            pairs = []
        while len(pairs) < n:
            once = self.once_synced if len(pairs) == n - 1 else self.once
            if len(pairs) % 2:
                pairs.append([once(row, *ours), once(row, *peer)][::-1])
            else:
                pairs.append([once(row, *peer), once(row, *ours)])
        sizes = [allocated(out) for _, out in (peer, ours)] if peer[1] and ours[1] else None
        return Result(pairs, sizes)
