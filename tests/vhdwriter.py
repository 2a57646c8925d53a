# SPDX-License-Identifier: BSD-2-Clause
"""A writer of VHDs that is not smd's, as small as it can be: dynamic disks, and
children of others, which qemu-img does not write.

    parent = write_vhd("1.vhd", size, {0: b"..."})
    write_vhd("0.vhd", size, {4096: b"..."}, parent=parent)
"""
import os
import struct
import time
import uuid

SECTOR = 512
BLOCK = 2 << 20
NONE = 0xffffffff


def checksum(data, at):
    """Ones' complement of the sum of the bytes, those of the field left out."""
    return ~(sum(data) - sum(data[at:at + 4])) & 0xffffffff


def sealed(data, at):
    return data[:at] + struct.pack(">I", checksum(data, at)) + data[at + 4:]


def geometry(size):
    """VHD specification, appendix CHS calculation."""
    total = min(size // SECTOR, 65535 * 16 * 255)
    if total >= 65535 * 16 * 63:
        return total // 255 // 16, 16, 255
    track, cth = 17, total // 17
    heads = max(4, (cth + 1023) // 1024)
    if cth >= heads * 1024 or heads > 16:
        track, heads, cth = 31, 16, total // 31
    if cth >= heads * 1024:
        track, heads, cth = 63, 16, total // 63
    return cth // heads, heads, track


def footer(size, kind, ident, hidden=0, creator=b"win ", timestamp=None):
    """Virtual Hard Disk Image Format Specification 1.0, with tapdisk's hidden byte."""
    when = int(time.time()) - 946684800 if timestamp is None else timestamp
    data = struct.pack(">8sIIQI4sI4sQQHBBII16sBB", b"conectix", 2, 0x10000,
                       512 if kind != 2 else (1 << 64) - 1, when, creator, 0x60001, b"Wi2k",
                       size, size, *geometry(size), kind, 0, ident, 0, hidden)
    return sealed(data.ljust(SECTOR, b"\0"), 64)


def header(entries, bat_at, parent):
    data = struct.pack(">8sQQIIII", b"cxsparse", (1 << 64) - 1, bat_at, 0x10000, entries, BLOCK, 0)
    name = b""
    locators = b""
    if parent:
        data += parent["uuid"] + struct.pack(">II", 0, 0)
        name = os.path.basename(parent["path"]).encode("utf-16-be")
    else:
        data += bytes(24)
    data += name.ljust(512, b"\0") + locators.ljust(192, b"\0")
    return sealed(data.ljust(1024, b"\0"), 36)


def sectors_of(ranges):
    """{sector: bytes} of {offset: bytes}, whose ends are on sectors."""
    out = {}
    for at, data in ranges.items():
        assert at % SECTOR == 0 and len(data) % SECTOR == 0
        for n in range(0, len(data), SECTOR):
            out[(at + n) // SECTOR] = data[n:n + SECTOR]
    return out


def write_vhd(path, size, ranges, parent=None, ident=None, **fields):
    """Write the disk's data at these offsets; the rest is the parent's, or zeroes.
    parent: what an earlier call returned."""
    ident = ident or uuid.uuid4().bytes
    entries = -(-size // BLOCK)
    bat_at = 1536
    at = -(-(bat_at + 4 * entries) // SECTOR) * SECTOR
    data = sectors_of(ranges)
    bat = [NONE] * entries
    end = footer(size, 4 if parent else 3, ident, **fields)
    with open(path, "wb") as f:
        f.write(end)
        f.write(header(entries, bat_at, parent))
        for block in sorted({sector * SECTOR // BLOCK for sector in data}):
            first = block * (BLOCK // SECTOR)
            bitmap = bytearray(SECTOR)
            f.seek(at + SECTOR)
            for i in range(BLOCK // SECTOR):
                if first + i in data:
                    bitmap[i // 8] |= 0x80 >> i % 8
                    f.seek(at + SECTOR + i * SECTOR)
                    f.write(data[first + i])
            f.seek(at)
            f.write(bitmap)
            bat[block] = at // SECTOR
            at += SECTOR + BLOCK
        f.seek(bat_at)
        f.write(struct.pack(">%dI" % entries, *bat))
        f.seek(at)
        f.write(end)
    return {"path": path, "uuid": ident, "size": size}


def split_raw(raw):
    """{offset: bytes} of what is not zero in a raw disk, by pages."""
    ranges = {}
    with open(raw, "rb") as f:
        at = 0
        while True:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return ranges
            at = at // 4096 * 4096
            data = os.pread(f.fileno(), 4096, at)
            if data.strip(b"\0"):
                ranges[at] = data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")
            at += 4096


def delta(old, new):
    """What a child on the raw disk old has to hold to show new: pages that differ,
    those that were emptied too."""
    before, after = split_raw(old), split_raw(new)
    out = {at: data for at, data in after.items() if before.get(at) != data}
    out.update({at: bytes(len(data)) for at, data in before.items() if at not in after})
    return out
