#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""One image of any format, compressed or not, in an archive, a .zip or alone, becomes
a disk in the format asked for, of its exact size. What it is, its name says, or the
request; bytes that say something else are refused."""
import gzip
import lzma
import zipfile

from smdtest import *

requires("qemu-img", "zstd")

SIZE = 24 * MIB + 512

with Smd() as smd:
    os.chdir(smd.dir)
    os.environ["SMD_SOCKET"] = smd.socket
    sr = smd.call("SR.get_uuid", smd.make_sr("one"))
    qcow2_only = smd.call("SR.get_uuid", smd.make_sr("two", preferred_image_formats="qcow2"))

    def take(path, into=sr, **words):
        """The VDI of an imported file: (format, size, content, name)."""
        uuid = run("smctl", "image-import", "file=" + path, "sr-uuid=" + into,
                   *["%s=%s" % (k.replace("_", "-"), v) for k, v in words.items()]).strip()
        vdi = smd.call("VDI.get_by_uuid", uuid)
        record = smd.call("VDI.get_record", vdi)
        smd.export_vdi(vdi, "content.raw")
        expect_eq(os.path.getsize("content.raw"), int(record["virtual_size"]), "size exported")
        return (smd.vdi_format(vdi), int(record["virtual_size"]), sha256_of_file("content.raw"),
                record["name_label"])

    digests = {}
    for fmt in "raw", "vhd", "qcow2":
        name = "disk." + fmt
        if fmt == "raw":
            fill_raw(name, SIZE, runs=8)
            digests[fmt] = sha256_of_file(name)
        else:
            digests[fmt] = make_image(name, fmt, SIZE)
        with open(name, "rb") as f:
            data = f.read()
        with open(name + ".gz", "wb") as f:     # two members, as pigz and cat make them
            f.write(gzip.compress(data[:MIB]) + gzip.compress(data[MIB:]))
        with lzma.open(name + ".xz", "wb", preset=0) as f:
            f.write(data)
        run("zstd", "-q", name)
        with zipfile.ZipFile(fmt + ".zip", "w", zipfile.ZIP_DEFLATED) as z:
            z.write(name)
        wanted = (fmt, SIZE, digests[fmt])
        for path in name, name + ".gz", name + ".xz", name + ".zst":
            expect_eq(take(path), wanted + ("disk",), path)
        expect_eq(take(fmt + ".zip"), wanted + (fmt,), "a .zip")
        for other in "raw", "vhd", "qcow2":
            expect_eq(take(name + ".gz", format=other, name_label="named"),
                      (other, SIZE, digests[fmt], "named"), "%s as %s" % (fmt, other))
        shutil.copy(name, "unnamed")
        expect_eq(take("unnamed", format=fmt), wanted + ("unnamed",), "declared by format=")
        with open(name, "rb") as f:
            done = subprocess.run(["smctl", "image-import", "file=-", "sr-uuid=" + sr,
                                   "format=" + fmt], stdin=f, capture_output=True, check=True)
        assert len(done.stdout.strip()) == 36

    # An SR that does not take the format gets its own.
    formats = smd.call("SM.get_all_records")
    expect_eq(take("disk.vhd", into=qcow2_only)[0] in ("qcow2", "vhd"), True, "the SR's format")

    before = sorted(os.listdir("one"))
    rows = len(smd.call("VDI.get_all"))
    for path, words in [("disk.raw", ["format=nosuch"]), ("unnamed", []),
                        ("disk.raw", ["flatten=maybe"]), ("none.tgz", [])]:
        run("smctl", "image-import", "file=" + path, "sr-uuid=" + sr, *words, status=1)
    shutil.copy("disk.qcow2", "liar.raw")
    shutil.copy("disk.raw", "liar.qcow2")
    shutil.copy("disk.vhd", "liar.zip")
    shutil.copy("disk.vhd", "liar.tgz")
    for path in "liar.raw", "liar.qcow2", "liar.zip", "liar.tgz":
        done = subprocess.run(["smctl", "image-import", "file=" + path, "sr-uuid=" + sr],
                              capture_output=True, text=True)
        expect_eq(done.returncode, 1, path)
        assert path in done.stderr, done.stderr
    expect_eq(sorted(os.listdir("one")), before, "volumes after refusals")
    expect_eq(len(smd.call("VDI.get_all")), rows, "VDIs after refusals")
