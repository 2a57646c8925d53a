#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A task that stands still says what it waits for: a place in the queue, with its
number; a worker that somebody stopped; the client that is to send data, or that made
it. What it waited for is gone when it goes on."""
import re

from smdtest import *


def other_config(smd, task):
    return smd.call("task.get_other_config", task)


def wait_says(smd, task, text, timeout=60):
    """Until the task waits for something that has the text; "": for nothing."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        says = other_config(smd, task).get("waits_for", "")
        if text in says if text else not says:
            return other_config(smd, task)
        time.sleep(0.1)
    raise AssertionError("%r never showed: %r" % (text, other_config(smd, task)))


def wait_copies(smd, task):
    deadline = time.monotonic() + 60
    while "bytes_done" not in other_config(smd, task):
        assert time.monotonic() < deadline, "it never began"
        time.sleep(0.1)


def migrate(smd, vdi, sr, speed):
    return smd.call("Async.VDI.pool_migrate", vdi, sr,
                    {"dest-img-format": "qcow2", "bytes-per-second": str(speed)})


def end(smd, task, status="success"):
    expect_eq(smd.wait_task(task)["status"], status, "status")
    left = set(other_config(smd, task)) & {"waits_for", "stalled_since", "queue_position"}
    assert not left, "after its end it still has %r" % left


with Smd(config="max_workers = 1\n") as smd:
    srs = [smd.make_sr(name) for name in ("one", "two", "three")]
    vdis = []
    for name in "first", "second", "third", "fourth", "fifth", "sixth":
        vdi = smd.make_vdi(srs[0], 32 * MIB, "raw", name)
        fill_raw(smd.vdi_file(vdi), 32 * MIB, runs=16, longest=2 * MIB)
        vdis.append(vdi)
    smd.call("SR.scan", srs[0])

    first = migrate(smd, vdis[0], srs[1], 256 * 1024)
    wait_copies(smd, first)
    second = migrate(smd, vdis[1], srs[1], 0)
    wait_says(smd, second, "a worker")
    third = migrate(smd, vdis[2], srs[2], 0)
    config = wait_says(smd, third, "a worker")
    expect_eq((config["state"], config["queue_position"]), ("queued", "2"), "the third")
    config = other_config(smd, second)
    expect_eq((config["state"], config["queue_position"]), ("queued", "1"), "the second")
    assert "max_workers" in config["waits_for"], config
    smd.call("task.cancel", first)
    end(smd, first, "cancelled")
    end(smd, second)
    end(smd, third)

    # A worker that stands: named, with what ails it.
    task = migrate(smd, vdis[3], srs[1], 2 * MIB)
    wait_copies(smd, task)
    workers = smd.workers()
    os.kill(workers[0], signal.SIGSTOP)
    config = wait_says(smd, task, "stopped by a signal")
    assert "smd-worker, process %d, at " % workers[0] in config["waits_for"], config
    assert re.fullmatch(r"\d{8}T\d\d:\d\d:\d\dZ", config["stalled_since"]), config
    os.kill(workers[0], signal.SIGCONT)
    end(smd, task)

    # A client that made a task, and then one that stops sending.
    task = smd.call("task.create", "upload", "")
    wait_says(smd, task, "the client that made it")
    connection = smd.connect()
    vdi = smd.make_vdi(srs[0], MIB, "raw")
    connection.putrequest("PUT", "/import_raw_vdi?session_id=%s&vdi=%s&format=raw&task_id=%s"
                          % (smd.login(), vdi, task))
    connection.putheader("Content-Length", str(MIB))
    connection.endheaders()
    connection.send(b"x" * 4096)
    wait_says(smd, task, "its client")
    connection.send(b"x" * (MIB - 4096))
    expect_eq(connection.getresponse().status, 200, "the upload")
    connection.close()
    end(smd, task)

    # The same by smctl, to no terminal: lines, and a status that tells failure.
    task = migrate(smd, vdis[4], srs[2], 8 * MIB)
    uuid = smd.call("task.get_uuid", task)
    shown = run("smctl", "--socket", smd.socket, "task-watch", "uuid=" + uuid)
    lines = shown.splitlines()
    assert lines[-1].startswith(uuid[:8]) and "100%  success" in lines[-1], shown
    assert len(lines) > 1 and "[" in lines[0], shown
    task = migrate(smd, vdis[5], srs[1], 64 * 1024)
    smd.call("task.cancel", task)
    shown = run("smctl", "--socket", smd.socket, "task-watch",
                "uuid=" + smd.call("task.get_uuid", task), status=1)
    smd.wait_task(task)
