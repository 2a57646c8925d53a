#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Random trees of disks: create, write, snapshot, clone, revert, resize, migrate, destroy, the
collector at work all the while, the daemon or a worker killed now and then. Every disk
reads as the model says at all times, and in the end no tree is deeper than it must be
and no volume is kept that no disk needs.

SMD_TREE_STEPS: how many steps (200). SMD_TREE_SEED: another story."""
import random
import threading

from smdtest import *

STEPS = int(os.environ.get("SMD_TREE_STEPS", "200"))
SEED = int(os.environ.get("SMD_TREE_SEED", "1"))
EDIT = os.path.join(BUILD, "tests", "chain-edit")
UNIT = 4096
SIZES = [2 * MIB, 3 * MIB + 512, 5 * MIB + 7 * 512]
GROWN_MAX = 8 * MIB
DISKS_MAX = 20
LOCKED = 75
TOO_DEEP = "SR_BACKEND_FAILURE_109"
rng = random.Random(SEED)


def holders(directory):
    """Who has which file of a directory open: its pid, name, state, parent; the file."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir("/proc/%s/fd" % pid):
                path = os.readlink("/proc/%s/fd/%s" % (pid, fd))
                if path.startswith(directory):
                    with open("/proc/%s/stat" % pid) as f:
                        found.append((f.read().split()[:4], os.path.basename(path)))
        except OSError:
            pass
    return found


class Disk:
    """What a disk must be: its size, and the units that are not zeroes."""

    def __init__(self, uuid, size, units=None, snapshot_of=None):
        self.uuid, self.size, self.snapshot_of = uuid, size, snapshot_of
        self.units = dict(units or {})
        self.label = None

    def digest(self):
        digest = hashlib.sha256()
        for i in range(0, self.size, UNIT):
            count = min(UNIT, self.size - i)
            digest.update(bytes([self.units.get(i // UNIT, 0)]) * count)
        return digest.hexdigest()


class Story:
    def __init__(self, smd):
        self.smd = smd
        self.srs = [smd.make_sr("trees"), smd.make_sr("woods")]
        self.disks = {}
        self.kills = 0

    def ref(self, disk):
        return self.smd.call("VDI.get_by_uuid", disk.uuid)

    def note(self, vdi, size, units, snapshot_of=None):
        uuid = self.smd.call("VDI.get_uuid", vdi)
        self.disks[uuid] = Disk(uuid, size, units, snapshot_of)
        self.name(self.disks[uuid])

    def name(self, disk):
        """A label of its own, by which it is known when it has moved."""
        disk.label = disk.uuid
        self.smd.call("VDI.set_name_label", self.ref(disk), disk.label)

    # -- the steps; each says what the model is afterwards only when it was acknowledged --

    def create(self):
        size = rng.choice(SIZES)
        fmt = rng.choice(["raw", "vhd", "qcow2"])
        self.pending = ("new", size, {}, None)
        self.note(self.smd.make_vdi(rng.choice(self.srs), size, fmt), size, {})

    def snapshot(self, disk):
        self.pending = ("new", disk.size, disk.units, disk.uuid)
        self.note(self.smd.call("VDI.snapshot", self.ref(disk)), disk.size, disk.units, disk.uuid)

    def clone(self, disk):
        self.pending = ("new", disk.size, disk.units, None)
        self.note(self.smd.call("VDI.clone", self.ref(disk)), disk.size, disk.units)

    def revert(self, snapshot):
        of = self.disks[snapshot.snapshot_of]
        self.pending = ("revert", of, snapshot)
        self.smd.call("VDI.revert", self.ref(snapshot))
        of.size, of.units = snapshot.size, dict(snapshot.units)

    def resize(self, disk):
        size = min(GROWN_MAX, disk.size + rng.randrange(1, 3000) * 512)
        self.pending = ("resize", disk, size)
        self.smd.call("VDI.resize", self.ref(disk), str(size))
        disk.size = size

    def migrate(self, disk):
        """The disk alone, or with the snapshots that are in its SR, anywhere."""
        along = rng.random() < 0.7
        ref = self.ref(disk)
        options = {"snapshots": "true" if along else "false",
                   "dest-img-format": rng.choice(["raw", "vhd", "qcow2"])}
        sr = self.smd.call("VDI.get_SR", ref)
        self.pending = ("migrate", [disk] + [d for d in self.disks.values()
                        if along and d.snapshot_of == disk.uuid and
                        self.smd.call("VDI.get_SR", self.ref(d)) == sr])
        self.smd.call("VDI.pool_migrate", ref, rng.choice(self.srs), options)
        self.migrated()

    def migrated(self):
        """They have new uuids: found by what they hold and are snapshots of."""
        records = self.managed()
        gone = self.pending[1]
        new = {uuid: r for uuid, r in records.items() if uuid not in self.disks}
        expect_eq(len(new), len(gone), "disks that came")
        for disk in gone:
            assert disk.uuid not in records, "the source is still there"
            del self.disks[disk.uuid]
        for disk in gone:
            now = [u for u, r in new.items() if r["name_label"] == disk.label]
            expect_eq(len(now), 1, "disks with the label " + disk.label)
            for other in list(self.disks.values()) + gone:
                if other.snapshot_of == disk.uuid:
                    other.snapshot_of = now[0]
            disk.uuid = now[0]
            self.disks[disk.uuid] = disk

    def destroy(self, disk):
        self.pending = ("destroy", disk)
        self.smd.call("VDI.destroy", self.ref(disk))
        self.forget(disk)

    def forget(self, disk):
        del self.disks[disk.uuid]
        for other in self.disks.values():
            if other.snapshot_of == disk.uuid:
                other.snapshot_of = None

    def chain(self, disk):
        """Its files and their formats, leaf first, as the records have them now."""
        records = {r["uuid"]: r for r in self.smd.call("VDI.get_all_records").values()}
        chain, uuid = [], disk.uuid
        while uuid:
            record = records[uuid]
            chain += [os.path.join(self.smd.sr_path(record["SR"]), record["location"]),
                      record["sm_config"]["image-format"]]
            uuid = record["sm_config"].get("vhd-parent")
        return chain

    def write(self, disk):
        """As a guest that has the disk: by another program, the images locked. The
        collector may change the chain until they are."""
        edits, units = [], dict(disk.units)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(0, disk.size // UNIT)
            n = rng.randrange(1, min(disk.size // UNIT - at, rng.choice([1, 16, 400])) + 1)
            byte = rng.choice([0, rng.randrange(1, 256)])
            edits.append("%d:%d:%s" % (at * UNIT, n * UNIT, byte or "zero"))
            for i in range(at, at + n):
                units[i] = byte
        for _ in range(400):
            try:
                chain = self.chain(disk)
            except (ApiError, KeyError):    # the collector was faster
                continue
            guest = subprocess.Popen([EDIT] + chain + ["--"] + edits, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)
            go = ""
            try:
                if guest.stdout.readline() == "ready\n" and self.chain(disk) == chain:
                    go = "\n"
            except (ApiError, KeyError):    # and faster again
                pass
            finally:                        # also when the daemon is killed meanwhile
                guest.communicate(go)
            if guest.returncode == 0:
                disk.units = units
                return
            assert guest.returncode == LOCKED, "chain-edit ended with %d" % guest.returncode
            time.sleep(0.02)
        raise AssertionError("no way to write to %s: its images stay locked" % disk.uuid)

    def revertible(self, disk):
        """A snapshot of a disk that is in the same SR."""
        of = self.disks.get(disk.snapshot_of)
        return of and (self.smd.call("VDI.get_SR", self.ref(of)) ==
                       self.smd.call("VDI.get_SR", self.ref(disk)))

    def step(self):
        disks = list(self.disks.values())
        self.pending = None
        if not disks or (len(disks) < 3 and rng.random() < 0.5):
            return self.create()
        disk = rng.choice(disks)
        if len(disks) > DISKS_MAX:
            return self.destroy(disk)
        what = rng.choice(["snapshot", "snapshot", "clone", "revert", "resize", "destroy",
                           "destroy", "write", "write", "write", "migrate"])
        if what == "revert" and not self.revertible(disk):
            what = "snapshot"
        if what in ("write", "resize") and (disk.snapshot_of or disk.size >= GROWN_MAX):
            what = "clone"
        try:
            getattr(self, what)(disk)
        except ApiError as e:
            if e.code != TOO_DEEP:
                raise

    # -- kills --

    def killed_step(self):
        """A step, and a kill of the daemon or of a worker in its middle."""
        self.kills += 1
        daemon = rng.random() < 0.6
        delay = rng.uniform(0, 0.06)

        def kill():
            time.sleep(delay)
            for pid in [self.smd.process.pid] if daemon else self.smd.workers():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            self.step()
        except ApiError as e:
            # Then it did not happen; a resize may have, just before its answer.
            assert e.code == "JOB_WORKER_FAILED", e
            self.learn_size()
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            assert daemon
        else:
            self.pending = None
        killer.join()
        if daemon:
            self.smd.process.wait()
            self.smd.start()
            self.smd.wait_jobs()
            self.learn()
        self.compare()

    def learn(self):
        """What became of the call that was cut off: all of it or nothing."""
        records = self.managed()
        new = [uuid for uuid in records if uuid not in self.disks]
        for uuid, disk in self.disks.items():
            if uuid in records and records[uuid]["name_label"] != disk.label:
                self.name(disk)         # the kill came between it and its label
        kind = self.pending[0] if self.pending else None
        if kind == "migrate":
            if new:
                self.migrated()
            self.pending = None
            return
        assert len(new) <= (kind == "new"), "disks that nobody asked for: %r" % new
        if new:
            self.disks[new[0]] = Disk(new[0], *self.pending[1:])
            self.name(self.disks[new[0]])
        elif kind == "destroy" and self.pending[1].uuid not in records:
            self.forget(self.pending[1])
        elif kind == "resize":
            self.learn_size()
        elif kind == "revert":
            of, snapshot = self.pending[1:]
            if self.content(of) == snapshot.digest():
                of.size, of.units = snapshot.size, dict(snapshot.units)
        self.pending = None

    def learn_size(self):
        if self.pending and self.pending[0] == "resize":
            disk, size = self.pending[1:]
            if int(self.smd.call("VDI.get_virtual_size", self.ref(disk))) == size:
                disk.size = size

    # -- looking --

    def managed(self):
        return {r["uuid"]: r for r in self.smd.call("VDI.get_all_records").values()
                if r["managed"]}

    def content(self, disk):
        path = os.path.join(self.smd.dir, "content")
        for last in range(100, -1, -1):
            try:
                self.smd.export_vdi(self.ref(disk), path)
                return sha256_of_file(path)
            except HttpError as e:
                # A worker of a daemon that was killed dies with it, but not amid a sync.
                if b"VDI_IN_USE" not in e.body or not last:
                    print("open by:", holders(self.smd.sr_path(self.srs[0])),
                          holders(self.smd.sr_path(self.srs[1])))
                    raise
                time.sleep(0.1)

    def compare(self):
        records = self.managed()
        expect_eq(sorted(records), sorted(self.disks), "disks")
        for disk in self.disks.values():
            record = records[disk.uuid]
            expect_eq(int(record["virtual_size"]), disk.size, "size of " + disk.uuid)
            of = record["snapshot_of"]
            expect_eq(None if of == NULL_REF else self.smd.call("VDI.get_uuid", of),
                      disk.snapshot_of, "snapshot_of of " + disk.uuid)
            expect_eq(self.content(disk), disk.digest(), "content of " + disk.uuid)

    def unneeded(self):
        """Bases that a collector has something to do about, and volumes without a row."""
        records = self.smd.call("VDI.get_all_records").values()
        children = {}
        for r in records:
            children.setdefault(r["sm_config"].get("vhd-parent"), []).append(r["uuid"])
        bases = [r["uuid"] for r in records
                 if not r["managed"] and len(children.get(r["uuid"], [])) < 2]
        volumes = [n for sr in self.srs for n in os.listdir(self.smd.sr_path(sr))
                   if not n.startswith(".")]
        rows = {r["location"] for r in records}
        return bases + [v for v in volumes if v not in rows]

    def collected(self):
        deadline = time.monotonic() + 120
        while self.unneeded():
            assert time.monotonic() < deadline, "left by the collector: %r" % self.unneeded()
            time.sleep(0.1)
        self.compare()
        for record in self.managed().values():
            info = run("smd-img", "info", "-u", "--json", "-f", record["sm_config"]["image-format"],
                       os.path.join(self.smd.sr_path(record["SR"]), record["location"]))
            expect_eq(json.loads(info)["hidden"], False, "hidden of " + record["uuid"])


with Smd() as smd:
    story = Story(smd)
    for number in range(STEPS):
        story.step() if rng.random() > 0.04 else story.killed_step()
        if number % 50 == 49:
            story.compare()
    story.collected()
    while len(story.disks) > 4:
        story.destroy(rng.choice(list(story.disks.values())))
    story.collected()
    while story.disks:
        story.destroy(rng.choice(list(story.disks.values())))
    story.collected()
    expect_eq(smd.call("VDI.get_all_records"), {}, "rows when all disks are destroyed")
    print("%d steps, seed %d, %d kills" % (STEPS, SEED, story.kills))
