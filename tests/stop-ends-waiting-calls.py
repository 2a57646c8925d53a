#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# SIGTERM ends the daemon although clients wait in event.from: they are told that
# their session is over, and none of them holds the daemon up.
import threading
from smdtest import *

with Smd() as smd:
    session = smd.login()
    token = smd.call("event.from", ["pool"], "", 1.0)["token"]
    answers = []

    def wait():
        try:
            smd.raw_call("event.from", session, ["pool"], token, 600.0)
            answers.append("an answer")
        except ApiError as e:
            answers.append(e.code)
        except OSError:
            answers.append("hung up")

    threads = [threading.Thread(target=wait) for _ in range(25)]
    for thread in threads:
        thread.start()
    # They have asked once their connections are there; whether they wait by then, or are
    # refused at the door, must make no difference.
    connections = "/proc/%d/fd" % smd.process.pid
    while len(os.listdir(connections)) < 25:
        time.sleep(0.01)
    time.sleep(0.5)
    smd.stop()
    for thread in threads:
        thread.join(60)
    expect_eq(set(answers) - {"SESSION_INVALID", "hung up"}, set(), "answers")
    expect_eq(len(answers), 25, "clients that were let go")
