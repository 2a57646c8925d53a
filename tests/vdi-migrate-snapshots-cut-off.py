#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The move of a disk with its snapshots is killed or cancelled at any moment: it goes on, or
all of the tree is at its old place, or all of it at the new one; and its progress went one way."""
import random
import threading

from smdtest import *

ROUNDS = int(os.environ.get("SMD_KILL_ROUNDS", "8"))
SIZE = 16 * MIB
OPTIONS = {"snapshots": "true", "bytes-per-second": str(24 * MIB)}
FORMATS = ["raw", "vhd", "qcow2"]


def make_tree(smd, sr):
    vdi = smd.make_vdi(sr, SIZE, "qcow2", "0")
    for i in range(1, 4):
        smd.write_vdi(vdi, os.urandom((6 - i) * MIB))
        smd.call("VDI.set_name_label", smd.call("VDI.snapshot", vdi, {}), str(i))
    smd.write_vdi(vdi, os.urandom(MIB))


def volumes(smd, sr):
    return sorted(f for f in os.listdir(smd.sr_path(sr)) if not f.startswith("."))


def tree_of(smd, sr):
    """{name: ref} of what clients see."""
    return {smd.call("VDI.get_name_label", v): v for v in smd.call("SR.get_VDIs", sr)
            if smd.call("VDI.get_managed", v)}


def check(smd, srs, digests):
    """Where the tree is now; it is whole, and nothing of it is anywhere else."""
    trees = [tree_of(smd, sr) for sr in srs]
    here = 0 if trees[0] else 1
    expect_eq(trees[1 - here], {}, "the other SR's VDIs")
    expect_eq(volumes(smd, srs[1 - here]), [], "the other SR's volumes")
    expect_eq(volumes(smd, srs[here]), sorted(smd.call("VDI.get_location", v)
                                              for v in smd.call("SR.get_VDIs", srs[here])))
    expect_eq({n: smd.vdi_sha256(v) for n, v in trees[here].items()}, digests, "content")
    disk = trees[here]["0"]
    for name, ref in trees[here].items():
        expect_eq(smd.call("VDI.get_snapshot_of", ref), NULL_REF if name == "0" else disk)
        expect_eq(smd.call("VDI.get_current_operations", ref), {}, "operations left")
    return here


def killed(smd, srs, digests, rng):
    moved = 0
    for _ in range(ROUNDS):
        here = check(smd, srs, digests)
        disk = tree_of(smd, srs[here])["0"]
        smd.call("Async.VDI.pool_migrate", disk, srs[1 - here],
                 dict(OPTIONS, **{"dest-img-format": rng.choice(FORMATS)}))
        time.sleep(rng.uniform(0.0, 2.5))
        smd.kill()
        smd.start()
        smd.wait_jobs()
        moved += check(smd, srs, digests) != here
    assert moved, "no move went on after a kill"


def cancelled(smd, srs, digests):
    here = check(smd, srs, digests)
    task = smd.call("Async.VDI.pool_migrate", tree_of(smd, srs[here])["0"], srs[1 - here], OPTIONS)
    while float(smd.call("task.get_progress", task)) < 0.5:
        time.sleep(0.01)
    smd.call("task.cancel", task)
    expect_eq(smd.wait_task(task)["status"], "cancelled")
    expect_eq(check(smd, srs, digests), here, "where it is")


def progress(smd, srs, digests):
    here = check(smd, srs, digests)
    seen = []
    task = smd.call("Async.VDI.pool_migrate", tree_of(smd, srs[here])["0"], srs[1 - here], OPTIONS)
    expect_eq(smd.wait_task(task, on_progress=seen.append)["status"], "success")
    assert seen == sorted(seen) and len(set(seen)) > 8, seen
    config = smd.call("task.get_other_config", task)
    assert int(config["bytes_done"]) == int(config["bytes_total"]) > 12 * MIB, config
    assert sum(0.1 < p < 0.9 for p in seen) > 4, "all at once: %r" % seen
    expect_eq(check(smd, srs, digests), 1 - here, "where it is")


with Smd() as smd:
    rng = random.Random(7)
    srs = [smd.make_sr("one"), smd.make_sr("two")]
    for sr in srs:
        smd.call("SR.add_to_other_config", sr, "gc", "false")
    make_tree(smd, srs[0])
    digests = {n: smd.vdi_sha256(v) for n, v in tree_of(smd, srs[0]).items()}
    expect_eq(set(digests), {"0", "1", "2", "3"}, "the tree")
    killed(smd, srs, digests, rng)
    cancelled(smd, srs, digests)
    progress(smd, srs, digests)
