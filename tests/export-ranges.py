#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# HEAD of a raw export says how long it is, Range gives a part of it, as RFC 9110 has it.
from smdtest import *

SIZE = 5 * MIB + 512


def get(smd, path, spec=None, method="GET", **headers):
    if spec:
        headers["Range"] = spec
    return smd.http(method, path, None, headers)


def check_parts(smd, path, data):
    for spec, first, last in (("bytes=0-0", 0, 0), ("bytes=511-513", 511, 513),
                              ("bytes=1048570-4194310", 1048570, 4194310),
                              ("bytes=%d-" % (SIZE - 700), SIZE - 700, SIZE - 1),
                              ("bytes=-512", SIZE - 512, SIZE - 1),
                              ("bytes=-%d" % (9 * SIZE), 0, SIZE - 1),
                              ("bytes=5-%d" % (9 * SIZE), 5, SIZE - 1)):
        status, headers, body = get(smd, path, spec)
        expect_eq((status, headers["Content-Range"]),
                  (206, "bytes %d-%d/%d" % (first, last, SIZE)), spec)
        assert body == data[first:last + 1], spec
    for spec in "bytes=%d-" % SIZE, "bytes=-0":
        status, headers, _ = get(smd, path, spec)
        expect_eq((status, headers["Content-Range"]), (416, "bytes */%d" % SIZE), spec)
    # What is no range, or one of several parts, is the whole.
    for spec in ("bytes=", "bytes=-", "bytes=a-b", "bytes=9-3", "lines=0-1", "bytes=0-1,5-6",
                 "bytes=0-1x", "bytes=99999999999999999999-"):
        status, headers, body = get(smd, path, spec)
        assert status == 200 and body == data and headers["Accept-Ranges"] == "bytes", spec
    expect_eq(get(smd, path, "bytes=0-1", **{"If-Range": '"x"'})[0], 200, "with a condition")


def check_head(smd, path, vdi):
    status, headers, body = get(smd, path, method="HEAD")
    expect_eq((status, headers["Content-Length"], headers["Accept-Ranges"], body),
              (200, str(SIZE), "bytes", b""))
    expect_eq(headers["Content-Type"], "application/octet-stream")
    expect_eq(get(smd, path.replace(vdi, "OpaqueRef:no"), method="HEAD")[0], 404)
    expect_eq(get(smd, "/export_raw_vdi?session_id=no&vdi=" + vdi, method="HEAD")[0], 401)
    expect_eq(get(smd, path + "&format=qcow2", method="HEAD")[:1], (200,))
    expect_eq(get(smd, path + "&format=qcow2", "bytes=0-9")[0], 200, "only raw has ranges")


def check_task(smd, path):
    """A task of a range that there is, and of one that there is not."""
    for spec, want in ("bytes=0-9", "success"), ("bytes=%d-" % SIZE, "failure"):
        task = smd.call("task.create", spec, "")
        get(smd, path + "&task_id=" + task, spec)
        expect_eq(smd.wait_task(task)["status"], want, spec)


with Smd() as smd:
    image = os.path.join(smd.dir, "image")
    fill_raw(image, SIZE)
    vdi = smd.make_vdi(smd.make_sr("one"), SIZE, "raw")
    smd.import_vdi(vdi, image)
    path = "/export_raw_vdi?session_id=%s&vdi=%s" % (smd.login(), vdi)
    with open(image, "rb") as f:
        check_parts(smd, path, f.read())
    check_head(smd, path, vdi)
    check_task(smd, path)
    # The disk is nobody's when all is over.
    smd.call("VDI.destroy", vdi)
