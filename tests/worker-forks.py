#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""One worker stays loaded and forks for the jobs, as good as if each had been started: it
goes when there is nothing to do, and whoever kills it stops no job. So do those that make
empty images one after the other."""
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


def wait_for_next(smd, n):
    """Until so many wait for a job: one is forked, or ended, a moment after another."""
    deadline = time.monotonic() + 60
    while len(smd.waiting()) != n:
        assert time.monotonic() < deadline, "%d are to wait" % n
        time.sleep(0.01)
    return smd.waiting()


def contents(smd, sr):
    """A disk through every kind of job that moves its data."""
    raw = os.path.join(smd.dir, "in.raw")
    fill_raw(raw, 8 * MIB)
    vdi = smd.make_vdi(sr, 8 * MIB, "vhd")
    smd.import_vdi(vdi, raw)
    moved = smd.call("VDI.pool_migrate", vdi, sr, {"dest-img-format": "qcow2"})
    expect_eq(smd.vdi_sha256(moved), sha256_of_file(raw), "content")


def makers(smd, sr):
    """One is enough for one client; killed or stopped under an image, it is made all the same."""
    vdis = [smd.make_vdi(sr, MIB, fmt) for fmt in ("raw", "vhd", "qcow2")]
    (first,) = smd.makers()
    os.kill(first, signal.SIGKILL)
    vdis.append(smd.make_vdi(sr, MIB, "vhd"))
    vdis.append(smd.make_vdi(sr, MIB, "qcow2"))
    (second,) = smd.makers()
    assert second != first, "another one"
    os.kill(second, signal.SIGSTOP)
    vdis.append(smd.make_vdi(sr, MIB, "qcow2"))
    assert second not in smd.makers(), "one that does not answer stays"
    for vdi in vdis:
        expect_eq(smd.call("VDI.get_virtual_size", vdi), str(MIB), "size")
        if smd.vdi_format(vdi) != "raw":
            run("smd-img", "check", "-f", smd.vdi_format(vdi), smd.vdi_file(vdi))
        smd.call("VDI.destroy", vdi)
    expect_error("SR_BACKEND_FAILURE_79", smd.make_vdi, sr, 0, "qcow2")


with Smd() as smd:
    sr = smd.make_sr("one")
    if sanitized():     # ASan knows no other stack than the one it gave
        contents(smd, sr)
        skip("no worker forks under ASan")
    (first,) = wait_for(smd, sr, 1)
    contents(smd, sr)
    makers(smd, sr)
    (waiting,) = wait_for_next(smd, 1)
    expect_eq(smd.workers(forking=True), [first], "the same after all that")
    os.kill(waiting, signal.SIGKILL)
    contents(smd, sr)
    os.kill(first, signal.SIGKILL)
    contents(smd, sr)
    (second,) = wait_for(smd, sr, 1)
    assert second != first, "another one"
    smd.make_vdi(sr, MIB, "qcow2")
    made_with = smd.makers()
    assert made_with, "nobody makes images"
    made_with += wait_for_next(smd, 1)
    smd.stop()
    assert not os.path.exists("/proc/%d" % second), "it outlives the daemon"
    assert not any(os.path.exists("/proc/%d" % pid) for pid in made_with), \
        "as do makers, and who waits"
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
    wait_for_next(smd, 0)
    expect_eq(smd.makers(), [], "makers that have nothing to do")

with Smd(config="warm_worker_seconds = 0\n") as smd:
    sr = smd.make_sr("one")
    for _ in range(5):
        smd.make_vdi(sr, MIB, "qcow2")
    expect_eq(smd.workers(forking=True) + smd.waiting(), [], "none wanted")
