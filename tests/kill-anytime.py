#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of the daemon or of a worker, at any moment of create, migrate and destroy:
what was acknowledged is there, nothing half made is, and every disk is whole.

SMD_KILL_ROUNDS: how many times the daemon is killed."""
import random
import threading

from smdtest import *

requires("qemu-img")
ROUNDS = int(os.environ.get("SMD_KILL_ROUNDS", "8"))
SIZE = 6 * MIB + 512
FORMATS = ["raw", "vhd", "qcow2"]


class Model:
    """What the clients were told: uuid -> digest, or None for an empty disk."""

    def __init__(self):
        self.lock = threading.Lock()
        self.known = {}         # acknowledged
        self.maybe = []         # (set of uuids that may be gone, digest that may have come)


def client(smd, srs, model, stop, seed, image, digest):
    """Random operations until the daemon dies. Each client has disks of its own."""
    rng = random.Random(seed)
    mine = {}
    while not stop.is_set():
        pending = None
        try:
            what = rng.choice(["create", "migrate", "migrate", "destroy"])
            if what == "create" or not mine:
                pending = ("create", None, None)
                vdi = smd.make_vdi(rng.choice(srs), SIZE, rng.choice(FORMATS))
                uuid = smd.call("VDI.get_uuid", vdi)
                with model.lock:
                    model.known[uuid] = None
                mine[vdi] = uuid
                if rng.random() < 0.7:
                    pending = ("import", uuid, digest)
                    smd.import_vdi(vdi, image)
                    with model.lock:
                        model.known[uuid] = digest
            elif what == "migrate":
                vdi = rng.choice(list(mine))
                uuid = mine[vdi]
                pending = ("migrate", uuid, model.known[uuid])
                new = smd.call("VDI.pool_migrate", vdi, rng.choice(srs),
                               {"dest-img-format": rng.choice(FORMATS)})
                new_uuid = smd.call("VDI.get_uuid", new)
                with model.lock:
                    model.known[new_uuid] = model.known.pop(uuid)
                del mine[vdi]
                mine[new] = new_uuid
            else:
                vdi = rng.choice(list(mine))
                pending = ("destroy", mine[vdi], None)
                smd.call("VDI.destroy", vdi)
                with model.lock:
                    del model.known[mine[vdi]]
                del mine[vdi]
        except ApiError as e:
            # A worker was killed under it: that alone may fail.
            assert e.code in ("JOB_WORKER_FAILED", "OTHER_OPERATION_IN_PROGRESS"), e
        except HttpError as e:
            assert b"JOB_WORKER_FAILED" in e.body, e
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            with model.lock:
                model.maybe.append(pending)
            return


def check(smd, srs, model, digest):
    records = smd.call("VDI.get_all_records")
    by_uuid = {r["uuid"]: r for r in records.values()}
    maybe_gone = {m[1] for m in model.maybe if m and m[1]}
    for uuid, wanted in model.known.items():
        if uuid not in by_uuid:
            assert uuid in maybe_gone, "acknowledged, and gone: " + uuid
    files = {}
    for sr in srs:
        for name in os.listdir(smd.sr_path(sr)):
            if not name.startswith("."):
                files[name] = os.path.join(smd.sr_path(sr), name)
    expect_eq(sorted(files), sorted(r["location"] for r in records.values()),
              "volumes and rows")
    for uuid, record in by_uuid.items():
        fmt = record["sm_config"]["image-format"]
        path = files[record["location"]]
        if fmt == "qcow2":
            run("qemu-img", "check", "-f", "qcow2", path)
        wanted = {model.known[uuid]} if uuid in model.known else {None, digest}
        if uuid in maybe_gone:
            wanted |= {digest}
        actual = sha256_of_disk(path, fmt)
        assert actual in {w or empty for w in wanted}, "content of " + uuid
    # From here on this is what is known.
    model.known = {}
    model.maybe = []
    for ref in records:
        smd.call("VDI.destroy", ref)


rng = random.Random(20261121)
with Smd() as smd:
    srs = [smd.make_sr("one"), smd.make_sr("two")]
    image = os.path.join(smd.dir, "content.raw")
    fill_raw(image, SIZE, runs=8)
    digest = sha256_of_file(image)
    with open(os.path.join(smd.dir, "empty.raw"), "wb") as f:
        f.truncate(SIZE)
    empty = sha256_of_file(os.path.join(smd.dir, "empty.raw"))
    model = Model()
    for number in range(ROUNDS):
        stop = threading.Event()
        threads = []
        errors = []

        def guarded(*args):
            try:
                client(*args)
            except BaseException as e:      # shown by the main thread
                errors.append(e)

        for i in range(4):
            threads.append(threading.Thread(target=guarded, args=(
                smd, srs, model, stop, number * 10 + i, image, digest)))
            threads[-1].start()
        until = time.monotonic() + rng.uniform(0.3, 2.5)
        while time.monotonic() < until:
            time.sleep(rng.uniform(0.02, 0.2))
            if rng.random() < 0.3:
                smd.kill_a_worker(rng)
        smd.kill()
        stop.set()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        smd.start()
        smd.wait_jobs()
        check(smd, srs, model, digest)
