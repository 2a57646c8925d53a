#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Random histories of a tracked disk, in each format: whatever happened between two states,
list_changed_blocks has every block in which they differ. What the states hold is remembered
here, since their data goes; kills, restarts and the collector come between. SMD_CBT_STEPS:
how many steps, SMD_CBT_SEED: which ones."""
import random

from smdtest import *

BLOCK = 64 << 10
SIZE = 4 * MIB
STEPS = int(os.environ.get("SMD_CBT_STEPS", "14"))
SEED = int(os.environ.get("SMD_CBT_SEED", "5"))


def differing(a, b):
    size = max(len(a), len(b))
    a, b = a.ljust(size, b"\0"), b.ljust(size, b"\0")
    return {i for i in range(-(-size // BLOCK)) if a[i * BLOCK:(i + 1) * BLOCK] !=
            b[i * BLOCK:(i + 1) * BLOCK]}


class History:
    def __init__(self, smd, fmt, rng):
        self.smd, self.rng, self.fmt = smd, rng, fmt
        self.sr = smd.make_sr("sr-" + fmt)
        self.vdi = smd.make_vdi(self.sr, SIZE, fmt)
        smd.call("VDI.enable_cbt", self.vdi)
        self.content = bytes(int(smd.call("VDI.get_virtual_size", self.vdi)))
        self.states = []        # [ref, content, parent, has data] of snapshots, eldest first
        self.parent = None      # the snapshot the disk counts from
        self.write()
        self.snapshot()

    def write(self):
        """As a guest does: a part at the disk's begin is rewritten, most of it as it was."""
        data = bytearray(self.content[:self.rng.randrange(1, 24) * BLOCK])
        keep = self.rng.randrange(0, len(data) // 2)
        data[keep:] = self.rng.choice((os.urandom, bytes))(len(data) - keep)
        self.smd.write_vdi(self.vdi, bytes(data), mend=True)
        self.content = bytes(data) + self.content[len(data):]

    def replace(self):
        path = os.path.join(self.smd.dir, "new.raw")
        data = bytearray(self.content)
        at = self.rng.randrange(0, len(data) - 200000)
        data[at:at + 200000] = os.urandom(200000)
        with open(path, "wb") as f:
            f.write(data)
        self.smd.import_vdi(self.vdi, path)
        self.content = bytes(data)

    def resize(self):
        size = len(self.content) + 2 * MIB
        self.smd.call("VDI.resize", self.vdi, str(size))
        self.content = self.content.ljust(size, b"\0")

    def snapshot(self):
        ref = self.smd.call("VDI.snapshot", self.vdi)
        self.states.append([ref, self.content, self.parent, True])
        self.parent = ref

    def clone(self):
        """Of the disk or a snapshot, and gone again: images change, contents do not."""
        of = self.rng.choice([self.vdi] + [s[0] for s in self.states if s[3]])
        clone = self.smd.call("VDI.clone", of)
        if self.rng.random() < 0.5:
            self.smd.call("VDI.destroy", clone)

    def data_destroy(self):
        state = self.rng.choice(self.states)
        self.smd.call("VDI.data_destroy", state[0])
        state[3] = False

    def destroy(self):
        if len(self.states) < 2:
            return
        gone = self.rng.choice(self.states)
        self.smd.call("VDI.destroy", gone[0])
        self.forget(gone)

    def forget(self, gone):
        self.states.remove(gone)
        for state in self.states:
            state[2] = gone[2] if state[2] == gone[0] else state[2]
        if self.parent == gone[0]:
            self.parent = gone[2]

    def revert(self):
        whole = [s for s in self.states if s[3]]
        if whole:
            state = self.rng.choice(whole)
            self.smd.call("VDI.revert", state[0])
            self.content, self.parent = state[1], state[0]

    def crash(self):
        self.smd.kill()
        self.smd.start()

    def cut_off(self):
        """A kill in the middle of what changes the line: it happened or it did not."""
        state = self.rng.choice(self.states)
        self.smd.call(*self.rng.choice((("Async.VDI.snapshot", self.vdi),
                                        ("Async.VDI.data_destroy", state[0]),
                                        ("Async.VDI.destroy", state[0]))))
        time.sleep(self.rng.random() * 0.2)
        self.crash()
        rows = self.smd.vdis_of(self.sr)
        if state[0] not in rows:
            self.forget(state)
        elif rows[state[0]]["type"] == "cbt_metadata":
            state[3] = False
        for ref in set(rows[self.vdi]["snapshots"]) - {s[0] for s in self.states}:
            self.states.append([ref, self.content, self.parent, True])
            self.parent = ref
        if not self.states:
            self.snapshot()
        self.smd.call("SR.scan", self.sr)
        expect_eq(self.smd.call("SR.get_orphans", self.sr), {}, "what nobody has")

    def copy_onto(self):
        """What differs from a snapshot that shows the same, written in place."""
        base = self.smd.call("VDI.snapshot", self.vdi)
        self.states.append([base, self.content, self.parent, True])
        self.parent = base
        other = self.smd.call("VDI.clone", base)
        data = os.urandom(100000)
        self.smd.write_vdi(other, data)
        self.smd.call("VDI.copy", other, NULL_REF, base, self.vdi)
        self.smd.call("VDI.destroy", other)
        self.content = data + self.content[100000:]

    def line(self, ref):
        parents = {s[0]: s[2] for s in self.states}
        parents[self.vdi] = self.parent
        found = []
        while ref:
            found.append(ref)
            ref = parents[ref]
        return found

    def check(self):
        states = [s[:2] for s in self.states] + [[self.vdi, self.content]]
        a, b = (self.rng.choice(states) for _ in range(2))
        for start, end in (a, b), (states[-2], states[-1]), (states[0], states[-1]):
            early, late = self.line(start[0]), self.line(end[0])
            if not set(early) & set(late) or end[0] in early:
                expect_error("SR_BACKEND_FAILURE_460", self.smd.call, "VDI.list_changed_blocks",
                             start[0], end[0])
                continue
            size = len(end[1])
            found = changed_blocks(
                self.smd.call("VDI.list_changed_blocks", start[0], end[0]), size)
            missing = {n for n in differing(start[1], end[1]) if n * BLOCK < size} - found
            assert not missing, "blocks %s changed, and are not told" % sorted(missing)

    def run(self):
        steps = [self.write] * 5 + [self.snapshot] * 4 + [self.data_destroy] * 4 + [
            self.destroy] * 3 + [self.replace, self.resize, self.clone, self.revert, self.revert,
                                 self.crash, self.cut_off, self.cut_off, self.copy_onto]
        for n in range(STEPS):
            step = self.rng.choice(steps)
            try:
                step()
                self.check()
            except Exception:
                print("%s, step %d of seed %d: %s" % (self.fmt, n, SEED, step.__name__))
                raise
        path = os.path.join(self.smd.dir, "end.raw")
        self.smd.export_vdi(self.vdi, path)
        with open(path, "rb") as f:
            assert f.read() == self.content, "the disk holds something else than this test thinks"
        # Without tracking nothing is left over.
        self.smd.call("VDI.disable_cbt", self.vdi)
        for vdi, record in self.smd.vdis_of(self.sr).items():
            if record["managed"]:
                self.smd.call("VDI.destroy", vdi)
        self.smd.wait_collected(self.sr, 0)
        expect_eq([f for f in os.listdir(self.smd.sr_path(self.sr)) if f[0] != "."], [], "files")


with Smd() as smd:
    for i, fmt in enumerate(("vhd", "qcow2", "raw")):
        History(smd, fmt, random.Random(SEED + i)).run()
