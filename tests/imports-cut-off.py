#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An upload whose worker dies, or whose daemon ends or is killed, leaves the disk as it was
and nothing else; its client and its task are told what happened and what to do. One that is
all there already goes on with another worker."""
from smdtest import *

SIZE = 24 * MIB


def other_config(smd, task):
    return smd.call("task.get_other_config", task)


def begin(smd, path, length):
    """A connection that has sent half of the body, and its task."""
    task = smd.call("task.create", "upload", "")
    connection = smd.connect()
    connection.putrequest("PUT", "%s&session_id=%s&task_id=%s" % (path, smd.login(), task))
    connection.putheader("Content-Length", str(length))
    connection.endheaders()
    connection.send(os.urandom(length // 2))
    return connection, task


def wait_worker(smd, timeout=60):
    deadline = time.monotonic() + timeout
    while not (pids := smd.workers()):
        assert time.monotonic() < deadline, "no worker"
        time.sleep(0.02)
    return pids


def answer(connection):
    """The reply's status and text, or None where the connection is cut."""
    try:
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    except (OSError, http.client.HTTPException):
        return None


def expect_nothing(smd, what):
    """No volume of an upload, no operation; the disks are what they were."""
    deadline = time.monotonic() + 60
    while True:
        left = [f for f in os.listdir(smd.sr_path(sr)) if f.startswith("tmp-")]
        busy = [r["current_operations"] for r in smd.call("VDI.get_all_records").values()]
        if (not left and not any(busy)) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    expect_eq((left, [b for b in busy if b]), ([], []), "left after " + what)
    expect_eq(set(smd.call("VDI.get_all")), {vdi}, "disks after " + what)
    expect_eq(smd.vdi_sha256(vdi), digest, "the disk after " + what)


def worker_dies(smd, path, stalls=False):
    connection, task = begin(smd, path, SIZE)
    for pid in wait_worker(smd):
        os.kill(pid, signal.SIGKILL)
    if not stalls:  # else it is told, whether all it sent was read or not
        connection.send(bytes(SIZE - SIZE // 2))
    status, text = answer(connection)
    expect_eq((status, text.split(":")[0]), (500, "JOB_WORKER_FAILED"), text)
    assert "killed by signal 9" in text and "send it again" in text, text
    record = smd.wait_task(task)
    expect_eq((record["status"], record["error_info"][0]), ("failure", "JOB_WORKER_FAILED"))
    assert "send it again" in record["other_config"]["error_message"], record
    expect_nothing(smd, path)


def daemon_ends(smd, path, kill):
    connection, task = begin(smd, path, SIZE)
    wait_worker(smd)
    smd.kill() if kill else smd.stop()
    reply = answer(connection)
    assert not kill or reply is None, reply
    if reply:
        assert reply[0] == 500 and "again" in reply[1], reply
    smd.start()
    record = smd.call("task.get_record", task)
    expect_eq((record["status"], record["error_info"]), ("cancelled", ["TASK_CANCELLED", task]))
    assert "ask for it again" in record["other_config"]["error_message"], record
    expect_nothing(smd, path)


def goes_on(smd, path, body):
    """Its conversion is slow, and its worker killed, twice; (task, text)."""
    task = smd.call("task.create", "upload", "")
    connection = smd.connect()
    connection.putrequest("PUT", "%s&session_id=%s&task_id=%s" % (path, smd.login(), task))
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[:-1])
    while other_config(smd, task).get("phase") != "copy":
        time.sleep(0.02)
    smd.call("SR.add_to_other_config", sr, "bytes-per-second", str(SIZE // 3))
    time.sleep(1.1)     # the limit is seen
    connection.send(body[-1:])
    for killed in 1, 2:
        while not (int(other_config(smd, task).get("bytes_done", 0)) > 0 and smd.workers() and
                   other_config(smd, task).get("phase") == "verify" and
                   float(smd.call("task.get_progress", task)) > 0.5 + killed / 20):
            expect_eq(smd.call("task.get_status", task), "pending", "it is too fast")
            time.sleep(0.02)
        for pid in smd.workers():
            os.kill(pid, signal.SIGKILL)
    smd.call("SR.remove_from_other_config", sr, "bytes-per-second")
    status, text = answer(connection)
    expect_eq(status, 200, text)
    expect_eq(smd.call("task.get_status", task), "success")
    return task


def killed_near_the_end(smd, rounds):
    """Whether the upload was in time or not: the task says what the disk is."""
    small, said = smd.make_vdi(sr, MIB, "raw", name="small"), set()
    content = bytes(MIB)
    for i in range(rounds):
        new = bytes([1 + i % 250]) * MIB
        task = smd.call("task.create", "upload", "")
        connection = smd.connect()
        connection.putrequest("PUT", "/import_raw_vdi?vdi=%s&session_id=%s&task_id=%s" % (
            small, smd.login(), task))
        connection.putheader("Content-Length", str(MIB))
        connection.endheaders()
        connection.send(new[:-1])
        path = smd.sr_path(sr)
        while not any(f.startswith("tmp-") for f in os.listdir(path)):
            time.sleep(0.001)
        connection.send(new[-1:])
        while any(f.startswith("tmp-") for f in os.listdir(path)):
            pass
        time.sleep(0.0004 * i)
        smd.kill()
        connection.close()
        smd.start()
        status = smd.call("task.get_status", task)
        content = {"success": new, "cancelled": content}[status]
        said.add(status)
        expect_eq(smd.vdi_sha256(small), hashlib.sha256(content).hexdigest(),
                  "the disk whose task says " + status)
    print("said:", " ".join(sorted(said)))
    smd.call("VDI.destroy", small)


with Smd() as smd:
    sr = smd.make_sr("one")
    killed_near_the_end(smd, 20)
    vdi = smd.make_vdi(sr, SIZE, "vhd")
    image = os.path.join(smd.dir, "content")
    with open(image, "wb") as f:
        f.write(os.urandom(SIZE))
    smd.import_vdi(vdi, image)
    digest = sha256_of_file(image)
    raw = "/import_raw_vdi?vdi=%s" % vdi
    for path in raw, raw + "&format=qcow2", "/import_image?sr=%s&filename=x.qcow2" % sr:
        worker_dies(smd, path)
        daemon_ends(smd, path, kill=False)
        daemon_ends(smd, path, kill=True)
    worker_dies(smd, raw, stalls=True)
    smd.export_vdi(vdi, image, "qcow2")
    with open(image, "rb") as f:
        body = f.read()
    goes_on(smd, raw + "&format=qcow2", body)
    expect_nothing(smd, "an upload that lost two workers")
    task = goes_on(smd, "/import_image?sr=%s&filename=x.qcow2&format=vhd" % sr, body)
    new = smd.call("task.get_result", task).replace("<value>", "").replace("</value>", "")
    expect_eq(smd.vdi_sha256(new), digest, "the new disk")
    smd.call("VDI.destroy", new)
    expect_nothing(smd, "an import that lost two workers")
