#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A scan of hundreds of images goes by what they begin with and, for those that say more
elsewhere, by their files. It says of each what a scan of a few, which goes by files, does."""
from smdtest import *

requires("qemu-img")
N = 600
names = {}


def add(what, fmt):
    """The path of another image in the SR."""
    names["%08d-1111-4111-8111-111111111111.%s" % (len(names), fmt)] = what
    return os.path.join(path, list(names)[-1])


def cut(what, fmt, source, size):
    shutil.copyfile(source, add(what, fmt))
    os.truncate(os.path.join(path, list(names)[-1]), size)


def make_all():
    for options in "", "compat=0.10", "cluster_size=512", "cluster_size=2M", "extended_l2=on":
        qemu_img("create", "-q", "-f", "qcow2", *(["-o", options] if options else []),
                 add("qcow2 " + options, "qcow2"), "64M")
    parent = list(names)[0]
    for length in 10, 1000:
        # It is moved past what is shown.
        image = add("parent of %d bytes" % length, "qcow2")
        qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", "x" * length, image,
                 "1M")
        with open(image, "r+b") as f:
            head = bytearray(f.read(8192))
            at = int.from_bytes(head[8:16], "big")
            name = bytes(head[at:at + length])
            head[8:16] = (4096 - 500).to_bytes(8, "big")
            head[4096 - 500:4096 - 500 + length] = name
            f.seek(0)
            f.write(head)
    qemu_img("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", parent,
             add("child", "qcow2"), "64M")
    snapshots = add("snapshots", "qcow2")
    qemu_img("create", "-q", "-f", "qcow2", snapshots, "1M")
    qemu_img("snapshot", "-c", "one", snapshots)
    for size in "8M", "64M", "20G":
        qemu_img("create", "-q", "-f", "vpc", add("vhd " + size, "vhd"), size)
    qemu_img("create", "-q", "-f", "vpc", "-o", "subformat=fixed", add("fixed", "vhd"), "2M")
    base, vhd = add("vhd parent", "vhd"), add("vhd child", "vhd")
    run("smd-img", "create", "-f", "vhd", base, "64M")
    run("smd-img", "create", "-f", "vhd", "-b", base, "-F", "vhd", vhd)
    for i, source in enumerate((os.path.join(path, parent), vhd)):
        fmt = "qcow2" if i == 0 else "vhd"
        for size in 0, 1, 100, 512, 1024, 1536, 2047, 2048, 2049, 4096:
            cut("%s cut at %d" % (fmt, size), fmt, source, size)
    cut("cut in L1", "qcow2", os.path.join(path, parent), 3 * 65536 + 4)
    for size in 0, 1, 512, MIB:
        with open(add("raw %d" % size, "raw"), "wb") as f:
            f.truncate(size)


def look():
    """{location: what a scan says of it}, of those in names."""
    for name in names:      # none is as it was
        os.utime(os.path.join(path, name))
    smd.call("SR.scan", sr)
    return {r["location"]: (r["virtual_size"], r["sm_config"], r["managed"])
            for r in smd.call("VDI.get_all_records").values() if r["location"] in names}


with Smd(config="log_level = debug\n") as smd:
    sr = smd.make_sr("one")
    path = smd.sr_path(sr)
    make_all()
    by_files = look()
    assert "the files of" not in smd.read_log(), "a few are looked at by their files"
    qemu_img("create", "-q", "-f", "qcow2", os.path.join(smd.dir, "q.qcow2"), "64M")
    for i in range(N):
        shutil.copyfile(os.path.join(smd.dir, "q.qcow2"), os.path.join(
            path, "%08d-2222-4222-8222-222222222222.qcow2" % i))
    by_heads = look()
    for name, what in names.items():
        expect_eq(by_heads[name], by_files[name], what)
    counts = re.findall(r"the files of (\d+) of (\d+) images", smd.read_log())
    expect_eq(sum(int(n) for _, n in counts), N + len(names), "images that were shown")
    # VHDs, which end with a footer; two names far behind the header, and a table of snapshots.
    asked = sum(int(n) for n, _ in counts)
    assert 3 <= asked <= 3 + sum(name.endswith(".vhd") for name in names), asked
