#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A call that makes a disk or a snapshot and takes no longer than it should shows in no row: no
task, no current_operations, no event of either. One that lasts does, and whoever it keeps
out is told of a task that is there."""
import threading

from smdtest import *


if sanitized():
    skip("no worker stays that could be held up")


def until_it_stays(smd, sr):
    for _ in range(50):
        if smd.makers():
            return
        smd.make_vdi(sr, MIB, "qcow2")
    raise AssertionError("no worker stays")


def quick_ones(smd, sr):
    before = smd.call("event.from", ["task"], "", 0.0)
    vdi = smd.make_vdi(sr, MIB, "qcow2")
    smd.call("VDI.snapshot", vdi, {})
    after = smd.call("event.from", ["task"], before["token"], 0.0)
    assert [e for e in after["events"] if e["operation"] == "add"] == [], after
    expect_eq(smd.call("SR.get_current_operations", sr), {}, "operations of the SR")
    expect_eq(smd.call("VDI.get_current_operations", vdi), {}, "operations of the disk")


def wait_for_operation(smd, sr):
    deadline = time.monotonic() + 4
    while not (current := smd.call("SR.get_current_operations", sr)):
        assert time.monotonic() < deadline, "an operation that lasts shows"
        time.sleep(0.01)
    return current


def slow_one(smd, sr, look):
    """Its worker stands; another one does it in the end."""
    (maker,) = smd.makers()
    os.kill(maker, signal.SIGSTOP)
    thread = threading.Thread(target=smd.make_vdi, args=(sr, MIB, "qcow2"))
    thread.start()
    look()
    thread.join()
    expect_eq(smd.call("SR.get_current_operations", sr), {}, "operations afterwards")
    assert "scan" in smd.call("SR.get_allowed_operations", sr)
    assert "unplug" in smd.call("SR.get_allowed_operations", sr)
    expect_eq(smd.pending_tasks(), [], "tasks afterwards")


with Smd() as smd:
    sr = smd.make_sr("sr")
    (pbd,) = smd.call("SR.get_PBDs", sr)
    until_it_stays(smd, sr)
    quick_ones(smd, sr)

    def shows():
        ((task, operation),) = wait_for_operation(smd, sr).items()
        expect_eq(operation, "vdi_create", "what the SR does")
        expect_eq(smd.call("task.get_name_label", task), "VDI.create", "who does it")
        assert "unplug" not in smd.call("SR.get_allowed_operations", sr)

    def keeps_out():
        deadline = time.monotonic() + 4
        while not any(name.startswith("tmp-") for name in os.listdir(smd.sr_path(sr))):
            assert time.monotonic() < deadline, "it has begun"
        error = expect_error("OTHER_OPERATION_IN_PROGRESS", smd.call, "PBD.unplug", pbd)
        expect_eq(error.params[:3], ["SR", sr, "vdi_create"], "what is in the way")
        expect_eq(smd.call("task.get_name_label", error.params[3]), "VDI.create", "its task")

    slow_one(smd, sr, shows)
    until_it_stays(smd, sr)
    slow_one(smd, sr, keeps_out)
