#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A migration goes on from its last mark whatever is killed, at 25, 50, 75 and 99%: its
worker, the daemon, or the daemon by SIGTERM. The same where there is no room at 60%: it goes
on when there is some and task.resume was called. Its task stays the same one, its progress
never goes back, and what was copied is not copied again: the workers' writes are counted. By
the marks they leave, what is copied again of one that was killed took it a second at most.

SMD_RESUME_MIB: the disk's data (96); a long run takes 10240, and wants no more than 5%
written twice."""
import struct
import threading

from smdtest import *

DATA = int(os.environ.get("SMD_RESUME_MIB", "96")) * MIB
LONG = DATA >= GIB
RATE = 200 * MIB if LONG else DATA // 8
SIZE = DATA + 16 * MIB
# What a worker may have under way besides, in all its threads, and its tables.
UNDER_WAY = 4 * MIB
RECORD = struct.Struct(">16s16s8s7Q")   # of common/image/marks.h, 128 bytes each


class Writes(threading.Thread):
    """What every worker has written, as the kernel counts it, until there are no more."""

    def __init__(self, smd):
        super().__init__(daemon=True)
        self.smd, self.bytes, self.over = smd, {}, False
        self.killed, self.marked = set(), 0
        self.start()

    def run(self):
        while not self.over:
            self.look()
            time.sleep(0.01)

    def look(self):
        try:
            for pid in self.smd.workers():
                with open("/proc/%d/io" % pid) as f:
                    wrote = dict(line.split(": ") for line in f.read().splitlines())["wchar"]
                self.bytes[pid] = max(int(wrote), self.bytes.get(pid, 0))
        except (OSError, KeyError):     # it has ended meanwhile, or the daemon has
            pass

    def marks(self):
        """What the last mark says was written by then, in all runs."""
        written = 0
        jobs = os.path.join(self.smd.state, "jobs")
        for name in os.listdir(jobs):
            with open(os.path.join(jobs, name), "rb") as f:
                data = f.read()
            for at in range(0, len(data) - 127, 128):
                fields = RECORD.unpack_from(data, at)
                if fields[2] == b"smdmark1":
                    written = max(written, fields[6])
        return written

    def expect_kept(self, pids):
        """They are about to be killed: what they wrote and no mark knows."""
        marked = self.marks()
        wrote = sum(self.bytes.get(pid, 0) for pid in pids)
        lost = wrote - (marked - self.marked)
        print("killed: %.1f of %.1f MiB are to be copied again" % (lost / MIB, wrote / MIB), flush=True)
        assert lost <= RATE + UNDER_WAY, (lost, wrote, marked, self.marked)
        self.marked = marked

    def expect(self, what):
        self.over = True
        self.join()
        total = sum(self.bytes.values())
        print("%s: %d MiB of data, %d MiB written by %r" % (
            what, DATA // MIB, total // MIB, [n // MIB for n in self.bytes.values()]), flush=True)
        # In the short run a second's data, which may be lost, is a part of it that tells.
        assert DATA * 0.95 <= total <= DATA * (1.05 if LONG else 2), total


shown = {}      # task: its progress, by what was seen of it


def look(smd, task):
    record = smd.call("task.get_record", task)
    progress = float(record["progress"])
    assert progress >= shown.get(task, 0), "it went back from %f: %r" % (shown[task], record)
    shown[task] = progress
    return record


def reach(smd, task, share):
    """Wait until so much is done."""
    deadline = time.monotonic() + 600
    while True:
        record = look(smd, task)
        if int(record["other_config"].get("bytes_done", 0)) >= share * DATA:
            return
        assert record["status"] == "pending", record
        assert time.monotonic() < deadline, record
        time.sleep(0.02)


def hold_workers(smd, writes):
    """They stand still, and what they wrote is known: to be killed."""
    pids = smd.workers()
    signal_all(pids, signal.SIGSTOP)
    time.sleep(0.05)
    writes.look()
    writes.expect_kept(pids)
    return pids


def signal_all(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:      # it has ended by itself
            pass


def kill_workers(smd, writes):
    signal_all(hold_workers(smd, writes), signal.SIGKILL)


def migrate(smd, vdi, sr):
    return smd.call("Async.VDI.pool_migrate", vdi, sr, {
        "dest-img-format": "qcow2", "bytes-per-second": str(RATE), "verify": "false"})


def expect_moved(smd, task, digest, srs, writes, what):
    record = smd.wait_task(task, timeout=600)
    expect_eq(record["status"], "success", record)
    writes.expect(what)
    assert int(record["other_config"]["resumed_at"]) > DATA // 4, record
    new = record["result"].replace("<value>", "").replace("</value>", "")
    expect_eq(smd.vdi_sha256(new), digest, "content")
    run("qemu-img", "check", "-q", "-f", "qcow2", smd.vdi_file(new))
    for sr in srs:
        smd.expect_files_of_rows(sr)
    expect_eq(os.listdir(os.path.join(smd.state, "jobs")), [], "marks that are left")
    return new


def killed(smd, vdi, srs, digest):
    task, writes = migrate(smd, vdi, srs[1]), Writes(smd)
    reach(smd, task, 0.25)
    kill_workers(smd, writes)
    reach(smd, task, 0.5)
    hold_workers(smd, writes)
    smd.kill()
    smd.start()
    expect_eq(look(smd, task)["status"], "pending", "the task after a kill")
    expect_eq(smd.call("VDI.get_current_operations", vdi), {task: "mirror"}, "who has the disk")
    reach(smd, task, 0.75)
    smd.stop()
    writes.marked = writes.marks()
    smd.start()
    look(smd, task)
    # Slower and slower: a test that is kept from running does not sleep through the job's end.
    for share, seconds in ((0.85, 40), (0.97, 300)):
        reach(smd, task, share)
        smd.call("task.set_speed", task, str(DATA // seconds))
    reach(smd, task, 0.99)
    kill_workers(smd, writes)
    return expect_moved(smd, task, digest, srs, writes, "killed four times")


def without_room(smd, vdi, sr, digest, srs):
    task, writes = migrate(smd, vdi, sr), Writes(smd)
    reach(smd, task, 0.3)
    pids = hold_workers(smd, writes)
    stat = os.statvfs(smd.sr_path(sr))
    with open(os.path.join(smd.sr_path(sr), ".ballast"), "wb") as f:
        os.posix_fallocate(f.fileno(), 0, stat.f_bavail * stat.f_bsize -
                           (6 * DATA // 10 - sum(writes.bytes.values())))
    signal_all(pids, signal.SIGCONT)
    deadline = time.monotonic() + 300
    while (record := smd.call("task.get_record", task))["other_config"].get("state") != "paused":
        assert record["status"] == "pending" and time.monotonic() < deadline, record
        time.sleep(0.05)
    expect_eq(record["other_config"]["waits_for"], "room in SR " + smd.call("SR.get_uuid", sr))
    done = int(record["other_config"]["bytes_done"])
    assert 0.4 * DATA < done < 0.7 * DATA, record
    os.unlink(f.name)
    smd.call("task.resume", task)
    expect_moved(smd, task, digest, srs, writes, "no room at %d%%" % (done * 100 // DATA))


def mount(smd, name):
    """A small file system of its own, in memory where the disk is small; or None."""
    path, image = os.path.join(smd.dir, name), os.path.join(smd.dir, name + ".img")
    os.mkdir(path)
    if LONG:
        with open(image, "wb") as f:
            f.truncate(2 * SIZE)
        run("mkfs.ext4", "-q", "-F", image)
    argv = ["-o", "loop", image] if LONG else ["-t", "tmpfs", "-o", "size=%d" % (2 * SIZE), "none"]
    done = subprocess.run(["mount"] + argv + [path], stderr=subprocess.DEVNULL)
    return path if done.returncode == 0 else None


with Smd() as smd:
    srs = [smd.make_sr("one"), smd.make_sr("two")]
    image = os.path.join(smd.dir, "content.raw")
    with open(image, "wb") as f:
        f.truncate(SIZE)
        for at in range(0, DATA, MIB):
            f.write(os.urandom(MIB))
    vdi = smd.make_vdi(srs[0], SIZE, "vhd")
    smd.import_vdi(vdi, image)
    digest = sha256_of_file(image)
    os.unlink(image)
    vdi = killed(smd, vdi, srs, digest)
    small = mount(smd, "small")
    if small:
        try:
            without_room(smd, vdi, smd.make_sr("small"), digest, srs)
        finally:
            smd.stop()
            run("umount", "-l", small)
