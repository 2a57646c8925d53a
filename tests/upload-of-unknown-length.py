#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# An upload of unknown length, as npm xen-api does it: a probe without a task, then
# the transfer with a task; both declare 1 PiB. Each is answered before any body; the
# upload ends where the client hangs up, and its result is in the task; one that is
# reset leaves the disk alone. Over the unix socket, where the last of the data could
# be lost, it is refused.
import random
import struct

from smdtest import *

SIZE = 3 * MIB
BLOCK = 256 << 10
ROUNDS = 24


def put(smd, path):
    """The connection of a PUT whose head is sent, and the head of its answer."""
    connection = smd.connect()
    connection.connect()
    connection.sock.sendall(("PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                             % (path, 1 << 50)).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.sock.recv(4096)
        assert piece, answer
        answer += piece
    return connection, answer


def upload(smd, vdi, fmt, body, pieces=1):
    path = "/import_raw_vdi?session_id=%s&vdi=%s&format=%s" % (smd.login(), vdi, fmt)
    connection, answer = put(smd, path)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    connection.close()
    task = smd.call("task.create", "upload", "")
    connection, answer = put(smd, path + "&task_id=" + task)
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    for i in range(pieces):
        connection.sock.sendall(body[len(body) * i // pieces:len(body) * (i + 1) // pieces])
    connection.close()
    record = smd.wait_task(task)
    expect_eq((record["status"], record["result"], record["error_info"]),
              ("success", "<value>%s</value>" % vdi, []), "the task of " + fmt)
    smd.call("task.destroy", task)


requires("qemu-img")
rng = random.Random(3)
with Smd(tcp=True) as smd:
    vdi = smd.make_vdi(smd.make_sr("one"), SIZE, "qcow2")
    for fmt in "raw", "qcow2", "vhd":
        image = os.path.join(smd.dir, "image")
        digest = make_image(image, fmt, SIZE, seed=len(fmt))
        with open(image, "rb") as f:
            upload(smd, vdi, fmt, f.read())
        smd.export_vdi(vdi, image)
        expect_eq(sha256_of_file(image), digest, fmt)
    # The last bytes come with the end, just after a block of the daemon's.
    other = smd.make_vdi(smd.make_sr("two"), SIZE, "raw")
    for i in range(ROUNDS):
        body = rng.randbytes(2 * BLOCK + 512 * rng.randrange(1, 9))
        upload(smd, other, "raw", body, pieces=rng.randrange(1, 33))
        smd.export_vdi(other, image)
        with open(image, "rb") as f:
            wrong = [at for at, byte in enumerate(f.read(len(body))) if byte != body[at]]
        expect_eq(wrong[:1], [], "the first wrong byte of %d, round %d" % (len(body), i))
    task = smd.call("task.create", "reset", "")
    connection, answer = put(smd, "/import_raw_vdi?session_id=%s&vdi=%s&task_id=%s"
                             % (smd.login(), vdi, task))
    connection.sock.sendall(b"half of a disk" * 1000)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    record = smd.wait_task(task)
    expect_eq((record["status"], record["error_info"][:1]), ("failure", ["VDI_IO_ERROR"]),
              "the task of an upload that was reset")
    smd.export_vdi(vdi, image)
    expect_eq(sha256_of_file(image), digest, "the disk after an upload that was reset")
    smd.tcp = False
    connection, answer = put(smd, "/import_raw_vdi?session_id=%s&vdi=%s" % (smd.login(), vdi))
    assert answer.startswith(b"HTTP/1.1 411 "), answer
    smd.tcp = True
    # The probe answers what the transfer would.
    connection, answer = put(smd, "/import_raw_vdi?session_id=OpaqueRef:no&vdi=" + vdi)
    assert answer.startswith(b"HTTP/1.1 401 "), answer
