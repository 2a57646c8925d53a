#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""SIGTERM while jobs run, wait for a place, are paused, and while a client sends nothing: the
service manager is told which they are, the daemon ends soon, and the copies go on at its next
start."""
import threading

from smdtest import *

SIZE = 8 * MIB
t = tempfile.mkdtemp(prefix="smd-test.")
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(t + "/notify")
said = []


def listen():
    while True:
        said.append(notify.recv(4096).decode())


def told(text):
    deadline = time.monotonic() + 60
    while not (found := [line for line in said if text in line]):
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    return found[0]


threading.Thread(target=listen, daemon=True).start()


try:
    with Smd(env={"NOTIFY_SOCKET": t + "/notify"}, config="max_workers = 2\n") as smd:
        one, two = smd.make_sr("one"), smd.make_sr("two")
        with open(t + "/image", "wb") as f:
            f.write(os.urandom(SIZE))
        digest = sha256_of_file(t + "/image")
        tasks = []
        for fmt in "raw", "vhd", "qcow2", "vhd":
            vdi = smd.make_vdi(one, SIZE, "raw")
            smd.import_vdi(vdi, t + "/image")
            tasks.append(smd.call("Async.VDI.pool_migrate", vdi, two, {
                "dest-img-format": fmt, "bytes-per-second": str(MIB), "verify": "true"}))
        deadline = time.monotonic() + 60
        while not smd.call("task.get_other_config", tasks[0]).get("bytes_done"):
            assert time.monotonic() < deadline, "nothing is copied"
            time.sleep(0.05)
        smd.call("task.pause", tasks[1])
        stalled = smd.connect()
        stalled.putrequest("PUT", "/import_raw_vdi?session_id=%s&vdi=%s" % (
            smd.login(), smd.make_vdi(one, SIZE, "vhd")))
        stalled.putheader("Content-Length", str(SIZE))
        stalled.endheaders()
        stalled.send(b"x" * MIB)
        assert "VDI.pool_migrate" in told("STATUS=Serving 5 jobs:")
        before = time.monotonic()
        smd.stop()
        took = time.monotonic() - before
        print("stopped in %.1f s" % took)
        assert took < 30, took          # 5 s on a machine that has nothing else to do
        told("STATUS=Ending 5 jobs:")
        stalled.close()
        smd.start()
        smd.call("task.resume", tasks[1])
        for task in tasks:
            smd.call("task.set_speed", task, "0")
        for task in tasks:
            record = smd.wait_task(task)
            expect_eq(record["status"], "success", record)
            new = record["result"].replace("<value>", "").replace("</value>", "")
            expect_eq(smd.vdi_sha256(new), digest, "content")
        smd.expect_files_of_rows(one)
        smd.expect_files_of_rows(two)
finally:
    shutil.rmtree(t)
