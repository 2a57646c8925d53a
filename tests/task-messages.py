#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# A client's own task: made, driven, ended, destroyed; cancelled by a restart.
from smdtest import *

with Smd() as smd:
    task = smd.call("task.create", "copying", "by hand")
    record = smd.json_call("task.get_record", task)
    for field, value in (("name_label", "copying"), ("name_description", "by hand"),
                         ("status", "pending"), ("progress", 0.0), ("type", "<none/>"),
                         ("result", ""), ("error_info", []), ("allowed_operations", []),
                         ("finished", "19700101T00:00:00Z"), ("subtask_of", NULL_REF),
                         ("subtasks", []), ("backtrace", "()"), ("resident_on", smd.host())):
        expect_eq(record[field], value, field)

    smd.call("task.set_progress", task, 0.25)
    expect_eq(smd.call("task.get_progress", task), 0.25, "progress")
    for bad in (-0.5, 1.5):
        expect_error("INVALID_VALUE", smd.call, "task.set_progress", task, bad)
    smd.call("task.add_to_other_config", task, "k", "v")
    expect_error("MAP_DUPLICATE_KEY", smd.call, "task.add_to_other_config", task, "k", "v")
    smd.call("task.set_result", task, "<value>anything</value>")
    smd.call("task.set_error_info", task, ["CODE", "param"])
    smd.call("task.set_resident_on", task, NULL_REF)
    expect_eq(smd.call("task.get_resident_on", task), NULL_REF, "where it runs")
    smd.call("task.set_status", task, "success")
    record = smd.call("task.get_record", task)
    expect_eq((record["status"], record["result"], record["error_info"]),
              ("success", "<value>anything</value>", ["CODE", "param"]), "ended")
    assert str(record["finished"]) != "19700101T00:00:00Z", "not stamped"
    smd.call("task.destroy", task)
    expect_error("HANDLE_INVALID", smd.call, "task.get_record", task, params=["task", task])
    expect_error("HANDLE_INVALID", smd.call, "task.cancel", task, params=["task", task])

    # What smd does itself: the task of an asynchronous call, good and bad.
    sr = smd.make_sr("one")
    task = smd.call("Async.SR.scan", sr)
    record = smd.wait_task(task)
    expect_eq((record["status"], record["progress"], record["result"], record["name_label"]),
              ("success", 1.0, "<value></value>", "Async.SR.scan"), "a good one")
    smd.call("task.cancel", task)       # too late: nothing happens
    expect_eq(smd.call("task.get_status", task), "success", "after the end")
    task = smd.call("Async.SR.scan", "OpaqueRef:none")
    record = smd.wait_task(task)
    expect_eq((record["status"], record["error_info"]),
              ("failure", ["HANDLE_INVALID", "SR", "OpaqueRef:none"]), "a bad one")

    # A caller that waits leaves no task behind.
    before = sorted(smd.call("task.get_all"))
    smd.call("SR.scan", sr)
    expect_eq(sorted(smd.call("task.get_all")), before, "tasks after a call that waited")

    # A task nobody can end any more is ended by the next start.
    task = smd.call("task.create", "left over", "")
    smd.kill()
    smd.start()
    record = smd.call("task.get_record", task)
    expect_eq((record["status"], record["error_info"]),
              ("cancelled", ["TASK_CANCELLED", task]), "after a crash")
