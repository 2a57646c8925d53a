#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The story people tell of an image of XenServer's: a 40 MB base, a child grown to
1 GiB, a grandchild. By hand it is untar, re-parent, resize, coalesce and convert, and
the disk comes out 256 KiB short. Here it is one command to import and one to convert:
the size is exact, the partition table and the file system are what they were."""
from smdtest import *
from vhdwriter import *

requires("qemu-img", "mke2fs", "debugfs", "tar")

PARTITION = MIB


def write_partition_table(path, size):
    """An MBR with one Linux partition, from 1 MiB to the end."""
    first = PARTITION // SECTOR
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", first,
                        size // SECTOR - first)
    with open(path, "r+b") as f:
        f.write((b"boot code" + bytes(437) + entry + bytes(48) + b"\x55\xaa"))


def md5(data):
    return hashlib.md5(data).hexdigest()


def dump(disk, name):
    run("debugfs", "-R", "dump /%s out" % name, "%s?offset=%d" % (disk, PARTITION))
    with open("out", "rb") as f:
        return md5(f.read())


with Smd() as smd:
    os.chdir(smd.dir)
    os.environ["SMD_SOCKET"] = smd.socket
    # The disk as it was when each image was the leaf.
    with open("base.raw", "wb") as f:
        f.truncate(40 * MIB)
        f.seek(PARTITION)
        f.write(os.urandom(3 * MIB))
    write_partition_table("base.raw", 40 * MIB)
    shutil.copy("base.raw", "child.raw")
    os.truncate("child.raw", GIB)
    write_partition_table("child.raw", GIB)
    os.mkdir("tree")
    first, second = os.urandom(5 * MIB), os.urandom(2 * MIB)
    with open("tree/first", "wb") as f:
        f.write(first)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", "tree", "-E", "offset=%d" % PARTITION, "child.raw",
        "%dK" % ((GIB - PARTITION) // 1024))
    run("cp", "--sparse=always", "child.raw", "leaf.raw")
    with open("second", "wb") as f:
        f.write(second)
    run("debugfs", "-w", "-R", "write second second", "leaf.raw?offset=%d" % PARTITION)
    expect_eq(dump("leaf.raw", "second"), md5(second), "the story's own file system")

    # The archive: its base by qemu-img, tarred by tar; the locators name files that
    # are nowhere, as they do in archives.
    qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", "base.raw", "2.vhd")
    with open("2.vhd", "rb") as f:
        base = {"path": "3f0c1a52-gone.vhd", "uuid": f.read(84)[68:84]}
    child = write_vhd("1.vhd", GIB, delta("base.raw", "child.raw"), parent=base, hidden=1)
    write_vhd("0.vhd", GIB, delta("child.raw", "leaf.raw"), parent=child, hidden=1)
    run("tar", "czf", "x.tgz", "./0.vhd", "./1.vhd", "./2.vhd")

    refs = [smd.make_sr(name) for name in ("one", "two")]
    smd.call("SR.add_to_other_config", refs[0], "gc", "false")  # the chain stays as it is
    one, two = (smd.call("SR.get_uuid", ref) for ref in refs)
    uuid = run("smctl", "image-import", "file=x.tgz", "sr-uuid=" + one, "name-label=debian").strip()
    vdi = smd.call("VDI.get_by_uuid", uuid)
    expect_eq(smd.call("VDI.get_virtual_size", vdi), str(GIB), "size of the VDI")
    expect_eq(smd.call("VDI.get_name_label", vdi), "debian", "its name")
    expect_eq(smd.vdi_format(vdi), "vhd", "its format")
    rows = smd.call("VDI.get_all_records")
    expect_eq(len(rows), 3, "the chain's images")
    expect_eq(sorted(int(r["virtual_size"]) for r in rows.values()), [40 * MIB, GIB, GIB], "sizes")
    expect_eq([r["managed"] for r in rows.values()].count(True), 1, "disks")

    moved = run("smctl", "vdi-pool-migrate", "uuid=" + uuid, "sr-uuid=" + two,
                "dest-img-format=raw").strip()
    vdi = smd.call("VDI.get_by_uuid", moved)
    disk = smd.vdi_file(vdi)
    expect_eq(os.path.getsize(disk), 1073741824, "bytes of the raw disk")
    expect_eq(sha256_of_file(disk), sha256_of_file("leaf.raw"), "the disk")
    expect_eq(dump(disk, "first"), md5(first), "a file of the child's")
    expect_eq(dump(disk, "second"), md5(second), "a file of the grandchild's")
    with open(disk, "rb") as f:
        table = f.read(SECTOR)
    expect_eq(struct.unpack("<II", table[454:462]), (PARTITION // SECTOR, (GIB - PARTITION) // SECTOR),
              "the partition")
    if shutil.which("sfdisk"):
        assert "start=        2048, size=     2095104, type=83" in run("sfdisk", "-d", disk)
