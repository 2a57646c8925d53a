#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Broken requests on both wires: each has its answer, and the daemon goes on.
from smdtest import *

XML_CALL = ("<?xml version='1.0'?><methodCall><methodName>system.isAlive:x</methodName><params>"
            "<param><value>%s</value></param></params></methodCall>")


def post(smd, path, body):
    """The status, or 0 where the connection just ended."""
    try:
        return smd.http("POST", path, body)[0]
    except OSError:
        return 0


def check_unreadable(smd):
    nest = 10000
    bodies = {
        "/": [b"", b"junk", b"\0" * 100, b"<", b"<methodCall>", b"\xff\xfe<\0?\0",
              b"<!DOCTYPE a [<!ENTITY b 'bbbb'>]>" + (XML_CALL % "&b;").encode(),
              (XML_CALL % ("<array><data><value>" * nest + "</value></data></array>" * nest)).encode(),
              b"<a>" * nest + b"</a>" * nest, b"<a>" * 90000,
              (XML_CALL % "<i8>9223372036854775808</i8>").encode(),
              (XML_CALL % "<int>one</int>").encode(), (XML_CALL % "<boolean>3</boolean>").encode(),
              (XML_CALL % "&#1;").encode(), (XML_CALL % "x").encode()[:-20]],
        "/jsonrpc": [b"", b"junk", b"[]", b"{}", b"[" * nest, b"{\"a\":" * nest, b"\0",
                     b'{"method":"a","params":[],"id":null}', b'{"method":"a","id":1}',
                     b'{"method":"a","params":[' + b"[" * nest + b"]" * nest + b'],"id":1}',
                     b'{"id":1,"id":2,"method":"a"'],
    }
    for path, list_of in bodies.items():
        for body in list_of:
            expect_eq(post(smd, path, body), 500, "%s %.60r" % (path, body))
        expect_eq(post(smd, path, b"x" * 10000000), 500, "10 MB")
        # So long that it is answered without being read, which a client may not hear.
        assert post(smd, path, b"x" * 40000000) in (500, 0)


def check_wrong_values(smd):
    for value, code in ((5, "INTERNAL_ERROR"), ([], "INTERNAL_ERROR"),
                        ({"a": {}}, "INTERNAL_ERROR"), (None, "INTERNAL_ERROR"),
                        (True, "INTERNAL_ERROR"), ("a\0b", "INVALID_VALUE")):
        reply = smd.json_raw("system.isAlive:x", value)
        expect_eq(reply["error"]["message"], code, repr(value))
    for value in (5, [], {"a": {}}, True, 1.5):
        expect_error("INTERNAL_ERROR", smd.raw_call, "system.isAlive:x", value)
    task = smd.call("task.create", "t", "")
    expect_error("INVALID_VALUE", smd.call, "task.set_status", task, "odd", params=["value", "odd"])
    expect_error("INVALID_VALUE", smd.call, "task.set_progress", task, "much")
    expect_error("INTERNAL_ERROR", smd.call, "task.set_error_info", task, {"a": "b"})
    expect_error("INTERNAL_ERROR", smd.call, "VDI.create", {"name_label": "no SR"})
    for name in "", ".", "VDI", "VDI.", "VDI.create.more", "Async.", "Async.Async.VDI.copy", "é" * 999:
        reply = smd.json_raw(name)
        expect_eq(reply["error"], {"code": 1, "message": "MESSAGE_METHOD_UNKNOWN", "data": [name]})
    smd.call("task.destroy", task)


def check_utf8(smd):
    bad = (XML_CALL % "a@b").encode().replace(b"@", b"\xc3")
    status, _, body = smd.http("POST", "/", bad)
    assert status == 200 and b"INVALID_VALUE" in body and b"Invalid UTF-8 string" in body, body
    status, _, body = smd.http("POST", "/jsonrpc", b'{"jsonrpc":"2.0","id":1,'
                               b'"method":"system.isAlive:x","params":["\xff"]}')
    expect_eq(json.loads(body)["error"]["message"], "INVALID_VALUE", "JSON, invalid UTF-8")


def check_cut(smd):
    """Requests that end too early, at every few bytes."""
    request = (b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n" + b"{" * 40)
    for n in range(0, len(request), 7):
        connection = smd.connect()
        connection.connect()
        connection.sock.sendall(request[:n])
        connection.close()
    for head in (b"\r\n\r\n", b"POST\r\n\r\n", b"POST / HTTP/9\r\n\r\n", b"A" * 100000,
                 b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                 b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                 b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
                 b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"):
        connection = smd.connect()
        connection.connect()
        try:
            connection.sock.sendall(head)
            connection.sock.shutdown(socket.SHUT_WR)
            reply = connection.sock.recv(1000)
        except OSError:
            reply = b""
        assert not reply.startswith(b"HTTP/1.1 200"), (head, reply)
        connection.close()


for tcp in False, True:
    with Smd(tcp=tcp) as smd:
        check_unreadable(smd)
        check_wrong_values(smd)
        check_utf8(smd)
        check_cut(smd)
        assert smd.running()
        expect_eq(smd.json_raw("system.isAlive:x", "still")["result"], "still")
