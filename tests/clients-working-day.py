#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# A working day by clients as they are: XenAPI.py of python3-os-xenapi, Python's
# xmlrpc.client and curl make an SR and a disk, fill, snapshot and migrate it in another
# format, read it back, see every event of it and tidy up. The xmlrpc command, which has
# only scalars and no transfers, snapshots, copies and destroys: SR.create, VDI.create,
# pool_migrate and event.from take maps and arrays, and are another client's. A client that
# is not installed is left out, and said so.
from smdtest import *

SIZE = 3 * MIB + 512

# Runs here and in the Python that has os_xenapi: call(name, params...), put(path), get(path).
DAY = '''
def wait(call, task, token, seen):
    """Until event.from tells that the task has ended; its result."""
    while True:
        batch = call("event.from", ["*"], token, 30.0)
        token = batch["token"]
        for event in batch["events"]:
            seen.append((event["class"], event["operation"], event["ref"]))
            record = event.get("snapshot", {})
            if event["ref"] == task and record.get("status") != "pending":
                assert record["status"] == "success", record
                call("task.destroy", task)
                return record["result"].replace("<value>", "").replace("</value>", ""), token


def day(call, put, get, one, two, size):
    seen = []
    token = call("event.from", [], "", 0.0)["token"]
    host = call("host.get_all")[0]
    srs = [call("SR.create", host, {"location": path}, "0", path, "", "file", "user", False, {})
           for path in (one, two)]
    vdi = call("VDI.create", {
        "name_label": "a disk", "name_description": "", "SR": srs[0], "virtual_size": str(size),
        "type": "user", "sharable": False, "read_only": False, "other_config": {},
        "sm_config": {"image-format": "vhd"}})
    put("/import_raw_vdi?format=raw&vdi=" + vdi)
    snapshot = call("VDI.snapshot", vdi)
    assert call("VDI.get_snapshot_of", snapshot) == vdi
    task = call("Async.VDI.pool_migrate", vdi, srs[1], {"dest-img-format": "qcow2"})
    moved, token = wait(call, task, token, seen)
    assert call("VDI.get_sm_config", moved)["image-format"] == "qcow2"
    assert call("VDI.get_SR", moved) == srs[1]
    get("/export_raw_vdi?format=raw&vdi=" + moved)
    for disk in moved, snapshot:
        call("VDI.destroy", disk)
    for sr in srs:
        for pbd in call("SR.get_PBDs", sr):
            call("PBD.unplug", pbd)
        call("SR.forget", sr)
    call("event.inject", "host", host)
    for event in call("event.from", ["*"], token, 30.0)["events"]:
        seen.append((event["class"], event["operation"], event["ref"]))
    assert ("vdi", "add", vdi) in seen or ("vdi", "add", moved) in seen, seen
    assert ("task", "mod", task) in seen or ("task", "add", task) in seen, seen
    assert ("host", "mod", host) in seen, seen
    assert ("vdi", "del", moved) in seen and ("sr", "del", srs[1]) in seen, seen
'''
exec(DAY)

WITH_XENAPI = DAY + '''
import sys
import urllib.request
from os_xenapi.client import XenAPI

url, one, two, size, source, target = sys.argv[1:]
session = XenAPI.Session(url)
session.login_with_password("root", "secret", "1.0", "a script")


def call(name, *params):
    method = session.xenapi
    for part in name.split("."):
        method = getattr(method, part)
    return method(*params)


def open_url(path, **more):
    address = "%s%s&session_id=%s" % (url, path, session.handle)
    return urllib.request.urlopen(urllib.request.Request(address, **more))


def put(path):
    with open(source, "rb") as f:
        open_url(path, data=f.read(), method="PUT").read()


def get(path):
    with open(target, "wb") as f:
        f.write(open_url(path).read())


day(call, put, get, one, two, int(size))
session.xenapi.session.logout()
'''


def with_os_xenapi(smd, one, two, source, target):
    python = "/usr/bin/python3"
    have = subprocess.run([python, "-c", "from os_xenapi.client import XenAPI"],
                          capture_output=True)
    if have.returncode:
        return "python3-os-xenapi is not installed"
    run(python, "-c", WITH_XENAPI, "http://127.0.0.1:%d" % smd.port, one, two, str(SIZE), source,
        target)


def with_xmlrpc_client(smd, one, two, source, target):
    session = smd.login()

    def put(path):
        with open(source, "rb") as f:
            expect_eq(smd.http("PUT", path + "&session_id=" + session, f,
                               {"Content-Length": str(SIZE)})[0], 200)

    def get(path):
        status, _, body = smd.http("GET", path + "&session_id=" + session)
        expect_eq(status, 200)
        with open(target, "wb") as f:
            f.write(body)

    day(smd.call, put, get, one, two, SIZE)


def with_curl(smd, one, two, source, target):
    if not shutil.which("curl"):
        return "curl is not installed"
    url = "http://127.0.0.1:%d" % smd.port

    def raw(name, *params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": name, "params": list(params)})
        reply = json.loads(run("curl", "-sS", "-H", "Content-Type: application/json", "-d", body,
                               url + "/jsonrpc"))
        assert "error" not in reply, reply
        return reply["result"]

    session = raw("session.login_with_password", "root", "secret")
    day(lambda name, *params: raw(name, session, *params),
        lambda path: run("curl", "-sSf", "-u", "root:secret", "-T", source, url + path),
        lambda path: run("curl", "-sSf", "-u", "root:secret", "-o", target, url + path),
        one, two, SIZE)
    raw("session.logout", session)


def with_xmlrpc_command(smd, one, two, source, target):
    if not shutil.which("xmlrpc"):
        return "the xmlrpc command is not installed"

    def raw(name, *params):
        out = run("xmlrpc", "http://127.0.0.1:%d/" % smd.port, name, *("s/" + p for p in params))
        assert "'Success'" in out, out
        values = [line.split("String: '", 1)[1][:-1] for line in out.splitlines()
                  if "String: '" in line]
        return values[3:] if "Array of" in out else values[-1]

    session = raw("session.login_with_password", "root", "secret")
    sr = smd.make_sr(os.path.basename(one))
    vdi = smd.make_vdi(sr, SIZE, "vhd")
    smd.import_vdi(vdi, source)
    expect_eq(raw("VDI.get_all", session), [vdi])
    expect_eq(raw("VDI.get_virtual_size", session, vdi), str(SIZE))
    copy = raw("VDI.copy", session, vdi, smd.make_sr(os.path.basename(two)))
    snapshot = raw("VDI.snapshot", session, copy)
    smd.export_vdi(snapshot, target)
    for disk in snapshot, copy, vdi:
        raw("VDI.destroy", session, disk)
    raw("session.logout", session)


with Smd(tcp=True) as smd:
    for client in with_xmlrpc_client, with_os_xenapi, with_curl, with_xmlrpc_command:
        one, two, source, target = (os.path.join(smd.dir, "%s.%s" % (client.__name__, what))
                                    for what in ("one", "two", "in", "out"))
        os.mkdir(one)
        os.mkdir(two)
        fill_raw(source, SIZE)
        missing = client(smd, one, two, source, target)
        if missing:
            print("left out:", missing)
            continue
        expect_eq(sha256_of_file(target), sha256_of_file(source), client.__name__)
        print("done:", client.__name__)
    expect_eq(smd.pending_tasks(), [], "tasks")
