#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Against xapi's datamodel: every field of every record in its kind on both wires, every
# method there or refused as xapi refuses what it has not, and each wrong count, type,
# enumeration, reference and constructor answered with xapi's code.
import xapimodel
from smdtest import *

XAPI, API = xapimodel.read_xapi(), xapimodel.read_ours()
OURS = {c["name"]: c for c in API["classes"]}
# Any type of either side by its text, for what is said of a method only in words.
TYPES = {name + " ref": {"kind": "ref", "name": name} for name in OURS}
TYPES.update((xapimodel.type_text(t), t) for t in xapimodel.types_in(API))
JSON_KINDS = {"string": str, "int": int, "int32": int, "float": (int, float), "bool": bool,
              "enum": str, "datetime": str, "ref": str, "set": list, "map": dict, "record": dict}
# Of a 64-bit integer XML has only the text.
XML_KINDS = dict(JSON_KINDS, int=str, datetime=xmlrpc.client.DateTime, float=float)
# What is no value of a kind, and what a text says that is none.
WRONG_KIND = {"string": 5, "int": {}, "int32": {}, "float": [], "bool": "true", "enum": 5,
              "datetime": 5, "ref": {}, "set": "x", "map": "x", "record": "x"}
# What is chosen by the server where a constructor leaves it out.
MADE = "sm_config", "bridge", "domain_type"
WRONG_TEXT = {"int": "many", "float": "much", "enum": "no such value", "datetime": "tomorrow"}


def example(t):
    """A value of the type that names nothing."""
    if t["kind"] == "record":
        return {}
    if t["kind"] == "ref":
        return "OpaqueRef:nothing"
    if t["kind"] == "string":
        return "nothing"
    return xapimodel.zero_of(t)


def code_of(smd, name, *params):
    """The code and parameters a call fails with, on both wires; None: it succeeds."""
    reply = smd.json_raw(name, *params)
    if "error" not in reply:
        return None
    failure = reply["error"]["message"], reply["error"]["data"]
    try:
        smd.raw_call(name, *params)
    except ApiError as e:
        expect_eq((e.code, e.params), failure, name + " on the two wires")
        return failure
    raise AssertionError("%s%s fails in JSON only: %s" % (name, params, failure))


# ---- Records ----

def check_kind(what, kinds, t, value):
    assert isinstance(value, kinds[t["kind"]]), (what, t["kind"], value)
    if t["kind"] == "bool":
        return
    assert t["kind"] == "bool" or not isinstance(value, bool), (what, value)
    if t["kind"] == "ref":
        assert value.startswith("OpaqueRef:"), (what, value)
    elif t["kind"] == "enum":
        assert value in t["values"], (what, value)
    elif t["kind"] == "set":
        for member in value:
            check_kind(what, kinds, t["elem"], member)
    elif t["kind"] == "map":
        for key, member in value.items():
            assert isinstance(key, str), (what, key)
            check_kind(what, kinds, t["elem"], member)


def check_records(smd, name):
    """Each record has xapi's fields, no more, in their kinds; by every way the same."""
    if name == "session":
        refs = [smd.login()]
    else:
        refs = smd.json_call(name + ".get_all")
        # A machine may have no network but its own.
        assert refs or name == "PIF", "no object of class " + name
    want = {f["name"]: f["type"] for f in OURS[name]["fields"]}
    if name in XAPI:
        expect_eq(sorted(want), sorted(XAPI[name]["fields"]), "fields of " + name)
    for ref in refs:
        as_json = smd.json_call(name + ".get_record", ref)
        as_xml = smd.call(name + ".get_record", ref)
        expect_eq((sorted(as_json), sorted(as_xml)), (sorted(want), sorted(want)), name)
        for field, t in want.items():
            check_kind(name + "." + field, JSON_KINDS, t, as_json[field])
            check_kind(name + "." + field, XML_KINDS, t, as_xml[field])


# ---- Messages of every class ----

def check_getters(smd, cls, ref):
    """Each field by its getter, and the ways to find the object."""
    name = cls["name"]
    record, as_xml = smd.json_call(name + ".get_record", ref), smd.call(name + ".get_record", ref)
    for field in (f["name"] for f in cls["fields"]):
        full = "%s.get_%s" % (name, field)
        # What passes by itself: a clock, and who was here last.
        if full in ("session.get_last_active", "host_metrics.get_last_updated"):
            smd.json_call(full, ref)
            continue
        expect_eq(smd.json_call(full, ref), record[field], full)
        expect_eq(smd.call(full, ref), as_xml[field], full + " in XML")
    expect_eq(smd.json_call(name + ".get_by_uuid", record["uuid"]), ref, name)
    if "name_label" in record:
        assert ref in smd.json_call(name + ".get_by_name_label", record["name_label"]), name
    if cls.get("no_get_all"):
        return
    where = 'field "uuid" = "%s"' % record["uuid"]
    expect_eq(smd.json_call(name + ".get_all_where", where), [ref], name)
    expect_eq(list(smd.json_call(name + ".get_all_records_where", where)), [ref], name)
    assert ref in smd.json_call(name + ".get_all_records"), name


def other_value(t, value):
    """A value of the type that is not this one; for references, the same."""
    if t["kind"] in ("string", "datetime"):
        return "20250102T03:04:05Z" if t["kind"] == "datetime" else value + "x"
    if t["kind"] in ("int", "int32", "float"):
        return value + 1
    if t["kind"] == "bool":
        return not value
    if t["kind"] == "enum":
        return next(v for v in t["values"] if v != value)
    if t["kind"] == "map":
        return dict(value, more=example(t["elem"])) if t["key"]["kind"] == "string" else value
    return value


def check_map(smd, full, ref, uuid, t):
    name, field = full.split(".")
    add, remove = name + ".add_to_" + field, name + ".remove_from_" + field
    key = {"int": "77", "enum": t["key"].get("values", [""])[-1]}.get(t["key"]["kind"], "the key")
    value = example(t["elem"])
    smd.json_call(add, ref, key, value)
    expect_eq(smd.json_call("%s.get_%s" % (name, field), ref)[key], value, full)
    expect_error("MAP_DUPLICATE_KEY", smd.json_call, add, ref, key, value,
                 params=[name, field, uuid, key])
    smd.call(remove, ref, key)
    smd.call(remove, ref, key)
    assert key not in smd.json_call("%s.get_%s" % (name, field), ref), full


def check_set(smd, full, ref, elem):
    name, field = full.split(".")
    for method, want in ("add_", 1), ("add_", 1), ("remove_", 0), ("remove_", 0):
        smd.json_call(name + "." + method + field, ref, example(elem))
        have = smd.json_call("%s.get_%s" % (name, field), ref)
        expect_eq(have.count(example(elem)), want, full)


def check_setters(smd, cls, ref):
    """What a client may write is read back; nothing else has a setter."""
    name, declared = cls["name"], {m["name"] for m in cls["methods"]}
    known = xapimodel.methods_of(cls)
    uuid = smd.json_call(name + ".get_uuid", ref)
    for f in cls["fields"]:
        full, t = "%s.%s" % (name, f["name"]), f["type"]
        setter = "%s.set_%s" % (name, f["name"])
        if "set_" + f["name"] not in known:
            expect_eq(code_of(smd, setter, smd.login(), ref, "x"),
                      ("MESSAGE_METHOD_UNKNOWN", [setter]))
            continue
        if "set_" + f["name"] in declared:
            continue        # it does more than that: it has tests of its own
        old = smd.json_call("%s.get_%s" % (name, f["name"]), ref)
        for value in other_value(t, old), old:
            smd.json_call(setter, ref, value)
            expect_eq(smd.json_call(name + ".get_record", ref)[f["name"]], value, setter)
        if "add_to_" + f["name"] in known:
            check_map(smd, full, ref, uuid, t)
        elif "add_" + f["name"] in known and "add_" + f["name"] not in declared:
            check_set(smd, full, ref, t["elem"])


def check_messages(smd, name):
    refs = [smd.login()] if name == "session" else smd.json_call(name + ".get_all")
    for ref in refs[:2]:
        check_getters(smd, OURS[name], ref)
    if refs:
        check_setters(smd, OURS[name], refs[0])


# ---- Methods ----

def check_listed(smd, name):
    """A method of xapi's is listed, or unknown by its own name, also as Async."""
    listed = set(smd.json_raw("system.listMethods")["result"])
    ours = xapimodel.methods_of(OURS[name])
    for method in XAPI[name]["methods"]:
        full = name + "." + method
        if method in ours:
            assert full in listed, full
            continue
        for form in full, "Async." + full, name + "_" + method:
            expect_eq(code_of(smd, form, smd.login()), ("MESSAGE_METHOD_UNKNOWN", [form]))


def check_count(smd, full, params):
    least = sum(not has_default for _, has_default in params)
    args = [smd.login()] + [example(TYPES[t]) for t, _ in params]
    if least:
        want = ("MESSAGE_PARAMETER_COUNT_MISMATCH", [full, str(least), str(least - 1)])
        expect_eq(code_of(smd, full, *args[:least]), want, full)
        expect_eq(code_of(smd, full)[0], want[0], full + " without a session")
    if least == len(params):
        want = ("MESSAGE_PARAMETER_COUNT_MISMATCH", [full, str(least), str(least + 1)])
        expect_eq(code_of(smd, full, *args, "surplus"), want, full)
    else:
        # What has a default takes any surplus, and is then refused for its null object.
        error = code_of(smd, full, *args, "surplus")
        assert error and error[0] != "MESSAGE_PARAMETER_COUNT_MISMATCH", (full, error)


def check_values(smd, full, params):
    for i, (text, _) in enumerate(params):
        args = [smd.login()] + [example(TYPES[t]) for t, _ in params]
        kind = TYPES[text]["kind"]
        args[i + 1] = WRONG_KIND[kind]
        expect_eq(code_of(smd, full, *args)[0], "INTERNAL_ERROR", "%s, %s" % (full, text))
        if kind in WRONG_TEXT:
            args[i + 1] = WRONG_TEXT[kind]
            error = code_of(smd, full, *args)
            expect_eq((error[0], error[1][1:]), ("INVALID_VALUE", [WRONG_TEXT[kind]]), full)


def check_refs(smd, full, params):
    """The object that is not there is named with its class."""
    me = full.split(".")[0]
    if params and params[0][0] == me + " ref":
        args = [example(TYPES[t]) for t, _ in params]
        expect_eq(code_of(smd, full, smd.login(), *args),
                  ("HANDLE_INVALID", [me, "OpaqueRef:nothing"]), full)
    elif full.endswith(".get_by_uuid"):
        expect_eq(code_of(smd, full, smd.login(), "nothing"), ("UUID_INVALID", [me, "nothing"]))


def check_names(smd, full, params):
    """Class_method is the same method; a session that is none comes before the values."""
    args = [example(TYPES[t]) for t, _ in params]
    none = "OpaqueRef:no-session"
    for form in full, full.replace(".", "_", 1):
        expect_eq(code_of(smd, form, none, *args), ("SESSION_INVALID", [none]), form)
    if args:
        args[0] = WRONG_KIND[TYPES[params[0][0]]["kind"]]
        expect_eq(code_of(smd, full.replace(".", "_", 1), smd.login(), *args),
                  code_of(smd, full, smd.login(), *args), full + " by its other name")


def check_async(smd, full, flags):
    if flags.get("async"):
        return
    expect_eq(code_of(smd, "Async." + full, *example_call(smd, full)),
              ("Fault", ["No async mode for this operation (rpc: Async.%s)" % full]), full)


def example_call(smd, full):
    cls, method = full.split(".")
    params = xapimodel.methods_of(OURS[cls])[method]["params"]
    return [smd.login()] + [example(TYPES[t]) for t, _ in params]


def check_methods(smd, name):
    declared = {m["name"]: m for m in OURS[name]["methods"]}
    for method, m in xapimodel.methods_of(OURS[name]).items():
        full, flags = "%s.%s" % (name, method), declared.get(method, {})
        if flags.get("no_session") or full == "session.logout":
            continue
        check_count(smd, full, m["params"])
        check_values(smd, full, m["params"])
        check_names(smd, full, m["params"])
        check_refs(smd, full, m["params"])
        check_async(smd, full, flags)


# ---- Constructors ----

def good_record(smd, name):
    """The required fields of a constructor, with values that make an object."""
    sr = smd.call("SR.get_all")[0]
    free = [v for v, r in smd.json_call("VDI.get_all_records").items() if not r["VBDs"]]
    return {"VBD": {"VM": smd.call("VM.get_all")[0], "VDI": free[0], "userdevice": "7",
                    "bootable": False, "mode": "RW", "type": "Disk", "empty": False,
                    "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}},
            "VM": vm_record(),
            "network": {"other_config": {}},
            "VDI": {"SR": sr, "virtual_size": MIB, "type": "user", "sharable": False,
                    "read_only": False, "other_config": {}},
            "PBD": {"SR": smd.json_call("SR.introduce", "", "other", "", "file", "", False, {}),
                    "host": smd.host()}}[name]


def vm_record():
    """What VM.create must be given: no limits, no boot settings."""
    record = {f["name"]: example(f["type"]) for f in OURS["VM"]["fields"] if f.get("required")}
    record["affinity"] = NULL_REF
    return {k: "" if v == "nothing" else v for k, v in record.items()}


def check_constructor(smd, name):
    good = good_record(smd, name)
    required = [f["name"] for f in OURS[name]["fields"] if f.get("required")]
    expect_eq(sorted(required), sorted(good), "what %s.create must be given" % name)
    for field in required:
        args = {k: v for k, v in good.items() if k != field}
        expect_eq(code_of(smd, name + ".create", smd.login(), args)[0], "INTERNAL_ERROR", field)
    for field in OURS[name]["fields"]:
        if field["access"] == "dynamic_ro":
            continue
        kind = field["type"]["kind"]
        wrong = dict(good, **{field["name"]: WRONG_KIND[kind]})
        expect_eq(code_of(smd, name + ".create", smd.login(), wrong)[0], "INTERNAL_ERROR",
                  field["name"])
        if kind in WRONG_TEXT:
            wrong[field["name"]] = WRONG_TEXT[kind]
            error = code_of(smd, name + ".create", smd.login(), wrong)
            expect_eq((error[0], error[1][1:]), ("INVALID_VALUE", [WRONG_TEXT[kind]]), field["name"])
    ref = smd.json_call(name + ".create", dict(good, surplus="ignored"))
    record = smd.json_call(name + ".get_record", ref)
    for field in OURS[name]["fields"]:
        default = xapimodel.default_of(XAPI[name]["fields"][field["name"]]["default"],
                                       xapimodel.type_text(field["type"]))
        if field["name"] in good:
            expect_eq(record[field["name"]], good[field["name"]], field["name"])
        elif default is not None and field["access"] != "dynamic_ro" and \
                field["name"] not in MADE:
            expect_eq(record[field["name"]], default, field["name"])
    smd.json_call(name + ".destroy", ref)


with Smd() as smd:
    sr = smd.make_sr("one")
    used, _ = (smd.make_vdi(sr, MIB, "raw", name) for name in ("used", "free"))
    smd.call("task.create", "a task", "")
    vm = smd.json_call("VM.create", vm_record())
    smd.json_call("VBD.create", dict(good_record(smd, "VBD"), VM=vm, VDI=used, userdevice="0"))
    smd.json_call("network.create", {"other_config": {}})
    smd.json_call("message.create", "hello", 3, "SR", smd.call("SR.get_uuid", sr), "a message")
    for name, cls in OURS.items():
        if not cls.get("no_records"):
            check_records(smd, name)
            check_messages(smd, name)
        if name in XAPI:
            check_listed(smd, name)
        check_methods(smd, name)
    for name in ("VDI", "PBD", "VM", "VBD", "network"):
        check_constructor(smd, name)
    # The tables' own list of differences is complete.
    run(sys.executable, os.path.join(SRC, "tests", "api-diff"))
    print("%d classes, %d methods" % (len(OURS), sum(len(xapimodel.methods_of(c))
                                                     for c in OURS.values())))
