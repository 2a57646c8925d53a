#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An SR's life: create, plug, scan, unplug, forget, probe, introduce, destroy."""
from smdtest import *

with Smd() as smd:
    host = smd.host()
    path = os.path.join(smd.dir, "sr")

    def create(config, kind="file"):
        return smd.call("SR.create", host, config, "0", "name", "text", kind, "user", False, {})

    # What cannot be made leaves no row.
    expect_error("SR_UNKNOWN_DRIVER", create, {"location": path}, "nosuch", params=["nosuch"])
    expect_error("SR_BACKEND_FAILURE_94", create, {})
    expect_error("SR_BACKEND_FAILURE_94", create, {"location": "relative/path"})
    os.mkdir(path)
    open(os.path.join(path, "somebody's"), "w").close()
    expect_error("SR_BACKEND_FAILURE_61", create, {"location": path})
    os.unlink(os.path.join(path, "somebody's"))
    expect_eq(smd.call("SR.get_all"), [], "SRs")
    expect_eq(smd.call("PBD.get_all"), [], "PBDs")

    sr = create({"location": path}, "FILE")
    record = smd.call("SR.get_record", sr)
    expect_eq(record["type"], "file", "type")
    expect_eq(record["name_description"], "text", "description")
    stat = os.statvfs(path)
    expect_eq(record["physical_size"], str(stat.f_blocks * stat.f_frsize), "physical size")
    assert int(record["physical_utilisation"]) > 0
    expect_eq(len(record["PBDs"]), 1, "PBDs")
    assert "scan" in record["allowed_operations"], record["allowed_operations"]
    pbd = record["PBDs"][0]
    expect_eq(smd.call("PBD.get_currently_attached", pbd), True, "attached")
    expect_eq(smd.call("SR.get_supported_types"), ["file"], "types")

    # Two daemons, one directory.
    with Smd() as other:
        found = other.call("SR.probe", other.host(), {"location": smd.dir}, "file", {})
        assert "<UUID>%s</UUID>" % record["uuid"] in found, found
        theirs = other.call("SR.introduce", record["uuid"], "n", "", "file", "user", False, {})
        their_pbd = other.call("PBD.create", {"host": other.host(), "SR": theirs,
                                              "device_config": {"location": path},
                                              "other_config": {}})
        expect_error("SR_DEVICE_IN_USE", other.call, "PBD.plug", their_pbd)

    smd.call("SR.set_name_description", sr, "another text")
    expect_eq(smd.call("SR.get_name_description", sr), "another text", "described anew")
    smd.call("SR.set_shared", sr, True)
    expect_eq(smd.call("SR.get_shared", sr), True, "shared")
    smd.call("SR.set_shared", sr, False)
    expect_eq(smd.call("SR.get_shared", sr), False, "its own again: one PBD")

    # Disks come and go behind our back; what is no disk is left alone.
    vdi = smd.make_vdi(sr, MIB, "raw")
    gone = smd.make_vdi(sr, MIB, "raw")
    os.unlink(smd.vdi_file(gone))
    with open(os.path.join(path, "0badbeef-0000-4000-8000-000000000001.raw"), "wb") as f:
        f.truncate(4 * MIB)
    with open(os.path.join(path, "0badbeef-0000-4000-8000-000000000002.qcow2"), "wb") as f:
        f.write(b"no qcow2 at all" * 100)
    with open(os.path.join(path, "notes.txt"), "w") as f:
        f.write("left alone")
    smd.call("SR.scan", sr)
    vdis = {smd.call("VDI.get_uuid", v): smd.call("VDI.get_record", v)
            for v in smd.call("SR.get_VDIs", sr)}
    expect_eq(len(vdis), 3, "VDIs")
    expect_eq(vdis["0badbeef-0000-4000-8000-000000000001"]["virtual_size"], str(4 * MIB), "size")
    broken = vdis["0badbeef-0000-4000-8000-000000000002"]
    assert "IMAGE_CORRUPT" in broken["sm_config"]["image-error"], broken["sm_config"]
    assert os.path.exists(os.path.join(path, "notes.txt"))
    expect_error("HANDLE_INVALID", smd.call, "VDI.get_uuid", gone)
    expect_eq(smd.call("SR.get_virtual_allocation", sr), str(5 * MIB), "virtual allocation")

    # In use, it stays.
    expect_error("SR_HAS_PBD", smd.call, "SR.forget", sr, params=[sr])
    expect_error("SR_HAS_PBD", smd.call, "SR.destroy", sr, params=[sr])
    expect_error("OPERATION_NOT_ALLOWED", smd.call, "PBD.destroy", pbd,
                 params=["PBD is currently attached"])
    smd.call("PBD.unplug", pbd)
    smd.call("PBD.unplug", pbd)
    expect_error("SR_NOT_ATTACHED", smd.call, "SR.scan", sr, params=[sr])
    expect_error("SR_NOT_EMPTY", smd.call, "SR.destroy", sr, params=[])
    smd.call("PBD.plug", pbd)
    smd.call("PBD.plug", pbd)

    # The storage has moved: the next plug looks where it is told to.
    smd.call("PBD.unplug", pbd)
    os.rename(path, path + "-moved")
    path += "-moved"
    smd.call("PBD.set_device_config", pbd, {"location": path})
    smd.call("PBD.plug", pbd)
    broken_file = os.path.join(path, "0badbeef-0000-4000-8000-000000000002.qcow2")
    expect_eq(smd.vdi_file(smd.call("VDI.get_by_uuid", broken["uuid"])), broken_file, "moved")

    # Sizes of the SR are read afresh.
    smd.call("SR.update", sr)
    expect_eq(smd.call("SR.get_virtual_allocation", sr), str(5 * MIB), "after the update")

    # It is attached again after a restart, kill or not.
    smd.restart()
    expect_eq(smd.call("PBD.get_currently_attached", pbd), True, "attached after a restart")
    smd.kill()
    smd.start()
    expect_eq(smd.call("PBD.get_currently_attached", pbd), True, "attached after a kill")

    for v in smd.call("SR.get_VDIs", sr):
        smd.call("VDI.destroy", v)
    smd.call("PBD.unplug", pbd)
    smd.call("SR.add_to_other_config", sr, "indestructible", "true")
    expect_error("SR_INDESTRUCTIBLE", smd.call, "SR.destroy", sr, params=[sr])
    smd.call("SR.remove_from_other_config", sr, "indestructible")
    # What is not ours is not thrown away, nor left behind without a word.
    expect_error("SR_NOT_EMPTY", smd.call, "SR.destroy", sr, params=[])
    os.unlink(os.path.join(path, "notes.txt"))
    smd.call("SR.destroy", sr)
    assert not os.path.exists(path), "the directory is left"
    expect_eq(smd.call("SR.get_all"), [], "SRs")
    expect_eq(smd.call("PBD.get_all"), [], "PBDs")
