#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of the daemon or of a worker, at any moment of create, import, copy, clone, migrate,
snapshot, coalesce, resize and destroy, with clients that ask again until they are told that
it is done. Then every disk that was acknowledged has its exact content, there is no disk, file or
mark that nobody asked for, the database is whole, and every image checks clean.

SMD_KILL_ROUNDS: how many times something is killed (12). SMD_KILL_SEED: another story."""
import glob
import random
import sqlite3
import threading

from smdtest import *

requires("qemu-img")
ROUNDS = int(os.environ.get("SMD_KILL_ROUNDS", "12"))
SEED = int(os.environ.get("SMD_KILL_SEED", "1"))
LOOK_EVERY = 25         # kills
SIZE, STEP, STEPS = 6 * MIB + 512, 65536, 4
CONTENTS = 4
FORMATS = ["raw", "vhd", "qcow2"]
# Something was killed under the call, or what was left of that is being undone.
AGAIN = ["JOB_WORKER_FAILED", "JOB_STOPPED", "TASK_CANCELLED", "OTHER_OPERATION_IN_PROGRESS",
         "VDI_IN_USE", "SESSION_INVALID"]
TOO_DEEP = "SR_BACKEND_FAILURE_109"


class Contents:
    """Files of every content in every size, and their digests. Content 0 is nothing."""

    def __init__(self, directory):
        self.digests = {}
        for content in range(CONTENTS):
            for size in range(SIZE, SIZE + STEPS * STEP, STEP):
                path = self.path(directory, content, size)
                fill_raw(path, SIZE, seed=content, runs=8 if content else 0)
                os.truncate(path, size)
                self.digests[content, size] = sha256_of_file(path)

    @staticmethod
    def path(directory, content, size):
        return os.path.join(directory, "content-%d-%d" % (content, size))


class Disk:
    def __init__(self, content, size, snapshot):
        self.content, self.size, self.snapshot = content, size, snapshot
        self.vdi = None


class Client(threading.Thread):
    """Its disks have labels that nobody else uses: by these it finds what became of a call
    whose answer was lost."""

    def __init__(self, smd, srs, gate, contents, number):
        super().__init__(daemon=True)
        self.smd, self.srs, self.gate, self.contents = smd, srs, gate, contents
        self.rng = random.Random(SEED * 100 + number)
        self.name, self.made = "client %d" % number, 0
        self.disks = {}         # label -> Disk
        self.session = self.error = None
        self.did = {}           # operation -> how often

    # -- asking --

    def ask(self, name, *params):
        if not self.session:
            self.session = self.smd.raw_call("session.login_with_password", "root", "", "1.0", "")
        try:
            return self.smd.raw_call(name, self.session, *params)
        except ApiError as e:
            if e.code == "SESSION_INVALID":
                self.session = None
            raise

    def ask_async(self, name, *params):
        """The task outlives the daemon where its work does."""
        task = self.ask("Async." + name, *params)
        while True:
            record = self.again(self.ask, "task.get_record", task)
            if record["status"] == "success":
                return record["result"].replace("<value>", "").replace("</value>", "")
            if record["status"] != "pending":
                raise ApiError(record["error_info"])
            time.sleep(0.05)

    def again(self, function, *args):
        """A question, until it is answered."""
        deadline = time.monotonic() + 300
        while True:
            try:
                return function(*args)
            except ApiError as e:
                if e.code not in AGAIN or time.monotonic() > deadline:
                    raise
            except (OSError, http.client.HTTPException, xmlrpc.client.Error):
                assert time.monotonic() < deadline, "the daemon does not answer any more"
            time.sleep(0.05)

    def labelled(self, label):
        """{ref: record} of the disks of that label."""
        return {v: r for v, r in self.again(
            self.ask, "VDI.get_all_records_where", 'field "name_label" = "%s"' % label).items()
            if r["managed"]}

    def until_done(self, label, attempt, done):
        """An attempt that failed, or whose answer was lost, may have done it all the same, or
        may be at it still. Otherwise it is made again."""
        while True:
            try:
                return attempt()
            except ApiError as e:
                if e.code not in AGAIN:
                    raise
            except HttpError as e:
                assert any(code.encode() in e.body for code in AGAIN), e
            except (OSError, http.client.HTTPException, xmlrpc.client.Error):
                pass
            deadline = time.monotonic() + 300
            while any(r["current_operations"] for r in self.labelled(label).values()):
                assert time.monotonic() < deadline, self.labelled(label)
                time.sleep(0.02)
            found = done()
            if found:
                return found

    # -- the operations --

    def new_label(self):
        self.made += 1
        return "%s, disk %d" % (self.name, self.made)

    def find(self):
        """There is one disk for each label; where they are now."""
        for label, disk in self.disks.items():
            there = self.labelled(label)
            assert len(there) == 1, "%s is %d disks" % (label, len(there))
            disk.vdi = next(iter(there))

    def vdi(self, label):
        return self.disks[label].vdi

    def either(self):
        return self.rng.choice([self.ask, self.ask_async])

    def create(self):
        label, sr, fmt = self.new_label(), self.rng.choice(self.srs), self.rng.choice(FORMATS)
        self.until_done(label, lambda: self.ask("VDI.create", {
            "name_label": label, "SR": sr, "virtual_size": str(SIZE), "type": "user",
            "sharable": False, "read_only": False, "other_config": {},
            "sm_config": {"image-format": fmt}}), lambda: self.labelled(label))
        self.disks[label] = Disk(0, SIZE, False)
        self.find()
        self.fill(label)

    def fill(self, label):
        disk, content = self.disks[label], self.rng.randrange(1, CONTENTS)
        path = Contents.path(self.smd.dir, content, disk.size)

        def put():
            self.ask("VDI.get_uuid", disk.vdi)      # with a session that is valid
            with open(path, "rb") as f:
                status, _, body = self.smd.http(
                    "PUT", "/import_raw_vdi?session_id=%s&vdi=%s" % (self.session, disk.vdi), f,
                    {"Content-Length": str(disk.size)})
            if status != 200:
                raise HttpError(status, body)
        self.until_done(label, put, lambda: False)
        disk.content = content

    def another(self, label, call, snapshot=False):
        """A disk that comes of this one has its label at first."""
        new, disk = self.new_label(), self.disks[label]
        known = {disk.vdi}

        def came():
            there = set(self.labelled(label)) - known
            assert len(there) <= 1, "one call, and new disks: %r" % there
            return next(iter(there), None)
        vdi = self.until_done(label, call, came)
        expect_eq(vdi, came(), "the disk that came")
        self.again(self.ask, "VDI.set_name_label", vdi, new)
        self.disks[new] = Disk(disk.content, disk.size, snapshot)
        self.disks[new].vdi = vdi

    def copy(self, label):
        ask, sr = self.either(), self.rng.choice(self.srs)
        self.another(label, lambda: ask("VDI.copy", self.vdi(label), sr))

    def snapshot(self, label):
        ask = self.either()
        self.another(label, lambda: ask("VDI.snapshot", self.vdi(label)), True)

    def clone(self, label):
        self.another(label, lambda: self.ask("VDI.clone", self.vdi(label)))

    def migrate(self, label):
        ask, sr, old = self.either(), self.rng.choice(self.srs), self.vdi(label)
        options = {"dest-img-format": self.rng.choice(FORMATS),
                   "snapshots": self.rng.choice(["true", "false"]),
                   "verify": self.rng.choice(["true", "false"]),
                   "bytes-per-second": self.rng.choice(["0", str(2 * MIB)])}
        self.until_done(label, lambda: ask("VDI.pool_migrate", old, sr, options),
                        lambda: old not in self.labelled(label))
        self.find()

    def resize(self, label):
        disk = self.disks[label]
        size = self.rng.randrange(disk.size, SIZE + STEPS * STEP, STEP)
        self.until_done(label, lambda: self.ask("VDI.resize", disk.vdi, str(size)), lambda: (
            self.labelled(label)[disk.vdi]["virtual_size"] == str(size)))
        disk.size = size

    def destroy(self, label):
        self.until_done(label, lambda: self.ask("VDI.destroy", self.vdi(label)),
                        lambda: not self.labelled(label))
        del self.disks[label]

    def step(self):
        if not self.disks or (len(self.disks) < 3 and self.rng.random() < 0.5):
            return self.create()
        label = self.rng.choice(list(self.disks))
        what = self.rng.choice(["fill", "copy", "snapshot", "snapshot", "clone", "migrate",
                                "migrate", "resize", "destroy", "destroy"])
        if len(self.disks) > 8:
            what = "destroy"
        elif self.disks[label].snapshot and what in ("fill", "migrate", "resize"):
            what = "copy"
        try:
            getattr(self, what)(label)
        except ApiError as e:
            if e.code != TOO_DEEP:
                raise
        self.did[what] = self.did.get(what, 0) + 1

    def run(self):
        try:
            while self.gate.enter():
                try:
                    self.step()
                finally:
                    self.gate.leave()
        except BaseException as e:      # shown by the main thread
            self.error = e


class Gate:
    """Where clients stop between two operations."""

    def __init__(self):
        self.changed = threading.Condition()
        self.open, self.over, self.inside = False, False, 0

    def enter(self):
        with self.changed:
            self.changed.wait_for(lambda: self.open or self.over)
            self.inside += not self.over
            return not self.over

    def leave(self):
        with self.changed:
            self.inside -= 1
            self.changed.notify_all()

    def set(self, open, over=False):
        with self.changed:
            self.open, self.over = open, over
            self.changed.notify_all()
            if not open:
                assert self.changed.wait_for(lambda: not self.inside, 600), "an operation hangs"


def check_database(smd):
    """What a crash has left, as another program reads it: a copy, to change nothing."""
    with tempfile.TemporaryDirectory() as directory:
        for path in glob.glob(os.path.join(smd.state, "smd.db*")):
            shutil.copy(path, directory)
        db = sqlite3.connect(os.path.join(directory, "smd.db"))
        expect_eq(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)], "integrity")
        db.close()


def check_images(smd, srs):
    """A merge that is killed or stops leaves an image with its footer at the start alone, or a
    leak: exit status 3. The collector takes it up again within some ten seconds."""
    deadline = time.monotonic() + 90
    while True:
        for sr in srs:
            smd.hold_collector(sr)
        smd.wait_jobs()
        while any(r["status"] == "pending" for r in smd.collections().values()):
            assert time.monotonic() < deadline, "the collector does not stop"
            time.sleep(0.05)
        try:
            for sr in srs:
                smd.check_chains(sr)
            return
        except AssertionError as why:
            if "ended with 3:" not in str(why) or time.monotonic() > deadline:
                raise
        finally:
            for sr in srs:
                smd.let_collect(sr)
        time.sleep(1)


def check(smd, srs, clients):
    smd.wait_jobs()
    disks = {}
    for client in clients:
        if client.error:
            raise client.error
        client.find()
        disks.update({d.vdi: (d, label) for label, d in client.disks.items()})
    for sr in srs:
        smd.expect_files_of_rows(sr)
    records = smd.call("VDI.get_all_records")
    expect_eq(sorted(disks), sorted(v for v, r in records.items() if r["managed"]), "disks")
    for vdi, (disk, label) in disks.items():
        expect_eq(int(records[vdi]["virtual_size"]), disk.size, "size of " + label)
        expect_eq(smd.vdi_sha256(vdi), clients[0].contents.digests[disk.content, disk.size],
                  "content of " + label)
    check_images(smd, srs)
    expect_eq(glob.glob(os.path.join(smd.state, "jobs", "*")), [], "marks")


def kill_something(smd, rng, kills):
    """A worker where there is one, or the daemon; sometimes the daemon is only asked to end."""
    if rng.random() < 0.4 and smd.kill_a_worker(rng):
        kills["worker"] += 1
        return
    if rng.random() < 0.1:
        kills["SIGTERM"] += 1
        smd.stop()
    else:
        kills["daemon"] += 1
        smd.kill()
    check_database(smd)
    smd.start()


rng = random.Random(SEED)
with Smd() as smd:
    srs = [smd.make_sr("one"), smd.make_sr("two")]
    gate, contents = Gate(), Contents(smd.dir)
    clients = [Client(smd, srs, gate, contents, number) for number in range(4)]
    kills = {"daemon": 0, "worker": 0, "SIGTERM": 0}
    for client in clients:
        client.start()
    for number in range(1, ROUNDS + 1):
        gate.set(True)
        time.sleep(rng.uniform(0.05, 1.2))
        kill_something(smd, rng, kills)
        if number % LOOK_EVERY == 0 or number == ROUNDS:
            gate.set(False)
            check(smd, srs, clients)
            print(number, kills, flush=True)
    gate.set(False, over=True)
    done = {}
    for client in clients:
        client.join()
        for what, count in client.did.items():
            done[what] = done.get(what, 0) + count
    print("done:", done)
