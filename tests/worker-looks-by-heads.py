#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""smd-worker's looks, run as the daemon runs it: what it says of images that it is shown the heads
of, what it says where they are not enough, and that it cannot write what it is shown."""
from smdtest import *

MAX, HEAD = 240, 2048                       # daemon/worker/protocol.h
IMAGE = struct.Struct("=QQ32s256s")
F_ADD_SEALS, SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x10


def show(images):
    """A file that tells of images: (head, size, format)."""
    records = b"".join(IMAGE.pack(size, len(head), fmt.encode(), b"a name")
                       for head, size, fmt in images)
    heads = b"".join(head[:HEAD].ljust(HEAD, b"\0") for head, _, _ in images)
    fd = os.memfd_create("shown", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, MAX * (HEAD + IMAGE.size))
    os.pwrite(fd, heads, 0)
    os.pwrite(fd, records, MAX * HEAD)
    fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
    return fd


def looks(shown, packets):
    """The lines it answers packets with."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in (its.fileno(), shown)]

    def place():
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i)

    with subprocess.Popen(["smd-worker", "--formats", os.environ["SMD_PLUGIN_PATH"]],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False,
                          preexec_fn=place) as child:
        for fd in high:
            os.close(fd)
        its.close()
        child.stdin.write(b'{"op":"looks","fd":3}\n')
        child.stdin.flush()
        lines = []
        for packet in packets:
            ours.send(packet)
            lines.append(json.loads(child.stdout.readline()))
        ours.close()
    return lines


def image(path, fmt):
    with open(path, "rb") as f:
        return f.read(HEAD), os.path.getsize(path), fmt


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    run("smd-img", "create", "-f", "qcow2", "a", "64M")
    run("smd-img", "create", "-f", "vhd", "b", "64M")
    head, size, fmt = a = image("a", "qcow2")
    shown = show([a, (b"", 12345, "raw"), (b"", 0, "qcow2"), (head, 3000, "qcow2"),
                  (head, size, "none"),
                  image("b", "vhd"), (head[:64], size, fmt), (head, 100, fmt)])
    try:
        os.pwrite(shown, b"x", 0)
        raise AssertionError("it can be written")
    except PermissionError:
        pass
    line, end = looks(shown, [b"8", b"241"])
    answers = line["images"]
    expect_eq(answers[:2], [64 * MIB, 12345], "qcow2, raw")
    expect_eq(answers[2]["error"]["params"][1], "BAD_MAGIC", "an empty file")
    expect_eq(answers[3]["error"]["params"][1], "TABLE_BOUNDS", "one that is cut")
    expect_eq(answers[4]["error"]["code"], "FORMAT_UNKNOWN", "no format")
    # It has a footer; it is not shown enough of; it is shown more than it has.
    expect_eq(answers[5:], [None] * 3, "those that more is needed of")
    expect_eq(end["error"]["code"], "INTERNAL_ERROR", "more than there can be")
