#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""event.register, next and unregister, for clients from before event.from."""
import threading
from smdtest import *

with Smd() as smd:
    pool = smd.call("pool.get_all")[0]
    expect_error("SESSION_NOT_REGISTERED", smd.call, "event.next", params=[smd.login()])
    expect_error("EVENT_SUBSCRIPTION_PARSE_FAILURE", smd.call, "event.register", ["a/b/c"])
    before = smd.json_call("event.get_current_id")
    smd.call("pool.add_tags", pool, "changed")
    assert smd.json_call("event.get_current_id") > before, "a change has a later number"
    smd.call("event.register", ["pool"])
    smd.call("event.register", ["SR"])

    # What happened between two calls is there at the next one, once.
    smd.call("pool.set_name_label", pool, "first")
    sr = smd.make_sr("one")
    events = smd.json_call("event.next")
    expect_eq({(e["class"], e["ref"]) for e in events}, {("pool", pool), ("sr", sr)}, "events")
    assert all(e["snapshot"]["uuid"] and e["operation"] in ("add", "mod") for e in events), events

    # It waits until something happens.
    got = []
    waiter = threading.Thread(target=lambda: got.extend(smd.json_call("event.next")))
    waiter.start()
    time.sleep(0.2)
    assert not got, got
    smd.make_vdi(sr, MIB)          # no class of ours, but its SR changes with it
    waiter.join(60)
    expect_eq({e["class"] for e in got}, {"sr"}, "what ended the wait")

    # Sessions are apart; classes go one by one, and "*" all.
    other = smd.raw_call("session.login_with_password", "root", "x", "1.0", "smdtest")
    expect_error("SESSION_NOT_REGISTERED", smd.raw_call, "event.next", other, params=[other])
    smd.call("event.unregister", ["sr"])
    smd.call("SR.set_name_label", sr, "unseen")
    smd.call("pool.set_name_label", pool, "second")
    expect_eq({e["class"] for e in smd.json_call("event.next")}, {"pool"}, "what is left")
    smd.call("event.unregister", ["*"])
    expect_error("SESSION_NOT_REGISTERED", smd.call, "event.next")

    # A logout ends the wait.
    smd.raw_call("event.register", other, ["SM"])
    ended = []
    waiter = threading.Thread(target=lambda: ended.append(smd.json_raw("event.next", other)))
    waiter.start()
    time.sleep(0.2)
    smd.raw_call("session.logout", other)
    waiter.join(60)
    expect_eq(ended[0]["error"]["message"], "SESSION_INVALID", "after the logout")
