#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Networks, the interfaces of this machine, messages; SRs probed as records.
from smdtest import *


def check_networks(smd):
    pifs = smd.json_call("PIF.get_all_records")
    expect_eq(sorted(pifs), sorted(smd.json_call("host.get_PIFs", smd.host())), "the host's")
    assert sum(p["management"] for p in pifs.values()) <= 1, pifs
    for ref, pif in pifs.items():
        assert ref in smd.json_call("network.get_PIFs", pif["network"])
        expect_error("NETWORK_CONTAINS_PIF", smd.call, "network.destroy", pif["network"],
                     params=[ref])
    a = smd.call("network.create", {"name_label": "a", "other_config": {}, "MTU": "0"})
    expect_eq(smd.call("network.get_MTU", a), "1500")
    bridge = smd.call("network.get_bridge", a)
    expect_error("BRIDGE_NAME_EXISTS", smd.call, "network.create",
                 {"other_config": {}, "bridge": bridge}, params=[bridge])
    expect_error("INVALID_VALUE", smd.call, "network.create",
                 {"other_config": {}, "bridge": "x" * 16}, params=["bridge", "x" * 16])
    b = smd.call("network.create", {"name_label": "b", "other_config": {}})
    assert smd.call("network.get_bridge", b) != bridge
    # NBD is served with TLS or without, never both.
    smd.call("network.add_purpose", a, "nbd")
    smd.call("network.add_purpose", a, "nbd")
    expect_eq(smd.call("network.get_purpose", a), ["nbd"])
    expect_error("NETWORK_INCOMPATIBLE_PURPOSES", smd.call, "network.add_purpose", b,
                 "insecure_nbd", params=["insecure_nbd", "nbd"])
    smd.call("network.remove_purpose", a, "nbd")
    smd.call("network.add_purpose", b, "insecure_nbd")
    # Interfaces keep their objects over a restart, and so do networks.
    smd.restart()
    expect_eq(sorted(smd.call("PIF.get_all")), sorted(pifs))
    for ref in a, b:
        smd.call("network.destroy", ref)


def check_messages(smd, sr, vdi):
    uuid = smd.call("SR.get_uuid", sr)
    token = smd.json_call("event.from", [], "", 0.0)["token"]
    before = smd.json_call("host.get_servertime", smd.host())
    first = smd.call("message.create", "SR_LOW", "3", "SR", uuid, "<body>&")
    second = smd.call("message.create", "OTHER", "5", "VDI", smd.call("VDI.get_uuid", vdi), "")
    record = smd.json_call("message.get_record", first)
    expect_eq((record["name"], record["priority"], record["cls"], record["obj_uuid"],
               record["body"]), ("SR_LOW", 3, "SR", uuid, "<body>&"))
    events = smd.json_call("event.from", ["message"], token, 5.0)["events"]
    expect_eq([(e["class"], e["operation"], e["ref"]) for e in events],
              [("message", "add", first), ("message", "add", second)])
    expect_eq(list(smd.call("message.get", "SR", uuid, before)), [first])
    expect_eq(smd.call("message.get", "SR", uuid, "20990101T00:00:00Z"), {})
    expect_eq(sorted(smd.call("message.get_since", before)), sorted([first, second]))
    for cls in "SR", "VMPP", "Host":
        expect_error("UUID_INVALID", smd.call, "message.create", "X", "1", cls, "none", "",
                     params=[cls, "none"])
    expect_error("INVALID_VALUE", smd.call, "message.create", "X", "1", "disk", uuid, "")
    smd.call("message.destroy_all", {"priority": "5"})
    expect_eq(smd.call("message.get_all"), [first])
    smd.call("message.destroy_all", {"before": "19800101T00:00:00Z"})
    smd.call("message.destroy_all", {"after": "20990101T00:00:00Z"})
    for bad in {"before": "noon"}, {"priority": "x"}, {"class": "SR"}:
        expect_error("INVALID_VALUE", smd.call, "message.destroy_all", bad)
    expect_error("HANDLE_INVALID", smd.call, "message.destroy_many", [first, "OpaqueRef:no"],
                 params=["message", "OpaqueRef:no"])
    expect_eq(smd.call("message.get_all"), [first], "all or none")
    smd.call("message.destroy_many", [first])
    expect_error("HANDLE_INVALID", smd.call, "message.destroy", first, params=["message", first])
    second = smd.call("message.create", "X", "1", "SR", uuid, "")
    smd.call("message.destroy", second)
    expect_eq(smd.call("message.get_all"), [], "one by one")


def check_probe(smd, sr):
    config = {"location": smd.sr_path(sr)}
    (found,) = smd.json_call("SR.probe_ext", smd.host(), config, "file")
    expect_eq((found["configuration"], found["complete"]), (config, True))
    expect_eq((found["sr"]["uuid"], found["sr"]["health"]),
              (smd.call("SR.get_uuid", sr), "healthy"))
    assert found["sr"]["total_space"] > 0, found
    assert smd.call("SR.get_uuid", sr) in smd.call("SR.probe", smd.host(), config, "file")
    expect_error("SR_UNKNOWN_DRIVER", smd.call, "SR.probe_ext", smd.host(), {}, "none",
                 params=["none"])


with Smd() as smd:
    sr = smd.make_sr("one")
    vdi = smd.make_vdi(sr, MIB, "raw")
    check_networks(smd)
    check_messages(smd, sr, vdi)
    check_probe(smd, sr)
    expect_eq(smd.json_call("VDI.get_nbd_info", vdi), [], "no NBD server")
