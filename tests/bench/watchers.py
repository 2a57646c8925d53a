#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Figures of many watchers of one busy object: memory and threads of each, how long after
the last change that a batch tells of a watcher hears it, how many batches there are, and
the daemon's CPU.

usage: ./run python3 tests/bench/watchers.py [WATCHERS [CHANGES-A-SECOND [SECONDS]]]
"""
import os
import resource
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from smdtest import *


WARM_UP = 1     # seconds at the beginning whose delays are left out


def status(pid, key):
    with open("/proc/%d/status" % pid) as f:
        return int(next(line for line in f if line.startswith(key + ":")).split()[1])


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def raise_limits(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * n + 200)), hard))


class Watchers:
    """n watchers of a class, all waiting: event-watchers, until all have heard of last."""

    def __init__(self, smd, n, cls, last):
        token = smd.json_call("event.from", [], "", 0.0)["token"]
        self.path = os.path.join(smd.dir, "heard")
        with open(self.path, "wb") as f:
            self.process = subprocess.Popen(
                [os.path.join(BUILD, "tests", "event-watchers"), smd.socket, str(n),
                 smd.session, cls, token, last], stdout=f)
        while os.path.getsize(self.path) == 0:
            assert self.process.poll() is None, "the watchers ended"
            time.sleep(0.01)

    def heard(self):
        """(label, when) of each answer, once all have heard of the last label."""
        assert self.process.wait(300) == 0
        with open(self.path) as f:
            assert f.readline() == "waiting\n"
            return [(label, float(t)) for label, t in (line.split("\t") for line in f)]


def change(smd, path, rate, seconds):
    """In a process of its own: label after label; when each was begun and done to be set goes
    into a file."""
    pool = smd.call("pool.get_all")[0]
    first = time.monotonic()
    with open(path, "w") as f:
        for i in range(int(rate * seconds)):
            begun = time.monotonic()
            smd.json_call("pool.set_name_label", pool, "label %d" % i)
            f.write("%d %f %f\n" % (i, begun, time.monotonic()))
            time.sleep(max(0, first + (i + 1) / rate - time.monotonic()))


def spread(seconds):
    ms = sorted(1000 * s for s in seconds)
    return "median %.0f ms, p90 %.0f ms, p99 %.0f ms, at most %.0f ms" % (
        ms[len(ms) // 2], ms[len(ms) * 9 // 10], ms[len(ms) * 99 // 100], ms[-1])


def main(n=1000, rate=100, seconds=5):
    raise_limits(n)
    with Smd(config="max_connections = %d\n" % (2 * n + 100)) as smd:
        pid = smd.process.pid
        assert smd.login()
        before = status(pid, "VmRSS"), status(pid, "Threads")
        watchers = Watchers(smd, n, "pool", "label %d" % (int(rate * seconds) - 1))
        time.sleep(1)
        after = status(pid, "VmRSS"), status(pid, "Threads")
        print("%d watchers: %.1f KiB and %.2f threads each" % (
            n, (after[0] - before[0]) / n, (after[1] - before[1]) / n))
        path, cpu = os.path.join(smd.dir, "made"), cpu_seconds(pid)
        child = os.fork()
        if child == 0:
            change(smd, path, rate, seconds)
            os._exit(0)
        begun = time.monotonic()
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        heard = watchers.heard()
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime
        wall = time.monotonic() - begun
        assert os.waitpid(child, 0)[1] == 0
        with open(path) as f:
            made = {"label " + i: (float(t), float(u)) for i, t, u in (line.split() for line in f)}
        n_heard = len(heard)
        heard = [(label, t) for label, t in heard if t > begun + WARM_UP]
        delays = [t - made[label][0] for label, t in heard]
        print("a change takes:", spread([u - t for t, u in made.values()]))
        print("heard after it was asked for:", spread(delays))
        print("heard after it was done:", spread([max(0, t - made[label][1])
                                                  for label, t in heard]))
        print("%.1f batches a second, %.0f answers a second, %.0f %% of a CPU, %d threads" % (
            len(delays) / n / (wall - WARM_UP), len(delays) / (wall - WARM_UP),
            100 * (cpu_seconds(pid) - cpu) / wall, status(pid, "Threads")))
        print("CPU of an answer: %.0f us the daemon's, %.0f us the watcher's" % (
            1e6 * (cpu_seconds(pid) - cpu) / n_heard, 1e6 * own / n_heard))


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
