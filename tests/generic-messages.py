#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# The messages every class has: records, getters, setters, maps, sets, expressions.
from smdtest import *

with Smd() as smd:
    sr = smd.make_sr("one")
    a = smd.make_vdi(sr, MIB, "raw", "alpha")
    b = smd.make_vdi(sr, 2 * MIB, "vhd", "beta")
    record = smd.json_call("VDI.get_record", a)

    # The same record by every way, each field by its getter.
    expect_eq(smd.json_call("VDI.get_all_records"),
              {a: record, b: smd.json_call("VDI.get_record", b)}, "all records")
    expect_eq(sorted(smd.call("VDI.get_all")), sorted([a, b]), "all refs")
    for field, value in record.items():
        expect_eq(smd.json_call("VDI.get_" + field, a), value, field)
    expect_eq(smd.call("VDI.get_by_uuid", record["uuid"]), a, "by uuid")
    expect_eq(smd.call("VDI.get_by_name_label", "beta"), [b], "by name")
    expect_eq(smd.call("VDI.get_by_name_label", "gamma"), [], "by a name that nobody has")
    expect_eq(smd.json_call("VDI.get_all_records_where", 'field "name__label" = "alpha"'),
              {a: record}, "records by expression")
    for expr, want in (
            ("true", [a, b]), ("not true", []),
            ('field "name_label" = "alpha" or field "virtual_size" = "%d"' % (2 * MIB), [a, b]),
            ('field "SR" = "%s" and not field "uuid" = "%s"' % (sr, record["uuid"]), [b]),
            ('(field "managed" = "true") and field "sm_config" = "((\'image-format\' \'vhd\'))"',
             [b])):
        expect_eq(sorted(smd.call("VDI.get_all_where", expr)), sorted(want), expr)
    for bad in ("", "field", 'field "nope" = "x"', "true)", '"a" == "b"', "(" * 5000):
        expect_error("INVALID_VALUE", smd.call, "VDI.get_all_where", bad)

    # Maps: a key is added once; removing one that is not there is fine.
    smd.call("VDI.add_to_other_config", a, "key", "one")
    expect_error("MAP_DUPLICATE_KEY", smd.call, "VDI.add_to_other_config", a, "key", "two",
                 params=["VDI", "other_config", record["uuid"], "key"])
    expect_eq(smd.call("VDI.get_other_config", a), {"key": "one"}, "after a refused add")
    smd.call("VDI.remove_from_other_config", a, "key")
    smd.call("VDI.remove_from_other_config", a, "key")
    smd.call("VDI.set_other_config", a, {"x": "<&>\u00e9\"'"})
    expect_eq(smd.call("VDI.get_other_config", a), {"x": "<&>\u00e9\"'"}, "a whole map")

    # Sets: members once, in the order they came.
    smd.call("VDI.set_tags", a, [])
    for tag in ("t2", "t1", "t2"):
        smd.call("VDI.add_tags", a, tag)
    expect_eq(smd.call("VDI.get_tags", a), ["t2", "t1"], "added")
    smd.call("VDI.remove_tags", a, "t2")
    smd.call("VDI.remove_tags", a, "nobody")
    expect_eq(smd.call("VDI.get_tags", a), ["t1"], "removed")

    # Gone, never there, of another class; each says which class and what.
    for call in (("VDI.get_record", "OpaqueRef:x"), ("VDI.get_uuid", "OpaqueRef:x"),
                 ("VDI.get_VBDs", "OpaqueRef:x"), ("VDI.set_tags", "OpaqueRef:x", []),
                 ("VDI.add_tags", "OpaqueRef:x", "t"),
                 ("VDI.add_to_other_config", "OpaqueRef:x", "k", "v")):
        expect_error("HANDLE_INVALID", smd.call, *call, params=["VDI", "OpaqueRef:x"])
    expect_error("HANDLE_INVALID", smd.call, "VDI.get_record", sr, params=["VDI", sr])
    expect_error("HANDLE_INVALID", smd.call, "host.get_record", a, params=["host", a])
    expect_error("UUID_INVALID", smd.call, "SR.get_by_uuid", record["uuid"],
                 params=["SR", record["uuid"]])

    # What only the server sets has no setter.
    for name in ("VDI.set_uuid", "VDI.set_location", "SR.set_VDIs", "SM.set_type"):
        expect_error("MESSAGE_METHOD_UNKNOWN", smd.call, name, a, "x", params=[name])
