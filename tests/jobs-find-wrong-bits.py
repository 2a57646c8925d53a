#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""One bit that comes out wrong at the other end of a verified copy: the job fails and says at
which byte, the source stays as it was, and nothing of the copy is left."""
import re

from smdtest import *

SIZE = 24 * MIB
WHERE = 2 * MIB + 12345         # on the disk


def flip(path):
    """The byte at WHERE of the disk is found by what stands there."""
    with open(path, "r+b") as f:
        at = f.read().index(b"the byte to flip")
        f.seek(at)
        f.write(b"T")           # another bit than that of "t"


def migrate(smd, vdi, sr, fmt):
    """Verified, and held when a part of it is copied; the task, and the file it writes."""
    task = smd.call("Async.VDI.pool_migrate", vdi, sr, {
        "dest-img-format": fmt, "bytes-per-second": str(8 * MIB), "verify": "true"})
    deadline = time.monotonic() + 120
    while int(smd.call("task.get_other_config", task).get("bytes_done", 0)) < 6 * MIB:
        expect_eq(smd.call("task.get_status", task), "pending", "status")
        assert time.monotonic() < deadline, "it does not move"
        time.sleep(0.02)
    smd.call("task.pause", task)
    time.sleep(0.5)             # what is begun is written
    files = [f for f in os.listdir(smd.sr_path(sr)) if fmt in f]
    expect_eq(len(files), 1, "files of the copy: %r" % files)
    return task, os.path.join(smd.sr_path(sr), files[0])


with Smd() as smd:
    one, two = smd.make_sr("one"), smd.make_sr("two")
    image = os.path.join(smd.dir, "content.raw")
    with open(image, "wb") as f:
        f.write(os.urandom(WHERE) + b"the byte to flip" + os.urandom(SIZE - WHERE - 16))
    vdi = smd.make_vdi(one, SIZE, "vhd")
    smd.import_vdi(vdi, image)
    digest = sha256_of_file(image)
    for fmt in "raw", "vhd", "qcow2":
        task, path = migrate(smd, vdi, two, fmt)
        flip(path)
        smd.call("task.set_speed", task, "0")
        smd.call("task.resume", task)
        record = smd.wait_task(task)
        expect_eq((record["status"], record["error_info"][0]), ("failure", "VDI_COPY_FAILED"), fmt)
        message = record["other_config"]["error_message"]
        assert str(WHERE) in re.findall(r"\d+", message), "%d is not in %r" % (WHERE, message)
        expect_eq([f for f in os.listdir(smd.sr_path(two)) if fmt in f], [], "what is left")
        expect_eq(smd.call("VDI.get_SR", vdi), one)
        expect_eq(smd.vdi_sha256(vdi), digest, "the source")
        expect_eq(os.listdir(os.path.join(smd.state, "jobs")), [], "marks that are left")
    # The disk is as free as before, and its copy right where nobody meddles.
    new = smd.call_async("VDI.pool_migrate", vdi, two, {"dest-img-format": "raw", "verify": "true"})
    expect_eq(smd.vdi_sha256(new), digest, "moved in the end")
