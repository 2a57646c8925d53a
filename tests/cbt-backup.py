#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Changed block tracking as backup programs use it: snapshot, export all of it, throw the
snapshot's data away; the next time ask what changed, read that alone, and have the disk."""
from smdtest import *

BLOCK = 64 << 10
SIZE = 12 * MIB + 4096          # the last block is a short one


def read_ranges(smd, vdi, blocks, into):
    """As a client reads what changed: a Range of the raw export each."""
    for start in sorted(n for n in blocks if n - 1 not in blocks):
        end = next(n for n in range(start, max(blocks) + 2) if n not in blocks)
        first, last = start * BLOCK, min(end * BLOCK, SIZE) - 1
        status, _, body = smd.http(
            "GET", "/export_raw_vdi?session_id=%s&vdi=%s&format=raw" % (smd.login(), vdi),
            headers={"Range": "bytes=%d-%d" % (first, last)})
        expect_eq((status, len(body)), (206, last + 1 - first), "a range")
        into[first:last + 1] = body


def exported(smd, vdi):
    path = os.path.join(smd.dir, "disk.raw")
    smd.export_vdi(vdi, path)
    with open(path, "rb") as f:
        return f.read()


def life(smd, call, fmt):
    sr = smd.make_sr("sr-" + fmt)
    vdi = smd.make_vdi(sr, SIZE, fmt)
    size = int(call("VDI.get_virtual_size", vdi))
    content = bytearray(os.urandom(SIZE).ljust(size, b"\0"))
    smd.write_vdi(vdi, bytes(content))
    expect_error("VDI_NO_CBT_METADATA", call, "VDI.list_changed_blocks", vdi, vdi, params=[vdi])
    call("VDI.enable_cbt", vdi)
    call("VDI.enable_cbt", vdi)
    expect_eq(call("VDI.get_cbt_enabled", vdi), True, "cbt_enabled")

    # The full backup.
    last = call("VDI.snapshot", vdi, {})
    expect_eq(call("VDI.get_cbt_enabled", last), True, "a tracked disk's snapshot")
    backup = bytearray(exported(smd, last))
    expect_eq(bytes(backup), bytes(content), "the full backup")
    call("VDI.data_destroy", last)
    call("VDI.data_destroy", last)
    record = smd.call("VDI.get_record", last)
    expect_eq((record["type"], record["cbt_enabled"], record["is_a_snapshot"],
               record["physical_utilisation"], record["snapshot_of"], record["VBDs"],
               sorted(record["allowed_operations"])),
              ("cbt_metadata", True, True, "0", vdi, [],
               ["data_destroy", "destroy", "forget", "list_changed_blocks", "update"]),
              "what is left of a snapshot without data")
    for method, *args in (("VDI.clone", {}), ("VDI.snapshot", {}), ("VDI.copy", sr),
                          ("VDI.resize", str(2 * SIZE)), ("VDI.revert",), ("VDI.get_nbd_info",),
                          ("VDI.pool_migrate", sr, {})):
        expect_error("VDI_INCOMPATIBLE_TYPE", call, method, last, *args,
                     params=[last, "cbt_metadata"])
    call("VDI.update", last)

    # Increments; the daemon restarts between, the collector does what it likes.
    for day, count in enumerate((4, 70000, 3 * MIB + 1)):
        content[:count] = os.urandom(count)
        smd.write_vdi(vdi, bytes(content[:count]))
        if day == 1:
            smd.restart()
        now = call("VDI.snapshot", vdi)
        blocks = changed_blocks(call("VDI.list_changed_blocks", last, now), size)
        expect_eq(blocks, set(range(-(-count // BLOCK))), "changed blocks")
        read_ranges(smd, now, blocks, backup)
        expect_eq((bytes(backup) == bytes(content), hashlib.sha256(backup).hexdigest()),
                  (True, smd.vdi_sha256(now)), "the backup")
        call("SR.scan", sr)
        call("VDI.destroy", last)
        call("VDI.data_destroy", now)
        last = now
    expect_error("SR_BACKEND_FAILURE_460", call, "VDI.list_changed_blocks", vdi, last)
    expect_error("SR_BACKEND_FAILURE_460", call, "VDI.list_changed_blocks", last, last)
    expect_error("VDI_CBT_ENABLED", call, "VDI.pool_migrate", vdi, sr, {}, params=[vdi])
    assert "mirror" not in call("VDI.get_allowed_operations", vdi)
    # One base and the disk's own image, however many days.
    smd.wait_collected(sr, 3)

    # No more of it: nothing keeps the collector, and everything is gone with the disk.
    call("VDI.disable_cbt", vdi)
    expect_eq(call("VDI.get_cbt_enabled", vdi), False, "cbt_enabled")
    expect_error("VDI_NO_CBT_METADATA", call, "VDI.list_changed_blocks", last, vdi, params=[vdi])
    smd.wait_collected(sr, 2)
    call("VDI.destroy", last)
    call("VDI.destroy", vdi)
    smd.wait_collected(sr, 0)
    expect_eq([f for f in os.listdir(smd.sr_path(sr)) if f[0] != "."], [], "files")


def refusals(smd):
    sr = smd.make_sr("refusals")
    vdi = smd.make_vdi(sr, SIZE)
    snapshot = smd.call("VDI.snapshot", vdi)
    expect_eq(smd.call("VDI.get_cbt_enabled", snapshot), False, "an untracked snapshot")
    for method in "VDI.enable_cbt", "VDI.disable_cbt":
        expect_error("OPERATION_NOT_ALLOWED", smd.call, method, snapshot,
                     params=["VDI is a snapshot: " + snapshot])
    expect_error("OPERATION_NOT_ALLOWED", smd.call, "VDI.data_destroy", vdi,
                 params=["VDI is not a snapshot: " + vdi])
    expect_error("VDI_NO_CBT_METADATA", smd.call, "VDI.data_destroy", snapshot, params=[snapshot])
    assert "data_destroy" not in smd.call("VDI.get_allowed_operations", snapshot)
    allowed = smd.call("VDI.get_allowed_operations", vdi)
    assert "enable_cbt" in allowed and "list_changed_blocks" not in allowed, allowed
    other = smd.call("VDI.create", {
        "name_label": "", "name_description": "", "SR": sr, "virtual_size": str(MIB),
        "type": "suspend", "sharable": False, "read_only": False, "other_config": {}})
    expect_error("VDI_INCOMPATIBLE_TYPE", smd.call, "VDI.enable_cbt", other,
                 params=[other, "suspend"])
    smd.call("VDI.disable_cbt", vdi)
    # Tracked apart, related nowhere; a gap is no line either.
    smd.call("VDI.enable_cbt", vdi)
    first = smd.call("VDI.snapshot", vdi)
    clone = smd.call("VDI.clone", first)
    expect_eq(smd.call("VDI.get_cbt_enabled", clone), False, "a clone")
    smd.call("VDI.enable_cbt", clone)
    second = smd.call("VDI.snapshot", clone)
    expect_error("SR_BACKEND_FAILURE_460", smd.call, "VDI.list_changed_blocks", first, second)
    smd.call("VDI.disable_cbt", vdi)
    smd.call("VDI.enable_cbt", vdi)
    third = smd.call("VDI.snapshot", vdi)
    expect_error("SR_BACKEND_FAILURE_460", smd.call, "VDI.list_changed_blocks", first, third)
    smd.call("VDI.data_destroy", third)
    fourth = smd.call("VDI.snapshot", vdi)
    text = run("smctl", "--socket", smd.socket, "vdi-list-changed-blocks",
               "vdi-from-uuid=" + smd.call("VDI.get_uuid", third),
               "vdi-to-uuid=" + smd.call("VDI.get_uuid", fourth)).strip()
    expect_eq(text, smd.call("VDI.list_changed_blocks", third, fourth), "smctl")
    smd.call("VDI.data_destroy", fourth)
    # Forgotten, a disk leaves no log, and is not tracked when it is found again.
    uuid = smd.call("VDI.get_uuid", vdi)
    assert any(f.endswith(".cbtlog") for f in os.listdir(smd.sr_path(sr)))
    smd.call("VDI.forget", vdi)
    smd.call("SR.scan", sr)
    vdi = smd.call("VDI.get_by_uuid", uuid)
    expect_eq((smd.call("VDI.get_cbt_enabled", vdi), smd.call("SR.get_orphans", sr)), (False, {}),
              "a disk that was forgotten")


with Smd() as smd:
    for fmt, call in (("vhd", smd.call), ("qcow2", smd.json_call), ("raw", smd.call)):
        life(smd, call, fmt)
    refusals(smd)
