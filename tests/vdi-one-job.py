#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""One VDI, one job: while one runs, each other is refused with OTHER_OPERATION_IN_PROGRESS and
the first's task. But who copies or exports only reads, and lets others read."""
import threading

from smdtest import *

SIZE = 4 * MIB
# Readers go beside each other, and one of LAST, beside which nothing does.
READERS = ["VDI.copy", "copy what differs from it", "export"]
LAST = ["VDI.clone", "VDI.list_changed_blocks"]
# What is of two disks has the snapshot, too, which is asked first.
OF_SNAPSHOT = {"revert_from": "revert_to", "list_changed_blocks": "list_changed_blocks"}


class Disk:
    """A disk with a snapshot; the collector leaves both alone."""

    def __init__(self, smd, sr, tracked):
        self.vdi = smd.make_vdi(sr, SIZE, "vhd")
        smd.write_vdi(self.vdi, b"x" * 5000)
        smd.call("VDI.enable_cbt", self.vdi)
        self.snapshot = smd.call("VDI.snapshot", self.vdi, {})
        if not tracked:
            smd.call("VDI.disable_cbt", self.vdi)
        self.other = smd.make_vdi(sr, SIZE, "vhd")


def transfer(smd, method, path, vdi):
    """Its task."""
    def send():
        try:
            smd.http(method, "%s?session_id=%s&vdi=%s&task_id=%s&format=vhd" % (
                path, smd.session, vdi, task), image if method == "PUT" else None)
        except (OSError, http.client.HTTPException):
            pass
    task = smd.call("task.create", path, "")
    threads.append(threading.Thread(target=send))
    threads[-1].start()
    return task


def begin(smd, name, d, to):
    """The task of an operation on d.vdi."""
    vdi = d.vdi
    if name == "import":
        return transfer(smd, "PUT", "/import_raw_vdi", vdi)
    if name == "export":
        return transfer(smd, "GET", "/export_raw_vdi", vdi)
    name, params = {
        "copy into it": ("VDI.copy", (d.other, NULL_REF, NULL_REF, vdi)),
        "copy what differs from it": ("VDI.copy", (d.other, to, vdi)),
        "VDI.revert": (name, (d.snapshot,)),
        "VDI.pool_migrate": (name, (vdi, to, {})),
        "VDI.copy": (name, (vdi, to)),
        "VDI.resize": (name, (vdi, str(2 * SIZE))),
        "VDI.snapshot": (name, (vdi, {})),
        "VDI.clone": (name, (vdi, {})),
        "VDI.list_changed_blocks": (name, (d.snapshot, vdi)),
    }.get(name, (name, (vdi,)))
    return smd.call("Async." + name, *params)


FIRST = ["VDI.pool_migrate", "copy into it", "VDI.resize", "VDI.snapshot", "VDI.revert",
         "import"] + READERS + LAST
SECOND = FIRST + ["VDI.destroy", "VDI.forget", "VDI.update", "VDI.enable_cbt", "VDI.disable_cbt",
                  "VDI.data_destroy"]


def outcome(smd, vdi, task):
    """"begun", or what it failed with."""
    deadline = time.monotonic() + 60
    while task not in smd.call("VDI.get_current_operations", vdi):
        record = smd.call("task.get_record", task)
        if record["status"] == "failure":
            return record["error_info"], record["other_config"]["error_message"]
        assert record["status"] == "pending" and time.monotonic() < deadline, record
        time.sleep(0.01)
    return ["begun"], ""


def check_refused(smd, d, to, second, running, task):
    """By the first's task; of readers by any, and a snapshot in xapi's other words."""
    other = begin(smd, second, d, to)
    got, message = outcome(smd, d.vdi, other)
    what = "%s beside %s" % (second, running)
    assert task in message and "task.cancel" in message, "%s: %s" % (what, message)
    if running == "copy" and second == "VDI.snapshot":
        expect_eq(got, ["OPERATION_NOT_ALLOWED", "The VDI is being copied"], what)
    elif running in OF_SNAPSHOT and second in ("VDI.revert", "VDI.list_changed_blocks"):
        expect_eq(got, ["OTHER_OPERATION_IN_PROGRESS", "VDI", d.snapshot, OF_SNAPSHOT[running],
                        task], what)
    else:
        expect_eq(got, ["OTHER_OPERATION_IN_PROGRESS", "VDI", d.vdi, running, task], what)
    return other


def check_beside(smd, first, d, to, last):
    """Every operation beside one that runs; their tasks. last: of LAST, beside readers."""
    tasks = [begin(smd, first, d, to)]
    expect_eq(outcome(smd, d.vdi, tasks[0]), (["begun"], ""), first)
    running = smd.call("VDI.get_current_operations", d.vdi)[tasks[0]]
    expect_eq(running == "copy", first in READERS, running)
    for second in SECOND:
        if running != "copy" or second not in READERS + LAST:
            tasks.append(check_refused(smd, d, to, second, running, tasks[0]))
    for second in READERS + [last] if running == "copy" else []:
        tasks.append(begin(smd, second, d, to))
        expect_eq(outcome(smd, d.vdi, tasks[-1])[0], ["begun"], "%s beside %s" % (second, first))
    return tasks


threads = []
with tempfile.TemporaryDirectory(prefix="smd-test-worker.") as path:
    os.chmod(path, 0o755)
    script, hold = os.path.join(path, "worker"), os.path.join(path, "hold")
    with open(script, "w") as f:
        f.write("#!/bin/bash\nwhile [ -e %s ]; do sleep 0.1; done\nexec %s \"$@\"\n"
                % (hold, os.environ["SMD_WORKER"]))
    os.chmod(script, 0o755)
    with Smd(config="worker = %s\nwarm_worker_seconds = 0\n" % script) as smd:
        one, two = smd.make_sr("one"), smd.make_sr("two")
        smd.hold_collector(one)
        smd.hold_collector(two)
        source = smd.make_vdi(one, SIZE, "vhd")
        smd.export_vdi(source, os.path.join(path, "image"), "vhd")
        with open(os.path.join(path, "image"), "rb") as f:
            image = f.read()
        for first, last in [(f, LAST[0]) for f in FIRST] + [("VDI.copy", LAST[1])]:
            # A tracked disk does not move.
            d = Disk(smd, one, first != "VDI.pool_migrate")
            with open(hold, "w"):
                pass
            try:
                tasks = check_beside(smd, first, d, two, last)
            finally:
                os.unlink(hold)
            for task in tasks:
                smd.wait_task(task)
            for thread in threads:
                thread.join()
            threads.clear()
            expect_eq(smd.call("task.get_status", tasks[0]), "success", first)
            assert not smd.call("VDI.get_current_operations", d.other)
