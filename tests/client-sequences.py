#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# What well-known clients send when they connect, call for call: XenAPI.py, the
# C#, Java and Go SDKs, npm xen-api (xo-server) and XO Lite.
from smdtest import *


def xenapi_py(smd):
    """XML-RPC; login with two, three and four parameters; the API's version."""
    server = smd.proxy()
    for params in (("root", "secret"), ("root", "secret", "2.0"), ("root", "secret", "2.0", "me")):
        reply = server.session.login_with_password(*params)
        expect_eq(sorted(reply), ["Status", "Value"], "login's reply")
        session = reply["Value"]
        pool = server.pool.get_all(session)["Value"][0]
        host = server.pool.get_master(session, pool)["Value"]
        version = [server.host.get_API_version_major(session, host)["Value"],
                   server.host.get_API_version_minor(session, host)["Value"]]
        expect_eq(version, ["2", "23"], "API version")
        uuid = server.host.get_uuid(session, host)["Value"]
        expect_eq(server.host.get_by_uuid(session, uuid)["Value"], host, "host by uuid")
        expect_eq(server.session.get_this_host(session, session)["Value"], host, "this host")
        server.session.logout(session)
        expect_eq(server.pool.get_all(session)["ErrorDescription"], ["SESSION_INVALID", session],
                  "after the logout")


def sdks(smd):
    """JSON-RPC, first 1.0, then 2.0; who am I."""
    reply = smd.json_raw("session.login_with_password", "root", "secret", "2.23", "SDK",
                         version="1.0")
    expect_eq(sorted(reply), ["error", "id", "result"], "1.0 reply")
    session = reply["result"]
    pools = smd.json_raw("pool.get_all_records", session, version="1.0")["result"]
    host = list(pools.values())[0]["master"]
    record = smd.json_raw("host.get_record", session, host)["result"]
    assert (record["API_version_major"], record["API_version_minor"]) == (2, 23), record
    for key in ("product_version", "product_brand", "platform_version", "xapi", "build_number"):
        assert key in record["software_version"], key
    assert smd.json_raw("session.get_is_local_superuser", session, session)["result"] is True
    for name in ("get_subject", "get_auth_user_sid", "get_rbac_permissions"):
        assert "result" in smd.json_raw("session." + name, session, session), name
    smd.json_raw("session.logout", session)


def xen_api(smd):
    """npm xen-api: every class that listMethods promises can be watched."""
    session = smd.json_raw("session.login_with_password", "root", "secret")["result"]

    def call(name, *params):
        reply = smd.json_raw(name, session, *params)
        assert "error" not in reply, (name, reply)
        return reply["result"]

    (pool, pool_record), = call("pool.get_all_records").items()
    assert pool_record["master"] in call("host.get_all_records")
    methods = smd.json_raw("system.listMethods")["result"]
    types = [m[:-len(".get_all_records")] for m in methods if m.endswith(".get_all_records")]
    assert {"pool", "host", "task", "SR", "VDI", "PBD", "SM"} <= set(types), types
    token = call("event.inject", "pool", pool)
    for cls in types:
        records = call(cls + ".get_all_records")
        assert isinstance(records, dict), cls
    batch = call("event.from", types, token, 60.1)
    assert (batch["events"][0]["class"], batch["events"][0]["ref"]) == ("pool", pool), batch
    assert isinstance(batch["valid_ref_counts"]["task"], int), batch
    for cls in types:
        assert cls.lower() in batch["valid_ref_counts"], cls

    # Its barrier, then a call and the task it waits for.
    call("pool.add_to_other_config", pool, "xo:barrier:1", "x")
    batch = call("event.from", types, batch["token"], 60.1)
    assert batch["events"][0]["snapshot"]["other_config"]["xo:barrier:1"] == "x", batch
    call("pool.remove_from_other_config", pool, "xo:barrier:1")
    task = call("Async.SR.scan", smd.make_sr("one"))
    status = "pending"
    while status == "pending":
        batch = call("event.from", types, batch["token"], 60.1)
        for event in batch["events"]:
            if event["ref"] == task:
                status, result = event["snapshot"]["status"], event["snapshot"]["result"]
    expect_eq((status, result), ("success", "<value></value>"), "the task's end")
    call("task.destroy", task)
    call("session.logout")


def xo_lite(smd):
    """A page of another origin; then the classes of its storage view."""
    status, headers, _ = smd.http("OPTIONS", "/jsonrpc", headers={
        "Origin": "http://xo", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type"})
    expect_eq(status, 200, "preflight")
    expect_eq(headers["Access-Control-Allow-Origin"], "*", "origin")
    assert "content-type" in headers["Access-Control-Allow-Headers"].lower(), headers
    session = smd.json_raw("session.login_with_password", "root", "secret")["result"]
    assert "result" in smd.json_raw("session.get_all_subject_identifiers", session)
    for cls in ("task", "pool", "host", "host_metrics", "SR", "PBD", "VDI"):
        assert "result" in smd.json_raw(cls + ".get_all_records", session), cls
    for cls in ("VM", "VM_metrics", "VBD"):     # not of smd's: it says so, the page goes on
        reply = smd.json_raw(cls + ".get_all_records", session)
        assert "result" in reply or reply["error"]["message"] == "MESSAGE_METHOD_UNKNOWN", reply


with Smd() as local:
    for sequence in (xenapi_py, sdks, xen_api, xo_lite):
        sequence(local)
with Smd(tcp=True) as remote:
    for sequence in (xenapi_py, sdks):
        sequence(remote)
    expect_error("SESSION_AUTHENTICATION_FAILED", remote.raw_call, "session.login_with_password",
                 "root", "wrong")
