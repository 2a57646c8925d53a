#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Calls of event.from that wait: 25 at once learn of a change, the time runs out
# with an empty batch, a logout ends the session's own wait and no other.
import threading
from smdtest import *

with Smd() as smd:
    def poll(session, classes, token, timeout, results):
        def run_it():
            results.append(smd.json_raw("event.from", session, classes, token, timeout))
        thread = threading.Thread(target=run_it)
        thread.start()
        return thread

    def token():
        return smd.json_call("event.from", ["pool"], "", 0.0)["token"]

    pool = smd.call("pool.get_all")[0]
    batch = smd.json_call("event.from", ["SR"], token(), 0.1)
    expect_eq(batch["events"], [], "when the time is over")
    assert len(batch["token"]) == 22 and "task" in batch["valid_ref_counts"], batch

    results, start = [], token()
    waiting = [poll(smd.login(), ["pool"], start, 60.0, results) for _ in range(25)]
    smd.call("pool.set_name_label", pool, "all of you")
    for thread in waiting:
        thread.join(30)
    expect_eq(len(results), 25, "answers")
    for reply in results:
        expect_eq([e["snapshot"]["name_label"] for e in reply["result"]["events"]],
                  ["all of you"], "what each was told")

    # No change is lost to a client that asks again with each token it got.
    seen, stop, first = [], threading.Event(), token()

    def follow():
        at = first
        while not stop.is_set() or smd.json_raw("event.from", session, ["pool"], at, 0.0)[
                "result"]["events"]:
            reply = smd.json_raw("event.from", session, ["pool"], at, 0.2)["result"]
            at = reply["token"]
            seen.extend(e["snapshot"]["name_label"] for e in reply["events"])

    session = smd.login()
    follower = threading.Thread(target=follow)
    follower.start()
    for i in range(50):
        smd.call("pool.set_name_label", pool, "%02d" % i)
    stop.set()
    follower.join(30)
    expect_eq(seen[-1], "49", "the last change")
    expect_eq(seen, sorted(set(seen)), "changes in order, none twice")

    # A logout.
    other = smd.raw_call("session.login_with_password", "root", "x", "1.0", "smdtest")
    gone, still = [], []
    one = poll(other, ["SR"], token(), 60.0, gone)
    two = poll(smd.login(), ["SR"], token(), 60.0, still)
    time.sleep(0.2)
    smd.raw_call("session.logout", other)
    one.join(30)
    expect_eq(gone[0]["error"]["message"], "SESSION_INVALID", "after the logout")
    expect_eq(gone[0]["error"]["data"], [other], "which session")
    assert two.is_alive(), "the other session's wait ended too"
    smd.make_sr("one")
    two.join(30)
    expect_eq(still[0]["result"]["events"][0]["class"], "sr", "the other session")

    # Waiting costs no thread, and a client that goes away in the middle of it holds
    # nothing for long.
    def count(what):
        return len(os.listdir("/proc/%d/%s" % (smd.process.pid, what)))

    left, before = [], count("fd")
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "event.from",
                       "params": [smd.login(), ["SM"], token(), 100.0]})
    for _ in range(200):
        connection = smd.connect()
        connection.request("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
        left.append(connection)
    while count("fd") < before + 150:     # earlier connections may end meanwhile
        time.sleep(0.05)
    time.sleep(0.5)
    assert count("task") < 100, "%d threads for 200 clients that wait" % count("task")
    for connection in left:
        connection.close()
    deadline = time.monotonic() + 60
    while count("fd") >= before + 100 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert count("fd") < before + 100, "%d descriptors" % count("fd")
