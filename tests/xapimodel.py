# SPDX-License-Identifier: BSD-2-Clause
"""xapi's datamodel (xapi/datamodel) beside ours (../schema/api.json), and how they differ."""
import json
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
NULL_REF = "OpaqueRef:NULL"


def read_xapi():
    """{class: {"enums": {name: [value]}, "fields": {name: {...}}, "methods": {name: {...}}}}"""
    classes = {}
    with open(os.path.join(HERE, "xapi", "datamodel")) as f:
        for line in f:
            if line.startswith("#"):
                continue
            kind, name, *rest = line.rstrip("\n").split("\t")
            if kind == "class":
                cls = classes[name] = {"enums": {}, "fields": {}, "methods": {}, "roles": {}}
            elif kind == "enum":
                cls["enums"][name] = rest[0].split(" ")
            elif kind == "role":
                cls["roles"][name] = rest[0]
            elif kind == "field":
                access, type_, default, state = rest
                cls["fields"][name] = {"access": access, "type": type_, "default": default,
                                       "state": state}
            else:
                params = [re.fullmatch(r"(\w+)(\??): (.*)", p).groups() for p in rest[2:]]
                cls["methods"][name] = {"result": rest[0], "state": rest[1],
                                        "params": [(type_, bool(q)) for _, q, type_ in params]}
    return classes


def read_ours():
    with open(os.path.join(HERE, "..", "schema", "api.json")) as f:
        return json.load(f)


def type_text(t):
    """A type of ours as xapi writes it."""
    kind = t["kind"]
    if kind in ("int", "int32"):
        return "int"
    if kind in ("ref", "record"):
        return "%s %s" % (t["name"], kind)
    if kind == "enum":
        return "enum " + t["name"]
    if kind == "set":
        return type_text(t["elem"]) + " set"
    if kind == "map":
        return "(%s -> %s) map" % (type_text(t["key"]), type_text(t["elem"]))
    return "<class> record" if kind == "any" else kind


def types_in(node):
    """Every type anywhere in the description of an API."""
    if isinstance(node, list):
        for member in node:
            yield from types_in(member)
    elif isinstance(node, dict):
        if "kind" in node:
            yield node
        for member in node.values():
            yield from types_in(member)


def plain_records(api):
    """The structs that are no class of ours: {name: [field]}."""
    return {t["name"]: t["fields"] for t in types_in(api) if t["kind"] == "record" and "fields" in t}


def default_of(text, type_):
    """The value a default of xapi's stands for; None: it has none."""
    if text == "-":
        return None
    if text in ("Null", NULL_REF):
        return NULL_REF
    if type_ == "bool":
        return text == "true"
    if type_ == "int":
        return int(text)
    if type_ == "float":
        return float(text)
    if type_.endswith(" set"):
        inner = text.strip("{}")
        return [int(i) if type_ == "int set" else i for i in inner.split(", ") if i]
    if type_.endswith(" map"):
        return dict(re.findall(r'"(\w+)" -> "(\w+)"', text))
    return text.strip('"')


def zero_of(type_):
    if type_["kind"] in ("int", "float", "int32"):
        return 0
    return {"bool": False, "ref": NULL_REF, "set": [], "map": {},
            "datetime": "19700101T00:00:00Z",
            "enum": type_.get("values", [""])[0]}.get(type_["kind"], "")


def implied(cls):
    """The messages a class of ours has besides its declared methods, and their types."""
    if cls.get("no_records"):
        return {}
    me, record = cls["name"] + " ref", cls["name"] + " record"
    found = {"get_record": ([me], record), "get_by_uuid": (["string"], me)}
    if not cls.get("no_get_all"):
        records = "(%s -> %s) map" % (me, record)
        found.update({"get_all": ([], me + " set"), "get_all_records": ([], records),
                      "get_all_where": (["string"], me + " set"),
                      "get_all_records_where": (["string"], records)})
        if any(f["name"] == "name_label" for f in cls["fields"]):
            found["get_by_name_label"] = (["string"], me + " set")
    for f in cls["fields"]:
        text, t = type_text(f["type"]), f["type"]
        found["get_" + f["name"]] = ([me], text)
        if f["access"] == "rw" or f.get("always_rw_map"):
            found["set_" + f["name"]] = ([me, text], "void")
            if t["kind"] == "map":
                key, elem = type_text(t["key"]), type_text(t["elem"])
                found["add_to_" + f["name"]] = ([me, key, elem], "void")
                found["remove_from_" + f["name"]] = ([me, key], "void")
            elif t["kind"] == "set":
                found["add_" + f["name"]] = ([me, type_text(t["elem"])], "void")
                found["remove_" + f["name"]] = ([me, type_text(t["elem"])], "void")
    return {name: {"params": [(p, False) for p in params], "result": result}
            for name, (params, result) in found.items()}


def methods_of(cls):
    """Every message of a class of ours, as read_xapi has methods."""
    found = implied(cls)
    found.update({m["name"]: {"params": [(type_text(p["type"]), "default" in p)
                                         for p in m["params"]],
                              "result": type_text(m["result"])} for m in cls["methods"]})
    return found


def diff_fields(name, theirs, ours, constructed):
    for f, x in theirs["fields"].items():
        what = "field %s.%s" % (name, f)
        if f not in ours:
            yield what, "missing"
            continue
        o = ours[f]
        if type_text(o["type"]) != x["type"] and not (
                o.get("optional") and type_text(o["type"]) + " option" == x["type"]):
            yield what, "type %s, not %s" % (type_text(o["type"]), x["type"])
        if constructed is not None and o["access"] != x["access"]:
            yield what, "access %s, not %s" % (o["access"], x["access"])
        default = default_of(x["default"], x["type"])
        if default is not None and o.get("default", zero_of(o["type"])) != default:
            yield what, "default %s, not %s" % (o.get("default"), default)
        if constructed and x["access"] != "dynamic_ro" and \
                (default is None) != o.get("required", False):
            yield what, "required" if o.get("required") else "not required"
        for t in types_in(o["type"]):
            want = theirs["enums"].get(t.get("name"))
            if t["kind"] == "enum" and want and sorted(t["values"]) != sorted(want):
                yield "enum %s.%s" % (name, t["name"]), "values " + " ".join(t["values"])
    for f in ours:
        if f not in theirs["fields"]:
            yield "field %s.%s" % (name, f), "extra"


def diff_methods(name, theirs, ours):
    for m, x in theirs["methods"].items():
        what = "method %s.%s" % (name, m)
        if m not in ours:
            yield what, "missing"
            continue
        if ours[m]["params"] != x["params"]:
            yield what, "parameters %s, not %s" % (ours[m]["params"], x["params"])
        if ours[m]["result"] != x["result"]:
            yield what, "result %s, not %s" % (ours[m]["result"], x["result"])


def diff_roles(name, theirs, cls):
    for m in cls["methods"]:
        want = theirs["roles"].get(m["name"], theirs["roles"].get("*"))
        if m["name"] not in theirs["roles"] and m.get("read_only"):
            want = "read-only"
        have = m.get("role") or (m.get("read_only") and "read-only") or cls.get("role") \
            or "pool-admin"
        if want and have != want:
            yield "role %s.%s" % (name, m["name"]), "%s, not %s" % (have, want)


def diff():
    """[(what, how)]: everything a client of xapi could see that is not the same."""
    api = read_ours()
    ours, records = {c["name"]: c for c in api["classes"]}, plain_records(api)
    found = []
    for name, theirs in read_xapi().items():
        cls = ours.get(name)
        if not cls and name not in records:
            found.append(("class " + name, "missing"))
            continue
        fields = cls["fields"] if cls and cls["fields"] else records.get(name, [])
        plain = not cls or not cls["fields"]
        create = next((m for m in cls["methods"] if m["name"] == "create"), {}) if cls else {}
        found += diff_fields(name, theirs, {f["name"]: f for f in fields},
                             None if plain else bool(create.get("constructor")))
        if cls:
            found += diff_methods(name, theirs, methods_of(cls))
            found += diff_roles(name, theirs, cls)
            known = set(theirs["methods"]) | set(implied(cls))
            found += [("method %s.%s" % (name, m["name"]), "extra") for m in cls["methods"]
                      if m["name"] not in known and not m.get("hidden")]
    found += [("class " + name, "extra") for name in ours if name not in read_xapi()]
    return sorted(set(found))


def read_reasons():
    """[(pattern, reason)] of xapi/reasons."""
    with open(os.path.join(HERE, "xapi", "reasons")) as f:
        lines = [line.rstrip("\n").split("\t") for line in f if line[0] not in "#\n"]
    return [(re.compile(what), reason) for what, reason in lines]
