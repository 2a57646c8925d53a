#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Fifty clients, half of them waiting in event.from, create, migrate and destroy: no
error but the API's, no event lost, and the daemon does not grow.

SMD_CLIENTS_SECONDS: how long (20)."""
import random
import threading

from smdtest import *

SECONDS = float(os.environ.get("SMD_CLIENTS_SECONDS", "20"))
SIZE = 2 * MIB
FORMATS = ["raw", "vhd", "qcow2"]


class Client(threading.Thread):
    """A thread with a session of its own; what goes wrong is kept in .error."""

    def __init__(self, smd, seed):
        super().__init__()
        self.smd, self.rng, self.error = smd, random.Random(seed), None
        self.session = smd.raw_call("session.login_with_password", "root", "x")

    def call(self, name, *params):
        return self.smd.raw_call(name, self.session, *params)

    def run(self):
        try:
            while not stop.is_set():
                self.step()
            self.last()
        except BaseException as e:      # shown by the main thread
            self.error = e

    def last(self):
        pass


class Worker(Client):
    """Keeps a disk or two, and moves them."""

    def __init__(self, smd, seed):
        super().__init__(smd, seed)
        self.mine, self.done = [], 0

    def step(self):
        what = self.rng.choice(["create", "migrate", "destroy"])
        if what == "create" or not self.mine:
            self.mine.append(self.call("VDI.create", {
                "name_label": "load", "name_description": "", "SR": self.rng.choice(srs),
                "virtual_size": str(SIZE), "type": "user", "sharable": False,
                "read_only": False, "other_config": {},
                "sm_config": {"image-format": self.rng.choice(FORMATS)}}))
        elif what == "migrate":
            vdi = self.mine.pop(self.rng.randrange(len(self.mine)))
            self.mine.append(self.call("VDI.pool_migrate", vdi, self.rng.choice(srs),
                                       {"dest-img-format": self.rng.choice(FORMATS)}))
        else:
            self.call("VDI.destroy", self.mine.pop())
        self.done += 1

    def last(self):
        for vdi in self.mine:
            self.call("VDI.destroy", vdi)


class Watcher(Client):
    """Follows the VDIs by events; its view must be the server's at the end."""

    def __init__(self, smd, seed):
        super().__init__(smd, seed)
        self.token, self.view = "", {}

    def step(self, timeout=2.0):
        batch = self.call("event.from", ["vdi"], self.token, timeout)
        self.token = batch["token"]
        for event in batch["events"]:
            if event["operation"] == "del":
                self.view.pop(event["ref"], None)
            else:
                self.view[event["ref"]] = event["snapshot"]
        return batch


def rss(smd):
    with open("/proc/%d/status" % smd.process.pid) as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


with Smd() as smd:
    srs = [smd.make_sr("one"), smd.make_sr("two")]
    stop = threading.Event()
    workers = [Worker(smd, i) for i in range(25)]
    watchers = [Watcher(smd, i) for i in range(25)]
    for client in workers + watchers:
        client.start()
    # Once warm, it must not go on growing.
    time.sleep(SECONDS / 2)
    warm = rss(smd)
    time.sleep(SECONDS / 2)
    stop.set()
    for client in workers:
        client.join()
    for client in workers + watchers:
        client.join()
        if client.error:
            raise client.error
    grown = rss(smd) - warm
    print("%d operations; %d KiB, grown by %d" % (sum(w.done for w in workers), warm, grown))
    assert sanitized() or grown < 32 * 1024, "grown by %d KiB" % grown
    expect_eq(smd.call("VDI.get_all"), [], "VDIs left")
    for watcher in watchers:
        # Batches may go on to arrive for what happened at the end.
        while watcher.step(timeout=0.2)["events"]:
            pass
        expect_eq(sorted(watcher.view), [], "a watcher's view of the VDIs")
    for sr in srs:
        left = [f for f in os.listdir(smd.sr_path(sr)) if not f.startswith(".")]
        expect_eq(left, [], "volumes left over")
