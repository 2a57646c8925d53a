#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""One address that holds all connections it can get shuts nobody else out, and one
that asks for nothing does not keep its connections."""
from smdtest import *


def connect(port, source):
    s = socket.socket()
    s.settimeout(60)
    s.bind((source, 0))
    s.connect(("127.0.0.1", port))
    return s


def is_served(s):
    """Whether a request over the connection is answered."""
    try:
        s.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        return s.recv(100).startswith(b"HTTP/1.1")
    except OSError:
        return False


with Smd(tcp=True, config="max_connections = 40\n") as smd:
    idle = [connect(smd.port, "127.0.0.1") for _ in range(60)]
    assert is_served(connect(smd.port, "127.0.0.2")), "another address is shut out"
    # Those beyond the limit are closed at once, the others when nothing came.
    for s in idle:
        expect_eq(s.recv(1), b"", "an idle connection")
    # A client knows that its connection is over before the server has counted it.
    deadline = time.monotonic() + 30
    while not is_served(connect(smd.port, "127.0.0.1")):
        assert time.monotonic() < deadline, "the first address is still shut out"
        time.sleep(0.05)
