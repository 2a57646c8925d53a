#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Clients that stop in the middle of a transfer hold up no job, and cancelling the task of
such a transfer ends it."""
from smdtest import *

SIZE = 64 * MIB


def stalled(smd, head, body=b""):
    """A connection that has sent this and will do nothing more."""
    connection = smd.connect()
    connection.connect()
    connection.sock.sendall(head.encode() + b"\r\nHost: x\r\n" + body)
    return connection


with Smd(tcp=True, config="max_workers = 2\n") as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    image = os.path.join(smd.dir, "image")
    fill_raw(image, SIZE, runs=80)
    digest = sha256_of_file(image)
    vdi = smd.make_vdi(one, SIZE, "raw")
    smd.import_vdi(vdi, image)
    held = smd.call("VDI.copy", vdi, one)
    login = smd.login()
    get = "GET /export_raw_vdi?session_id=%s&vdi=%s&task_id=%s HTTP/1.1"
    put = "PUT /import_raw_vdi?session_id=%s&vdi=%s&task_id=%s&format=%s HTTP/1.1"
    tasks, connections = [], []
    for _ in range(3):
        tasks.append(smd.call("task.create", "export", ""))
        connections.append(stalled(smd, get % (login, held, tasks[-1]), b"\r\n"))
        while not smd.call("task.get_allowed_operations", tasks[-1]):
            expect_eq(smd.call("task.get_status", tasks[-1]), "pending", "a slow export")
    moved = smd.call_async("VDI.pool_migrate", vdi, two, {"dest-img-format": "vhd"})
    expect_eq(smd.call("VDI.get_SR", moved), two, "where the disk went meanwhile")

    for fmt in "raw", "vhd", "qcow2":
        tasks.append(smd.call("task.create", "import", ""))
        into = smd.make_vdi(one, SIZE, "qcow2")
        connections.append(stalled(smd, put % (login, into, tasks[-1], fmt),
                                   b"Content-Length: 1000000\r\n\r\n" + b"x" * 5000))
        while not smd.call("task.get_allowed_operations", tasks[-1]):
            expect_eq(smd.call("task.get_status", tasks[-1]), "pending", "a slow import")
    for task in tasks:
        smd.call("task.cancel", task)
    for task in tasks:
        record = smd.wait_task(task, 20)
        expect_eq((record["status"], record["error_info"]),
                  ("cancelled", ["TASK_CANCELLED", task]), "end of " + record["name_label"])
    for ref, record in smd.call("VDI.get_all_records").items():
        expect_eq(record["current_operations"], {}, "operations of a disk")
    left = [f for f in os.listdir(smd.sr_path(one)) if f.startswith("tmp-")]
    expect_eq(left, [], "volumes left over")
    smd.export_vdi(held, image)
    expect_eq(sha256_of_file(image), digest, "the disk that was read")
