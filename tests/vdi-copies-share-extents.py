#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""On xfs and btrfs what VDI.copy, VDI.pool_migrate and VDI.measure do with a disk that has no
room for another one of its size: they share its data, ask for no room for it, and what the SR
says is in use stays what is. They read it all the same, for its digest, unless they are told
not to. Skipped where nothing can be mounted."""
from smdtest import *

requires("mount", "umount")
if os.getuid() != 0:
    skip("only root can mount")
DATA = 220 * MIB        # of 400 MiB
LITTLE = 16 * MIB       # tables, and what the file system itself takes


def mount(smd, fs):
    image, path = os.path.join(smd.dir, fs + ".img"), os.path.join(smd.dir, fs)
    with open(image, "wb") as f:
        f.truncate(400 * MIB)
    os.mkdir(path)
    if not shutil.which("mkfs." + fs) or \
            subprocess.run(["mkfs." + fs, "-q", image], capture_output=True).returncode != 0 or \
            subprocess.run(["mount", "-o", "loop", image, path],
                           capture_output=True).returncode != 0:
        return None
    return path


def used(smd, path, sr):
    """Of the SR, all written back; it is what the file system says."""
    run("sync", "-f", path)
    smd.call("SR.update", sr)
    said = int(smd.call("SR.get_physical_utilisation", sr))
    stat = os.statvfs(path)
    assert abs(said - (stat.f_blocks - stat.f_bfree) * stat.f_frsize) < LITTLE, (said, stat)
    assert 0 < said <= int(smd.call("SR.get_physical_size", sr))
    return said


def share(smd, fs, path, data):
    one, two = smd.make_sr(fs + "/one"), smd.make_sr(fs + "/two")
    disk = smd.make_vdi(one, DATA + 20 * MIB, "qcow2")
    smd.import_vdi(disk, data)
    content = smd.vdi_sha256(disk)
    before = used(smd, path, one)
    assert before >= DATA, before

    for sr in one, two:
        answer = smd.call("VDI.measure", disk, sr, {"dest-img-format": "vhd"})
        expect_eq(answer["fits"], "true", fs + ": fits")
        assert int(answer["bytes-shared"]) > DATA * 0.99, answer
        expect_eq(int(answer["peak-destination"]),
                  int(answer["bytes-required"]) - int(answer["bytes-shared"]), fs + ": peak")
    smd.call("SR.add_to_other_config", one, "read-for-digests", "no")
    unread = smd.call("VDI.copy", disk, one)
    assert "smd:digest" not in smd.call("VDI.get_other_config", unread), fs
    smd.call("VDI.destroy", unread)
    smd.call("SR.remove_from_other_config", one, "read-for-digests")
    copy = smd.call("VDI.copy", disk, one)
    digest = smd.call("VDI.get_other_config", disk)["smd:digest"]
    expect_eq(smd.call("VDI.get_other_config", copy)["smd:digest"], digest, fs + ": its digest")
    expect_eq(smd.vdi_sha256(copy), content, fs + ": the copy")
    assert int(smd.call("VDI.get_physical_utilisation", copy)) >= DATA
    for fmt, sr in ("raw", two), ("vhd", one), ("qcow2", two):
        copy = smd.call("VDI.pool_migrate", copy, sr, dict(
            {"dest-img-format": fmt}, **({"verify": "true"} if fmt == "vhd" else {})))
        expect_eq(smd.call("VDI.get_other_config", copy)["smd:digest"], digest, fs + ", " + fmt)
        expect_eq(smd.vdi_format(copy), fmt)
        expect_eq(smd.vdi_sha256(copy), content, "%s: as %s" % (fs, fmt))
    taken = used(smd, path, one) - before
    assert taken < LITTLE, "%s: a copy took %d bytes" % (fs, taken)

    # Each stays whole without the other; the room comes back with the last.
    smd.call("VDI.destroy", disk)
    expect_eq(smd.vdi_sha256(copy), content, fs + ": alone")
    assert used(smd, path, two) >= DATA
    return copy, two


with Smd() as smd:
    data = os.path.join(smd.dir, "data.raw")
    with open(data, "wb") as f:
        for _ in range(DATA // MIB):
            f.write(os.urandom(MIB))
    mounted, disks = [], []
    try:
        for fs in "xfs", "btrfs":
            path = mount(smd, fs)
            if path:
                mounted.append(path)
                disks.append(share(smd, fs, path, data))
        # Between two file systems there is nothing to share.
        if len(disks) == 2:
            expect_error("SR_FULL", smd.call, "VDI.copy", disks[0][0], disks[1][1])
    finally:
        for sr in smd.call("SR.get_all"):
            smd.call("PBD.unplug", smd.call("SR.get_PBDs", sr)[0])
        for path in mounted:
            run("umount", "-l", path)
    if not mounted:
        skip("neither xfs nor btrfs can be made and mounted here")
