#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A job shows its phases as a whole, with what percentage of progress each is, and goes
through them in their order; within each its progress is where the weights say. A job that
began again at a mark shows the rate of what it moves, not of what was there; and of one that
a limit held back nothing is learned."""
import threading

from smdtest import *

DATA = 24 * MIB
ORDER = ["plan", "reserve", "copy", "verify", "switch", "clean-up"]


def phases_of(config):
    """{name: (from, to)} in shares of progress."""
    at, ranges = 0, {}
    for word in config["phases"].split():
        name, weight = word.split("=")
        ranges[name] = (at / 100, (at + int(weight)) / 100)
        at += int(weight)
    expect_eq(at, 100, "the weights of " + config["phases"])
    expect_eq(list(ranges), [name for name in ORDER if name in ranges], "their order")
    return ranges


class Watch:
    """What a task shows, each time that it is looked at."""

    def __init__(self, smd, task):
        self.smd, self.task, self.seen, self.progress = smd, task, [], 0

    def look(self):
        record = self.smd.call("task.get_record", self.task)
        progress, config = float(record["progress"]), record["other_config"]
        assert progress >= self.progress, "it went back from %f: %r" % (self.progress, record)
        self.progress = progress
        if "phase" in config and record["status"] == "pending":
            self.seen += [config["phase"]] if self.seen[-1:] != [config["phase"]] else []
            start, end = phases_of(config)[config["phase"]]
            # Bytes are shown in steps.
            assert start - 0.02 <= progress <= end + 0.001, (config, progress)
        return record

    def until(self, condition):
        deadline = time.monotonic() + 120
        while not condition(record := self.look()):
            assert time.monotonic() < deadline, record
            time.sleep(0.01)
        return record

    def until_over(self):
        record = self.until(lambda record: record["status"] != "pending")
        expect_eq(record["status"], "success", record)
        return record


def migrate(smd, vdi, sr, **options):
    return Watch(smd, smd.call("Async.VDI.pool_migrate", vdi, sr, dict(
        {"dest-img-format": "qcow2", "bytes-per-second": str(DATA // 2)}, **options)))


def new_of(record):
    return record["result"].replace("<value>", "").replace("</value>", "")


def verified(smd, vdi, sr):
    """Copied and read back; the worker, and then the daemon, killed in the middle of each."""
    watch = migrate(smd, vdi, sr, verify="true")
    watch.until(lambda r: r["other_config"].get("phase") == "copy" and float(r["progress"]) > 0.3)
    for pid in smd.workers():
        os.kill(pid, signal.SIGKILL)
    watch.until(lambda r: float(r["progress"]) > 0.4)
    before = watch.progress
    smd.kill()
    smd.start()
    record = watch.look()
    assert float(record["progress"]) >= before, record
    # Its first seconds are those of what it moves at its limit.
    record = watch.until(lambda r: r["other_config"].get("phase") == "verify")
    rate = int(record["other_config"]["bytes_per_second"])
    assert rate < 2 * DATA, "%d bytes a second of %d" % (rate, DATA // 2)
    record = watch.until_over()
    for phase in "copy", "verify":
        assert phase in watch.seen, watch.seen
    assert watch.seen.index("copy") < watch.seen.index("verify"), watch.seen
    return new_of(record)


def plain(smd, vdi, sr):
    watch = migrate(smd, vdi, sr)
    record = watch.until_over()
    assert "verify" not in phases_of(record["other_config"]), record
    expect_eq([p for p in watch.seen if p not in ("plan", "reserve", "switch", "clean-up")], ["copy"])
    expect_eq(watch.seen, [p for p in ORDER if p in watch.seen], "the phases seen")
    return new_of(record)


def rates(smd, sr):
    return [k for k in smd.call("SR.get_sm_config", sr) if k.startswith("rate-from-")]


def held_back(smd, vdi, one, two):
    """A copy that a limit held back tells nothing of what the storage can, whoever set it."""
    smd.call("SR.add_to_other_config", two, "bytes-per-second", str(DATA))
    vdi = smd.call_async("VDI.pool_migrate", vdi, two, {"dest-img-format": "raw"})
    expect_eq(rates(smd, two), [], "after a copy at its SR's limit")
    vdi = new_of(migrate(smd, vdi, one).until_over())
    expect_eq(rates(smd, one), [], "after copies at limits of their own")
    smd.call("SR.remove_from_other_config", two, "bytes-per-second")
    vdi = smd.call_async("VDI.pool_migrate", vdi, two, {"dest-img-format": "raw"})
    expect_eq(len(rates(smd, two)), 1, "rates after a copy without limits")
    return vdi


def with_snapshot(smd, vdi, sr):
    """Images are counted."""
    smd.call("VDI.snapshot", vdi)
    watch = migrate(smd, vdi, sr, snapshots="true")
    record = watch.until_over()
    expect_eq(record["other_config"]["image"], "3 of 3")


def upload(smd, sr, image):
    """An image is checked and becomes the disk, in the phase verify."""
    vdi = smd.make_vdi(sr, DATA, "qcow2")
    task = smd.call("task.create", "upload", "")
    with open(image, "rb") as f:
        status, _, text = smd.http("PUT", "/import_raw_vdi?session_id=%s&vdi=%s&format=vhd&task_id=%s" % (
            smd.login(), vdi, task), f.read())
    expect_eq(status, 200, text)
    config = smd.call("task.get_other_config", task)
    assert "verify" in phases_of(config), config
    expect_eq(config["phase"], "clean-up")


def downloads(smd, vdi):
    """They make nothing, and show what they do all the same."""
    smd.call("SR.add_to_other_config", smd.call("VDI.get_SR", vdi), "bytes-per-second", str(DATA // 2))
    for path in "/export_raw_vdi?format=vhd", "/export_image?depth=1":
        task = smd.call("task.create", "download", "")
        client = threading.Thread(target=smd.http, args=("GET", "%s&session_id=%s&vdi=%s&task_id=%s" % (
            path, smd.login(), vdi, task)))
        client.start()
        watch = Watch(smd, task)
        record = watch.until_over()
        client.join()
        expect_eq(list(phases_of(record["other_config"])), ["plan", "copy", "clean-up"], path)
        assert "copy" in watch.seen, watch.seen
        expect_eq(record["other_config"]["phase"], "clean-up", path)
    smd.call("SR.remove_from_other_config", smd.call("VDI.get_SR", vdi), "bytes-per-second")


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    image = os.path.join(smd.dir, "content.vhd")
    vdi = smd.make_vdi(one, DATA, "vhd")
    with open(os.path.join(smd.dir, "content.raw"), "wb") as f:
        f.write(os.urandom(DATA))
    smd.import_vdi(vdi, f.name)
    vdi = verified(smd, vdi, two)
    expect_eq(smd.vdi_sha256(vdi), sha256_of_file(f.name), "content")
    vdi = plain(smd, vdi, one)
    vdi = held_back(smd, vdi, one, two)
    smd.export_vdi(vdi, image, "vhd")
    downloads(smd, vdi)
    with_snapshot(smd, vdi, one)
    upload(smd, one, image)
