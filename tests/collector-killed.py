#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of the daemon or of a worker at any moment of a run: every disk shows what it
showed, no image is lost or left over, and the chains become short after all. At worst an
image keeps space that nobody uses.

SMD_KILL_ROUNDS: how many times something is killed."""
import random

from smdtest import *

requires("qemu-img")
ROUNDS = int(os.environ.get("SMD_KILL_ROUNDS", "6"))
SEED = int(os.environ.get("SMD_KILL_SEED", "20261121"))


def grow(smd, vdis, rng):
    """More snapshots and clones, each with bytes of its own, and some of them destroyed."""
    for _ in range(3):
        vdi = rng.choice(vdis)
        for new in smd.call("VDI.snapshot", vdi, {}), smd.call("VDI.clone", vdi, {}):
            smd.write_vdi(new, rng.randbytes(rng.randrange(1, 3 * MIB)))
            vdis.append(new)
        smd.write_vdi(vdi, rng.randbytes(rng.randrange(1, 3 * MIB)))
    want = {vdi: smd.vdi_sha256(vdi) for vdi in vdis}
    while len(vdis) > 2:
        vdi = vdis.pop(rng.randrange(len(vdis)))
        del want[vdi]
        smd.call("VDI.destroy", vdi)
    return want


def state(smd, ref):
    try:
        return smd.json_call("VDI.get_chain", ref)[0]["state"]
    except ApiError:
        return "gone"


def wait_short(smd, sr, n_disks):
    """Until no hidden node has fewer than two children."""
    deadline = time.monotonic() + 120
    while True:
        rows = smd.call("VDI.get_all_records")
        n_children = {r["uuid"]: 0 for r in rows.values()}
        for r in rows.values():
            if "vhd-parent" in r["sm_config"]:
                n_children[r["sm_config"]["vhd-parent"]] += 1
        hidden = [r for r in rows.values() if not r["managed"]]
        if all(n_children[r["uuid"]] > 1 for r in hidden):
            expect_eq(len(rows) - len(hidden), n_disks, "disks")
            return
        assert time.monotonic() < deadline, smd.read_log()
        time.sleep(0.1)
        if any(state(smd, ref) == "failed" for ref, r in rows.items() if not r["managed"]):
            smd.call("SR.scan", sr)     # a worker was killed: once more, and now


rng = random.Random(SEED)
with Smd() as smd:
    srs = {fmt: smd.make_sr(fmt) for fmt in ("vhd", "qcow2", "raw")}
    for number in range(ROUNDS):
        fmt = rng.choice(list(srs))
        sr = srs[fmt]
        smd.hold_collector(sr)
        vdis = [smd.make_vdi(sr, 4 * MIB, fmt)]
        smd.write_vdi(vdis[0], rng.randbytes(3 * MIB))
        want = grow(smd, vdis, rng)
        smd.let_collect(sr)
        until = time.monotonic() + rng.uniform(0.9, 1.6)
        while time.monotonic() < until:
            if rng.random() < 0.1:
                smd.kill_a_worker(rng)
            time.sleep(0.002)
        smd.kill()
        smd.start()
        expect_eq({vdi: smd.vdi_sha256(vdi) for vdi in want}, want, "content after the kill")
        wait_short(smd, sr, len(want))
        expect_eq({vdi: smd.vdi_sha256(vdi) for vdi in want}, want, "content")
        while any(r["status"] == "pending" for r in smd.collections().values()):
            time.sleep(0.05)
        smd.check_chains(sr, killed=True)
        for vdi in want:
            smd.call("VDI.destroy", vdi)
        smd.wait_collected(sr, 0)
