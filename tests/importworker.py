# SPDX-License-Identifier: BSD-2-Clause
"""smd-worker's import-image, run as the daemon runs it, on volumes in the current
directory."""
import fcntl

from smdtest import *

MEMORY_MAX = 256 << 20
ROOM = 1 << 30
VOLUMES = 30


def worker(stream, filename, room=ROOM, fmt="", n=VOLUMES):
    """Import bytes or a file: the answer; what it wrote is in v00, v01 …"""
    if isinstance(stream, bytes):
        with open("stream", "wb") as f:
            f.write(stream)
        stream = "stream"
    for i in range(n):
        with open("v%02d" % i, "wb"):
            pass
    fds = [os.open(stream, os.O_RDONLY)]
    fds += [os.open("v%02d" % i, os.O_RDWR) for i in range(n)]
    request = {"op": "import-image", "fd": 3, "filename": filename, "format": fmt, "room": room,
               "size": os.path.getsize(stream),
               "volumes": [{"fd": 4 + i, "stem": "%08d-0000-4000-8000-000000000000" % i}
                           for i in range(n)]}
    # Descriptors from 3 up, as the daemon hands them over.
    base = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in fds]
    for fd in fds:
        os.close(fd)

    def place():
        for i, fd in enumerate(base):
            os.dup2(fd, 3 + i)

    child = subprocess.Popen(["smd-worker", "--formats", os.environ["SMD_PLUGIN_PATH"]],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False,
                             preexec_fn=place)
    for fd in base:
        os.close(fd)
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.close()
    lines = child.stdout.read().decode().splitlines()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = status
    expect_eq(status, 0, "the worker's end: %s" % lines)
    if not sanitized():
        assert usage.ru_maxrss * 1024 <= MEMORY_MAX, usage.ru_maxrss
    return json.loads(lines[-1])
