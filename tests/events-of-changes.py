#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# event.from tells of what was made, changed and destroyed since a token: each
# object once, adds before changes before deletions, with its record.
from smdtest import *


def short(batch):
    return [(e["operation"], e["class"], e["ref"]) for e in batch["events"]]


with Smd() as smd:
    def events(classes, token, timeout=0.0):
        return smd.json_call("event.from", classes, token, timeout)

    sr = smd.make_sr("one")
    vdi = smd.make_vdi(sr, MIB, "raw", "first")
    batch = events(["VDI", "SR"], "")
    expect_eq(sorted(short(batch)), [("add", "sr", sr), ("add", "vdi", vdi)], "from the start")
    for event in batch["events"]:
        cls = {"sr": "SR", "vdi": "VDI"}[event["class"]]
        expect_eq(event["snapshot"], smd.json_call(cls + ".get_record", event["ref"]), "snapshot")
        assert isinstance(event["id"], str) and event["timestamp"] == "0.0", event
    token = batch["token"]
    expect_eq(events(["*"], token)["events"], [], "nothing new")

    # Many changes of one object are one event, of its last state.
    for i in range(5):
        smd.call("VDI.add_to_other_config", vdi, "k%d" % i, "v")
    batch = events(["vdi"], token)
    expect_eq(short(batch), [("mod", "vdi", vdi)], "changes together")
    expect_eq(len(batch["events"][0]["snapshot"]["other_config"]), 5, "its last state")
    smd.call("VDI.remove_from_other_config", vdi, "k9")
    expect_eq(events(["vdi"], batch["token"])["events"], [], "removing nothing")

    # Adds, changes, deletions; what came and went is not told; the SR changes with its VDIs.
    token = batch["token"]
    second = smd.make_vdi(sr, MIB, "raw", "second")
    token_with_second = events(["VDI"], token)["token"]
    smd.call("VDI.add_to_other_config", vdi, "again", "v")
    third = smd.make_vdi(sr, MIB, "raw", "third")
    smd.call("VDI.destroy", second)
    expect_eq(short(events(["VDI"], token_with_second)),
              [("add", "vdi", third), ("mod", "vdi", vdi), ("del", "vdi", second)], "the order")
    deleted = events(["VDI"], token_with_second)["events"][-1]
    assert "snapshot" not in deleted, deleted
    expect_eq(sorted(short(events(["VDI"], token))),
              [("add", "vdi", third), ("mod", "vdi", vdi)], "made and gone")
    changed = [e for e in events(["SR"], token)["events"] if e["ref"] == sr]
    expect_eq(sorted(changed[0]["snapshot"]["VDIs"]), sorted([vdi, third]), "SR.VDIs")

    # One object only; spelling of classes; a class that is not there.
    expect_eq(short(events(["VdI/" + third], token)), [("add", "vdi", third)], "one object")
    expect_eq(events(["VIF"], "")["events"], [], "a class that smd has not")

    # Counts of every class, as numbers on both wires.
    counts = events(["task"], token)["valid_ref_counts"]
    expect_eq({k: counts[k] for k in ("vdi", "sr", "pbd", "pool", "host", "vm", "vif")
               if k in counts}, {"vdi": 2, "sr": 1, "pbd": 1, "pool": 1, "host": 1, "vm": 0}, "counts")
    expect_eq(smd.call("event.from", ["task"], token, 0.0)["valid_ref_counts"]["task"], 0,
              "<i4> in XML")

    # An injected event follows its token.
    pool = smd.call("pool.get_all")[0]
    token = smd.call("event.inject", "pool", pool)
    expect_eq(short(events(["pool"], token)), [("mod", "pool", pool)], "injected")
    expect_error("HANDLE_INVALID", smd.call, "event.inject", "VDI", "OpaqueRef:none",
                 params=["VDI", "OpaqueRef:none"])

    for bad in ("x", "1", "12,", ",0", "1,0,0", "-1,0"):
        expect_error("EVENT_FROM_TOKEN_PARSE_FAILURE", events, ["*"], bad, params=[bad])
    for bad in ("", "/", "vdi/", "/OpaqueRef:x", "vdi/a/b"):
        expect_error("EVENT_SUBSCRIPTION_PARSE_FAILURE", events, [bad], "", params=[bad])
    # A token of another database: what it has not told cannot be known.
    expect_error("EVENTS_LOST", events, ["*"], "09999999999999999999,0")
