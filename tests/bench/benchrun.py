# SPDX-License-Identifier: BSD-2-Clause
"""Measuring: two commands in turn, each under the same conditions."""
import mmap
import os
import re
import statistics
import subprocess
import time

TOUCH = 6 << 30


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


def warm(paths):
    """Into the page cache."""
    for path in paths:
        with open(path, "rb", buffering=0) as f:
            while f.read(1 << 20):
                pass


def remove(path):
    if os.path.exists(path):
        os.unlink(path)


def page_cache():
    """Bytes of files that are in memory."""
    with open("/proc/meminfo") as f:
        return sum(int(line.split()[1]) for line in f if re.match("(Cached|Buffers):", line)) << 10


class Sample:
    """One run of a command: seconds and bytes."""

    def __init__(self, wall, usage, synced, cached):
        self.wall = wall
        self.cached = cached
        self.cpu = usage.ru_utime + usage.ru_stime
        self.peak = usage.ru_maxrss << 10
        self.written = usage.ru_oublock * 512
        self.synced = synced


def measure(command, cwd=None):
    cached = page_cache()
    start = time.monotonic()
    with subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE) as child:
        said = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit("bench: %s: %s" % (" ".join(command), said.decode(errors="replace")))
    cached = page_cache() - cached
    os.sync()
    return Sample(wall, usage, time.monotonic() - start, cached)


class Result:
    """The medians of all pairs: ratios are of neighbours, ours to the peer's."""

    def __init__(self, pairs, sizes):
        def middle(what):
            return statistics.median(getattr(b, what) / max(getattr(a, what), 1e-9)
                                     for a, b in pairs)

        self.wall, self.cpu, self.synced = middle("wall"), middle("cpu"), middle("synced")
        walls = sorted(b.wall / a.wall for a, b in pairs)
        self.lowest, self.highest = walls[0], walls[-1]
        self.peer_seconds = statistics.median(a.wall for a, _ in pairs)
        self.our_seconds = statistics.median(b.wall for _, b in pairs)
        self.peak = max(b.peak for _, b in pairs)
        self.cached = max(b.cached for _, b in pairs)
        self.written = statistics.median(b.written for _, b in pairs)
        self.size = sizes[1] / sizes[0] if sizes and sizes[0] else None


class Ratios:
    """The same of seconds alone: pairs of the peer's and ours."""

    cpu = synced = peak = written = size = None

    def __init__(self, pairs):
        walls = sorted(ours / peer for peer, ours in pairs)
        self.wall = statistics.median(walls)
        self.lowest, self.highest = walls[0], walls[-1]
        self.peer_seconds = statistics.median(peer for peer, _ in pairs)
        self.our_seconds = statistics.median(ours for _, ours in pairs)


def allocated(path):
    return os.stat(path).st_blocks * 512


def run_once(row, command, out):
    """A hypervisor takes back pages that are free for a while, and who touches them next pays,
    seconds for a GiB. So the output of the run before is removed when the next one begins,
    which finds its pages."""
    row.before(command)
    os.sync()
    if out:
        remove(out)
    return measure(command, row.cwd)


def quickest(row, commands):
    """Of the commands for the same work the one that took the least time, once."""
    if len(commands) == 1:
        return commands[0]
    return min(commands, key=lambda c: run_once(row, *c).wall)


def measure_pairs(row, peer, ours, n):
    """Run row's commands n times in turn, after a first time that does not count. peer, ours:
    (command, output or None)."""
    pairs = []
    for _ in range(n + 1):
        pairs.append([run_once(row, command, out) for command, out in (peer, ours)])
    pairs = pairs[1:]
    sizes = [allocated(out) for _, out in (peer, ours)] if peer[1] and ours[1] else None
    return Result(pairs, sizes)
