#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Who may log in and what each role may do. Over TCP a password is needed; a trusted
# peer of the unix socket needs none.
import base64
from smdtest import *


def login(smd, user, password, tcp=True):
    reply = smd.json_raw("session.login_with_password", user, password)
    if "error" in reply:
        raise ApiError([reply["error"]["message"]] + reply["error"]["data"])
    return reply["result"]


def check_passwords(smd):
    expect_error("SESSION_AUTHENTICATION_FAILED", login, smd, "root", "wrong",
                 params=["root", "Authentication failure"])
    for user, password in (("root", ""), ("", ""), ("nobody", "secret"), ("root:pool-admin", "x"),
                           ("root", "secret\n"), ("#", "secret")):
        expect_error("SESSION_AUTHENTICATION_FAILED", login, smd, user, password)
    # A change of the file counts at once.
    expect_error("SESSION_AUTHENTICATION_FAILED", login, smd, "late", "pw")
    smd.add_user("late", "pool-admin", "pw")
    login(smd, "late", "pw")


def check_roles(smd):
    smd.add_user("viewer", "read-only", "look")
    viewer = login(smd, "viewer", "look")
    host = smd.raw_call("host.get_all", viewer)[0]
    smd.raw_call("host.get_record", viewer, host)
    permissions = smd.raw_call("session.get_rbac_permissions", viewer, viewer)
    assert "vdi.get_record" in permissions and "vdi.destroy" not in permissions, permissions
    expect_eq(smd.raw_call("session.get_is_local_superuser", viewer, viewer), False)
    for name, params in (("host.set_name_label", [host, "x"]), ("VDI.destroy", [host]),
                         ("SR.scan", ["OpaqueRef:x"]), ("Async.SR.scan", ["OpaqueRef:x"]),
                         ("host.add_to_other_config", [host, "a", "b"])):
        error = expect_error("RBAC_PERMISSION_DENIED", smd.raw_call, name, viewer, *params)
        expect_eq(error.params[0], name.replace("Async.", "").lower())
    expect_eq(smd.http("PUT", "/import_raw_vdi?session_id=%s&vdi=x" % viewer, b"x")[0], 403)
    expect_eq(smd.http("GET", "/export_raw_vdi?session_id=%s&vdi=x" % viewer)[0], 403)


def check_sessions(smd):
    session = login(smd, smd.user, smd.password)
    other = login(smd, smd.user, smd.password)
    record = smd.raw_call("session.get_record", session, session)
    expect_eq((record["auth_user_name"], record["is_local_superuser"]), ("root", True))
    smd.raw_call("session.logout", session)
    expect_error("SESSION_INVALID", smd.raw_call, "host.get_all", session, params=[session])
    expect_error("SESSION_INVALID", smd.raw_call, "session.logout", session)
    expect_eq(smd.raw_call("session.get_all_subject_identifiers", other), [])


def check_http(smd):
    path = "/export_raw_vdi?vdi=OpaqueRef:none"

    def status(extra="", **headers):
        got, reply, _ = smd.http("GET", path + extra, None, headers)
        assert got != 401 or reply["WWW-Authenticate"].startswith("Basic realm="), reply
        return got

    def basic(text):
        return "Basic " + base64.b64encode(text.encode()).decode()

    expect_eq(status(), 401, "nothing given")
    expect_eq(status("&session_id=OpaqueRef:no"), 401, "an unknown session")
    expect_eq(status(Authorization=basic("root:wrong")), 401, "a wrong password")
    for allowed in (status("&session_id=" + smd.login()), status(Cookie="session_id=" + smd.login()),
                    status(Authorization=basic("root:secret"))):
        assert allowed not in (401, 403), allowed


with Smd(tcp=True) as smd:
    check_passwords(smd)
    check_roles(smd)
    check_sessions(smd)
    check_http(smd)

with Smd() as smd:
    session = smd.raw_call("session.login_with_password", "anyone", "anything")
    expect_eq(smd.raw_call("session.get_auth_user_name", session, session), "anyone")
    expect_eq(os.stat(smd.socket).st_mode & 0o007, 0, "the socket is not everybody's")
