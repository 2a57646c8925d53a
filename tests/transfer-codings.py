#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Transfers by gzip and zstd: an export is in what Accept-Encoding likes best of them, an
import in what its Content-Encoding says it is; what does not decode, decodes to too much or
breaks off leaves the disk as it was."""
import gzip
import zlib

from smdtest import *

requires("qemu-img", "zstd")
SIZE = 9 * MIB + 512


def compress(coding, data):
    if coding == "gzip":
        return gzip.compress(data, 1)
    return subprocess.run(["zstd", "-q", "-1"], input=data, stdout=subprocess.PIPE, check=True).stdout


def expand(coding, data):
    """Strictly: to the end, and no further."""
    if coding == "gzip":
        z = zlib.decompressobj(31)
        plain = z.decompress(data)
        assert z.eof and not z.unused_data, "no whole gzip"
        return plain
    return subprocess.run(["zstd", "-q", "-d"], input=data, stdout=subprocess.PIPE, check=True).stdout


def path(smd, way, vdi, fmt, **more):
    query = dict(session_id=smd.login(), vdi=vdi, format=fmt, **more)
    return "/%s_raw_vdi?%s" % (way, "&".join("%s=%s" % item for item in query.items()))


def put(smd, vdi, fmt, body, coding, **more):
    """Status and text; and the task it ends has a result that agrees."""
    task = smd.call("task.create", "import", "")
    status, headers, text = smd.http("PUT", path(smd, "import", vdi, fmt, task_id=task, **more), body,
                                     {"Content-Encoding": coding})
    record = smd.wait_task(task)
    expect_eq(record["status"], "success" if status == 200 else "failure", "the task, of " + str(text))
    if status == 415:
        assert "zstd" in headers["Accept-Encoding"], headers
    return status, text


def check_choices(smd, vdi, raw):
    for accept, coding in (("gzip, deflate, br, zstd", "zstd"), ("gzip, deflate", "gzip"),
                           ("zstd;q=0.3, gzip;q=0.8", "gzip"), ("identity, gzip;q=0.5", None),
                           ("gzip;q=0", None), ("br", None), ("*", None)):
        for method in "GET", "HEAD":
            status, headers, body = smd.http(method, path(smd, "export", vdi, "raw"), None,
                                             {"Accept-Encoding": accept})
            expect_eq((status, headers["Content-Encoding"], headers["Vary"]),
                      (200, coding, "Accept-Encoding"), accept)
            expect_eq(headers["Content-Length"], None if coding else str(SIZE), accept)
            if method == "GET":
                assert (expand(coding, body) if coding else body) == raw, accept
    # A part is a part of the disk, not of what it is compressed to.
    status, headers, body = smd.http("GET", path(smd, "export", vdi, "raw"), None,
                                     {"Accept-Encoding": "gzip", "Range": "bytes=700-1699"})
    assert (status, headers["Content-Encoding"], body) == (206, None, raw[700:1700]), headers
    # An error is plain text.
    status, headers, body = smd.http("GET", path(smd, "export", "none", "raw"), None,
                                     {"Accept-Encoding": "gzip"})
    assert (status, headers["Content-Encoding"], body[:14]) == (404, None, b"HANDLE_INVALID"), headers


def check_formats(smd, sr, images, digest):
    for coding in "gzip", "zstd":
        for fmt in images:
            vdi = smd.make_vdi(sr, SIZE, "qcow2")
            expect_eq(put(smd, vdi, fmt, compress(coding, images[fmt]), coding)[0], 200, coding + fmt)
            expect_eq(smd.vdi_sha256(vdi), digest, "%s by %s" % (fmt, coding))
            status, headers, body = smd.http("GET", path(smd, "export", vdi, fmt), None,
                                             {"Accept-Encoding": coding})
            expect_eq((status, headers["Content-Encoding"]), (200, coding), fmt)
            assert len(body) < SIZE // 2, "%d bytes of zeroes and words" % len(body)
            with tempfile.NamedTemporaryFile(dir=smd.dir) as f:
                f.write(expand(coding, body))
                f.flush()
                expect_eq(sha256_of_disk(f.name, fmt), digest, "%s by %s, back" % (fmt, coding))
            smd.call("VDI.destroy", vdi)


def check_refusals(smd, vdi, images, held):
    bomb = {c: compress(c, b"\0" * (SIZE + 512)) for c in ("gzip", "zstd")}
    noise = b"no zeroes " * (8 << 20)        # no image of this disk is as long
    for coding in "gzip", "zstd":
        whole = compress(coding, images["raw"])
        for what, fmt, body in (
                ("half of it", "raw", whole[:len(whole) // 2]),
                ("no end", "raw", whole[:-1]),
                ("a wrong byte", "raw", whole[:len(whole) // 2] + b"?!?!?!" + whole[len(whole) // 2 + 6:]),
                ("something behind it", "raw", whole + b"and more"),
                ("not compressed", "raw", b"plain" * 5000),
                ("too many zeroes", "raw", bomb[coding]),
                ("too long for an image", "qcow2", compress(coding, images["qcow2"] + noise)),
                ("half an image", "vhd", compress(coding, images["vhd"])[:-9]),
                ("another format", "raw", compress(coding, images["qcow2"]))):
            status, text = put(smd, vdi, fmt, body, coding)
            expect_eq(status, 400, "%s by %s: %s" % (what, coding, text))
        expect_eq(put(smd, vdi, "raw", whole, coding + ", gzip")[0], 415, "twice")
    status, text = put(smd, vdi, "raw", bomb["zstd"], "zstd")
    assert text.startswith(b"VDI_TOO_SMALL"), text
    expect_eq(put(smd, vdi, "raw", b"x" * 512, "br")[0], 415, "an unknown one")
    # One that breaks off is no damaged one.
    task = smd.call("task.create", "import", "")
    connection = smd.connect()
    connection.putrequest("PUT", path(smd, "import", vdi, "raw", task_id=task))
    connection.putheader("Content-Encoding", "gzip")
    connection.putheader("Content-Length", "100000")
    connection.endheaders()
    connection.send(compress("gzip", images["raw"])[:5000])
    connection.close()
    expect_eq(smd.wait_task(task)["error_info"], ["VDI_IO_ERROR", "Device I/O errors"], "broken off")
    expect_eq(smd.vdi_sha256(vdi), held, "the disk after refusals")
    left = [f for f in os.listdir(smd.sr_path(smd.call("VDI.get_SR", vdi))) if f.startswith("tmp-")]
    expect_eq(left, [], "volumes left over")


with Smd(tcp=True) as smd:
    sr = smd.make_sr("one")
    source = os.path.join(smd.dir, "in.raw")
    with open(source, "wb") as f:       # words that compress, some noise and holes
        f.write(os.urandom(100000) + b"some words " * 200000)
        f.truncate(SIZE)
    images = {"raw": open(source, "rb").read()}
    for fmt, options in ("vhd", "force_size=on"), ("qcow2", "compat=1.1"):
        image = os.path.join(smd.dir, "in." + fmt)
        qemu_img("convert", "-f", "raw", "-O", qemu_format(fmt), "-o", options, source, image)
        images[fmt] = open(image, "rb").read()
    digest = sha256_of_file(source)
    check_formats(smd, sr, images, digest)
    vdi = smd.make_vdi(sr, SIZE, "vhd")
    smd.import_vdi(vdi, source)
    check_choices(smd, vdi, images["raw"])
    check_refusals(smd, vdi, images, digest)
