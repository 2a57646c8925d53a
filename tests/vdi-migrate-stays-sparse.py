#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A disk takes what its data takes in every format: the data, 1%, and the metadata
the format cannot do without."""
from smdtest import *

SIZE = 2048 * MIB
CLUSTER, BLOCK, PAGE = 65536, 2 * MIB, 4096


def metadata(fmt):
    """Upper bounds: qcow2's header, L1, refcounts and one L2 table per 512 MiB; a
    VHD's head, BAT and batmap, and the bitmap of each block, a page each."""
    if fmt == "qcow2":
        return (SIZE // (CLUSTER * CLUSTER // 8) + 8) * CLUSTER
    return SIZE // BLOCK * PAGE + 16 * PAGE if fmt == "vhd" else 0


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    raw = os.path.join(smd.dir, "disk.raw")
    fill_raw(raw, SIZE, runs=400)
    data, digest = allocated(raw), sha256_of_file(raw)
    vdi = smd.make_vdi(one, SIZE, "raw")
    smd.import_vdi(vdi, raw)
    os.unlink(raw)
    for fmt, sr in (("vhd", two), ("qcow2", one), ("vhd", two), ("raw", one), ("qcow2", two),
                    ("raw", one)):
        vdi = smd.call("VDI.pool_migrate", vdi, sr, {"dest-img-format": fmt})
        taken = allocated(smd.vdi_file(vdi))
        limit = data * 1.01 + metadata(fmt)
        print("%s takes %d for %d of data" % (fmt, taken, data))
        assert taken <= limit, "%s takes %d, more than %d" % (fmt, taken, limit)
    expect_eq(sha256_of_file(smd.vdi_file(vdi)), digest, "content")
