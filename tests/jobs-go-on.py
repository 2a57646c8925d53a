#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A migration goes on from its last mark whatever is killed: its worker, the daemon, or the
daemon by SIGTERM. Its task stays the same one, and what was copied is not copied again.

SMD_RESUME_MIB: the disk's data; a long run takes 10240."""
from smdtest import *

DATA = int(os.environ.get("SMD_RESUME_MIB", "96")) * MIB
RATE = DATA // 8 if DATA < GIB else 200 * MIB
SIZE = DATA + 16 * MIB


def progress(smd, task):
    record = smd.call("task.get_record", task)
    return int(record["other_config"].get("bytes_done", 0)), record


def reach(smd, task, share):
    """Wait until so much is done."""
    deadline = time.monotonic() + 300
    while True:
        done, record = progress(smd, task)
        if done >= share * DATA or record["status"] == "success":
            return
        assert record["status"] == "pending", record
        assert time.monotonic() < deadline, record
        time.sleep(0.02)


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    image = os.path.join(smd.dir, "content.raw")
    fill_raw(image, SIZE, runs=8)
    with open(image, "r+b") as f:
        for at in range(0, DATA, MIB):
            f.seek(at)
            f.write(os.urandom(MIB))
    vdi = smd.make_vdi(one, SIZE, "vhd")
    smd.import_vdi(vdi, image)
    want = sha256_of_file(image)
    task = smd.call("Async.VDI.pool_migrate", vdi, two, {
        "dest-img-format": "qcow2", "bytes-per-second": str(RATE), "verify": "false"})
    reach(smd, task, 0.25)
    for pid in smd.workers():
        os.kill(pid, signal.SIGKILL)
    reach(smd, task, 0.5)
    smd.kill()
    smd.start()
    expect_eq(smd.call("task.get_status", task), "pending", "the task after a kill")
    expect_eq(smd.call("VDI.get_current_operations", vdi), {task: "mirror"}, "who has the disk")
    reach(smd, task, 0.75)
    smd.stop()
    smd.start()
    reach(smd, task, 0.95)
    for pid in smd.workers():
        os.kill(pid, signal.SIGKILL)
    record = smd.wait_task(task, timeout=600)
    expect_eq(record["status"], "success", record)
    assert int(record["other_config"]["resumed_at"]) > DATA // 4, record
    new = record["result"].replace("<value>", "").replace("</value>", "")
    smd.export_vdi(new, image)
    expect_eq(sha256_of_file(image), want, "content")
    smd.expect_files_of_rows(one)
    smd.expect_files_of_rows(two)
    expect_eq(os.listdir(os.path.join(smd.state, "jobs")), [], "marks that are left")
