#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# TLS on a TCP listener, with a certificate smd made: both wires, transfers, smctl; and
# what is no TLS, or too old a one, gets nothing.
import errno
import ssl
import struct
import xmlrpc.client
from smdtest import *


def check_certificate(smd):
    """It is made once, and its key is the owner's."""
    expect_eq(smd.certificate, os.path.join(smd.state, "tls.crt"))
    expect_eq(os.stat(os.path.join(smd.state, "tls.key")).st_mode & 0o777, 0o600, "the key's mode")
    run("smd", "--make-certificate", "--state-dir", smd.state, status=1)


def trusting(path):
    context = ssl.create_default_context(cafile=path)
    return context


def check_wires(port, context):
    server = xmlrpc.client.ServerProxy("https://localhost:%d/" % port, context=context)
    session = server.session.login_with_password("root", "secret")["Value"]
    assert server.pool.get_all(session)["Value"]
    connection = http.client.HTTPSConnection("localhost", port, context=context)
    for _ in range(2):
        connection.request("POST", "/jsonrpc", json.dumps({
            "jsonrpc": "2.0", "id": 0, "method": "host.get_all", "params": [session]}))
        reply = connection.getresponse()
        expect_eq(reply.headers["Content-Type"], "application/json")
        assert json.loads(reply.read())["result"]
    return session


def check_transfers(smd, port, context, session):
    """Up and down; an upload that is refused in its middle has its answer."""
    vdi = smd.make_vdi(smd.make_sr("one"), 4 * MIB, "raw")
    data = os.urandom(4 * MIB)

    def put(body, query=""):
        connection = http.client.HTTPSConnection("localhost", port, context=context)
        connection.request("PUT", "/import_raw_vdi?session_id=%s&vdi=%s%s" % (session, vdi, query),
                           body)
        return connection.getresponse().status

    expect_eq(put(data), 200, "upload")
    connection = http.client.HTTPSConnection("localhost", port, context=context)
    connection.request("GET", "/export_raw_vdi?session_id=%s&vdi=%s" % (session, vdi))
    assert connection.getresponse().read() == data, "what came back is not what was sent"
    assert put(data * 2) >= 400, "more than the disk holds"


def check_endless(smd, port, context, session):
    """An upload of unknown length is answered before it comes, and ends with TLS's own
    end or, as node's clients leave it, that of the connection; a reset is no end."""
    vdi = smd.make_vdi(smd.call("SR.get_all")[0], 4 * MIB, "raw", "endless")

    def upload(data, end):
        task = smd.call("task.create", "upload", "")
        raw = socket.create_connection(("localhost", port))
        with context.wrap_socket(raw, server_hostname="localhost") as s:
            s.sendall(("PUT /import_raw_vdi?session_id=%s&vdi=%s&task_id=%s HTTP/1.1\r\nHost: x\r\n"
                       "Content-Length: %d\r\n\r\n" % (session, vdi, task, 1 << 50)).encode())
            assert s.recv(65536).startswith(b"HTTP/1.1 200 "), "no early answer"
            s.sendall(data)
            end(s)
        return smd.wait_task(task)["status"]

    def reset(s):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    for end in (lambda s: s.unwrap()), (lambda s: None):
        for size in 4 * MIB, MIB + 512, 256 * 1024 + 512:
            data = os.urandom(size)
            expect_eq(upload(data, end), "success", "the upload")
            with open(smd.vdi_file(vdi), "rb") as f:
                assert f.read(size) == data, "%d bytes were not kept" % size
    expect_eq(upload(data, reset), "failure", "an upload that was reset")


def check_refused(smd, port, certificate):
    try:
        http.client.HTTPSConnection("localhost", port).request("GET", "/")
        raise AssertionError("a certificate nobody vouches for was accepted")
    except ssl.SSLCertVerificationError:
        pass
    old = ssl.create_default_context(cafile=certificate)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        http.client.HTTPSConnection("localhost", port, context=old).request("GET", "/")
        raise AssertionError("TLS 1.1 was accepted")
    except (ssl.SSLError, OSError):
        pass
    for junk in b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", os.urandom(4096), b"\x16\x03\x01":
        with socket.create_connection(("localhost", port)) as s:
            s.sendall(junk)
            s.settimeout(60)
            answer = b""
            try:
                s.shutdown(socket.SHUT_WR)
                answer = s.recv(65536)
            except ConnectionResetError:
                pass
            except OSError as e:        # reset before the shutdown
                expect_eq(e.errno, errno.ENOTCONN, "the end of a connection")
            assert not answer.startswith(b"HTTP/"), "an answer without TLS"
    assert smd.running()


def check_smctl(port, certificate):
    args = ["smctl", "-s", "localhost", "-p", str(port), "-u", "root", "-pw", "secret"]
    assert run(*args, "--ca", certificate, "host-list", "--minimal").strip()
    for flags in (["--tls"], []):
        run(*args, *flags, "host-list", status=1)


with Smd(tcp=True, tls=True) as smd:
    check_certificate(smd)
    context = trusting(smd.certificate)
    session = check_wires(smd.tls_port, context)
    check_transfers(smd, smd.tls_port, context, session)
    check_endless(smd, smd.tls_port, context, session)
    check_refused(smd, smd.tls_port, smd.certificate)
    check_smctl(smd.tls_port, smd.certificate)
    check_wires(smd.tls_port, context)
