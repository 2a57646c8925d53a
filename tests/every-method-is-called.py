#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# The last test of a run: every method of schema/api.json was called by some other test
# with success, and each reply that the daemons of this run recorded is of its declared
# type, or an error of the catalogue with its parameters.
import glob
import xapimodel
from smdtest import *

API = xapimodel.read_ours()
CLASSES = {c["name"]: c for c in API["classes"]}
# None: as many as there are.
ERRORS = {e["code"]: None if e.get("any_number") else len(e["params"]) for e in API["errors"]}
# What is always refused, and how: smd runs no VM, and no plugins of the kind.
REFUSED = {
    "VBD.plug": "VM_BAD_POWER_STATE", "VBD.unplug": "VM_BAD_POWER_STATE",
    "VBD.unplug_force": "VM_BAD_POWER_STATE", "host.call_plugin": "XENAPI_MISSING_PLUGIN",
}
JSON_KINDS = {"string": str, "int": int, "int32": int, "float": (int, float), "bool": bool,
              "enum": str, "datetime": str, "ref": str, "set": list, "map": dict, "record": dict}
# Of a 64-bit integer XML has only the text.
XML_KINDS = dict(JSON_KINDS, int=str, float=float, datetime=xmlrpc.client.DateTime)


def declared():
    """{method: its result's type}; those whose XML is no Status and Value."""
    types, bare, void = {}, set(), {"kind": "void"}
    for name, cls in CLASSES.items():
        me, record = {"kind": "ref", "name": name}, {"kind": "record", "name": name}
        by_text = {name + " ref": me, name + " ref set": {"kind": "set", "elem": me},
                   name + " record": record, "(%s ref -> %s record) map" % (name, name):
                   {"kind": "map", "key": me, "elem": record}}
        getters = {"get_" + f["name"]: f["type"] for f in cls["fields"]}
        for method, m in xapimodel.implied(cls).items():
            types["%s.%s" % (name, method)] = getters.get(method) or by_text.get(m["result"], void)
        for m in cls["methods"]:
            types["%s.%s" % (name, m["name"])] = m["result"]
            if m.get("bare_reply"):
                bare.add("%s.%s" % (name, m["name"]))
    return types, bare


TYPES, BARE = declared()
ALIASES = {name.replace(".", "_", 1): name for name in TYPES}


def check_record(kinds, t, value):
    fields = t.get("fields") or CLASSES[t["name"]]["fields"]
    for field in fields:
        if field["name"] in value:
            member = field["type"]
            if member["kind"] == "any":
                continue        # what an event carries depends on its class
            check_type(kinds, member, value[field["name"]], field["name"])
        elif not field.get("optional"):
            raise ValueError("%s is missing" % field["name"])
    surplus = set(value) - {f["name"] for f in fields}
    if surplus:
        raise ValueError("surplus members: %s" % sorted(surplus))


def check_type(kinds, t, value, what):
    kind = t["kind"]
    if kind == "void":
        if value != "":
            raise ValueError("%s is not void but %r" % (what, value))
        return
    if not isinstance(value, kinds[kind]) or isinstance(value, bool) != (kind == "bool"):
        raise ValueError("%s is no %s but %.80r" % (what, kind, value))
    if kind == "ref" and not value.startswith("OpaqueRef:"):
        raise ValueError("%s is no reference but %.80r" % (what, value))
    if kind == "enum" and value not in t["values"]:
        raise ValueError("%s has no value %r" % (what, value))
    if kind == "int":
        int(value)
    if kind == "set":
        for member in value:
            check_type(kinds, t["elem"], member, what)
    if kind == "map":
        for key, member in value.items():
            check_type(kinds, t["key"] if t["key"]["kind"] != "int" else {"kind": "string"}, key,
                       what)
            check_type(kinds, t["elem"], member, what)
    if kind == "record":
        check_record(kinds, t, value)


def check_error(code, params):
    """Both wires: a code of the catalogue and as many texts as it declares."""
    if not all(isinstance(p, str) for p in params):
        raise ValueError("a parameter of %s is no text" % code)
    if code not in ERRORS:
        raise ValueError("%s is in no catalogue" % code)
    if ERRORS[code] not in (None, len(params)):
        raise ValueError("%s has %d parameters, not %d" % (code, len(params), ERRORS[code]))


def json_value(reply):
    """The result of a reply; None where it is an error, which is checked."""
    reply = json.loads(reply)
    error = reply.get("error")
    if error is None:
        return reply["result"]
    if isinstance(error, list):
        check_error(error[0], error[1:])
    else:
        check_error(error["message"], error["data"])
    return None


def xml_value(reply, bare):
    value = xmlrpc.client.loads(reply)[0][0]
    if isinstance(value, dict) and value.get("Status") == "Failure":
        check_error(value["ErrorDescription"][0], value["ErrorDescription"][1:])
        return None
    return value if bare else value["Value"]


def async_value(reply):
    return xmlrpc.client.loads("<params><param>%s</param></params>" % reply)[0][0] if reply else None


def check_call(call):
    """ValueError for a reply that is not as declared. The method, if that was its answer."""
    name, wire = call["method"], call["wire"]
    plain = name.removeprefix("Async.").removeprefix("InternalAsync.")
    method = ALIASES.get(plain, plain)
    if wire == "json":
        kinds, value = JSON_KINDS, json_value(call["reply"])
    else:
        kinds = XML_KINDS
        value = async_value(call["reply"]) if wire == "async" else \
            xml_value(call["reply"], method in BARE)
    if call["code"]:
        return method if REFUSED.get(method) == call["code"] else None
    started = plain != name
    check_type(kinds, {"kind": "ref", "name": "task"} if started else TYPES[method], value, "it")
    return None if started else method


def read_calls(directory):
    for path in sorted(glob.glob(os.path.join(directory, "*"))):
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.endswith("\n"):     # a daemon may be killed while it writes
                    yield json.loads(line)


if "SMD_CALLS" not in os.environ:
    skip("only make check knows what the other tests called")
ran = set(os.environ["SMD_RUN"].split())
if not set(os.environ["SMD_EVERY_TEST"].split()) <= ran:
    skip("not every test was run")
called, wrong, n, seen = set(), set(), 0, set()
for test in sorted(ran):
    for call in read_calls(os.path.join(os.environ["SMD_CALLS"], test)):
        n += 1
        try:
            called.add(check_call(call))
            if call["method"].endswith(".get_all") and "OpaqueRef:" in call["reply"]:
                seen.add(call["method"].split(".")[0])
        except (ValueError, KeyError, xmlrpc.client.Error) as e:
            wrong.add("%s: %s (%s): %s" % (test, call["method"], call["wire"], e))
assert n > 0, "no daemon recorded anything"
# A machine may have no network but its own; any other class has objects.
absent = set() if "PIF" in seen else {name for name in TYPES if name.startswith("PIF.")}
for line in sorted(wrong):
    print("reply against its type:", line)
missing = sorted(set(TYPES) - called - absent)
print("%d replies of %d methods; nobody called with success: %s" % (n, len(TYPES), missing))
assert not wrong and not missing
