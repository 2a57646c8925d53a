#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An SR forgotten here and introduced elsewhere comes back with its chains: parents,
snapshots, names, content."""
from smdtest import *

SIZE = 6 * MIB
FIELDS = ("name_label", "name_description", "tags", "is_a_snapshot", "snapshot_time", "managed",
          "read_only", "other_config", "virtual_size", "type", "location", "physical_utilisation")


def write(smd, vdi, seed):
    path = os.path.join(smd.dir, "data.raw")
    fill_raw(path, SIZE, seed)
    smd.import_vdi(vdi, path)


def picture(smd, sr):
    """{uuid: what must come back}, with refs as uuids."""
    records = {r: smd.call("VDI.get_record", r) for r in smd.call("SR.get_VDIs", sr)}
    uuids = {ref: record["uuid"] for ref, record in records.items()}
    uuids[NULL_REF] = ""
    out = os.path.join(smd.dir, "out.raw")
    result = {}
    for ref, record in records.items():
        seen = {field: record[field] for field in FIELDS}
        seen["tags"] = sorted(seen["tags"])
        seen["snapshot_of"] = uuids[record["snapshot_of"]]
        seen["parent"] = record["sm_config"].get("vhd-parent")
        seen["error"] = record["sm_config"].get("image-error")
        if record["managed"] and not seen["error"]:
            smd.export_vdi(ref, out)
            seen["content"] = sha256_of_file(out)
        result[record["uuid"]] = seen
    return result


def expect_same(got, wanted, what):
    expect_eq(sorted(got), sorted(wanted), "VDIs " + what)
    for uuid in wanted:
        for field in wanted[uuid]:
            expect_eq(got[uuid].get(field), wanted[uuid][field], "%s of %s %s" % (
                field, wanted[uuid]["name_label"], what))


def move(smd, other, sr):
    """Forget the SR here, introduce it there."""
    path, uuid = smd.sr_path(sr), smd.call("SR.get_uuid", sr)
    smd.call("PBD.unplug", smd.call("SR.get_PBDs", sr)[0])
    smd.call("SR.forget", sr)
    sr = other.call("SR.introduce", uuid, "back", "", "file", "user", False, {})
    pbd = other.call("PBD.create", {"host": other.host(), "SR": sr, "other_config": {},
                                    "device_config": {"location": path}})
    other.call("PBD.plug", pbd)
    other.call("SR.scan", sr)
    return sr


with Smd() as smd, Smd() as other:
    sr = smd.make_sr("travels")
    for fmt in ("raw", "vhd", "qcow2"):
        disk = smd.make_vdi(sr, SIZE, fmt, "a %s, på resa" % fmt)
        write(smd, disk, 1)
        first = smd.call("VDI.snapshot", disk)
        smd.call("VDI.set_name_label", first, "first of " + fmt)
        smd.call("VDI.add_tags", first, "kept")
        smd.call("VDI.add_to_other_config", first, "xo:backup", "1")
        second = smd.call("VDI.snapshot", disk)
        clone = smd.call("VDI.clone", second)
        smd.call("VDI.set_name_description", clone, "a <clone> of " + fmt)
        smd.call("VDI.resize", clone, str(2 * SIZE))
    before = picture(smd, sr)
    assert len([v for v in before.values() if v["snapshot_of"]]) >= 6, before
    assert [v for v in before.values() if not v["managed"]], before

    away = move(smd, other, sr)
    expect_same(picture(other, away), before, "elsewhere")
    expect_eq(other.call("SR.get_orphans", away), {}, "orphans")
    other.call("SR.scan", away)
    expect_same(picture(other, away), before, "after another scan")

    # An image that cannot be read is still known for what it was.
    uuid, spoilt = next((u, v) for u, v in before.items()
                        if v["is_a_snapshot"] and v["location"].endswith(".qcow2"))
    path = os.path.join(other.sr_path(away), spoilt["location"])
    with open(path, "r+b") as f:
        magic = f.read(4)
        f.seek(0)
        f.write(b"gone")
    back = move(other, smd, away)
    after = picture(smd, back)
    assert "BAD_MAGIC" in after[uuid]["error"], after[uuid]
    for field in ("parent", "snapshot_of", "name_label", "tags", "is_a_snapshot", "virtual_size"):
        expect_eq(after[uuid][field], spoilt[field], field + " of the one that is spoilt")
    del after[uuid]
    expect_same(after, {u: v for u, v in before.items() if u != uuid}, "beside a spoilt one")
    with open(path, "r+b") as f:
        f.write(magic)
    smd.call("SR.scan", back)
    expect_same(picture(smd, back), before, "when it is mended")
