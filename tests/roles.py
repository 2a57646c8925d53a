#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Each of xapi's roles may what xapi lets it, and no more; what changes anything is in
# the audit log, without its arguments; who guesses passwords is stopped.
import re
from smdtest import *

ROLES = ["read-only", "vm-operator", "vm-admin", "vm-power-admin", "pool-operator", "pool-admin"]
# The least role that may, as in xapi's datamodel.
LEAST = {"VDI.get_record": 0, "task.create": 0, "VDI.add_tags": 1, "VBD.eject": 1, "VDI.destroy": 2,
         "VDI.snapshot": 2, "VBD.plug": 2, "VM.set_name_label": 2, "VDI.get_nbd_info": 2,
         "VDI.pool_migrate": 3, "SR.scan": 3, "SR.destroy": 4, "PBD.plug": 4, "host.set_name_label": 4,
         "SM.add_to_other_config": 4, "pool.set_name_label": 4, "message.destroy": 4,
         "network.set_other_config": 4, "host.call_plugin": 5, "network.add_purpose": 5,
         "VM.update_allowed_operations": 5}
SECRET = "s3cret-9f2c"


def arguments(smd, name):
    """Enough arguments, of their types, that name nothing."""
    words = smd.raw_call("system.methodHelp", name).split("(", 1)[1].split(") ->")[0].split(", ")
    made = []
    for word in words[1:]:
        kind = word.split(": ")[1]
        made.append({} if "map" in kind else "nbd" if "enum" in kind else "OpaqueRef:none")
    return made


def check_roles(smd):
    sessions = []
    for role in ROLES:
        smd.add_user(role, role, "pw")
        sessions.append(smd.raw_call("session.login_with_password", role, "pw"))
    for name, least in LEAST.items():
        args = arguments(smd, name)
        for n, session in enumerate(sessions):
            try:
                smd.raw_call(name, session, *args)
                refused = None
            except ApiError as e:
                refused = e
            if n >= least:
                assert not refused or refused.code == "HANDLE_INVALID", (name, ROLES[n], refused)
                continue
            expect_eq(refused.code, "RBAC_PERMISSION_DENIED", "%s, %s" % (name, ROLES[n]))
            expect_eq(refused.params, [name.lower(),
                      "No permission in user session. (Roles with this permission: %s)"
                      % ", ".join(reversed(ROLES[least:]))])
    return sessions


def check_tasks(smd, sessions):
    """One's own tasks, and those of one's other sessions; a pool-operator any."""
    reader, admin, operator = sessions[0], sessions[2], sessions[4]
    mine, theirs = (smd.raw_call("task.create", s, "t", "") for s in (reader, admin))
    again = smd.raw_call("session.login_with_password", "read-only", "pw")
    smd.raw_call("task.set_progress", again, mine, 0.5)
    for name, args in (("task.cancel", []), ("task.destroy", []), ("task.set_status", ["success"])):
        error = expect_error("RBAC_PERMISSION_DENIED", smd.raw_call, name, reader, theirs, *args)
        expect_eq(error.params[0], "task.destroy/any")
    smd.raw_call("task.destroy", reader, mine)
    smd.raw_call("task.destroy", operator, theirs)


def check_transfers(smd, session):
    """The task that an upload makes is its user's, as any other of theirs."""
    vdi = smd.make_vdi(smd.make_sr("one"), 8 * MIB, "raw")
    again = smd.raw_call("session.login_with_password", "vm-admin", "pw")
    connection = smd.connect()
    connection.putrequest("PUT", "/import_raw_vdi?vdi=%s&session_id=%s" % (vdi, session))
    connection.putheader("Content-Length", str(8 * MIB))
    connection.endheaders()
    connection.send(bytes(MIB))
    task, deadline = None, time.monotonic() + 60
    while not task:
        assert time.monotonic() < deadline, "the upload has no task"
        task = next((ref for ref, r in smd.call("task.get_all_records").items()
                     if r["name_label"] == "Importing raw VDI" and r["allowed_operations"]), None)
        time.sleep(0.02)
    expect_error("RBAC_PERMISSION_DENIED", smd.raw_call, "task.cancel",
                 smd.raw_call("session.login_with_password", "read-only", "pw"), task)
    smd.raw_call("task.cancel", again, task)
    expect_eq(smd.wait_task(task)["status"], "cancelled")
    connection.close()


def check_audit(smd, sessions):
    host = smd.host()
    smd.call("host.set_name_label", host, SECRET)
    smd.call("host.add_to_other_config", host, "password", SECRET)
    expect_error("MAP_DUPLICATE_KEY", smd.call, "host.add_to_other_config", host, "password", SECRET)
    with open(smd.log) as f:
        lines = f.read().splitlines()
    assert not any(SECRET in line for line in lines), "a secret in the log"
    audit = [line for line in lines if "audit: " in line]
    for words in ("host.set_name_label of %s by root \\(pool-admin\\) from 127.0.0.1: done" % host,
                  "host.add_to_other_config of %s by root .*: MAP_DUPLICATE_KEY" % host,
                  "VDI.destroy by read-only \\(read-only\\) from .*: RBAC_PERMISSION_DENIED"):
        assert any(re.search(words, line) for line in audit), words
    assert not any("get_record" in line for line in audit), "reading is not audited"


def check_guessing(smd):
    for _ in range(5):
        expect_error("SESSION_AUTHENTICATION_FAILED", smd.raw_call, "session.login_with_password",
                     "root", "wrong", params=["root", "Authentication failure"])
    for password in "wrong", smd.password:
        expect_error("SESSION_AUTHENTICATION_FAILED", smd.raw_call, "session.login_with_password",
                     "root", password, params=["root", "Too many failed logins"])
    # Others go on, and so do the sessions there are.
    smd.raw_call("session.login_with_password", "vm-admin", "pw")
    smd.call("host.get_all")


def check_sessions(smd):
    many = [smd.raw_call("session.login_with_password", "vm-admin", "pw") for _ in range(4)]
    expect_error("SESSION_INVALID", smd.raw_call, "host.get_all", many[0])
    smd.raw_call("host.get_all", many[1])


with Smd(tcp=True, config="max_login_failures = 5\nmax_sessions_per_user = 3\n") as smd:
    sessions = check_roles(smd)
    check_tasks(smd, sessions)
    check_transfers(smd, sessions[2])
    check_audit(smd, sessions)
    check_guessing(smd)
    check_sessions(smd)
