#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Disks that other programs made go to every format and back, whole, exact and sparse."""
from smdtest import *

requires("qemu-img")

# What qemu-img writes: (name, format, size, options, compressed). The sizes are
# multiples of 512 that are none of 2 MiB or of a cluster.
SOURCES = [
    ("raw", "raw", 37 * MIB + 512, "", False),
    ("vhd-dynamic", "vhd", 37 * MIB + 1536, "", False),
    ("vhd-fixed", "vhd", 9 * MIB + 512, "subformat=fixed", False),
    ("qcow2-v2", "qcow2", 37 * MIB + 512, "compat=0.10", False),
    ("qcow2-zlib", "qcow2", 21 * MIB + 1024, "compat=1.1", True),
    ("qcow2-zstd", "qcow2", 21 * MIB + 1024, "compression_type=zstd", True),
    ("qcow2-512", "qcow2", 5 * MIB + 512, "cluster_size=512", False),
    ("qcow2-2M", "qcow2", 37 * MIB + 512, "cluster_size=2M", False),
]
FORMATS = ["raw", "vhd", "qcow2"]


def place(smd, sr, source, digests):
    """Put an image that qemu-img made into the SR, as an administrator would."""
    name, fmt, size, options, compressed = source
    vdi = smd.make_vdi(sr, size, fmt, name)
    path = smd.vdi_file(vdi)
    os.unlink(path)
    if fmt == "raw":
        fill_raw(path, size)
        digests[vdi] = sha256_of_file(path)
    else:
        digests[vdi] = make_image(path, fmt, size, options=options, compressed=compressed)
    smd.call("SR.scan", sr)
    expect_eq(smd.call("VDI.get_virtual_size", vdi), str(size), "size of %s" % name)
    return vdi


def check(smd, vdi, fmt, size, digest, data):
    path = smd.vdi_file(vdi)
    expect_eq(smd.vdi_format(vdi), fmt, "image-format")
    expect_eq(smd.call("VDI.get_virtual_size", vdi), str(size), "virtual size")
    if fmt == "raw":
        expect_eq(os.path.getsize(path), size, "size of the raw file")
    else:
        expect_eq(image_info(path, fmt)["virtual-size"], size, "virtual size by qemu-img")
    expect_eq(sha256_of_disk(path, fmt), digest, "content as " + fmt)
    if fmt == "qcow2":
        qemu_img("check", "-f", "qcow2", path)
    # The data and 1%, blocks and clusters that are partly full, and metadata.
    assert allocated(path) <= data * 1.01 + 48 * 2 * MIB, "%s takes %d" % (fmt, allocated(path))


def migrate_everywhere(smd, call, srs, source):
    digests = {}
    name, fmt, size = source[:3]
    for to in FORMATS:
        vdi = place(smd, srs[0], source, digests)
        digest = digests[vdi]
        data = allocated(smd.vdi_file(vdi))
        if source[4]:
            data = 24 * MIB     # compressed there, not here
        old_file = smd.vdi_file(vdi)
        new = call("VDI.pool_migrate", vdi, srs[1], {"dest-img-format": to.upper(),
                                                     "verify": "true"})
        assert new != vdi
        expect_error("HANDLE_INVALID", smd.call, "VDI.get_uuid", vdi)
        assert not os.path.exists(old_file), "the source is still there"
        check(smd, new, to, size, digest, data)
        expect_eq(smd.call("VDI.get_name_label", new), name, "name")
        # And on from what we wrote, in place and between the SRs.
        for again in FORMATS:
            new = call("VDI.pool_migrate", new, srs[0] if again == to else srs[1],
                       {"dest-img-format": again})
            check(smd, new, again, size, digest, data)
        smd.call("VDI.destroy", new)
    print(name, "ok")


with Smd() as smd:
    srs = [smd.make_sr("one"), smd.make_sr("two")]
    for i, source in enumerate(SOURCES):
        migrate_everywhere(smd, smd.json_call if i % 2 else smd.call, srs, source)
    for sr in srs:
        left = [f for f in os.listdir(smd.sr_path(sr)) if not f.startswith(".")]
        expect_eq(left, [], "volumes left over")
