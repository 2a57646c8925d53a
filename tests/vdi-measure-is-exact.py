#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""VDI.measure says what a migration then takes, by stat's blocks: from each format to each,
of full, sparse, fragmented and compressed disks, of zeroes that are stored, of trees, and of
what VDI.copy writes of a difference and into a disk."""
import random
import uuid

from smdtest import *

requires("qemu-img")

SIZE = 8 * MIB
FORMATS = ["raw", "vhd", "qcow2"]
# Of each file: what a file system notes of where its pieces lie, a page or two.
NOTES = 12 << 10
# All nine pairs of trees on demand; some stand for them.
TREES = [(a, b) for a in FORMATS for b in FORMATS] if "SMD_MEASURE_ALL" in os.environ else \
    [("raw", "vhd"), ("vhd", "qcow2"), ("qcow2", "raw"), ("vhd", "vhd")]


def contents(path):
    """{name: raw file}: what disks can hold."""
    rng = random.Random(1)
    made = {}
    for name, pieces in {
            "full": [(0, SIZE)],
            "sparse": [(MIB, 300 << 10), (5 * MIB, 70 << 10)],
            "fragmented": [(at, 4096) for at in range(0, SIZE, 128 << 10)],
            "ragged": [(at + 512 * rng.randrange(100), 512 * rng.randrange(1, 90))
                       for at in range(0, SIZE - MIB, 100 << 10)]}.items():
        made[name] = os.path.join(path, name + ".raw")
        with open(made[name], "wb") as f:
            f.truncate(SIZE)
            for at, count in pieces:
                f.seek(at)
                f.write(os.urandom(count))
    return made


def introduce(smd, sr, path, fmt, options=()):
    """A VDI whose volume qemu-img made: its own layout, not ours."""
    new = str(uuid.uuid4())
    name = "%s.%s" % (new, fmt)
    where = os.path.join(smd.sr_path(sr), name)
    qemu_img("convert", "-f", "raw", "-O", "vpc" if fmt == "vhd" else fmt, *options, path, where)
    return smd.call("VDI.introduce", new, "d", "", sr, "user", False, False, {}, name, {}, {})


def expect_close(said, took, images, what):
    assert abs(said - took) <= max(took // 100, images * NOTES), \
        "%s: %d bytes were said and %d are taken" % (what, said, took)


def measured(smd, vdi, sr, **options):
    answer = smd.call("VDI.measure", vdi, sr, {k.replace("_", "-"): v for k, v in options.items()})
    expect_eq(answer["fits"], "true", "fits: %s" % answer)
    return answer


def move_and_compare(smd, vdi, sr, fmt, what, exact="true"):
    """Where it is now. By the extents alone the answer may be above what it takes."""
    answer = measured(smd, vdi, sr, dest_img_format=fmt, exact=exact)
    vdi = smd.call("VDI.pool_migrate", vdi, sr, {"dest-img-format": fmt})
    took = allocated(smd.vdi_file(vdi))
    expect_close(int(answer["bytes-required"]), took, 1, what)
    expect_eq(answer["format"], fmt, "format")
    by_format = {f["format"]: f for f in json.loads(answer["formats"])}
    expect_eq(by_format[fmt]["bytes-required"], int(answer["bytes-required"]), "of the format")
    return vdi


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    files = contents(smd.dir)

    # All nine pairs, on disks that smd wrote.
    for name, path in files.items():
        vdi = smd.make_vdi(one, SIZE, "raw")
        smd.import_vdi(vdi, path)
        digest = sha256_of_file(path)
        sr = one
        for fmt in "raw", "vhd", "vhd", "qcow2", "qcow2", "raw", "qcow2", "vhd", "raw":
            sr = two if sr == one else one
            what = "%s, %s to %s" % (name, smd.vdi_format(vdi), fmt)
            vdi = move_and_compare(smd, vdi, sr, fmt, what)
        expect_eq(smd.vdi_sha256(vdi), digest, name)
        smd.call("VDI.destroy", vdi)

    # Compressed ones, and qemu's VHD, which stores whole blocks: zeroes among the data
    # are not copied, and found by reading alone.
    for kind, fmt, options in (("zlib", "qcow2", ["-c"]),
                               ("zstd", "qcow2", ["-c", "-o", "compression_type=zstd"]),
                               ("qemu", "vhd", ["-o", "force_size=on"])):
        for to in FORMATS:
            vdi = introduce(smd, one, files["ragged"], fmt, options)
            bound = measured(smd, vdi, two, dest_img_format=to)["bytes-required"]
            exact = measured(smd, vdi, two, dest_img_format=to, exact="true")["bytes-required"]
            assert int(bound) > int(exact), (kind, to, bound, exact)
            vdi = move_and_compare(smd, vdi, two, to, "%s to %s" % (kind, to))
            expect_eq(smd.vdi_sha256(vdi), sha256_of_file(files["ragged"]), kind)
            smd.call("VDI.destroy", vdi)

    # Zeroes that are stored: a bound without a look, exact with one.
    zeroes = os.path.join(smd.dir, "zeroes.raw")
    with open(zeroes, "wb") as f:
        f.write(bytes(3 * MIB) + os.urandom(MIB) + bytes(4 * MIB))
    vdi = introduce(smd, one, zeroes, "raw", ["-S", "0"])
    for fmt in FORMATS:
        least = int(measured(smd, vdi, two, dest_img_format=fmt, exact="true")["bytes-required"])
        most = int(measured(smd, vdi, two, dest_img_format=fmt)["bytes-required"])
        assert least < 2 * MIB and most >= SIZE, (fmt, least, most)
    vdi = move_and_compare(smd, vdi, two, "qcow2", "zeroes")

    # VDI.copy with base_vdi holds what differs alone, and what goes into a disk is as large as
    # that. What is in an into_vdi already is not known to be: a bound.
    base, later = (smd.make_vdi(one, SIZE, fmt) for fmt in ("vhd", "qcow2"))
    changed = os.path.join(smd.dir, "changed.raw")
    shutil.copyfile(files["ragged"], changed)
    with open(changed, "r+b") as f:
        f.write(os.urandom(300 << 10))
        f.seek(6 * MIB)
        f.write(bytes(MIB))
    smd.import_vdi(base, files["ragged"])
    smd.import_vdi(later, changed)
    answer = measured(smd, later, two, base_vdi=base, exact="true")
    copy = smd.call("VDI.copy", later, two, base)
    expect_eq(smd.vdi_format(copy), answer["format"], "of the copy")
    expect_close(int(answer["bytes-required"]), allocated(smd.vdi_file(copy)), 1, "difference")
    assert int(answer["bytes-required"]) < int(measured(smd, later, two, copy="true")
                                               ["bytes-required"]), answer
    for fmt in FORMATS:
        into = smd.make_vdi(two, 2 * SIZE, fmt)
        answer = measured(smd, base, NULL_REF, into_vdi=into, exact="true")
        smd.call("VDI.copy", base, NULL_REF, NULL_REF, into)
        took = allocated(smd.vdi_file(into))
        expect_close(int(answer["bytes-required"]), took, 1, "into a larger %s" % fmt)
        answer = measured(smd, later, NULL_REF, into_vdi=into, base_vdi=base)
        smd.call("VDI.copy", later, NULL_REF, base, into)
        grown = allocated(smd.vdi_file(into)) - took
        assert grown <= int(answer["bytes-required"]) + NOTES, (grown, answer)

    # An overlay over a base, and a whole tree: each image by itself.
    for fmt, to in TREES:
        vdi = smd.make_vdi(one, SIZE, fmt)
        smd.import_vdi(vdi, files["ragged"])
        smd.hold_collector(one)
        snapshot = smd.call("VDI.snapshot", vdi, {})
        smd.write_vdi(vdi, os.urandom(200 << 10))
        digests = [smd.vdi_sha256(ref) for ref in (vdi, snapshot)]
        copy = smd.call("VDI.copy", vdi, two)
        answer = measured(smd, vdi, two, exact="true", dest_img_format=smd.vdi_format(copy))
        expect_close(int(answer["bytes-required"]), allocated(smd.vdi_file(copy)), 1,
                     "copy of an overlay of %s" % fmt)
        answer = measured(smd, vdi, two, exact="true", dest_img_format=to, snapshots="true")
        before = set(smd.vdis_of(two))
        moved = smd.call("VDI.pool_migrate", vdi, two,
                         {"dest-img-format": to, "snapshots": "true"})
        new = {ref: r for ref, r in smd.vdis_of(two).items() if ref not in before}
        took = sum(allocated(os.path.join(smd.sr_path(two), r["location"]))
                   for r in new.values())
        expect_eq(int(answer["images"]), len(new), "images of the tree")
        expect_close(int(answer["bytes-required"]), took, len(new), "tree of %s to %s" % (fmt, to))
        snapshot = next(ref for ref, r in new.items() if r["snapshot_of"] == moved)
        expect_eq([smd.vdi_sha256(ref) for ref in (moved, snapshot)], digests, "the tree")
        smd.let_collect(one)
