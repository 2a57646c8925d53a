#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""SR.scan makes VDIs, with their chains, of a directory nobody knows; what is broken
says why and harms nothing else, and no file is changed."""
import struct

from smdtest import *

requires("qemu-img")
SIZE = 5 * MIB


def volume(number, fmt):
    return "%08d-1111-4111-8111-111111111111.%s" % (number, fmt)


def in_sr(name):
    return os.path.join(directory, name)


def overlay(name, parent, fmt="qcow2", parent_fmt="qcow2", seed=None):
    """An overlay with some data of its own; VHDs by smd-img, since qemu makes none."""
    tool = "qemu-img" if fmt == "qcow2" else "smd-img"
    run(tool, "create", "-f", fmt, "-b", in_sr(parent), "-F", parent_fmt, in_sr(name))
    if fmt == "qcow2":
        run("qemu-img", "rebase", "-u", "-f", fmt, "-b", parent, "-F", parent_fmt, in_sr(name))
        run("qemu-io", "-f", fmt, "-c", "write -P %d %d 65536" % (seed, seed * 65536), in_sr(name))


def rename_parent(name, parent, parent_fmt="qcow2"):
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", parent, "-F", parent_fmt, in_sr(name))


def edit_vhd(name, change):
    """Change both copies of a dynamic VHD's footer, with the checksum put right."""
    with open(in_sr(name), "r+b") as f:
        for at in (0, os.path.getsize(in_sr(name)) - 512):
            f.seek(at)
            footer = bytearray(f.read(512))
            change(footer)
            f.seek(at)
            f.write(footer)


def hide(footer):
    footer[85] = 1
    footer[64:68] = bytes(4)
    struct.pack_into(">I", footer, 64, ~sum(footer) & 0xffffffff)


def spoil(footer):
    footer[0:8] = b"no magic"


def digests():
    return {name: sha256_of_file(in_sr(name)) for name in sorted(os.listdir(directory))
            if not name.startswith(".")}


with Smd() as smd:
    sr = smd.make_sr("one")
    directory = smd.sr_path(sr)
    raw, fixed = volume(1, "raw"), volume(2, "vhd")
    fill_raw(in_sr(raw), SIZE, seed=1)
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size=on", in_sr(raw),
             in_sr(fixed))

    base, middle, leaf, other = [volume(n, "qcow2") for n in (10, 11, 12, 13)]
    make_image(in_sr(base), "qcow2", SIZE, seed=2)
    overlay(middle, base, seed=3)
    overlay(leaf, middle, seed=4)
    overlay(other, base, seed=5)
    hidden, vhd_leaf, over_raw = volume(20, "vhd"), volume(21, "vhd"), volume(22, "vhd")
    make_image(in_sr(hidden), "vhd", SIZE, seed=6)
    overlay(vhd_leaf, hidden, "vhd", "vhd")
    edit_vhd(hidden, hide)
    overlay(over_raw, raw, "vhd", "raw")
    golden, clone = "golden.qcow2", volume(30, "qcow2")
    make_image(in_sr(golden), "qcow2", SIZE, seed=7)
    overlay(clone, golden, seed=8)

    broken = volume(40, "vhd")
    make_image(in_sr(broken), "vhd", SIZE, seed=9)
    edit_vhd(broken, spoil)
    degraded = volume(47, "vhd")
    make_image(in_sr(degraded), "vhd", SIZE, seed=14)
    with open(in_sr(degraded), "r+b") as f:
        f.truncate(os.path.getsize(in_sr(degraded)) - 512)      # the copy at its start is left
    missing, below_missing = volume(41, "qcow2"), volume(42, "qcow2")
    overlay(missing, base, seed=10)
    overlay(below_missing, missing, seed=11)
    rename_parent(missing, volume(99, "qcow2"))
    cycle = [volume(n, "qcow2") for n in (43, 44, 45)]
    for i in range(3):
        overlay(cycle[i], base, seed=12)
    for i in range(3):
        rename_parent(cycle[i], cycle[i - 1])
    outside = volume(46, "qcow2")
    overlay(outside, base, seed=13)
    rename_parent(outside, "fat:/etc", "raw")
    for name, text in (("readme.txt", "no image"), ("junk.vhd", "none either" * 100),
                       ("a disk.raw", "with a space in its name"), ("two\nlines.raw", "")):
        with open(in_sr(name), "w") as f:
            f.write(text)

    smd.call("SR.add_to_other_config", sr, "gc", "false")    # until the end
    before = digests()
    smd.call("SR.scan", sr)
    expect_eq(digests(), before, "the files")

    def records():
        return {r["location"]: dict(r, ref=ref)
                for ref, r in smd.call("VDI.get_all_records").items()}

    def parent_of(vdis, name):
        uuid = vdis[name]["sm_config"].get("vhd-parent")
        return next((r["location"] for r in vdis.values() if r["uuid"] == uuid), None)

    vdis = records()
    good = [raw, fixed, base, middle, leaf, other, hidden, vhd_leaf, over_raw, golden, clone]
    bad = {broken: "IMAGE_CORRUPT", missing: "MISSING_PARENT", below_missing: "MISSING_PARENT",
           cycle[0]: "CHAIN_CYCLE", cycle[1]: "CHAIN_CYCLE", cycle[2]: "CHAIN_CYCLE",
           outside: "EXTERNAL_REF", degraded: "NEEDS_REPAIR"}
    expect_eq(sorted(vdis), sorted(good + list(bad)), "VDIs")
    for name in good:
        assert "image-error" not in vdis[name]["sm_config"], vdis[name]["sm_config"]
        expect_eq(vdis[name]["virtual_size"], str(SIZE), "size of " + name)
        if name != golden:
            expect_eq(vdis[name]["uuid"], name[:36], "uuid of " + name)
    for name, reason in bad.items():
        assert reason in vdis[name]["sm_config"]["image-error"], (name, vdis[name]["sm_config"])
    expect_eq(vdis[golden]["name_label"], "golden", "name of a file with a name")
    for child, parent in ((middle, base), (leaf, middle), (other, base), (vhd_leaf, hidden),
                          (over_raw, raw), (clone, golden), (below_missing, missing),
                          (missing, None), (outside, None), (cycle[0], None)):
        expect_eq(parent_of(vdis, child), parent, "parent of " + child)
    for name in good:
        expect_eq(vdis[name]["read_only"], name in (base, middle, hidden, raw, golden),
                  "read_only of " + name)

    orphans = smd.call("SR.get_orphans", sr)
    expect_eq(sorted(orphans), ["a disk.raw", "junk.vhd", "readme.txt"], "orphans")
    assert "BAD_COOKIE" in orphans["junk.vhd"] and "txt" in orphans["readme.txt"], orphans

    # What was copied from another SR by hand.
    theirs = smd.make_vdi(smd.make_sr("elsewhere"), MIB, "vhd")
    shutil.copy(smd.vdi_file(theirs), smd.sr_path(sr))
    name = os.path.basename(smd.vdi_file(theirs))
    smd.call("SR.scan", sr)
    assert "known already" in smd.call("SR.get_orphans", sr)[name], smd.call("SR.get_orphans", sr)
    os.unlink(os.path.join(smd.sr_path(sr), name))

    # A VHD that cannot be read may lie on the hidden one: that is not given up yet.
    expect_eq(vdis[hidden]["managed"], True, "managed while in doubt")
    os.unlink(in_sr(broken))
    smd.call("SR.scan", sr)
    vdis = records()
    assert broken not in vdis
    expect_eq({n: vdis[n]["managed"] for n in good}, {n: n != hidden for n in good}, "managed")
    expect_error("VDI_NOT_MANAGED", smd.call, "VDI.copy", vdis[hidden]["ref"], sr, NULL_REF, NULL_REF)

    # A hidden image on which nothing lies is no disk, and not ours to delete.
    forsaken = volume(23, "vhd")
    shutil.copyfile(in_sr(hidden), in_sr(forsaken))
    smd.call("SR.scan", sr)
    assert forsaken not in records()
    assert "hidden" in smd.call("SR.get_orphans", sr)[forsaken]

    # The disks are whole.
    out = os.path.join(smd.dir, "out.raw")
    for name in (leaf, other, clone, raw, fixed):
        smd.export_vdi(vdis[name]["ref"], out)
        expect_eq(sha256_of_file(out), sha256_of_disk(in_sr(name), name.split(".")[-1]), name)
    make_image(os.path.join(smd.dir, "six"), "raw", SIZE, seed=6)
    smd.export_vdi(vdis[vhd_leaf]["ref"], out)
    expect_eq(sha256_of_file(out), sha256_of_file(os.path.join(smd.dir, "six")), "over the hidden")

    smd.export_vdi(vdis[degraded]["ref"], out)
    make_image(os.path.join(smd.dir, "fourteen"), "raw", SIZE, seed=14)
    expect_eq(sha256_of_file(out), sha256_of_file(os.path.join(smd.dir, "fourteen")), "degraded")
    smd.call("VDI.resize", vdis[degraded]["ref"], str(2 * SIZE))       # which mends it
    smd.call("SR.scan", sr)
    assert "image-error" not in records()[degraded]["sm_config"]

    # What was missing comes; what was there goes.
    qemu_img("create", "-f", "qcow2", in_sr(volume(99, "qcow2")), str(SIZE))
    os.rename(in_sr(middle), os.path.join(smd.dir, "away"))
    smd.call("SR.scan", sr)
    vdis = records()
    expect_eq(parent_of(vdis, missing), volume(99, "qcow2"), "the parent that came")
    for name in (missing, below_missing):
        assert "image-error" not in vdis[name]["sm_config"], vdis[name]["sm_config"]
    assert "MISSING_PARENT" in vdis[leaf]["sm_config"]["image-error"], vdis[leaf]
    expect_eq(vdis[middle]["missing"], True, "missing")
    os.rename(os.path.join(smd.dir, "away"), in_sr(middle))
    smd.call("SR.scan", sr)
    vdis = records()
    assert "image-error" not in vdis[leaf]["sm_config"], vdis[leaf]
    expect_eq(parent_of(vdis, leaf), middle, "the parent that came back")
    expect_eq(vdis[middle]["missing"], False, "missing, when it is back")
    assert "image-error" not in vdis[middle]["sm_config"], vdis[middle]

    # What lies below a disk that is gone is not garbage until the disk is given up.
    os.rename(in_sr(vhd_leaf), os.path.join(smd.dir, "away"))
    smd.call("SR.remove_from_other_config", sr, "gc")
    smd.call("SR.scan", sr)
    time.sleep(2.5)     # the collector begins within a second
    assert os.path.exists(in_sr(hidden))
    vdis = records()
    assert "VDI_MISSING" in vdis[vhd_leaf]["sm_config"]["image-error"], vdis[vhd_leaf]
    expect_error("VDI_MISSING", smd.call, "VDI.copy", vdis[vhd_leaf]["ref"], sr, NULL_REF, NULL_REF)
    smd.call("VDI.destroy", vdis[vhd_leaf]["ref"])
    deadline = time.monotonic() + 60
    while os.path.exists(in_sr(hidden)):
        assert time.monotonic() < deadline, "the garbage stays"
        time.sleep(0.1)
