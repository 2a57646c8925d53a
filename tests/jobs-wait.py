#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A copy that cannot go on waits, with a task that is pending and says for what: for room in
a full SR, for an SR that is not attached, for task.resume. It then goes on where it was; a limit
ends it else."""
import errno

from smdtest import *

DATA = 24 * MIB
RATE = {"dest-img-format": "qcow2", "bytes-per-second": str(8 * MIB)}


def wait_for(smd, task, **wanted):
    """Until the task's other_config says so."""
    deadline = time.monotonic() + 120
    while True:
        record = smd.call("task.get_record", task)
        if all(record["other_config"].get(k) == v for k, v in wanted.items()):
            return record
        assert record["status"] == "pending" and time.monotonic() < deadline, record
        time.sleep(0.02)


def begin(smd, vdi, sr):
    task = smd.call("Async.VDI.pool_migrate", vdi, sr, RATE)
    while int(smd.call("task.get_other_config", task).get("bytes_done", 0)) < DATA // 5:
        expect_eq(smd.call("task.get_status", task), "pending", "status")
        time.sleep(0.02)
    return task


def result(smd, task, digest):
    record = smd.wait_task(task, timeout=300)
    expect_eq(record["status"], "success", record)
    expect_eq(record["other_config"].get("waits_for"), None, "what it waits for")
    vdi = record["result"].replace("<value>", "").replace("</value>", "")
    expect_eq(smd.vdi_sha256(vdi), digest, "content")
    return vdi


def new_disk(smd, sr, image):
    vdi = smd.make_vdi(sr, DATA + MIB, "vhd")
    smd.import_vdi(vdi, image)
    return vdi


def volumes(smd, sr):
    return [f for f in os.listdir(smd.sr_path(sr)) if not f.startswith(".")]


def resumed(smd, vdi, sr, digest):
    """task.pause and task.resume, over a start of the daemon."""
    task = begin(smd, vdi, sr)
    smd.call("task.pause", task)
    record = wait_for(smd, task, state="paused")
    assert "task.resume" in record["other_config"]["waits_for"], record
    expect_eq(record["allowed_operations"], ["cancel", "resume"], "allowed")
    smd.restart()
    record = wait_for(smd, task, state="paused")
    assert "task.resume" in record["other_config"]["waits_for"], record
    expect_eq(record["allowed_operations"], ["cancel", "resume"], "allowed after a start")
    smd.call("task.resume", task)
    vdi = result(smd, task, digest)
    try:
        smd.call("task.resume", task)
        raise AssertionError("a task that has ended is resumed")
    except ApiError as e:
        expect_eq((e.code, e.params), ("OPERATION_NOT_ALLOWED", [task]), "error")
    return vdi


def detached(smd, vdi, sr, digest, paused=False):
    """The job's SR is not there when the daemon starts; one that was paused stays so after."""
    task = begin(smd, vdi, sr)
    if paused:
        smd.call("task.pause", task)
    path = smd.sr_path(sr)
    smd.kill()
    os.rename(path, path + ".away")
    smd.start()
    record = wait_for(smd, task, state="paused", error="SR_NOT_ATTACHED")
    expect_eq(record["other_config"]["waits_for"], "SR " + smd.call("SR.get_uuid", sr))
    try:
        smd.call("VDI.destroy", vdi)
        raise AssertionError("the disk of a job that waits is destroyed")
    except ApiError as e:
        expect_eq([e.code] + e.params,
                  ["OTHER_OPERATION_IN_PROGRESS", "VDI", vdi, "mirror", task], "error")
    os.rename(path + ".away", path)
    smd.call("PBD.plug", smd.call("SR.get_PBDs", sr)[0])
    if paused:
        record = wait_for(smd, task, state="paused", error=None)
        assert "task.resume" in record["other_config"]["waits_for"], record
        expect_eq(record["allowed_operations"], ["cancel", "resume"], "allowed once it is there")
        smd.call("task.resume", task)
    return result(smd, task, digest)


def fill(smd, sr):
    """Leave less room than the copy needs; what does so."""
    path = os.path.join(smd.sr_path(sr), ".ballast")
    stat = os.statvfs(smd.sr_path(sr))
    try:
        with open(path, "wb", 0) as f:
            f.write(b"x" * (stat.f_bavail * stat.f_bsize - DATA // 4))
    except OSError as e:        # the copy was faster
        expect_eq(e.errno, errno.ENOSPC)
    return path


def full(smd, vdi, sr, digest):
    """No room in the middle: resumed once there is some, or cancelled."""
    for end in "cancel", "resume":
        task = begin(smd, vdi, sr)
        ballast = fill(smd, sr)
        record = wait_for(smd, task, state="paused", error="SR_BACKEND_FAILURE_44")
        expect_eq(record["status"], "pending")
        expect_eq(record["other_config"]["waits_for"], "room in SR " + smd.call("SR.get_uuid", sr))
        expect_eq(record["allowed_operations"], ["cancel", "resume"], "allowed")
        os.unlink(ballast)
        smd.call("task." + end, task)
        if end == "cancel":
            expect_eq(smd.wait_task(task)["status"], "cancelled")
            expect_eq(volumes(smd, sr), [], "what is left")
    return result(smd, task, digest)


def full_too_long(smd, vdi, sr):
    task = begin(smd, vdi, sr)
    ballast = fill(smd, sr)
    record = smd.wait_task(task, timeout=120)
    expect_eq((record["status"], record["error_info"][0]), ("failure", "SR_BACKEND_FAILURE_44"))
    expect_eq(volumes(smd, sr), [], "what is left")
    os.unlink(ballast)


def mount(smd, name):
    path = os.path.join(smd.dir, name)
    os.mkdir(path)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", path],
                             stderr=subprocess.DEVNULL).returncode == 0
    return path if mounted else None


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    image = os.path.join(smd.dir, "content.raw")
    with open(image, "wb") as f:
        f.write(os.urandom(DATA) + bytes(MIB))
    digest = sha256_of_file(image)
    vdi = new_disk(smd, one, image)
    vdi = resumed(smd, vdi, two, digest)
    vdi = resumed(smd, vdi, one, digest)
    vdi = detached(smd, vdi, two, digest)
    vdi = detached(smd, vdi, one, digest, paused=True)
    small = mount(smd, "small")
    if small:
        try:
            three = smd.make_sr("small")
            vdi = full(smd, vdi, three, digest)
        finally:
            smd.stop()
            run("umount", "-l", small)

with Smd(config="paused_job_seconds = 1\n") as smd:
    small = mount(smd, "small")
    if small:
        one, two = smd.make_sr("one"), smd.make_sr("small")
        with open(os.path.join(smd.dir, "content.raw"), "wb") as f:
            f.write(os.urandom(DATA) + bytes(MIB))
        vdi = new_disk(smd, one, f.name)
        try:
            full_too_long(smd, vdi, two)
            expect_eq(smd.vdi_sha256(vdi), sha256_of_file(f.name), "the source")
        finally:
            smd.stop()
            run("umount", "-l", small)
