#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Finished tasks go when there are too many of them, the oldest first, and pending
# ones stay.
from smdtest import *

with Smd(config="max_tasks = 10\n") as smd:
    pending = smd.call("task.create", "pending", "")
    tasks = []
    for i in range(14):
        task = smd.call("task.create", "task %d" % i, "")
        smd.call("task.set_status", task, "success")
        tasks.append(task)
        if i == 3:
            time.sleep(1.1)     # times have no fractions; the first four are the oldest
    deadline = time.monotonic() + 60
    while len(smd.call("task.get_all")) > 11:
        assert time.monotonic() < deadline, "nothing was collected"
        time.sleep(0.2)
    expect_eq(sorted(smd.call("task.get_all")), sorted(tasks[4:] + [pending]), "which stay")
