#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An upload is what its client says it is, or it is refused and the disk is as it was."""
import struct

from smdtest import *

requires("qemu-img")
SIZE = 9 * MIB


def put(smd, vdi, body, fmt, extra=""):
    status, _, text = smd.http("PUT", "/import_raw_vdi?session_id=%s&vdi=%s&format=%s%s"
                               % (smd.login(), vdi, fmt, extra), body)
    return status, text.decode()


def break_l2(image):
    """Let the first cluster of the disk be the L1 table, as the counts would allow."""
    l1, = struct.unpack_from(">Q", image, 40)
    l2 = struct.unpack_from(">Q", image, l1)[0] & (1 << 56) - 512
    broken = bytearray(image)
    struct.pack_into(">Q", broken, l2, 1 << 63 | l1)
    return bytes(broken)


with Smd() as smd:
    sr = smd.make_sr("one")
    raw = os.path.join(smd.dir, "in.raw")
    fill_raw(raw, SIZE)
    images = {"raw": open(raw, "rb").read()}
    for name, fmt, options in (("vhd", "vpc", "force_size=on"), ("qcow2", "qcow2", "compat=1.1"),
                               ("fixed", "vpc", "subformat=fixed,force_size=on"),
                               ("vmdk", "vmdk", "subformat=monolithicSparse"),
                               ("vdi", "vdi", "static=off")):
        path = os.path.join(smd.dir, "in." + name)
        qemu_img("convert", "-f", "raw", "-O", fmt, "-o", options, raw, path)
        images[name] = open(path, "rb").read()

    held = os.path.join(smd.dir, "held.raw")
    fill_raw(held, 2 * SIZE, seed=5)
    out = os.path.join(smd.dir, "out.raw")
    for kept in ("raw", "vhd", "qcow2"):
        vdi = smd.make_vdi(sr, 2 * SIZE, kept)
        smd.import_vdi(vdi, held)
        for name in images:
            if name != "raw":
                status, text = put(smd, vdi, images[name], "raw")
                expect_eq(status, 400, "status of a %s as raw: %s" % (name, text))
                assert "looks like" in text and "declare what it is" in text, text
                expect_eq(text.count("upload"), 1, "how often it names the upload: " + text)
        expect_eq(put(smd, vdi, images["qcow2"], "vhd")[0], 400, "a qcow2 as a VHD")
        status, text = put(smd, vdi, break_l2(images["qcow2"]), "qcow2")
        expect_eq(status, 400, "status of a corrupt image: " + text)
        assert text.startswith("IMAGE_CORRUPT"), text
        smd.export_vdi(vdi, out)
        expect_eq(sha256_of_file(out), sha256_of_file(held), "the disk after refusals")
        # Whoever says so gets the bytes as they are; an image is still judged.
        expect_eq(put(smd, vdi, images["fixed"], "raw", "&any_content=true")[0], 200, "status")
        smd.export_vdi(vdi, out)
        with open(out, "rb") as f:
            assert f.read(len(images["fixed"])) == images["fixed"]
        status, text = put(smd, vdi, break_l2(images["qcow2"]), "qcow2", "&any_content=true")
        expect_eq(status, 400, "status of a corrupt image: " + text)
