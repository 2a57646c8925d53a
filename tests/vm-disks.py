#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# VMs as records with disks: places, media, what each rule refuses, what goes with what.
from smdtest import *

VM = {"name_label": "a VM", "user_version": "1", "is_a_template": False, "affinity": NULL_REF,
      "memory_static_max": "0", "memory_dynamic_max": "0", "memory_dynamic_min": "0",
      "memory_static_min": "0", "VCPUs_params": {}, "VCPUs_max": "1", "VCPUs_at_startup": "1",
      "actions_after_shutdown": "destroy", "actions_after_reboot": "restart",
      "actions_after_crash": "restart", "PV_bootloader": "", "PV_kernel": "", "PV_ramdisk": "",
      "PV_args": "", "PV_bootloader_args": "", "PV_legacy_args": "", "HVM_boot_policy": "BIOS order",
      "HVM_boot_params": {}, "platform": {"cores-per-socket": "1"}, "PCI_bus": "",
      "other_config": {}, "recommendations": ""}


def vbd(vm, vdi, **more):
    """The record of a new VBD."""
    return dict({"VM": vm, "VDI": vdi, "userdevice": "autodetect", "bootable": False, "mode": "RW",
                 "type": "Disk", "empty": False, "other_config": {}, "qos_algorithm_type": "",
                 "qos_algorithm_params": {}}, **more)


def check_places(smd, vm, sr):
    disks = [smd.make_vdi(sr, MIB, "raw", "disk %d" % n) for n in range(4)]
    first = smd.call("VBD.create", vbd(vm, disks[0]))
    second = smd.call("VBD.create", vbd(vm, disks[1], userdevice="xvdd", device="xvdd"))
    expect_eq([smd.call("VBD.get_userdevice", v) for v in (first, second)], ["0", "xvdd"])
    expect_eq(smd.call("VBD.get_device", second), "", "no device without a VM that runs")
    free = smd.call("VM.get_allowed_VBD_devices", vm)
    expect_eq(free[:3] + [len(free)], ["1", "2", "4", 253], "places")
    for taken in "0", "3", "hda", "sdd":
        expect_error("DEVICE_ALREADY_EXISTS", smd.call, "VBD.create",
                     vbd(vm, disks[2], userdevice=taken), params=[taken])
    for bad in "", "255", "1000", "xvd", "xvdA", "eth0", "-1", "xvdzz":
        expect_error("INVALID_DEVICE", smd.call, "VBD.create", vbd(vm, disks[2], userdevice=bad),
                     params=[bad])
    smd.call("VBD.destroy", second)
    smd.call("VBD.create", vbd(vm, disks[1], userdevice="hdd"))
    # Both ends know each other.
    expect_eq(smd.call("VDI.get_VBDs", disks[0]), [first])
    assert first in smd.call("VM.get_VBDs", vm)
    return first, disks


def check_rules(smd, vm, sr, disks):
    free = disks[2]
    for record, code, params in (
            (vbd("OpaqueRef:no", free), "HANDLE_INVALID", ["VM", "OpaqueRef:no"]),
            (vbd(vm, "OpaqueRef:no"), "HANDLE_INVALID", ["VDI", "OpaqueRef:no"]),
            (vbd(vm, free, type="CD"), "VBD_CDS_MUST_BE_READONLY", []),
            (vbd(vm, NULL_REF, empty=True), "VBD_NOT_REMOVABLE_MEDIA", ["in constructor"]),
            (vbd(vm, disks[0]), "VDI_IN_USE", [disks[0], "attach"])):
        expect_error(code, smd.call, "VBD.create", record, params=params)
    smd.call("VDI.set_read_only", free, True)
    expect_error("VDI_READONLY", smd.call, "VBD.create", vbd(vm, free), params=[free])
    reader = smd.call("VBD.create", vbd(vm, free, mode="RO"))
    expect_error("VDI_READONLY", smd.call, "VBD.set_mode", reader, "RW", params=[free])
    smd.call("VDI.set_read_only", free, False)
    smd.call("VBD.set_mode", reader, "RW")
    # Readers are fine beside a writer, and so are writers of what is made for several.
    smd.call("VBD.create", vbd(vm, free, mode="RO"))
    smd.call("VDI.set_sharable", free, True)
    smd.call("VBD.create", vbd(vm, free))
    odd = smd.call("VDI.create", {"SR": sr, "virtual_size": str(MIB), "type": "ha_statefile",
                                  "sharable": False, "read_only": False, "other_config": {}})
    expect_error("VDI_INCOMPATIBLE_TYPE", smd.call, "VBD.create", vbd(vm, odd),
                 params=[odd, "ha_statefile"])


def check_media(smd, vm, disks):
    drive = smd.call("VBD.create", vbd(vm, disks[0], type="CD", mode="RO", empty=True))
    expect_eq((smd.call("VBD.get_VDI", drive), smd.call("VBD.get_allowed_operations", drive)),
              (NULL_REF, ["attach", "insert"]), "an empty drive")
    expect_error("VBD_IS_EMPTY", smd.call, "VBD.eject", drive, params=[drive])
    smd.call("VBD.insert", drive, disks[3])
    expect_eq(smd.call("VDI.get_VBDs", disks[3]), [drive])
    expect_error("VBD_NOT_EMPTY", smd.call, "VBD.insert", drive, disks[3], params=[drive])
    expect_eq(smd.call("VBD.get_allowed_operations", drive), ["attach", "eject"])
    smd.call("VBD.eject", drive)
    expect_eq((smd.call("VDI.get_VBDs", disks[3]), smd.call("VBD.get_empty", drive)), ([], True))
    disk = smd.call("VDI.get_VBDs", disks[0])[0]
    for name, args in ("VBD.eject", [disk]), ("VBD.insert", [disk, disks[3]]):
        expect_error("VBD_NOT_REMOVABLE_MEDIA", smd.call, name, *args, params=[disk])


def check_power(smd, vm, disk):
    expect_eq(smd.call("VM.get_power_state", vm), "Halted")
    for name in "VBD.plug", "VBD.unplug", "VBD.unplug_force":
        expect_error("VM_BAD_POWER_STATE", smd.call, name, disk, params=[vm, "running", "halted"])
    smd.call("VBD.set_unpluggable", disk, False)
    expect_error("VBD_NOT_UNPLUGGABLE", smd.call, "VBD.unplug", disk, params=[disk])
    smd.call("VBD.assert_attachable", disk)
    expect_error("VM_BAD_POWER_STATE", smd.call, "VM.create", dict(VM, power_state="Suspended"))
    running = smd.call("VM.create", dict(VM, power_state="Running"))
    expect_eq(smd.call("VM.get_power_state", running), "Halted", "a copied record")
    smd.call("VM.destroy", running)


def check_moves(smd, vm, disks):
    """A disk that is moved stays in its VM; one that is destroyed leaves it."""
    (place,) = smd.call("VDI.get_VBDs", disks[1])
    moved = smd.call("VDI.pool_migrate", disks[1], smd.make_sr("two"), {})
    assert moved != disks[1]
    expect_eq(smd.call("VBD.get_VDI", place), moved, "the VBD follows")
    token = smd.json_call("event.from", [], "", 0.0)["token"]
    smd.call("VDI.destroy", moved)
    expect_error("HANDLE_INVALID", smd.call, "VBD.get_record", place, params=["VBD", place])
    batch = smd.json_call("event.from", ["VBD", "VM"], token, 5.0)
    assert ("del", place) in [(e["operation"], e["ref"]) for e in batch["events"]], batch
    (mod,) = [e for e in batch["events"] if e["ref"] == vm]
    assert place not in mod["snapshot"]["VBDs"], mod


def check_end(smd, vm, sr):
    smd.call("VM.add_to_blocked_operations", vm, "destroy", "KEEP_IT")
    expect_error("OPERATION_BLOCKED", smd.call, "VM.destroy", vm, params=[vm, "KEEP_IT"])
    expect_error("INVALID_VALUE", smd.call, "VM.add_to_blocked_operations", vm, "fly", "x")
    smd.call("VM.remove_from_blocked_operations", vm, "destroy")
    smd.call("VM.update_allowed_operations", vm)
    assert "destroy" in smd.call("VM.get_allowed_operations", vm)
    metrics, disks = smd.call("VM.get_metrics", vm), len(smd.call("SR.get_VDIs", sr))
    smd.call("VM_metrics.get_record", metrics)
    smd.call("VM.destroy", vm)
    expect_eq((smd.call("VBD.get_all"), smd.call("VM_metrics.get_all")), ([], []))
    expect_eq(len(smd.call("SR.get_VDIs", sr)), disks, "the disks stay")


with Smd() as smd:
    sr = smd.make_sr("one")
    vm = smd.call("VM.create", VM)
    disk, disks = check_places(smd, vm, sr)
    check_rules(smd, vm, sr, disks)
    check_media(smd, vm, disks)
    check_power(smd, vm, disk)
    smd.restart()
    check_moves(smd, vm, disks)
    check_end(smd, vm, sr)
