#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An import that is refused, broken off, cancelled or killed in its middle leaves no
volume, no VDI and no operation, and its task says why; what an archive says of other
places is never made there."""
import io
import tarfile

from smdtest import *
from vhdwriter import *


def tar(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as t:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


with Smd(config="max_workers = 2\n") as smd:
    os.chdir(smd.dir)
    sr = smd.make_sr("one")
    size = 64 * MIB
    base = write_vhd("base.vhd", size, {0: os.urandom(12 * MIB)})
    write_vhd("leaf.vhd", size, {MIB: os.urandom(8 * MIB)}, parent=base)
    with open("base.vhd", "rb") as f:
        base = f.read()
    with open("leaf.vhd", "rb") as f:
        leaf = f.read()
    good = tar(("0.vhd", leaf), ("1.vhd", base))

    def nothing_left(what):
        deadline = time.monotonic() + 30    # a worker that is killed ends a little later
        while True:
            left = ([f for f in os.listdir("one") if not f.startswith(".")],
                    smd.call("VDI.get_all"), smd.call("SR.get_current_operations", sr))
            if left == ([], [], {}) or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        expect_eq(left, ([], [], {}), "left after " + what)

    def path(task="", **words):
        query = "".join("&%s=%s" % item for item in words.items())
        return "/import_image?session_id=%s&sr=%s&filename=x.tgz%s%s" % (
            smd.login(), sr, "&task_id=" + task if task else "", query)

    def put(body, what, status, code, **words):
        task = smd.call("task.create", "import", "")
        got, _, text = smd.http("PUT", path(task, **words), body)
        expect_eq(got, status, "%s: %s" % (what, text))
        record = smd.call("task.get_record", task)
        expect_eq((record["status"], record["error_info"][0]), ("failure", code), what)
        smd.call("task.destroy", task)
        nothing_left(what)

    put(good[:len(good) // 2], "a truncated archive", 400, "IMAGE_CORRUPT")
    put(tar(("0.vhd", leaf)), "a leaf without its base", 400, "IMAGE_CORRUPT")
    put(tar(("../0.vhd", leaf)), "a name that climbs", 400, "IMAGE_UNSUPPORTED")
    put(tar(("0.vhd", leaf), ("1.vhd", base), ("/tmp/2.vhd", base)), "an absolute name", 400,
        "IMAGE_UNSUPPORTED")
    put(b"not read", "a format that is not the SR's", 500, "VDI_INCOMPATIBLE_TYPE", format="nosuch")
    assert not os.path.exists("0.vhd") and not os.path.exists("/tmp/2.vhd")

    huge = tarfile.TarInfo("0.vhd")
    huge.size = 1 << 60
    put(huge.tobuf(tarfile.GNU_FORMAT) + bytes(MIB), "a member larger than the SR", 500, "SR_FULL")

    expect_eq(smd.http("PUT", "/import_image?sr=%s&filename=x.tgz" % sr, b"not read")[0], 401,
              "without a session")
    expect_eq(smd.http("PUT", path().replace(sr, "OpaqueRef:none"), b"not read")[0], 404, "no SR")

    def begin(task, n):
        """An upload that stops in its middle: the connection."""
        connection = smd.connect()
        connection.putrequest("PUT", path(task))
        connection.putheader("Content-Length", str(len(good)))
        connection.endheaders(good[:n])
        deadline = time.monotonic() + 30
        while not any(allocated(os.path.join("one", f)) for f in os.listdir("one")):
            assert time.monotonic() < deadline, "nothing of the upload is written"
            time.sleep(0.05)
        return connection

    task = smd.call("task.create", "import", "")
    begin(task, len(good) // 2).close()
    record = smd.wait_task(task)
    expect_eq(record["error_info"][0], "VDI_IO_ERROR", "a client that hangs up")
    nothing_left("a client that hung up")

    task = smd.call("task.create", "import", "")
    connection = begin(task, len(good) // 2)
    smd.call("SR.scan", sr)
    expect_eq(smd.call("VDI.get_all"), [], "what a scan makes of volumes in the making")
    smd.call("task.cancel", task)
    expect_eq(smd.wait_task(task)["status"], "cancelled", "the task")
    nothing_left("a cancel")
    connection.close()

    connection = begin(smd.call("task.create", "import", ""), len(good) // 2)
    smd.kill()
    assert os.listdir("one"), "killed too late to show anything"
    smd.start()
    connection.close()
    nothing_left("a kill of the daemon")

    # And after all that, it works: without a task the uuid is in the answer.
    status, _, text = smd.http("PUT", path(), good)
    expect_eq(status, 200, text)
    vdi = smd.call("VDI.get_by_uuid", text.decode().strip())
    expect_eq(smd.call("VDI.get_name_label", vdi), "x", "name")
    expect_eq(len([f for f in os.listdir("one") if f.endswith(".vhd")]), 2, "volumes")
    expect_eq(smd.http("GET", "/export_image?vdi=" + vdi)[0], 401, "export without a session")
    status, headers, body = smd.http("GET", "/export_image?session_id=%s&vdi=%s" % (smd.login(), vdi))
    expect_eq((status, headers["Content-Type"]), (200, "application/gzip"), "export")
    expect_eq(len(tarfile.open(fileobj=io.BytesIO(body)).getnames()), 2, "members")
