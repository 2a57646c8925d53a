#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A scan asks a worker about many images at once, and about none that did not change."""
from smdtest import *

requires("qemu-img")
N = 1000

with tempfile.TemporaryDirectory() as directory:
    counter, started = os.path.join(directory, "worker"), os.path.join(directory, "started")
    with open(counter, "w") as f:
        f.write("#!/bin/sh\necho >>%s\nexec %s \"$@\"\n" % (started, os.environ["SMD_WORKER"]))
    os.chmod(counter, 0o755)

    def n_workers():
        """Started since the last time."""
        with open(started, "a+") as f:
            f.seek(0)
            n = len(f.readlines())
            f.truncate(0)
        return n

    with Smd(config="worker = %s\nwarm_worker_seconds = 0\n" % counter) as smd:
        sr = smd.make_sr("one")
        path = smd.sr_path(sr)
        image = os.path.join(smd.dir, "image.qcow2")
        qemu_img("create", "-q", "-f", "qcow2", image, "64k")
        for i in range(N):
            name = "%08d-1111-4111-8111-111111111111.%s" % (i, "qcow2" if i % 2 else "raw")
            if i % 2:
                shutil.copyfile(image, os.path.join(path, name))
            else:
                with open(os.path.join(path, name), "wb") as f:
                    f.truncate(64 << 10)
        n_workers()
        smd.call("SR.scan", sr)
        expect_eq(len(smd.call("SR.get_VDIs", sr)), N, "VDIs")
        n = n_workers()
        assert n <= 2, "%d workers for %d images" % (n, N)

        # Until their times say that they are as they were, they are looked at again.
        deadline = time.monotonic() + 60
        while n > 0:
            assert time.monotonic() < deadline, "%d workers where nothing changed" % n
            time.sleep(0.5)
            smd.call("SR.scan", sr)
            n = n_workers()
        token = smd.json_call("event.from", ["VDI"], "", 0.0)["token"]
        smd.call("SR.scan", sr)
        expect_eq(smd.json_call("event.from", ["VDI"], token, 0.0)["events"], [], "events")
        expect_eq(n_workers(), 0, "workers where nothing changed")

        with open(os.path.join(path, "00000000-1111-4111-8111-111111111111.raw"), "ab") as f:
            f.truncate(MIB)
        smd.call("SR.scan", sr)
        expect_eq(n_workers(), 1, "workers for one image")
        changed = smd.call("VDI.get_by_uuid", "00000000-1111-4111-8111-111111111111")
        expect_eq(smd.call("VDI.get_virtual_size", changed), str(MIB), "its size")

        # After the scan that made the rows there is nothing left to look at, until somebody
        # changes a row.
        other = smd.make_sr("other")
        for i in range(10):
            shutil.copyfile(image, os.path.join(smd.sr_path(other), "%08d-2222-4222-8222-"
                                                "222222222222.qcow2" % i))
        time.sleep(3)       # their times tell by then whether they were changed
        smd.call("SR.scan", other)
        n_workers()
        smd.call("SR.scan", other)
        expect_eq(n_workers(), 0, "workers for the second scan")
        forgotten, *kept = sorted(smd.call("SR.get_VDIs", other))
        uuid = smd.call("VDI.get_uuid", forgotten)
        smd.call("VDI.forget", forgotten)
        smd.call("SR.scan", other)
        again = set(smd.call("SR.get_VDIs", other)) - set(kept)
        expect_eq([smd.call("VDI.get_uuid", vdi) for vdi in again], [uuid], "what was forgotten")
