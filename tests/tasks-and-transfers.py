#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A transfer ends the task it is given, and only one that a client made for it: not one
that smd works on, nor anybody's for a caller who may not change things."""
from smdtest import *


def transfer(smd, session, vdi, task):
    """Both ways; the statuses."""
    query = "_raw_vdi?session_id=%s&vdi=%s&task_id=%s" % (session, vdi, task)
    return [smd.http("GET", "/export" + query)[0], smd.http("PUT", "/import" + query, b"x" * 512)[0]]


with Smd(tcp=True) as smd:
    smd.add_user("reader", "read-only", "pw")
    reader = smd.raw_call("session.login_with_password", "reader", "pw", "1.0", "test")
    one, two = smd.make_sr("one"), smd.make_sr("two")
    vdi, other = smd.make_vdi(one, 64 * MIB, "raw"), smd.make_vdi(one, 4 * MIB, "raw")
    fill_raw(smd.vdi_file(vdi), 64 * MIB, runs=64)
    running = smd.call("Async.VDI.pool_migrate", vdi, two,
                       {"dest-img-format": "qcow2", "bytes-per-second": str(MIB)})
    mine = smd.call("task.create", "mine", "")
    for task in running, mine:
        expect_eq(transfer(smd, reader, other, task), [403, 403], "statuses of a reader")
        expect_eq(transfer(smd, "OpaqueRef:nobody", other, task), [401, 401], "of nobody")
        expect_eq(smd.call("task.get_status", task), "pending", "the task after that")
    expect_eq(transfer(smd, smd.login(), other, running), [409, 409], "for another's task")
    expect_eq(smd.call("task.get_status", running), "pending", "the running task")
    smd.call("task.cancel", running)
    expect_eq(smd.wait_task(running, 20)["status"], "cancelled", "the running task")
    expect_eq(transfer(smd, smd.login(), other, mine), [200, 409], "for one's own, then an old one")
    expect_eq(smd.call("task.get_status", mine), "success", "one's own task")
