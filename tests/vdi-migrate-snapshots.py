#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""VDI.pool_migrate with snapshots=true takes a disk's whole tree along, in every format:
contents, relations and what is shared; without it the disk alone goes."""
from smdtest import *

requires("qemu-img")

SIZE = 16 * MIB
FORMATS = ["raw", "vhd", "qcow2"]


def make_tree(smd, sr, fmt, chunk=3 * MIB):
    """disk -> two snapshots, the first with a clone of its own; each wrote something.
    Returns {name: ref} and {name: digest}."""
    vdi = smd.make_vdi(sr, SIZE, fmt, "disk")
    smd.write_vdi(vdi, os.urandom(2 * chunk))
    first = smd.call("VDI.snapshot", vdi, {})
    smd.write_vdi(vdi, os.urandom(chunk))
    second = smd.call("VDI.snapshot", vdi, {})
    smd.write_vdi(vdi, bytes(chunk // 2) + os.urandom(chunk // 2))
    for ref, name in ((first, "first"), (second, "second")):
        smd.call("VDI.set_name_label", ref, name)
        smd.call("VDI.add_to_other_config", ref, "of", name)
    tree = {"disk": vdi, "first": first, "second": second}
    return tree, {name: smd.vdi_sha256(ref) for name, ref in tree.items()}


def volumes(smd, sr):
    return sorted(f for f in os.listdir(smd.sr_path(sr)) if not f.startswith("."))


def space(smd, sr):
    return sum(allocated(os.path.join(smd.sr_path(sr), f)) for f in volumes(smd, sr))


def by_name(smd, sr):
    """The SR's VDIs that clients see."""
    return {smd.call("VDI.get_name_label", v): v for v in smd.call("SR.get_VDIs", sr)
            if smd.call("VDI.get_managed", v)}


def check_tree(smd, sr, fmt, digests):
    tree = by_name(smd, sr)
    expect_eq(set(tree), set(digests), "the VDIs of the tree")
    for name, ref in tree.items():
        expect_eq(smd.vdi_sha256(ref), digests[name], "content of " + name)
        if smd.vdi_format(ref) == "qcow2":
            expect_eq(sha256_of_disk(smd.vdi_file(ref), "qcow2"), digests[name],
                      "content of " + name + " by qemu-img")
    for name in set(tree) & {"first", "second"}:
        record = smd.call("VDI.get_record", tree[name])
        other_config = {k: v for k, v in record["other_config"].items() if not k.startswith("smd:")}
        expect_eq((record["is_a_snapshot"], record["snapshot_of"], other_config),
                  (True, tree["disk"], {"of": name}), name)
        assert str(record["snapshot_time"]) > "20200101", record["snapshot_time"]
    expect_eq(sorted(smd.call("VDI.get_snapshots", tree["disk"])),
              sorted(r for n, r in tree.items() if n in ("first", "second")), "snapshots")
    check_images(smd, sr, fmt)
    return tree


def check_images(smd, sr, fmt):
    """Every image is sound, and lies on what smd says it lies on, as others see it."""
    overlay = "vhd" if fmt == "raw" else fmt
    for vdi in smd.call("SR.get_VDIs", sr):
        chain = smd.vdi_chain(vdi)
        expect_eq([c.rpartition(".")[2] for c in chain], [overlay] * (len(chain) - 1) + [fmt],
                  "formats of the chain")
        leaf = chain[0].rpartition(".")[2]
        if leaf == "qcow2":
            qemu_img("check", "-f", "qcow2", chain[0])
        if leaf != "raw":
            run("smd-img", "check", "-f", leaf, chain[0])
            info = json.loads(run("smd-img", "info", "-u", "--json", "-f", leaf, chain[0]))
            expect_eq(info.get("backing-filename"),
                      os.path.basename(chain[1]) if len(chain) > 1 else None, "the parent")
            expect_eq(info["hidden"] if leaf == "vhd" else False,
                      leaf == "vhd" and not smd.call("VDI.get_managed", vdi), "hidden")
    expect_eq(volumes(smd, sr), sorted(smd.call("VDI.get_location", v)
                                       for v in smd.call("SR.get_VDIs", sr)), "volumes, rows")


def all_pairs(smd, call):
    for fmt in FORMATS:
        a, b = smd.make_sr("a-" + fmt), smd.make_sr("b-" + fmt)
        for sr in a, b:
            smd.call("SR.add_to_other_config", sr, "gc", "false")   # chains stay as they are
        tree, digests = make_tree(smd, a, fmt)
        data, depth = space(smd, a), len(smd.vdi_chain(tree["disk"]))
        uuids = {smd.call("VDI.get_uuid", v) for v in smd.call("SR.get_VDIs", a)}
        here, there = a, b
        for to in FORMATS:
            new = call("VDI.pool_migrate", tree["disk"], there,
                       {"dest-img-format": to, "snapshots": "true", "verify": "true"})
            for ref in tree.values():
                expect_error("HANDLE_INVALID", smd.call, "VDI.get_uuid", ref)
            expect_eq(volumes(smd, here), [], "what is left at the source")
            tree = check_tree(smd, there, to, digests)
            expect_eq(tree["disk"], new, "the result")
            expect_eq(len(smd.vdi_chain(new)), depth, "depth")
            assert not uuids & {smd.call("VDI.get_uuid", v) for v in tree.values()}
            # A block or cluster more at each end of what was written.
            assert space(smd, there) <= data * 1.02 + 4 * MIB, (fmt, to, space(smd, there), data)
            here, there = there, here
        # Converted in place, too.
        new = call("VDI.pool_migrate", tree["disk"], here,
                   {"dest-img-format": "vhd", "snapshots": "true"})
        check_tree(smd, here, "vhd", digests)
        print(fmt, "ok")


def clones_stay(smd):
    """A clone shares the tree: it stays, and what it lies on with it."""
    a, b = smd.make_sr("a"), smd.make_sr("b")
    for sr in a, b:
        smd.call("SR.add_to_other_config", sr, "gc", "false")
    tree, digests = make_tree(smd, a, "qcow2")
    clone = smd.call("VDI.clone", tree["first"], {})
    smd.call("VDI.set_name_label", clone, "clone")
    new = smd.call("VDI.pool_migrate", tree["disk"], b,
                   {"dest-img-format": "vhd", "snapshots": "true"})
    check_tree(smd, b, "vhd", digests)
    expect_eq(by_name(smd, a), {"clone": clone}, "what stays")
    expect_eq(smd.vdi_sha256(clone), digests["first"], "the clone")
    check_images(smd, a, "qcow2")
    expect_eq(smd.call("VDI.get_snapshot_of", clone), NULL_REF)
    # The clone goes after them: its bases were only kept for it.
    smd.call("VDI.pool_migrate", clone, b, {"snapshots": "1", "dest-img-format": "qcow2"})
    expect_eq(volumes(smd, a), [], "what is left")
    expect_eq(smd.vdi_sha256(by_name(smd, b)["clone"]), digests["first"], "the clone, moved")
    assert new


def disk_alone(smd):
    """Without the option the snapshots stay, and are snapshots of what moved."""
    a, b = smd.make_sr("alone-a"), smd.make_sr("alone-b")
    tree, digests = make_tree(smd, a, "vhd")
    new = smd.call("VDI.pool_migrate", tree["disk"], b, {"dest-img-format": "qcow2"})
    expect_eq(len(smd.vdi_chain(new)), 1, "images of the disk")
    expect_eq(smd.vdi_sha256(new), digests["disk"], "content")
    for name in "first", "second":
        expect_eq(smd.vdi_sha256(tree[name]), digests[name], name)
        expect_eq(smd.call("VDI.get_snapshot_of", tree[name]), new, "snapshot_of")
    # And back together: what is in another SR stays there.
    again = smd.call("VDI.pool_migrate", new, a, {"snapshots": "true"})
    expect_eq(sorted(smd.call("VDI.get_snapshots", again)),
              sorted([tree["first"], tree["second"]]), "snapshots")


def refusals(smd):
    a = smd.make_sr("refused-a")
    tree, digests = make_tree(smd, a, "vhd")
    before = volumes(smd, a)
    expect_error("INVALID_VALUE", smd.call, "VDI.pool_migrate", tree["disk"], a,
                 {"snapshots": "perhaps"})
    small = os.path.join(smd.dir, "small")
    os.mkdir(small)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", small],
                      stderr=subprocess.DEVNULL).returncode == 0:
        try:
            b = smd.make_sr("small")
            error = expect_error("SR_FULL", smd.call, "VDI.pool_migrate", tree["disk"], b,
                                 {"snapshots": "true", "dest-img-format": "qcow2"})
            # Room for all of them is asked for at once; the disk alone would have fitted.
            assert int(error.params[0]) > 9 * MIB, error
            expect_eq(volumes(smd, b), [], "volumes")
        finally:
            run("umount", "-l", small)
    lost = smd.vdi_file(tree["first"])
    os.rename(lost, lost + ".away")
    expect_error("VDI_MISSING", smd.call, "VDI.pool_migrate", tree["disk"], a,
                 {"snapshots": "true"})
    os.rename(lost + ".away", lost)
    expect_eq(volumes(smd, a), before, "the source")
    for ref in tree.values():
        expect_eq(smd.call("VDI.get_current_operations", ref), {}, "operations left")
    check_tree(smd, a, "vhd", digests)


with Smd() as smd:
    all_pairs(smd, smd.call_async)
    clones_stay(smd)
    disk_alone(smd)
    refusals(smd)
