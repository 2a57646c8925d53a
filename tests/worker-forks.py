#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""One worker stays loaded and forks for the jobs, as good as if each had been started: it
goes when there is nothing to do, and whoever kills it stops no job."""
from smdtest import *


def wait_for(smd, sr, n):
    """Work until so many are loaded; none: wait."""
    deadline = time.monotonic() + 60
    while len(smd.workers(forking=True)) != n:
        assert time.monotonic() < deadline, "%d are wanted" % n
        if n:
            smd.call("VDI.destroy", smd.make_vdi(sr, MIB, "qcow2"))
        time.sleep(0.05)
    return smd.workers(forking=True)


def contents(smd, sr):
    """A disk through every kind of job that moves its data."""
    raw = os.path.join(smd.dir, "in.raw")
    fill_raw(raw, 8 * MIB)
    vdi = smd.make_vdi(sr, 8 * MIB, "vhd")
    smd.import_vdi(vdi, raw)
    moved = smd.call("VDI.pool_migrate", vdi, sr, {"dest-img-format": "qcow2"})
    expect_eq(smd.vdi_sha256(moved), sha256_of_file(raw), "content")


with Smd() as smd:
    sr = smd.make_sr("one")
    if sanitized():     # ASan knows no other stack than the one it gave
        contents(smd, sr)
        skip("no worker forks under ASan")
    (first,) = wait_for(smd, sr, 1)
    contents(smd, sr)
    expect_eq(smd.workers(forking=True), [first], "the same after all that")
    os.kill(first, signal.SIGKILL)
    contents(smd, sr)
    (second,) = wait_for(smd, sr, 1)
    assert second != first, "another one"
    smd.stop()
    assert not os.path.exists("/proc/%d" % second), "it outlives the daemon"
    smd.start()
    (third,) = wait_for(smd, sr, 1)
    smd.kill()
    deadline = time.monotonic() + 60
    while os.path.exists("/proc/%d" % third):
        assert time.monotonic() < deadline, "it outlives a daemon that was killed"
        time.sleep(0.05)

with Smd(config="warm_worker_seconds = 1\n") as smd:
    sr = smd.make_sr("one")
    wait_for(smd, sr, 1)
    wait_for(smd, sr, 0)

with Smd(config="warm_worker_seconds = 0\n") as smd:
    sr = smd.make_sr("one")
    for _ in range(5):
        smd.make_vdi(sr, MIB, "qcow2")
    expect_eq(smd.workers(forking=True), [], "none wanted")
