# SPDX-License-Identifier: BSD-2-Clause
"""Rows that ask the daemon, beside libvirt's or a program that does the same. Each keeps
both running, does a piece of work with one and with the other in turn, and divides."""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import benchlibvirt
from benchdata import GIB, run
from benchrows import Missing
from benchrun import Ratios, Room, settle, warm
from smdtest import Smd

MANY = 10000
SIZE = 10 * GIB


class Wire:
    """JSON-RPC on one connection that stays, with nothing of Python's between: what is
    measured shall be the daemon."""

    def __init__(self, smd):
        self.smd = smd
        self.session = smd.login()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(smd.socket)

    def send(self, name, *params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": name,
                           "params": [self.session, *params]}).encode()
        return b"POST /jsonrpc HTTP/1.1\r\nHost: smd\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body), body)

    def ask(self, request):
        self.socket.sendall(request)
        reply = self.socket.recv(65536)
        while b"\r\n\r\n" not in reply:
            reply += self.socket.recv(65536)
        head, _, body = reply.partition(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        parts, got = [body], len(body)
        while got < length:
            parts.append(self.socket.recv(1 << 20))
            got += len(parts[-1])
        return b"".join(parts)

    def call(self, name, *params):
        reply = json.loads(self.ask(self.send(name, *params)))
        if "error" in reply:
            raise SystemExit("bench: %s: %s" % (name, reply["error"]))
        return reply["result"]


def sync_file(path):
    """What is acknowledged is on the disk, and its name, too."""
    for name, flags in (path, os.O_RDONLY), (os.path.dirname(path), os.O_DIRECTORY):
        fd = os.open(name, flags)
        os.fsync(fd)
        os.close(fd)


def timed(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


class ApiRow:
    """peer and ours: a piece of work each, as often as there are pairs."""

    libvirt = True      # is the peer
    tcp = False

    def __init__(self, name, bar):
        self.name = name
        self.bars = [("wall", bar)]

    def measure(self, data, scratch, n, settled):
        why = benchlibvirt.missing() if self.libvirt else self.missing()
        if why:
            raise Missing(why)
        self.data, self.scratch = data, scratch
        self.peer_daemon = benchlibvirt.Libvirt(scratch) if self.libvirt else None
        # Beside the data: temporary directories may be another file system.
        tempfile.tempdir, before = scratch, tempfile.tempdir
        try:
            with Smd(tcp=self.tcp) as smd:
                smd.expect_reasons = lambda: None
                self.smd, self.wire = smd, Wire(smd) if not self.tcp else None
                return Ratios(self.pairs(n, settled))
        finally:
            tempfile.tempdir = before
            if self.peer_daemon:
                self.peer_daemon.stop()

    def missing(self):
        return None

    def pairs(self, n, settled):
        self.prepare()
        samples = []
        for i in range(-1, n):      # the first is not counted: caches, workers
            pair = []
            for work in self.peer, self.ours:
                self.before(work == self.ours)
                if settled and i >= 0:
                    self.settle()
                pair.append(self.time(work))
            if i >= 0:
                samples.append(pair)
        return samples

    def prepare(self):
        pass

    def before(self, ours):
        pass

    def settle(self):
        settle()

    def time(self, work):
        return timed(work)


class Create(ApiRow):
    """So many in a row; both sides durable before the next one."""

    COUNT = 100

    def prepare(self):
        self.dir = os.path.join(self.scratch, "created")
        os.mkdir(self.dir)
        self.pool = self.peer_daemon.pool(self.dir)
        self.sr = self.smd.make_sr("created")
        self.number = 0

    def peer(self):
        for _ in range(self.COUNT):
            self.number += 1
            name = "%d.qcow2" % self.number
            self.pool.createXML("<volume><name>%s</name><capacity>%d</capacity><target>"
                                "<format type='qcow2'/></target></volume>" % (name, SIZE))
            sync_file(os.path.join(self.dir, name))

    def ours(self):
        for i in range(self.COUNT):
            create(self.wire, self.sr, SIZE, "qcow2")


def create(wire, sr, size, fmt):
    return wire.call("VDI.create", {
        "name_label": "disk", "name_description": "", "SR": sr, "virtual_size": size,
        "type": "user", "sharable": False, "read_only": False, "other_config": {},
        "sm_config": {"image-format": fmt}})


class CreateRate(ApiRow):
    """Seconds that 200 of them take, from so many clients."""

    libvirt = False
    COUNT = 400

    def __init__(self, name, bar, clients):
        super().__init__(name, bar)
        self.clients = clients

    def prepare(self):
        self.sr = self.smd.make_sr("created")

    def peer(self):
        pass

    def ours(self):
        pids = []
        for _ in range(self.clients):
            pid = os.fork()
            if pid == 0:
                try:
                    wire = Wire(self.smd)
                    for _ in range(self.COUNT // self.clients):
                        create(wire, self.sr, SIZE, "qcow2")
                    os._exit(0)
                finally:
                    os._exit(1)
            pids.append(pid)
        for pid in pids:
            if os.waitpid(pid, 0)[1] != 0:
                raise SystemExit("bench: VDI.create failed")

    def time(self, work):
        return 1.0 if work == self.peer else timed(work) * 200 / self.COUNT


class Many(ApiRow):
    """With an SR, and a pool, of very many images."""

    def prepare(self):
        self.dir = os.path.join(self.scratch, "many")
        os.mkdir(self.dir)
        first = os.path.join(self.scratch, "empty.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", first, str(SIZE))
        with open(first, "rb") as f:
            image = f.read()
        for _ in range(int(MANY * min(self.data.scale, 1))):
            self.write(os.path.join(self.dir, "%s.qcow2" % uuid.uuid4()), image)
        self.pool = self.peer_daemon.pool(self.dir)
        self.sr = None
        time.sleep(3)       # so that nothing of them looks as if it were being changed

    @staticmethod
    def write(path, image):
        with open(path, "wb") as f:
            f.write(image.rstrip(b"\0"))
            f.truncate(len(image))

    def settle(self):
        """A kernel that gives memory back to its host evicts files that nobody has read for
        some seconds, these too: both sides find them in the page cache."""
        super().settle()
        warm(os.path.join(self.dir, name) for name in os.listdir(self.dir))

    def attach(self):
        """An SR of those images that smd does not know yet."""
        if self.sr:
            for pbd in self.wire.call("SR.get_PBDs", self.sr):
                self.wire.call("PBD.unplug", pbd)
            self.wire.call("SR.forget", self.sr)
        else:
            self.sr_uuid = str(uuid.uuid4())
            with open(os.path.join(self.dir, ".smd-sr"), "w") as f:
                f.write(self.sr_uuid + "\n")
        records = os.path.join(self.dir, ".smd-records.json")
        if os.path.exists(records):
            os.unlink(records)
        self.sr = self.wire.call("SR.introduce", self.sr_uuid, "many", "", "file", "user", False,
                                 {})
        host = self.wire.call("host.get_all")[0]
        self.wire.call("PBD.plug", self.wire.call("PBD.create", {
            "host": host, "SR": self.sr, "device_config": {"location": self.dir},
            "other_config": {}}))

    def refresh(self):
        self.pool.refresh()

    def scan(self):
        self.wire.call("SR.scan", self.sr)


class ScanFirst(Many):
    peer, ours = Many.refresh, Many.scan

    def before(self, ours):
        if ours:
            self.attach()


class ScanAgain(Many):
    peer, ours = Many.refresh, Many.scan

    def prepare(self):
        super().prepare()
        self.attach()
        self.scan()


class Records(Many):
    """Everything of every volume, as the client has it in the end."""

    def prepare(self):
        super().prepare()
        self.attach()
        self.scan()

    def peer(self):
        from xml.etree import ElementTree
        for volume in self.pool.listAllVolumes():
            ElementTree.fromstring(volume.XMLDesc())

    def ours(self):
        records = self.wire.call("VDI.get_all_records")
        assert len(records) >= MANY * min(self.data.scale, 1)


class Smallest(ApiRow):
    COUNT = 5000

    def prepare(self):
        self.request = self.wire.send("session.get_uuid", self.wire.session)

    def peer(self):
        call = self.peer_daemon.connection.getLibVersion
        for _ in range(self.COUNT):
            call()

    def ours(self):
        for _ in range(self.COUNT):
            self.wire.ask(self.request)


class SmallestRate(ApiRow):
    """Seconds that 20 000 take, from 16 connections over TCP, by wrk."""

    libvirt, tcp = False, True
    SECONDS = 5

    def missing(self):
        return None if shutil.which("wrk") else "wrk is not installed"

    def prepare(self):
        session = self.smd.login()
        self.script = os.path.join(self.scratch, "call.lua")
        with open(self.script, "w") as f:
            f.write("wrk.method = 'POST'\nwrk.body = '%s'\n" % json.dumps({
                "jsonrpc": "2.0", "id": 1, "method": "session.get_uuid",
                "params": [session, session]}))

    def peer(self):
        pass

    def ours(self):
        said = run("wrk", "-t", "1", "-c", "16", "-d", "%ds" % self.SECONDS, "-s", self.script,
                   "http://127.0.0.1:%d/jsonrpc" % self.smd.port)
        if "Non-2xx" in said or "Socket errors" in said:
            raise SystemExit("bench: " + said)
        self.rate = float(re.search(r"Requests/sec: *([0-9.]+)", said)[1])

    def time(self, work):
        if work == self.peer:
            return 1.0
        work()
        return 20000 / self.rate


class Snapshot(ApiRow):
    """Of disks that have none yet: the daemon makes two images each, qemu-img one."""

    libvirt = False
    COUNT = 20

    def prepare(self):
        self.sr = self.smd.make_sr("snapshots")
        self.dir = os.path.join(self.scratch, "overlays")
        os.mkdir(self.dir)
        run("qemu-img", "create", "-q", "-f", "qcow2", os.path.join(self.dir, "base"), str(SIZE))
        self.number = 0

    def before(self, ours):
        if ours:
            self.vdis = [create(self.wire, self.sr, SIZE, "qcow2") for _ in range(self.COUNT)]

    def peer(self):
        for _ in range(self.COUNT):
            self.number += 1
            path = os.path.join(self.dir, "%d.qcow2" % self.number)
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base",
                            path], check=True)
            sync_file(path)

    def ours(self):
        for vdi in self.vdis:
            self.wire.call("VDI.snapshot", vdi, {})


class Migrate(ApiRow):
    """Beside smd-img with the same formats, durable: what the daemon adds."""

    libvirt = False

    def measure(self, *args):
        with Room() as self.room:
            return super().measure(*args)

    def settle(self):
        """As before the rows of conversions: it moves as much."""
        warm([self.disk])
        os.sync()
        time.sleep(1.5)

    def prepare(self):
        self.room.make()
        self.srs = [self.smd.make_sr("from"), self.smd.make_sr("to")]
        self.source = self.data.get("ext4.raw")
        self.disk = os.path.join(self.scratch, "disk.raw")
        self.out = os.path.join(self.scratch, "out.qcow2")
        # The daemon deletes what it has moved: each time another name for it.
        run("cp", "--sparse=always", self.source, self.disk)

    def before(self, ours):
        if not ours:
            if os.path.exists(self.out):
                os.unlink(self.out)
            return
        for vdi in self.wire.call("VDI.get_all"):
            self.wire.call("VDI.destroy", vdi)
        os.link(self.disk, os.path.join(self.smd.sr_path(self.srs[0]), "%s.raw" % uuid.uuid4()))
        self.wire.call("SR.scan", self.srs[0])
        (self.vdi,) = self.wire.call("SR.get_VDIs", self.srs[0])

    def peer(self):
        run("smd-img", "convert", "-f", "raw", "-O", "qcow2", "-t", "writeback", self.disk, self.out)

    def ours(self):
        self.wire.call("VDI.pool_migrate", self.vdi, self.srs[1], {"dest-img-format": "qcow2"})


def rows():
    return [
        Create("VDI.create, durable", 0.12),
        CreateRate("seconds of 200 VDI.create", 1.00, 1),
        CreateRate("seconds of 200, 4 clients", 1.00, 4),
        ScanFirst("SR.scan of 10000, first", 0.25),
        ScanAgain("SR.scan of 10000, again", 0.10),
        Records("all records of 10000", 0.15),
        Smallest("smallest call", 0.40),
        SmallestRate("seconds of 20000 calls", 1.00),
        Snapshot("VDI.snapshot, durable", 0.40),
        Migrate("migration, against smd-img", 1.10),
    ]
