#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Figures of an SR with many VDIs: how fast they are created, read in one reply and scanned,
and what memory each takes. Beside the time by the clock stands the CPU's, of the daemon
and its workers, which other work on the machine does not change; beside the creates
stands what the disk itself allows: files made durable as one create makes its own.

usage: ./run python3 tests/bench/many-vdis.py [VDIS [CLIENTS [FORMAT]]]
"""
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from smdtest import *


def status(pid, key):
    with open("/proc/%d/status" % pid) as f:
        return int(next(line for line in f if line.startswith(key + ":")).split()[1])


def cpu_seconds(pid):
    """Its own and that of its children that ended."""
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


class Stopwatch:
    def __init__(self, pid):
        self.pid, self.wall, self.cpu = pid, time.monotonic(), cpu_seconds(pid)

    def read(self):
        return time.monotonic() - self.wall, cpu_seconds(self.pid) - self.cpu


def in_processes(n, clients, work):
    """work(i) for each i below n, shared out to so many processes."""
    pids = []
    for first in range(clients):
        pid = os.fork()
        if pid == 0:
            try:
                work(range(first, n, clients))
                os._exit(0)
            except BaseException as e:
                print(e, file=sys.stderr)
                os._exit(1)
        pids.append(pid)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0


def create(smd, sr, fmt, numbers):
    connection = smd.connect()
    for i in numbers:
        connection.request("POST", "/jsonrpc", json.dumps({
            "jsonrpc": "2.0", "id": i, "method": "VDI.create", "params": [smd.session, {
                "name_label": "disk %d" % i, "name_description": "", "SR": sr,
                "virtual_size": MIB, "type": "user", "sharable": False, "read_only": False,
                "other_config": {}, "sm_config": {"image-format": fmt}}]}))
        reply = json.loads(connection.getresponse().read())
        assert "result" in reply, reply


def make_durable(directory, log, numbers):
    """What a create asks of the disk: a file, its name, and a line in a log."""
    fd = os.open(directory, os.O_DIRECTORY)
    for i in numbers:
        path = os.path.join(directory, str(i))
        with open(path + ".tmp", "wb") as f:
            f.write(bytes(4096))
            f.flush()
            os.fdatasync(f.fileno())
        os.rename(path + ".tmp", path)
        os.fsync(fd)
        os.write(log, bytes(8192))
        os.fdatasync(log)


def floor(directory, n, clients):
    os.mkdir(directory)
    log = os.open(os.path.join(directory, "log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    begun = time.monotonic()
    in_processes(n, clients, lambda numbers: make_durable(directory, log, numbers))
    return n / (time.monotonic() - begun)


def ask(smd, wire):
    """The length of the reply to get_all_records, which is not looked at: a client takes
    longer to read it than the daemon to write it."""
    if wire == "xml":
        body = xmlrpc.client.dumps((smd.session,), "VDI.get_all_records")
    else:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VDI.get_all_records",
                           "params": [smd.session]})
    status, _, reply = smd.http("POST", "/jsonrpc" if wire == "json" else "/", body)
    assert status == 200 and (b"Failure" if wire == "xml" else b'"error"') not in reply
    return len(reply)


def peak_while(pid, work):
    """What work gives, and by how many KiB the daemon grew for it."""
    with open("/proc/%d/clear_refs" % pid, "w") as f:
        f.write("5")
    before = status(pid, "VmRSS")
    result = work()
    return result, status(pid, "VmHWM") - before, before


def scan(smd, sr):
    pid = smd.process.pid
    watch = Stopwatch(pid)
    _, grown, before = peak_while(pid, lambda: smd.call("SR.scan", sr))
    wall, cpu = watch.read()
    print("SR.scan: %.2f s, %.2f s of CPU; %.1f MB of memory over %.1f" % (
        wall, cpu, grown / 1024, before / 1024))


def main(n=10000, clients=4, fmt="qcow2"):
    n, clients = int(n), int(clients)
    with Smd() as smd:
        smd.expect_reasons = lambda: None   # a slow disk is a figure here, no failure
        pid = smd.process.pid
        sr = smd.make_sr("one")
        smd.make_vdi(sr, MIB, fmt)
        base = status(pid, "VmRSS")
        print("the disk allows %.0f a second" % floor(os.path.join(smd.dir, "floor"), 1000, clients))
        watch = Stopwatch(pid)
        in_processes(n, clients, lambda numbers: create(smd, sr, fmt, numbers))
        wall, cpu = watch.read()
        print("VDI.create: %.0f a second by the clock, %.2f ms of CPU each: %.0f a second of CPU" % (
            n / wall, 1000 * cpu / n, n / cpu))
        print("memory: %.1f MB, %.1f before" % (status(pid, "VmRSS") / 1024, base / 1024))
        for wire in "json", "xml", "json", "xml":
            watch = Stopwatch(pid)
            length, grown, before = peak_while(pid, lambda: ask(smd, wire))
            wall, cpu = watch.read()
            print("VDI.get_all_records, %s, %.1f MB: %.2f s, %.2f s of CPU; "
                  "%.1f MB of memory over %.1f" % (wire, length / 1e6, wall, cpu, grown / 1024,
                                                   before / 1024))
        for _ in range(3):
            scan(smd, sr)
        smd.restart()
        print("after a restart")
        smd.login()
        for _ in range(2):
            scan(smd, sr)


if __name__ == "__main__":
    main(*sys.argv[1:])
