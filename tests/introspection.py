#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# system.* as any XML-RPC client asks it, and the pages printed from the same tables.
import xml.etree.ElementTree
import xapimodel
from smdtest import *

API = xapimodel.read_ours()
TYPES = {"string", "int", "boolean", "double", "dateTime.iso8601", "array", "struct"}


def check_messages(smd):
    with smd.proxy() as server:
        for name in server.system.listMethods():
            signatures = server.system.methodSignature(name)
            assert signatures and all(set(s) <= TYPES for s in signatures), (name, signatures)
            assert name + "(" in server.system.methodHelp(name).split("\n")[0], name
        expect_eq(server.system.methodSignature("VDI.copy"),
                  [["string"] * n for n in (3, 4, 5, 6)], "a message with defaults")
        expect_eq(server.system.methodSignature("VDI.get_all_records"), [["struct", "string"]])
        expect_eq(server.system.methodSignature("system.listMethods"), [["array"]])
        expect_eq(server.system.methodSignature("VDI.resize"), [["string"] * 4], "64 bits are text")
        text = server.system.methodHelp("VDI.copy")
        for words in ("session, vdi: VDI ref, sr: SR ref", "Async.VDI.copy", "VDI_COPY_FAILED"):
            assert words in text, text
        assert "tags" in server.system.methodHelp("VDI.add_tags")
    for name in "methodSignature", "methodHelp":
        reply = smd.json_raw("system." + name, "VDI.fly")
        expect_eq((reply["error"]["message"], reply["error"]["data"]),
                  ("MESSAGE_METHOD_UNKNOWN", ["VDI.fly"]), name)


def check_pages():
    page = os.path.join(BUILD, "schema", "smd-api.html")
    root = xml.etree.ElementTree.parse(page).getroot()
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    expect_eq(len(ids), len(set(ids)), "names twice")
    for link in (e.get("href") for e in root.iter() if e.get("href")):
        assert link[0] == "#" and link[1:] in ids, link
    with open(os.path.join(BUILD, "schema", "smd-api.pod")) as f:
        pod = f.read()
    for cls in API["classes"]:
        for member in cls["fields"] + cls["methods"]:
            assert "%s.%s" % (cls["name"], member["name"]) in ids, member["name"]
        for m in cls["methods"]:
            assert "=head3 %s.%s\n" % (cls["name"], m["name"]) in pod, m["name"]
    for error in API["errors"]:
        assert "E-" + error["code"] in ids and "B<%s>" % error["code"] in pod, error


with Smd() as smd:
    check_messages(smd)
check_pages()
