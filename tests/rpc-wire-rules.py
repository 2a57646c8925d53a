#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# What both wires look like to the byte, where real clients depend on it.
import re
from smdtest import *

XML = {"Content-Type": "text/xml"}


def xml_call(smd, name, *params, path="/"):
    """The raw reply to an XML-RPC call."""
    status, headers, body = smd.http("POST", path, xmlrpc.client.dumps(params, name), XML)
    expect_eq((status, headers["Content-Type"]), (200, "text/xml"), name)
    return body.decode()


def value_of(reply):
    return re.fullmatch(r'<\?xml version="1.0"\?><methodResponse><params><param><value><struct>'
                        r'<member><name>Status</name><value>Success</value></member>'
                        r'<member><name>Value</name>(.*)</member></struct></value></param>'
                        r'</params></methodResponse>', reply, re.S).group(1)


def check_xml(smd, session):
    host = smd.host()
    # Strings and 64-bit integers are bare text; void is an empty string.
    expect_eq(value_of(xml_call(smd, "host.get_API_version_major", session, host)),
              "<value>2</value>", "an integer")
    expect_eq(value_of(xml_call(smd, "host.set_name_label", session, host, 'a<b>&"c')),
              "<value></value>", "void")
    expect_eq(value_of(xml_call(smd, "host.get_name_label", session, host)),
              "<value>a&lt;b&gt;&amp;&quot;c</value>", "a string")
    expect_eq(value_of(xml_call(smd, "host.get_enabled", session, host)),
              "<value><boolean>1</boolean></value>", "a boolean")
    assert re.fullmatch(r"<value><dateTime.iso8601>\d{8}T\d\d:\d\d:\d\dZ</dateTime.iso8601></value>",
                        value_of(xml_call(smd, "host.get_servertime", session, host)))
    # Counts of event.from are the only <i4>.
    batch = xml_call(smd, "event.from", session, ["pool"], "", 0.0)
    assert "<name>pool</name><value><i4>1</i4></value>" in batch, batch
    # A control character would be no XML.
    smd.json_call("host.set_name_description", host, "a\x01b\tc")
    expect_eq(value_of(xml_call(smd, "host.get_name_description", session, host)),
              "<value>ab\tc</value>", "a control character")
    # Any path but the known ones is XML-RPC.
    for path in "/", "/RPC2", "/xmlrpc", "/anything":
        xml_call(smd, "host.get_all", session, path=path)


def check_list(smd):
    reply = xml_call(smd, "system.listMethods")
    assert reply.startswith('<?xml version="1.0"?><methodResponse><params><param><value><array>'
                            '<data><value>'), reply[:200]
    names = smd.json_raw("system.listMethods")["result"]
    expect_eq(sorted(n.split(".")[0] for n in names if n.endswith(".get_all_records")),
              "PBD PIF SM SR VBD VDI VM VM_metrics host host_metrics message network pool task".split(), "classes to watch")
    assert not [n for n in names if n.startswith("Async.")]
    assert "VDI.pool_migrate" in names and "system.isAlive:x" not in names


def check_json(smd, session):
    def json_of(request):
        status, headers, body = smd.http("POST", "/jsonrpc", json.dumps(request))
        # npm xen-api compares the whole header.
        expect_eq((status, headers["Content-Type"]), (200, "application/json"), "JSON")
        return json.loads(body)

    host = smd.host()
    call = {"method": "host.get_API_version_minor", "params": [session, host]}
    expect_eq(json_of(dict(call, id="x")), {"result": 23, "error": None, "id": "x"}, "1.0")
    expect_eq(json_of(dict(call, id=0, jsonrpc="2.0")),
              {"jsonrpc": "2.0", "result": 23, "id": 0}, "2.0")
    broken = {"method": "host.get_uuid", "params": [session, "OpaqueRef:no"], "id": 5}
    expect_eq(json_of(broken), {"result": None, "id": 5,
                                "error": ["HANDLE_INVALID", "host", "OpaqueRef:no"]}, "1.0 error")
    expect_eq(json_of(dict(broken, jsonrpc="2.0")),
              {"jsonrpc": "2.0", "id": 5, "error": {"code": 1, "message": "HANDLE_INVALID",
                                                    "data": ["host", "OpaqueRef:no"]}}, "2.0 error")


def check_dispatch(smd, session):
    def fails(code, name, *params, want):
        expect_error(code, smd.raw_call, name, *params, params=want)

    host = smd.host()
    fails("MESSAGE_METHOD_UNKNOWN", "VDI.fly", session, want=["VDI.fly"])
    fails("SESSION_INVALID", "VDI.fly", "OpaqueRef:no", want=["OpaqueRef:no"])
    fails("MESSAGE_PARAMETER_COUNT_MISMATCH", "host.get_uuid", session,
          want=["host.get_uuid", "1", "0"])
    fails("MESSAGE_PARAMETER_COUNT_MISMATCH", "host.get_uuid", session, host, "more",
          want=["host.get_uuid", "1", "2"])
    fails("SESSION_INVALID", "host.get_uuid", "OpaqueRef:no", host, want=["OpaqueRef:no"])
    fails("UUID_INVALID", "host.get_by_uuid", session, "nothing", want=["host", "nothing"])
    fails("Fault", "Async.host.get_uuid", session, host,
          want=["No async mode for this operation (rpc: Async.host.get_uuid)"])
    fails("XENAPI_MISSING_PLUGIN", "host.call_plugin", session, host, "p", "f", {}, want=["p"])
    # The alias XO uses, and surplus where a parameter has a default.
    task = smd.call("task_create", "label", "description")
    expect_eq(smd.call("task.get_status", task), "pending")
    smd.call("task_set_status", task, "success")
    expect_eq(smd.call("task.get_status", task), "success")
    smd.call("task.destroy", task)
    smd.raw_call("session.login_with_password", smd.user, smd.password, "1", "me", "surplus")
    # Maps: a key is added once and removed twice.
    smd.call("host.add_to_other_config", host, "k", "v")
    expect_error("MAP_DUPLICATE_KEY", smd.call, "host.add_to_other_config", host, "k", "w",
                 params=["host", "other_config", smd.call("host.get_uuid", host), "k"])
    smd.call("host.remove_from_other_config", host, "k")
    smd.call("host.remove_from_other_config", host, "k")


def check_async(smd, session):
    task = smd.call("Async.host.call_plugin", smd.host(), "p", "f", {})
    record = smd.wait_task(task)
    expect_eq((record["name_label"], record["status"], record["error_info"]),
              ("Async.host.call_plugin", "failure", ["XENAPI_MISSING_PLUGIN", "p"]), "the task")
    smd.call("task.destroy", task)
    # A caller that waits leaves no task behind.
    expect_error("XENAPI_MISSING_PLUGIN", smd.call, "host.call_plugin", smd.host(), "p", "f", {})
    expect_eq(smd.call("task.get_all"), [], "tasks")


def check_http(smd):
    body = '{"jsonrpc":"2.0","method":"system.isAlive:x","params":["hi"],"id":1}'
    status, headers, _ = smd.http("POST", "/jsonrpc", body)
    expect_eq(headers["Access-Control-Allow-Origin"], "*", "CORS")
    assert "no-cache" in headers["Cache-Control"]
    status, headers, _ = smd.http("OPTIONS", "/jsonrpc", None,
                                  {"Access-Control-Request-Headers": "content-type"})
    expect_eq((status, headers["Access-Control-Allow-Headers"]),
              (200, "content-type, X-Requested-With"), "preflight")
    expect_eq(smd.http("GET", "/nothing")[0], 403, "no route")
    expect_eq(smd.http("DELETE", "/")[0], 501, "no such method")
    # One connection serves many calls; one of HTTP/1.0 serves one.
    connection = smd.connect()
    for _ in range(3):
        connection.request("POST", "/jsonrpc", body)
        expect_eq(json.loads(connection.getresponse().read())["result"], "hi", "keep-alive")
    connection.sock.sendall(b"POST /jsonrpc HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
                            + body.encode())
    reply = b"".join(iter(lambda: connection.sock.recv(4096), b""))
    assert reply.endswith(b'"result":"hi","id":1}'), reply


for tcp in False, True:
    with Smd(tcp=tcp) as smd:
        session = smd.login()
        check_xml(smd, session)
        check_list(smd)
        check_json(smd, session)
        check_dispatch(smd, session)
        check_async(smd, session)
        check_http(smd)
