#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""VDI.measure, SR.measure and smctl's --dry-run: whether it fits, how long it takes, and what
the call would fail with; nothing is done."""
from smdtest import *

requires("qemu-img")


def obstacles(answer):
    return [o["code"] for o in json.loads(answer["obstacles"])]


def refused_as_said(smd, answer, *call):
    """The first obstacle is the real call's error, parameters and all."""
    expect_eq(answer["fits"], "false", "fits")
    said = json.loads(answer["obstacles"])[0]
    error = expect_error(said["code"], smd.call, *call)
    expect_eq(error.params, said["params"], "parameters of %s" % said["code"])
    assert said["message"], said
    return said


def smctl(smd, *words, status=0):
    return run("smctl", "--socket", smd.socket, *words, status=status)


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    vdi = smd.make_vdi(one, 64 * MIB, "vhd")
    smd.write_vdi(vdi, os.urandom(8 * MIB))
    files = sorted(os.listdir(smd.sr_path(one)))

    # Every number, and none that is not known.
    answer = smd.call("VDI.measure", vdi, two, {})
    for key, value in (("fits", "true"), ("virtual-size", str(64 * MIB)), ("images", "1"),
                       ("data-bytes", str(8 * MIB)), ("exact", "false"), ("obstacles", "[]"),
                       ("peak-destination", answer["bytes-required"]), ("peak-source", "0")):
        expect_eq(answer[key], value, key)
    assert int(answer["free-destination"]) > 0 and int(answer["free-source"]) > 0
    assert "seconds" not in answer and "bytes-per-second" not in answer, answer
    expect_eq([f["format"] for f in json.loads(answer["formats"])], ["qcow2", "raw", "vhd"])
    expect_eq(smd.call("VDI.measure", vdi, one, {})["peak-source"], answer["bytes-required"],
              "the source's peak when it is the destination")
    expect_eq(sorted(os.listdir(smd.sr_path(one))), files, "files after it")
    expect_eq(os.listdir(smd.sr_path(two)), [f for f in os.listdir(smd.sr_path(two))
                                             if f.startswith(".")], "files of the other SR")

    # The rate of a copy that was not slowed down.
    smd.call("VDI.destroy", smd.call("VDI.copy", vdi, two))
    answer = smd.call("VDI.measure", vdi, two, {})
    rate = int(answer["bytes-per-second"])
    expect_eq(int(answer["seconds"]), -(-8 * MIB // rate), "seconds")
    expect_eq(int(smd.call("VDI.measure", vdi, two, {"bytes-per-second": "1024"})["seconds"]),
              8 * MIB // 1024, "seconds with a limit")
    assert "seconds" not in smd.call("VDI.measure", vdi, one, {}), "another pair of SRs"
    smd.restart()
    assert "seconds" in smd.call("VDI.measure", vdi, two, {}), "the rate is gone"

    # What the real call fails with.
    migrate = ("VDI.pool_migrate", vdi, two)
    answer = smd.call("VDI.measure", vdi, two, {"dest-img-format": "vmdk"})
    refused_as_said(smd, answer, *migrate, {"dest-img-format": "vmdk"})
    large = smd.make_vdi(one, 3 << 40, "qcow2")
    answer = smd.call("VDI.measure", large, two, {"dest-img-format": "vhd"})
    said = refused_as_said(smd, answer, "VDI.pool_migrate", large, two, {"dest-img-format": "vhd"})
    assert "qcow2" in said["message"], said
    by_format = {f["format"]: f for f in json.loads(answer["formats"])}
    expect_eq((by_format["vhd"]["fits"], by_format["vhd"]["code"], by_format["qcow2"]["fits"]),
              (False, "VDI_TOO_LARGE", True))
    answer = smd.call("VDI.measure", large, two, {"dest-img-format": "vhd,qcow2"})
    expect_eq((answer["fits"], answer["format"]), ("true", "qcow2"), "the first that can be")
    moved = smd.call("VDI.pool_migrate", large, two, {"dest-img-format": "vhd,qcow2"})
    expect_eq(smd.vdi_format(moved), "qcow2", "as measured")
    held = smd.open_chain(vdi)
    refused_as_said(smd, smd.call("VDI.measure", vdi, two, {}), *migrate, {})
    for f in held:
        f.close()
    smd.call("VDI.enable_cbt", vdi)
    refused_as_said(smd, smd.call("VDI.measure", vdi, two, {}), *migrate, {})
    expect_eq(smd.call("VDI.measure", vdi, two, {"copy": "true"})["fits"], "true", "copies may")
    smd.call("VDI.disable_cbt", vdi)
    pbd = smd.call("SR.get_PBDs", two)[0]
    smd.call("PBD.unplug", pbd)
    refused_as_said(smd, smd.call("VDI.measure", vdi, two, {}), *migrate, {})
    smd.call("PBD.plug", pbd)
    expect_error("HANDLE_INVALID", smd.call, "VDI.measure", vdi, NULL_REF, {})
    expect_error("HANDLE_INVALID", smd.call, "VDI.measure", NULL_REF, two, {})
    expect_error("INVALID_VALUE", smd.call, "VDI.measure", vdi, two, {"exact": "maybe"})

    # VDI.copy's other disks.
    small = smd.make_vdi(one, 32 * MIB, "raw")
    answer = smd.call("VDI.measure", vdi, two, {"into-vdi": small})
    refused_as_said(smd, answer, "VDI.copy", vdi, NULL_REF, NULL_REF, small)
    smd.call("VDI.set_read_only", small, True)
    answer = smd.call("VDI.measure", vdi, NULL_REF, {"into-vdi": small})
    refused_as_said(smd, answer, "VDI.copy", vdi, NULL_REF, NULL_REF, small)
    answer = smd.call("VDI.measure", small, two, {"base-vdi": vdi})
    refused_as_said(smd, answer, "VDI.copy", small, two, vdi)
    expect_error("HANDLE_INVALID", smd.call, "VDI.measure", vdi, two, {"into-vdi": "OpaqueRef:no"})
    expect_error("INVALID_VALUE", smd.call, "VDI.measure", vdi, two,
                 {"copy": "true", "dest-img-format": "raw"})
    smd.call("VDI.destroy", small)

    # While it moves.
    task = smd.call("Async.VDI.pool_migrate", vdi, two, {"bytes-per-second": str(MIB)})
    while not smd.call("VDI.get_current_operations", vdi):
        time.sleep(0.01)
    answer = smd.call("VDI.measure", vdi, two, {})
    assert "OTHER_OPERATION_IN_PROGRESS" in obstacles(answer), answer
    smd.call("task.cancel", task)
    smd.wait_task(task)

    # As a task, too.
    task = smd.call("Async.VDI.measure", vdi, two, {"exact": "true"})
    assert "bytes-required" in smd.wait_task(task)["result"]

    # smctl: for people, for programs.
    uuid, two_uuid = smd.call("VDI.get_uuid", vdi), smd.call("SR.get_uuid", two)
    words = "uuid=" + uuid, "sr-uuid=" + two_uuid
    text = smctl(smd, "vdi-measure", *words, "dest-img-format=raw")
    for part in ("fits: true", "format: raw", "8388608 (8.0 MiB)", "67108864 (64.0 MiB)",
                 "In each format:"):
        assert part in text, text
    answer = json.loads(smctl(smd, "vdi-measure", *words, "exact=true", "--json"))
    expect_eq((answer["exact"], answer["obstacles"]), ("true", []))
    expect_eq(len(answer["formats"]), 3)
    assert "bytes-required" in smctl(smd, "vdi-measure", *words, "--minimal")
    twin = "uuid=" + smd.call("VDI.get_uuid", smd.make_vdi(two, 64 * MIB, "raw"))
    before = set(smd.call("VDI.get_all"))
    text = smctl(smd, "vdi-pool-migrate", *words, "dest-img-format=vmdk", "--dry-run", status=1)
    assert "VDI_INCOMPATIBLE_TYPE: Image format vmdk" in text and "fits: false" in text, text
    assert "fits: true" in smctl(smd, "vdi-copy", *words, "--dry-run")
    text = smctl(smd, "vdi-copy", words[0], "into-vdi-" + twin, "--dry-run")
    assert "fits: true" in text and "format: raw" in text, text
    assert "raw, whatever is copied into it" in text, text
    assert "data-bytes: 0" in smctl(smd, "vdi-copy", *words, "base-vdi-" + words[0], "--dry-run")
    run("smctl", "--socket", smd.socket, "vdi-destroy", words[0], "--dry-run", status=1)

    # Files that only smctl has.
    source = os.path.join(smd.dir, "disk.qcow2")
    fill_raw(os.path.join(smd.dir, "disk.raw"), 64 * MIB, runs=4)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", os.path.join(smd.dir, "disk.raw"), source)
    answer = json.loads(smctl(smd, "image-import", "file=" + source, words[1], "format=vhd",
                              "--dry-run", "--json"))
    expect_eq((answer["fits"], answer["format"], answer["virtual-size"]),
              ("true", "vhd", str(64 * MIB)))
    expect_eq(int(answer["peak-destination"]),
              int(answer["bytes-required"]) + os.path.getsize(source), "with the upload's room")
    new = smctl(smd, "image-import", "file=" + source, words[1], "format=vhd").strip()
    took = allocated(smd.vdi_file(smd.call("VDI.get_by_uuid", new)))
    assert abs(took - int(answer["bytes-required"])) <= max(took // 100, 12 << 10), (took, answer)
    smd.call("VDI.destroy", smd.call("VDI.get_by_uuid", new))
    small = smd.make_vdi(one, MIB, "vhd")
    small_word = "uuid=" + smd.call("VDI.get_uuid", small)
    answer = json.loads(smctl(smd, "vdi-import", small_word, "filename=" + source, "format=qcow2",
                              "--dry-run", "--json", status=1))
    expect_eq([o["code"] for o in answer["obstacles"]], ["VDI_TOO_SMALL"])
    answer = json.loads(smctl(smd, "vdi-import", words[0],
                              "filename=" + os.path.join(smd.dir, "disk.raw"), "--dry-run",
                              "--json"))
    expect_eq((answer["fits"], answer["format"]), ("true", "vhd"))
    archive = os.path.join(smd.dir, "x.tgz")
    with open(archive, "wb") as f:
        f.write(os.urandom(2000))
    run("smctl", "--socket", smd.socket, "image-import", "file=" + archive, words[1], "--dry-run",
        status=1)
    run("smctl", "--socket", smd.socket, "image-import", "file=-", words[1], "--dry-run", status=1)
    expect_eq(set(smd.call("VDI.get_all")), before | {small}, "VDIs after all that")

    # What is told of an image is all that SR.measure goes by.
    answer = smd.call("SR.measure", two, {"virtual-size": str(3 << 40), "dest-img-format": "vhd",
                                          "bytes-vhd": "1024"})
    expect_eq(obstacles(answer), ["VDI_TOO_LARGE"])
    answer = smd.call("SR.measure", two, {"virtual-size": "1048576", "dest-img-format": "raw",
                                          "bytes-raw": str(1 << 60)})
    expect_eq(obstacles(answer), ["SR_FULL"])
    expect_error("INVALID_VALUE", smd.call, "SR.measure", two, {"virtual-size": "much"})
    expect_error("HANDLE_INVALID", smd.call, "SR.measure", two, {"into": "OpaqueRef:no"})
