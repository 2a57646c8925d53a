#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An SR with thousands of VDIs: all their records in one reply are right on both wires, take
little more memory than their text, and hold up nobody however slowly they are read; a scan
that finds nothing new changes nothing. How fast all that is: tests/bench/many-vdis.py."""
import uuid

from smdtest import *

N = int(os.environ.get("SMD_MANY_VDIS", "3000"))


def memory(pid, key):
    with open("/proc/%d/status" % pid) as f:
        return 1024 * int(next(line for line in f if line.startswith(key + ":")).split()[1])


def growth(pid, work):
    """What work gives, and how much the daemon grew for it at most."""
    with open("/proc/%d/clear_refs" % pid, "w") as f:
        f.write("5")    # VmHWM starts again
    before = memory(pid, "VmRSS")
    return work(), memory(pid, "VmHWM") - before


def ask(smd, wire):
    if wire == "xml":
        body = xmlrpc.client.dumps((smd.session,), "VDI.get_all_records")
    else:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VDI.get_all_records",
                           "params": [smd.session]})
    status, _, reply = smd.http("POST", "/jsonrpc" if wire == "json" else "/", body)
    expect_eq(status, 200, "status")
    return reply


def expect_growth(what, grown, most):
    print("%s: %.1f MB more, %.1f may be" % (what, grown / 1e6, most / 1e6))
    if not sanitized():
        assert grown <= most, what


def reply_of_all(smd, wire):
    """The daemon has work of its own, that takes memory now and then: one of these shows
    what the reply takes."""
    ask(smd, wire)      # a connection to the database, and what threads keep
    for tries in range(5, 0, -1):
        reply, grown = growth(smd.process.pid, lambda: ask(smd, wire))
        most = 1.5 * len(reply) + 4 * MIB
        if grown <= most or tries == 1:
            expect_growth("%s, %.1f MB" % (wire, len(reply) / 1e6), grown, most)
            return reply
        time.sleep(1)


def all_records(smd, names):
    as_json, as_xml = reply_of_all(smd, "json"), reply_of_all(smd, "xml")
    records = json.loads(as_json)["result"]
    expect_eq(sorted(r["location"] for r in records.values()), sorted(names), "locations")
    (reply,), _ = xmlrpc.client.loads(as_xml)
    expect_eq(reply["Status"], "Success", "status")
    expect_eq(set(reply["Value"]), set(records), "refs on both wires")
    for ref in list(records)[::N // 20]:
        expect_eq(records[ref], smd.json_call("VDI.get_record", ref), "record")
        expect_eq(reply["Value"][ref], smd.call("VDI.get_record", ref), "record")
    return records


def hold_up_nobody(smd, records):
    """A client that reads nothing of its reply, while others change what it is about."""
    ref = next(iter(records))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VDI.get_all_records",
                       "params": [smd.session]})
    slow = []
    for _ in range(8):
        slow.append(smd.connect())
        slow[-1].request("POST", "/jsonrpc", body)
    for i in range(20):
        smd.call("VDI.set_name_label", ref, "name %d" % i)
    smd.call("VDI.destroy", smd.make_vdi(records[ref]["SR"], MIB, "raw"))
    for connection in slow:
        reply = connection.getresponse().read()
        assert len(json.loads(reply)["result"]) >= N, "the whole of it"
        connection.close()


def unchanged(smd, sr):
    """Scans while nothing changes: nobody hears of a VDI, and memory stays."""
    pid = smd.process.pid
    smd.call("SR.scan", sr)
    token = smd.json_call("event.from", ["vdi"], "", 0.0)["token"]
    before = memory(pid, "VmRSS")
    for _ in range(3):
        smd.call("SR.scan", sr)
    expect_eq(smd.json_call("event.from", ["vdi"], token, 0.0)["events"], [], "changes")
    most, deadline = 6000 * N, time.monotonic() + 10
    while memory(pid, "VmRSS") - before > most and time.monotonic() < deadline:
        time.sleep(0.1)     # behind the answers
    expect_growth("3 scans", memory(pid, "VmRSS") - before, most)


os.environ.pop("SMD_CALLS_HERE", None)      # to write replies down takes memory, too
with Smd() as smd:
    sr = smd.make_sr("one")
    path = smd.sr_path(sr)
    names = ["%s.raw" % uuid.uuid4() for _ in range(N)]
    for name in names:
        with open(os.path.join(path, name), "wb") as f:
            f.truncate(MIB)
    smd.call("SR.scan", sr)
    records = all_records(smd, names)
    hold_up_nobody(smd, records)
    unchanged(smd, sr)
    for name in names[:2]:
        os.unlink(os.path.join(path, name))
    smd.call("SR.scan", sr)
    expect_eq(len(smd.call("VDI.get_all")), N - 2, "VDIs without the two")
    smd.restart()
    expect_eq(len(json.loads((smd.login(), ask(smd, "json"))[1])["result"]), N - 2,
              "VDIs after a restart")
