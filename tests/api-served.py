#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# The running daemon serves the API that schema/api.json says: system.describe is that
# file, every record has every field, and JSON has each in its kind.
from smdtest import *

KINDS = {"string": str, "int": int, "int32": int, "float": (int, float), "bool": bool, "enum": str,
         "datetime": str, "ref": str, "set": list, "map": dict}


def check_value(what, kind, value):
    assert isinstance(value, KINDS[kind["kind"]]), (what, kind["kind"], value)
    if kind["kind"] == "enum":
        assert value in kind["values"], (what, value)
    elif kind["kind"] == "ref":
        assert value.startswith("OpaqueRef:"), (what, value)
    elif kind["kind"] in ("set", "map"):
        for elem in value if isinstance(value, list) else value.values():
            check_value(what, kind["elem"], elem)


def check_class(smd, cls):
    records = smd.json_call(cls["name"] + ".get_all_records")
    expect_eq(sorted(records), sorted(smd.json_call(cls["name"] + ".get_all")))
    for ref, record in records.items():
        expect_eq(sorted(record), sorted(f["name"] for f in cls["fields"]), cls["name"])
        for field in cls["fields"]:
            name = cls["name"] + "." + field["name"]
            check_value(name, field["type"], record[field["name"]])
            expect_eq(smd.json_call("%s.get_%s" % (cls["name"], field["name"]), ref),
                      record[field["name"]], name)
        expect_eq(smd.json_call(cls["name"] + ".get_by_uuid", record["uuid"]), ref)
        if "name_label" in record:
            assert ref in smd.json_call(cls["name"] + ".get_by_name_label", record["name_label"])
    return len(records)


with open(os.path.join(SRC, "schema", "api.json")) as f:
    api = json.load(f)
with Smd() as smd:
    expect_eq(json.loads(smd.raw_call("system.describe")), api, "system.describe")
    sr = smd.make_sr("one")
    smd.make_vdi(sr, MIB, "raw")
    task = smd.call("task.create", "a task", "")
    counts = {cls["name"]: check_class(smd, cls) for cls in api["classes"]
              if not cls.get("no_records") and not cls.get("no_get_all")}
    assert counts["SM"] >= 1 and counts["VDI"] == 1 and counts["PBD"] == 1, counts
    expect_eq((counts["pool"], counts["host"], counts["host_metrics"], counts["task"]), (1, 1, 1, 1))
    # What event.from says there is.
    valid = smd.json_call("event.from", ["*"], "", 0.0)["valid_ref_counts"]
    expect_eq({k: v for k, v in valid.items()}, {k.lower(): v for k, v in counts.items()})
