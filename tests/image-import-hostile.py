#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Archives that climb out, lie or are endless are refused by the worker that reads
them, with the member's name, without a byte outside the volumes and without much
memory. The ones that are fine say how it knows the difference."""
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib

from importworker import *
from vhdwriter import *

work = tempfile.mkdtemp(prefix="smd-test.")
os.chdir(work)


def refused(answer, name, *reasons):
    """By a code that names the member, or with it in the message."""
    assert "error" in answer, answer
    error = answer["error"]
    if name:
        assert name in error["params"] or name in error["message"], error
    if reasons:
        assert error["code"] in reasons or error["params"][-1] in reasons, error
    assert sorted(os.listdir(".")) == expected_files, os.listdir(".")
    assert "\n" not in error["message"], error


def tar(*members, mode="w:gz"):
    """A tar of (name, bytes or type and link)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as t:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                t.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                t.addfile(info)
    return out.getvalue()


def vhd(*args, **kwargs):
    got = write_vhd("scratch.vhd", *args, **kwargs)
    with open("scratch.vhd", "rb") as f:
        return got, f.read()


size = 8 * MIB
base_info, base = vhd(size, {0: b"base" * 1024, 4 * MIB: b"b" * 4096})
_, leaf = vhd(2 * size, {4096: b"leaf" * 1024}, parent=base_info, hidden=1)
_, whole = vhd(size, {0: b"w" * 512})
os.unlink("scratch.vhd")
expected_files = sorted(["stream"] + ["v%02d" % i for i in range(VOLUMES)])

# -- what is fine --
for mode, name in [("w", "x.tar"), ("w:gz", "x.tgz"), ("w:xz", "x.tar.xz"), ("w:gz", "")]:
    answer = worker(tar(("./0.vhd", leaf), ("./1.vhd", base), mode=mode), name)
    assert "result" in answer, answer
    images = answer["result"]["images"]
    expect_eq([i["member"] for i in images], ["./0.vhd", "./1.vhd"], "members")
    expect_eq([i["virtual-size"] for i in images], [2 * size, size], "sizes")
    chain = json.loads(run("smd-img", "info", "--output=json", "-u", "-f", "vhd", "v00"))
    expect_eq(chain["backing-filename"], "00000001-0000-4000-8000-000000000000.vhd", "parent")
    assert not chain["hidden"], "the leaf is hidden"
assert "result" in worker(tar(("./", (tarfile.DIRTYPE, "")), ("1.vhd", base), ("0.vhd", leaf)),
                          "x.tgz"), "the order of the members is free"
assert "result" in worker(tar(("image.vhd", leaf), ("base.vhd", base), ("swap.vhd", base)),
                          "x.tgz"), "older names"
for name, data in [("a.vhd", base), ("a.vhd.gz", gzip.compress(base)), ("A.VHD", base),
                   ("a.vhd.xz", lzma.compress(base)), ("a.raw", b"x" * 1000)]:
    answer = worker(data, name)
    assert "result" in answer, (name, answer)
with open("v00", "rb") as f:
    expect_eq(f.read(), b"x" * 1000, "a raw disk as it came")
buf = io.BytesIO()
with zipfile.ZipFile(buf, "w", zipfile.ZIP_DEFLATED) as z:
    z.writestr("disk.vhd", base)
assert "result" in worker(buf.getvalue(), "a.zip")

# -- what leads outside --
for name in ["../0.vhd", "/0.vhd", "/tmp/0.vhd", "d/0.vhd", "./../0.vhd", "..", "a\\0.vhd"]:
    refused(worker(tar((name, base)), "x.tgz"), name, "EXTERNAL_REF")
for kind, what in [(tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "/etc/passwd"),
                   (tarfile.CHRTYPE, ""), (tarfile.BLKTYPE, ""), (tarfile.FIFOTYPE, ""),
                   (tarfile.DIRTYPE, "")]:
    refused(worker(tar(("0.vhd", (kind, what))), "x.tgz"), "0.vhd", "EXTERNAL_REF")
    refused(worker(tar(("0.vhd", leaf), ("1.vhd", (kind, "0.vhd"))), "x.tgz"), "1.vhd",
            "EXTERNAL_REF")

# -- names and numbers --
for name in ["readme", "0.txt", "-1.vhd", "00.vhd", "0x1.vhd", "leaf.vhd", "0.vhd.gz", ".vhd",
             "0\n.vhd", "caf\u00e9.vhd"]:
    refused(worker(tar((name, base)), "x.tgz"), None)
refused(worker(tar(("0.vhd", leaf), ("0.vhd", leaf), ("1.vhd", base)), "x.tgz"), "0.vhd",
        "AMBIGUOUS")
refused(worker(tar(("0.vhd", leaf), ("./0.vhd", leaf)), "x.tgz"), "./0.vhd", "AMBIGUOUS")
refused(worker(tar(("0.vhd", leaf), ("2.vhd", base)), "x.tgz"), "2.vhd", "MISSING_PARENT")
refused(worker(tar(("1.vhd", base)), "x.tgz"), "1.vhd", "MISSING_PARENT")
refused(worker(tar(*[("%d.vhd" % i, whole) for i in range(31)], mode="w"), "x.tar",
               room=1 << 40), "30.vhd", "CHAIN_DEPTH")
refused(worker(tar(*[("m%d" % i, b"") for i in range(10000)]), "x.tgz"), "m0")
refused(worker(tar(*[("./", (tarfile.DIRTYPE, ""))] * 10000), "x.tgz"), "./", "TABLE_TOO_LARGE")
refused(worker(tar(*[("swap.vhd", b"")] * 10000), "x.tgz"), "swap.vhd", "TABLE_TOO_LARGE")
refused(worker(tar(), "x.tgz"), "x.tgz")

# -- chains that are none --
refused(worker(tar(("0.vhd", leaf)), "x.tgz"), "0.vhd", "MISSING_PARENT")
refused(worker(leaf, "a.vhd"), "a.vhd", "MISSING_PARENT")
refused(worker(tar(("0.vhd", whole), ("1.vhd", base)), "x.tgz"), "0.vhd", "PARENT_MISMATCH")
refused(worker(tar(("0.vhd", leaf), ("1.vhd", leaf), ("2.vhd", leaf)), "x.tgz"), "2.vhd",
        "MISSING_PARENT")

# -- images that are none --
refused(worker(tar(("0.vhd", b"\0" * 100000)), "x.tgz"), "0.vhd")
refused(worker(tar(("0.vhd", b"")), "x.tgz"), "0.vhd", "BAD_SIZE")
refused(worker(tar(("0.vhd", leaf), ("1.vhd", base[:-4 * MIB])), "x.tgz"), "1.vhd")
refused(worker(base, "a.raw"), "a.raw", "FORMAT_MISMATCH")
refused(worker(b"QFI\xfb\0\0\0\3" + bytes(10000), "a.raw"), "a.raw", "FORMAT_MISMATCH")
refused(worker(b"QFI\xfb\0\0\0\3" + bytes(10000), "a.vhd"), "a.vhd", "FORMAT_MISMATCH")
refused(worker(b"hello", "a.doc"), "a.doc", "INVALID_VALUE")
refused(worker(b"", "x.tgz"), "x.tgz")

if shutil.which("qemu-img"):
    with tempfile.TemporaryDirectory() as d:    # a cluster that is not what it was
        with open(d + "/c.raw", "wb") as f:
            f.write(b"words that compress " * (MIB // 20) + bytes(MIB % 20))
        qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", d + "/c.raw", d + "/c.qcow2")
        with open(d + "/c.qcow2", "r+b") as f:
            fine = f.read()
            f.seek(0x50000)
            f.write(b"\xff" * 16)
        assert "result" in worker(fine, "c.qcow2"), "the image as it was"
        refused(worker(d + "/c.qcow2", "c.qcow2"), "c.qcow2", "DECOMPRESS")

# -- streams that break off or never end --
good = tar(("0.vhd", leaf), ("1.vhd", base))
good_tar = gzip.decompress(good)
for cut in [1, 10, 100, len(good) // 2, len(good) - 9]:
    refused(worker(good[:cut], "x.tgz"), None)
refused(worker(good[:len(good) // 2] + b"\xff" * 1000, "x.tgz"), None)
damaged = bytearray(good)
damaged[-6] ^= 1                # gzip's checksum
refused(worker(bytes(damaged), "x.tgz"), "x.tgz", "BAD_CHECKSUM")
damaged = bytearray(tar(("0.vhd", leaf), ("1.vhd", base), mode="w:xz"))
damaged[-40] ^= 1               # in xz's index or the block's check
refused(worker(bytes(damaged), "x.tar.xz"), "x.tar.xz")
refused(worker(gzip.compress(gzip.compress(good)), "x.tgz"), "x.tgz")
refused(worker(lzma.compress(lzma.compress(good_tar)), "x.tar.xz"), "x.tar.xz", "UNSUPPORTED")
# gzip's members follow each other, and the last may be padded.
assert "result" in worker(gzip.compress(good_tar[:9999]) + gzip.compress(good_tar[9999:]) +
                          bytes(1000), "x.tgz"), "a gzip of two members"

TB = 1 << 40
bomb = tarfile.TarInfo("0.vhd")
bomb.size = TB
claim = bomb.tobuf(tarfile.GNU_FORMAT)
refused(worker(gzip.compress(claim + bytes(MIB)), "x.tgz"), "0.vhd", "SR_FULL")
# The same where nothing says so: a stream of zeroes.
with gzip.open("stream", "wb", 9) as f:
    for i in range(200):
        f.write(bytes(MIB))
assert os.path.getsize("stream") < MIB
refused(worker("stream", "a.vhd.gz", room=64 * MIB), "a.vhd.gz", "SR_FULL")
answer = worker("stream", "a.raw.gz", room=64 * MIB)
assert "result" in answer, answer
assert allocated("v00") < MIB, "zeroes took room"
# Sparse members claim what they like.
sparse = tarfile.TarInfo("0.vhd")
sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                      "GNU.sparse.name": "0.vhd", "GNU.sparse.realsize": str(TB)}
sparse.size = 512 + len(base)
data = (b"1\n%d\n%d\n" % (TB - len(base), len(base))).ljust(512, b"\0") + base
refused(worker(sparse.tobuf(tarfile.PAX_FORMAT) + data.ljust(-(-len(data) // 512) * 512, b"\0") +
               bytes(1024), "x.tar"), "0.vhd", "SR_FULL")
# Data that do take room.
refused(worker(os.urandom(2 * MIB), "a.raw", room=MIB), "a.raw", "SR_FULL")

# A dictionary of 1.5 GiB: the memory it wants is not there. In the block's header,
# behind the stream's: its length, flags, the filter, its properties, a CRC32.
stream = bytearray(lzma.compress(tar(("0.vhd", base), mode="w"), format=lzma.FORMAT_XZ))
length = 4 * (stream[12] + 1)
expect_eq(bytes(stream[14:16]), b"\x21\x01", "LZMA2's properties")
stream[16] = 37
stream[12 + length - 4:12 + length] = struct.pack("<I", zlib.crc32(stream[12:12 + length - 4]))
if not sanitized():
    refused(worker(bytes(stream), "x.tar.xz"), "x.tar.xz", "SIZE_LIMIT")

shutil.rmtree(work)
