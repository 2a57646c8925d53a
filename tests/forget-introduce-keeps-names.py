#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An SR forgotten here and introduced elsewhere comes back with its disks' names."""
from smdtest import *

with Smd() as smd:
    sr = smd.make_sr("travels")
    path, uuid = smd.sr_path(sr), smd.call("SR.get_uuid", sr)
    vdi = smd.make_vdi(sr, 3 * MIB, "qcow2", "första")
    vdi_uuid = smd.call("VDI.get_uuid", vdi)
    smd.call("VDI.set_name_description", vdi, "it has a <description>")
    smd.call("VDI.add_tags", vdi, "a tag")
    smd.call("VDI.add_to_other_config", vdi, "key", "value")
    smd.make_vdi(sr, 2 * MIB, "raw", "second")
    # A volume whose name is not the VDI's uuid: an import gave it a new one.
    data = os.path.join(smd.dir, "data.raw")
    fill_raw(data, 3 * MIB)
    smd.import_vdi(vdi, data)
    # A disk alone, forgotten at once and found again.
    smd.call("VDI.forget", vdi)
    smd.call("SR.scan", sr)
    expect_eq(smd.call("VDI.get_name_label", smd.call("VDI.get_by_uuid", vdi_uuid)), "första",
              "the name of a disk found again")
    smd.call("PBD.unplug", smd.call("SR.get_PBDs", sr)[0])
    smd.call("SR.forget", sr)
    expect_eq(smd.call("VDI.get_all"), [], "VDIs after forgetting")

    with Smd() as other:
        sr = other.call("SR.introduce", uuid, "back", "", "file", "user", False, {})
        expect_error("SR_HAS_NO_PBDS", other.call, "SR.scan", sr)
        pbd = other.call("PBD.create", {"host": other.host(), "SR": sr, "other_config": {},
                                        "device_config": {"location": path}})
        expect_error("PBD_EXISTS", other.call, "PBD.create",
                     {"host": other.host(), "SR": sr, "other_config": {}, "device_config": {}})
        expect_error("SR_UUID_EXISTS", other.call, "SR.introduce", uuid, "twice", "", "file",
                     "user", False, {}, params=[uuid])
        other.call("PBD.plug", pbd)
        other.call("SR.scan", sr)
        records = {r["name_label"]: r for r in other.call("VDI.get_all_records").values()}
        expect_eq(sorted(records), ["första", "second"], "names")
        record = records["första"]
        expect_eq(record["uuid"], vdi_uuid, "uuid")
        expect_eq(record["name_description"], "it has a <description>", "description")
        expect_eq(record["tags"], ["a tag"], "tags")
        expect_eq(record["other_config"]["key"], "value", "other_config")
        expect_eq(record["virtual_size"], str(3 * MIB), "size")
        expect_eq(record["sm_config"]["image-format"], "qcow2", "format")
