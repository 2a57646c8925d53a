#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Who connects while smd stops does not make it die: libmicrohttpd's thread may be at its
# listening socket at the moment when somebody else takes it away, and aborts then.
import os
import signal
import socket
import time
from smdtest import BUILD, Smd, expect_eq


def connect_for(seconds, path):
    """Whether anybody was there is no matter."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(path)
            except OSError:
                pass
        time.sleep(0.01)


slow = os.path.join(BUILD, "tests", ".libs", "fault-epoll.so")
assert os.path.exists(slow), slow       # without it nothing would be seen
env = {"LD_PRELOAD": slow,
       "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"}
with Smd(env=env) as smd:
    smd.call("host.get_all")
    smd.process.send_signal(signal.SIGTERM)
    connect_for(0.3, smd.socket)
    expect_eq(smd.process.wait(30), 0, "its end")
