#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Figures of many watchers of one daemon: memory and threads of each, and how long after
a change the slowest hears of it.

usage: ./run python3 tests/bench/watchers.py [WATCHERS [CHANGES-A-SECOND [SECONDS]]]
"""
import os
import resource
import selectors
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from smdtest import *


def status(pid, key):
    with open("/proc/%d/status" % pid) as f:
        return int(next(line for line in f if line.startswith(key + ":")).split()[1])


class Watcher:
    """A raw connection that asks event.from again and again."""

    def __init__(self, smd, cls, token):
        self.connection = smd.connect()
        self.connection.connect()
        self.sock = self.connection.sock
        self.session, self.cls, self.token = smd.session, cls, token
        self.last, self.heard, self.buffer = None, 0, b""
        self.ask()

    def ask(self):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "event.from",
                           "params": [self.session, [self.cls], self.token, 60.0]}).encode()
        self.sock.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                          % (len(body), body))

    def hear(self):
        """Read what has come; when it is a whole reply, note it and ask again."""
        data = self.sock.recv(1 << 20)
        assert data, "the daemon hung up on a watcher"
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        size = int(next(h for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:"))
                   .split(b":")[1])
        if len(body) < size:
            return False
        batch, self.buffer = json.loads(body)["result"], b""
        self.token = batch["token"]
        for event in batch["events"]:
            self.last, self.heard = event["snapshot"], time.monotonic()
        self.ask()
        return True


def raise_limits(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * n + 200)), hard))


def watch(smd, n, cls):
    """n watchers of a class, all waiting."""
    token = smd.json_call("event.from", [], "", 0.0)["token"]
    return [Watcher(smd, cls, token) for _ in range(n)]


def pump(watchers, until):
    """Let watchers hear until a condition holds."""
    with selectors.DefaultSelector() as selector:
        for w in watchers:
            selector.register(w.sock, selectors.EVENT_READ, w)
        while not until():
            ready = selector.select(60)
            assert ready, "a watcher heard nothing for a minute"
            for key, _ in ready:
                key.data.hear()


def main(n=1000, rate=100, seconds=5):
    raise_limits(n)
    with Smd(config="max_connections = %d\n" % (2 * n + 100)) as smd:
        pid, session = smd.process.pid, smd.login()
        assert session
        before = status(pid, "VmRSS"), status(pid, "Threads")
        watchers = watch(smd, n, "pool")
        time.sleep(1)
        after = status(pid, "VmRSS"), status(pid, "Threads")
        print("%d watchers: %.1f KiB and %.2f threads each" % (
            n, (after[0] - before[0]) / n, (after[1] - before[1]) / n))
        pool = smd.call("pool.get_all")[0]
        delays = []
        for i in range(int(rate * seconds)):
            begun = time.monotonic()
            smd.call("pool.set_name_label", pool, "label %d" % i)
            if i % rate == rate - 1:
                label = "label %d" % i
                pump(watchers, lambda: all(w.last and w.last["name_label"] == label
                                           for w in watchers))
                delays += [w.heard - begun for w in watchers]
            time.sleep(max(0, begun + 1 / rate - time.monotonic()))
        delays.sort()
        print("heard after: median %.0f ms, p99 %.0f ms" % (
            1000 * delays[len(delays) // 2], 1000 * delays[len(delays) * 99 // 100]))


if __name__ == "__main__":
    main(*(int(a) for a in sys.argv[1:]))
