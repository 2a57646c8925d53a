#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Disks go in and out over HTTP in every format; what breaks leaves them as they were."""
from smdtest import *

requires("qemu-img")
SIZE = 11 * MIB + 512
FORMATS = ["raw", "vhd", "qcow2"]
UNKNOWN = 1 << 50       # what npm xen-api declares for a stream of unknown length


def put(smd, vdi, body, fmt="raw", length=None, extra="", close_early=False):
    """A PUT by hand; its status and body, or None where we hung up."""
    connection = smd.connect()
    connection.putrequest("PUT", "/import_raw_vdi?session_id=%s&vdi=%s&format=%s%s"
                          % (smd.login(), vdi, fmt, extra))
    connection.putheader("Content-Length", str(len(body) if length is None else length))
    connection.endheaders()
    try:
        connection.send(body)
    except OSError:
        pass
    if close_early:
        # As npm xen-api does it: the answer comes first, and is read.
        if length == UNKNOWN:
            connection.sock.recv(4096)
        connection.close()
        return None
    reply = connection.getresponse()
    result = reply.status, reply.read()
    connection.close()
    return result


def content(smd, vdi):
    path = os.path.join(smd.dir, "content.raw")
    smd.export_vdi(vdi, path)
    expect_eq(os.path.getsize(path), int(smd.call("VDI.get_virtual_size", vdi)), "bytes out")
    return sha256_of_file(path)


def wait_idle(smd, vdi):
    """An upload that was broken off ends when the daemon has noticed."""
    deadline = time.monotonic() + 30
    while smd.call("VDI.get_current_operations", vdi):
        assert time.monotonic() < deadline, "the transfer still runs"
        time.sleep(0.02)


def task(smd):
    return smd.call("task.create", "import", "a test")


with Smd(tcp=True) as smd:
    sr = smd.make_sr("one")
    raw = os.path.join(smd.dir, "in.raw")
    fill_raw(raw, SIZE)
    digest = sha256_of_file(raw)
    images = {"raw": raw}
    for fmt in "vhd", "qcow2":
        images[fmt] = os.path.join(smd.dir, "in." + fmt)
        options = ["-o", "force_size=on"] if fmt == "vhd" else ["-c"]
        qemu_img("convert", "-f", "raw", "-O", qemu_format(fmt), *options, raw, images[fmt])

    # Any format into a VDI of any format, and out again as any.
    for kept in FORMATS:
        vdi = smd.make_vdi(sr, SIZE, kept)
        for sent in FORMATS:
            smd.import_vdi(vdi, raw if sent == "raw" else images[sent], sent)
            expect_eq(smd.vdi_format(vdi), kept, "its own format")
            expect_eq(content(smd, vdi), digest, "%s in %s" % (sent, kept))
            smd.import_vdi(vdi, os.devnull, "raw")      # the probe changes nothing
        for asked in FORMATS:
            out = os.path.join(smd.dir, "out." + asked)
            smd.export_vdi(vdi, out, asked.upper())
            expect_eq(sha256_of_disk(out, asked), digest, "%s out of %s" % (asked, kept))
            if asked == "qcow2":
                qemu_img("check", "-f", "qcow2", out)
        uuid = smd.call("VDI.get_uuid", vdi)
        status, headers, body = smd.http(
            "GET", "/export_raw_vdi?session_id=%s&vdi=%s&format=vhd" % (smd.login(), uuid))
        expect_eq(status, 200, "status")
        expect_eq(headers["Content-Type"], "application/vhd", "content type")
        expect_eq(headers["Content-Length"], str(len(body)), "length")
        assert '"%s.vhd"' % uuid in headers["Content-Disposition"]
        smd.call("VDI.destroy", vdi)

    # Tasks are ended by the transfer, with the VDI as the result.
    vdi = smd.make_vdi(sr, SIZE, "qcow2")
    number = task(smd)
    with open(raw, "rb") as f:
        expect_eq(put(smd, vdi, f.read(), extra="&task_id=" + number)[0], 200, "status")
    record = smd.wait_task(number)
    expect_eq(record["status"], "success", "status of the task")
    expect_eq(record["result"], "<value>%s</value>" % vdi, "result of the task")
    number = task(smd)
    status, headers, body = smd.http("GET", "/export_raw_vdi?session_id=%s&vdi=%s&task_id=%s"
                                     % (smd.login(), vdi, number))
    expect_eq(headers["task-id"], number, "task-id")
    expect_eq(smd.wait_task(number)["status"], "success", "status of the export's task")

    # A larger disk takes a smaller one: the rest is zero.
    large = smd.make_vdi(sr, 2 * SIZE + 512, "vhd")
    for fmt in FORMATS:
        smd.import_vdi(large, images[fmt], fmt)
        path = os.path.join(smd.dir, "large.raw")
        smd.export_vdi(large, path)
        expect_eq(sha256_of_file(path, SIZE), digest, "its start")
        with open(path, "rb") as f:
            f.seek(SIZE)
            assert not f.read().strip(b"\0"), "its end is not zero"

    # What cannot be, before or after the body, changes nothing.
    small = smd.make_vdi(sr, SIZE - 512, "raw")
    first = os.path.join(smd.dir, "small.raw")
    fill_raw(first, SIZE - 512, seed=7)
    smd.import_vdi(small, first)
    held = sha256_of_file(first)
    bodies = {fmt: open(path, "rb").read() for fmt, path in images.items()}
    for fmt in FORMATS:
        number = task(smd)
        status, text = put(smd, small, bodies[fmt], fmt, extra="&task_id=" + number)
        expect_eq(status, 400, "status of a %s that is too large" % fmt)
        assert b"VDI_TOO_SMALL" in text, text
        expect_eq(smd.wait_task(number)["error_info"][0], "VDI_TOO_SMALL", "error of the task")
        number = task(smd)
        put(smd, small, bodies[fmt][:MIB], fmt, length=len(bodies["raw"]) - 512,
            extra="&task_id=" + number, close_early=True)
        expect_eq(smd.wait_task(number)["error_info"][0], "VDI_IO_ERROR", "a broken upload")
        expect_eq(smd.call("VDI.get_current_operations", small), {}, "operations")
        if fmt != "raw":
            status, text = put(smd, small, bodies[fmt][:len(bodies[fmt]) // 2], fmt)
            assert status >= 400, "half a %s was taken" % fmt
            status, text = put(smd, small, b"nothing of the kind" * 5000, fmt)
            expect_eq(status, 400, "status of nonsense as " + fmt)
            assert b"BAD_MAGIC" in text or b"IMAGE_CORRUPT" in text, text
    expect_eq(content(smd, small), held, "the content after refusals")
    left = [f for f in os.listdir(smd.sr_path(sr)) if f.startswith("tmp-")]
    expect_eq(left, [], "volumes left over")

    # An image that names another file does not get at it.
    secret = os.path.join(smd.dir, "secret.raw")
    with open(secret, "wb") as f:
        f.write(b"secret" * 4096)
    overlay = os.path.join(smd.dir, "overlay.qcow2")
    qemu_img("create", "-f", "qcow2", "-b", secret, "-F", "raw", overlay)
    with open(overlay, "rb") as f:
        status, text = put(smd, small, f.read(), "qcow2")
    expect_eq(status, 400, "status of an overlay")
    assert b"EXTERNAL_REF" in text or b"IMAGE_UNSUPPORTED" in text, text

    # No length at all is no empty disk.
    number = task(smd)
    connection = smd.connect()
    connection.putrequest("PUT", "/import_raw_vdi?session_id=%s&vdi=%s&task_id=%s"
                          % (smd.login(), small, number))
    connection.endheaders()
    expect_eq(connection.getresponse().status, 400, "status of a body without a length")
    connection.close()
    expect_eq(smd.wait_task(number)["status"], "failure", "a body without a length")
    expect_eq(content(smd, small), held, "the content after it")

    # Length unknown, closed at the end of the image: taken.
    for fmt in FORMATS:
        again = smd.make_vdi(sr, SIZE, "raw")
        number = task(smd)
        put(smd, again, bodies[fmt], fmt, length=UNKNOWN, extra="&task_id=" + number,
            close_early=True)
        expect_eq(smd.wait_task(number)["status"], "success", "a stream of unknown length")
        expect_eq(content(smd, again), digest, "a stream of unknown length as " + fmt)
        smd.call("VDI.destroy", again)

    # Errors come before the 200.
    login = smd.login()
    for path, status in (
            ("/export_raw_vdi?vdi=%s" % vdi, 401),
            ("/export_raw_vdi?session_id=%s&vdi=nosuch" % login, 404),
            ("/export_raw_vdi?session_id=%s&vdi=%s&format=vmdk" % (login, vdi), 404),
            ("/export_raw_vdi?session_id=%s" % login, 400)):
        expect_eq(smd.http("GET", path)[0], status, path)
    # A reader that hangs up leaves nothing behind.
    connection = smd.connect()
    connection.request("GET", "/export_raw_vdi?session_id=%s&vdi=%s" % (login, large))
    connection.getresponse().read(1000)
    connection.close()
    wait_idle(smd, large)
