#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A worker whose daemon died before the worker looked does nothing: it would work on, and
hold its images, for a task that nobody waits for."""
import select

from smdtest import *

REQUEST = b'{"op":"formats"}\n'


def answer(orphan):
    """What a worker says to a request of a process that is, or is not, its parent."""
    ours, theirs = socket.socketpair()
    out, say = os.pipe()
    pid = os.fork()
    if pid == 0:        # SO_PEERCRED names who made the pair: the parent of this process
        argv = ["smd-worker", "--formats", os.environ["SMD_PLUGIN_PATH"]]
        if orphan and os.fork() > 0:
            os._exit(0)
        os.dup2(theirs.fileno(), 0)
        os.dup2(say, 1)
        os.execvp(os.environ["SMD_WORKER"], argv)
    os.close(say)
    theirs.close()
    if orphan:
        os.waitpid(pid, 0)
    ours.sendall(REQUEST)
    text = b""
    while select.select([out], [], [], 60)[0]:
        part = os.read(out, 65536)
        if not part:
            break
        text += part
    if not orphan:
        os.waitpid(pid, 0)
    os.close(out)
    return text


assert b'"qcow2"' in answer(False), "a worker of ours answers"
expect_eq(answer(True), b"", "what a worker says whose daemon is gone")
