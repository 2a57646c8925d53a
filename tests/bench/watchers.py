#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Figures of many watchers of one busy object: memory and threads of each, how long after
the last change that a batch tells of a watcher hears it, how many batches there are, and
the daemon's CPU.

usage: ./run python3 tests/bench/watchers.py [WATCHERS [CHANGES-A-SECOND [SECONDS]]]
"""
import os
import re
import resource
import selectors
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


class Watcher:
    """A raw connection that asks event.from again and again, and knows the last label it
    heard of. It takes replies apart no further, to be quick."""

    LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
    TOKEN = b'"token":"'
    LABEL = b'"name_label":"'

    def __init__(self, smd, cls, token):
        self.connection = smd.connect()
        self.connection.connect()
        self.sock = self.connection.sock
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "event.from",
                           "params": [smd.session, [cls], token, 60.0]}).encode()
        self.request = b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body), body)
        self.token = token.encode()
        self.label, self.batches, self.buffer = None, 0, b""
        self.sock.sendall(self.request)

    def last(self, key):
        """The last text of that key in the reply; None: there is none."""
        at = self.buffer.rfind(key) + len(key)
        return self.buffer[at:self.buffer.index(b'"', at)] if at >= len(key) else None

    def hear(self):
        """Read what has come; when it is a whole reply, note it and ask again."""
        data = self.sock.recv(1 << 20)
        assert data, "the daemon hung up on a watcher"
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0 or len(self.buffer) < end + 4 + int(self.LENGTH.search(self.buffer).group(1)):
            return False
        token = self.last(self.TOKEN)
        assert token, self.buffer[end:end + 500]
        label = self.last(self.LABEL)
        self.label = label.decode() if label else self.label
        self.request = self.request.replace(self.token, token)
        self.token, self.buffer = token, b""
        self.batches += 1
        self.sock.sendall(self.request)
        return True


def raise_limits(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * n + 200)), hard))


def watch(smd, n, cls):
    """n watchers of a class, all waiting."""
    token = smd.json_call("event.from", [], "", 0.0)["token"]
    return [Watcher(smd, cls, token) for _ in range(n)]


def pump(watchers, until, heard=lambda watcher: None):
    """Let watchers hear until a condition holds."""
    with selectors.DefaultSelector() as selector:
        for w in watchers:
            selector.register(w.sock, selectors.EVENT_READ, w)
        while not until():
            ready = selector.select(60)
            assert ready, "a watcher heard nothing for a minute"
            for key, _ in ready:
                if key.data.hear():
                    heard(key.data)


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
        pid, heard = smd.process.pid, []
        assert smd.login()
        before = status(pid, "VmRSS"), status(pid, "Threads")
        watchers = watch(smd, n, "pool")
        time.sleep(1)
        after = status(pid, "VmRSS"), status(pid, "Threads")
        print("%d watchers: %.1f KiB and %.2f threads each" % (
            n, (after[0] - before[0]) / n, (after[1] - before[1]) / n))
        path, cpu = os.path.join(smd.dir, "made"), cpu_seconds(pid)
        child = os.fork()
        if child == 0:
            change(smd, path, rate, seconds)
            os._exit(0)
        last = "label %d" % (int(rate * seconds) - 1)
        begun, own = time.monotonic(), time.process_time()
        pump(watchers, lambda: all(w.label == last for w in watchers),
             lambda w: heard.append((w.label, time.monotonic())))
        wall, own = time.monotonic() - begun, time.process_time() - own
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
            len(delays) / n / (wall - WARM_UP), len(delays) / (wall - WARM_UP), 100 * (cpu_seconds(pid) - cpu) / wall,
            status(pid, "Threads")))
        print("CPU of an answer: %.0f us the daemon's, %.0f us the watcher's" % (
            1e6 * (cpu_seconds(pid) - cpu) / n_heard, 1e6 * own / n_heard))


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
