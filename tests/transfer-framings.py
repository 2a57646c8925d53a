#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The ways xapi has a raw disk come and go besides plain: a tar of blocks (format=tar) and
vhd-tool's frames (chunked); and a disk that the upload itself makes."""
import gzip
import io
import tarfile

from smdtest import *

SIZE = 7 * MIB + 512
# Of b"x" * MIB.
XXH64_OF_X = "dfc21015d1daf3fc"


def path(smd, way, **query):
    query = dict({"session_id": smd.login()}, **query)
    return "/%s_raw_vdi?%s" % (way, "&".join("%s=%s" % item for item in query.items()))


def put(smd, body, headers=None, **query):
    """The status, and the record of the task it ended."""
    task = smd.call("task.create", "import", "")
    status, _, text = smd.http("PUT", path(smd, "import", task_id=task, **query), body, headers or {})
    return status, smd.wait_task(task), text


def blocks_of(body):
    """A tar's members, as vhd-tool would read them: the blocks by number, all summed up."""
    blocks = {}
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        members = tar.getmembers()
        for block, checksum in zip(members[::2], members[1::2]):
            data = tar.extractfile(block).read()
            expect_eq(checksum.name, block.name + ".checksum", "what follows " + block.name)
            expect_eq(tar.extractfile(checksum).read().decode(), hashlib.sha1(data).hexdigest(),
                      checksum.name)
            assert len(block.name) == 8, block.name
            blocks[int(block.name)] = data
    return blocks


def tar_of(*members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def summed(name, data):
    return (name, data), (name + ".checksum", hashlib.sha1(data).hexdigest().encode())


def check_tar_export(smd, vdi, raw):
    status, headers, body = smd.http("GET", path(smd, "export", vdi=vdi, format="TAR"))
    uuid = smd.call("VDI.get_uuid", vdi)
    expect_eq((status, headers["Content-Type"], headers["Content-Disposition"],
               headers["Content-Length"]),
              (200, "application/x-tar", 'attachment; filename="%s.tar"' % uuid, None), "headers")
    blocks = blocks_of(body)
    expect_eq(sorted(blocks), [0, 2, 7], "the first, one with data, the last")
    for number, data in blocks.items():
        assert data == raw[number * MIB:(number + 1) * MIB], number
    status, headers, packed = smd.http("GET", path(smd, "export", vdi=vdi, format="tar"), None,
                                       {"Accept-Encoding": "gzip"})
    assert blocks_of(gzip.decompress(packed)) == blocks
    expect_eq(smd.http("GET", path(smd, "export", vdi=vdi, format="tar", base=vdi))[0], 400, "base")
    return body


def check_tar_import(smd, vdi, body, raw, digest):
    expect_eq(put(smd, body, vdi=vdi, format="tar")[0], 200, "its own tar")
    expect_eq(smd.vdi_sha256(vdi), digest, "its own tar")
    expect_eq(put(smd, gzip.compress(body), {"Content-Encoding": "gzip"}, vdi=vdi, format="tar")[0],
              200, "compressed")
    x, words = b"x" * MIB, b"words " * 100
    # In a directory; a member of no bytes takes a number and no room; no end of archive.
    odd = tar_of(("Ref:7/00000000", x), ("Ref:7/00000000.xxhash", XXH64_OF_X.encode()),
                 ("Ref:7/00000001", b""), *summed("Ref:7/00000003", words))
    odd = odd[:odd.rindex(hashlib.sha1(words).hexdigest().encode()) + 512]
    expect_eq(put(smd, odd, vdi=vdi, format="tar")[0], 200, "an odd one")
    smd.export_vdi(vdi, os.path.join(smd.dir, "out"))
    with open(os.path.join(smd.dir, "out"), "rb") as f:
        got = f.read()
    assert got[:MIB] == x and got[2 * MIB:2 * MIB + 600] == words, "an odd one"
    assert not got[MIB:2 * MIB].strip(b"\0") and not got[2 * MIB + 600:].strip(b"\0")
    first = summed("00000000", x)
    held = smd.vdi_sha256(vdi)
    for what, members in (
            ("no member", ()),
            ("a wrong checksum", (("00000000", x), ("00000000.checksum", b"0" * 40))),
            ("another's checksum", (*first, ("00000001.checksum", b"0" * 40))),
            ("two checksums", (*first, first[1])),
            ("numbers that do not grow", (*first, *first)),
            ("a larger block", (*first, ("00000001", x + b"y"))),
            ("a number past the end", (*first, ("00000008", x))),
            ("a number past all ends", (*first, ("9" * 18, x))),
            ("no number", (("disk.raw", x),)),
            ("a metadata file", (("ova.xml", x),)),
            ("two disks", (("a/00000000", x), ("b/00000001", x))),
            ("another format", (("00000000", b"QFI\xfb\0\0\0\3" + x[:MIB - 8]),))):
        status, record, text = put(smd, tar_of(*members), vdi=vdi, format="tar")
        expect_eq((status, record["status"]), (400, "failure"), "%s: %s" % (what, text))
    expect_eq(put(smd, body[:len(body) // 2], vdi=vdi, format="tar")[0], 400, "half of it")
    expect_eq(put(smd, b"no tar" * 1000, vdi=vdi, format="tar")[0], 400, "none at all")
    expect_eq(put(smd, gzip.compress(body), vdi=vdi, format="tar")[0], 400, "packed, and not said so")
    expect_eq(smd.vdi_sha256(vdi), held, "the disk after refusals")


def check_frames(smd, vdi):
    def frames(*pieces):
        return b"".join(struct.pack("<QI", at, len(data)) + data for at, data in pieces)

    end = bytes(12)
    good = frames((0, b"head" * 700), (3 * MIB, b"midd" * MIB), (SIZE - 5, b"last!")) + end
    expect_eq(put(smd, good, vdi=vdi, chunked="true")[0], 200, "frames")
    want = bytearray(SIZE)
    want[:2800], want[3 * MIB:7 * MIB], want[-5:] = b"head" * 700, b"midd" * MIB, b"last!"
    expect_eq(smd.vdi_sha256(vdi), hashlib.sha256(want[:SIZE]).hexdigest(), "frames")


def check_bad_frames(smd, vdi):
    held = smd.vdi_sha256(vdi)
    one = struct.pack("<QI", 0, 600) + b"x" * 600
    for what, body in (("no last frame", one), ("half a head", one + b"\1" * 5),
                       ("half a frame", one[:300]), ("more behind it", one + bytes(12) + b"more"),
                       ("past the end", struct.pack("<QI", SIZE, 1) + b"x" + bytes(12)),
                       ("past all ends", struct.pack("<QI", (1 << 64) - 1, 9) + b"x" * 9)):
        status, record, text = put(smd, body, vdi=vdi, chunked="true")
        expect_eq((status, record["status"]), (400, "failure"), "%s: %s" % (what, text))
    status, record, _ = put(smd, one + bytes(12), vdi=vdi, chunked="true", format="vhd")
    expect_eq((status, record["error_info"]),
              (404, ["INTERNAL_ERROR", "Cannot handle chunked VHD"]), "frames of a VHD")
    expect_eq(smd.vdi_sha256(vdi), held, "the disk after refusals")


def check_http_chunks(smd, vdi):
    """Refused in xapi's words, before any of the body."""
    held = smd.vdi_sha256(vdi)
    for encoding in "chunked", "gzip":
        task = smd.call("task.create", "import", "")
        connection = smd.connect()
        connection.putrequest("PUT", path(smd, "import", vdi=vdi, task_id=task))
        connection.putheader("Transfer-Encoding", encoding)
        connection.endheaders()
        expect_eq(connection.getresponse().status, 404, encoding)
        connection.close()
        expect_eq(smd.wait_task(task)["error_info"],
                  ["INTERNAL_ERROR", "Cannot handle encoding: " + encoding], encoding)
    expect_eq(smd.vdi_sha256(vdi), held, "after refusals")


def check_made(smd, sr, raw, digest):
    """No vdi, and an sr_id or sr_uuid."""
    before = set(smd.call("VDI.get_all"))
    for query in {"sr_id": sr}, {"sr_uuid": smd.call("SR.get_uuid", sr)}:
        status, record, text = put(smd, raw, **query)
        expect_eq((status, record["status"]), (200, "success"), text)
        vdi = record["result"].replace("<value>", "").replace("</value>", "")
        vdi_record = smd.call("VDI.get_record", vdi)
        expect_eq((vdi_record["name_label"], vdi_record["virtual_size"], vdi_record["SR"]),
                  ("Imported VDI", str(SIZE), sr), "what it made")
        expect_eq(smd.vdi_sha256(vdi), digest, "what it made")
        smd.call("VDI.destroy", vdi)
    for body, query, status in ((raw, {"sr_id": sr, "format": "vhd"}, 400), (raw, {}, 400),
                                (b"QFI\xfb\0\0\0\3" + raw, {"sr_id": sr}, 400),
                                (raw, {"sr_id": "OpaqueRef:no"}, 400)):
        got, record, text = put(smd, body, **query)
        expect_eq((got, record["status"]), (status, "failure"), "%s: %s" % (query, text))
    expect_eq(set(smd.call("VDI.get_all")), before, "disks left of refusals")


def check_own_task(smd, vdi):
    """Where the client names no task there is one all the same, and the reply names it."""
    parent = smd.call("task.create", "mine", "")
    for method, way, label in ("GET", "export", "Exporting raw VDI"), ("PUT", "import", "Importing raw VDI"):
        status, headers, _ = smd.http(method, path(smd, way, vdi=vdi, subtask_of=parent),
                                      b"x" * 512 if method == "PUT" else None)
        expect_eq(status, 200, label)
        if method == "GET":
            record = smd.wait_task(headers["task-id"])
        else:
            record, = smd.call("task.get_all_records_where", 'field "name_label" = "%s"' % label).values()
        expect_eq((record["name_label"], record["status"], record["subtask_of"]),
                  (label, "success", parent), label)


with Smd(tcp=True) as smd:
    sr = smd.make_sr("one")
    raw = bytearray(SIZE)
    raw[2 * MIB + 5:2 * MIB + 5 + 300000] = b"data" * 75000
    raw = bytes(raw)
    digest = hashlib.sha256(raw).hexdigest()
    vdi = smd.make_vdi(sr, SIZE, "vhd")
    expect_eq(put(smd, raw, vdi=vdi)[0], 200, "plain")
    body = check_tar_export(smd, vdi, raw)
    check_tar_import(smd, vdi, body, raw, digest)
    check_http_chunks(smd, vdi)
    check_frames(smd, vdi)
    check_bad_frames(smd, vdi)
    check_made(smd, sr, raw, digest)
    check_own_task(smd, vdi)
