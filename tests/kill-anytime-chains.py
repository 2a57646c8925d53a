#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of the daemon or of a worker, at any moment of snapshot, clone, revert, resize and
destroy: every disk that was acknowledged shows what it showed, and every file has its row.

SMD_KILL_ROUNDS: how many times the daemon is killed."""
import random
import threading

from smdtest import *

requires("qemu-img")
ROUNDS = int(os.environ.get("SMD_KILL_ROUNDS", "6"))
SIZE = 2 * MIB


class Client:
    """One tree of disks, and what each of them shows: vdi -> digest."""

    def __init__(self, smd, sr, fmt, seed):
        self.smd, self.sr, self.rng = smd, sr, random.Random(seed)
        self.stop, self.error = threading.Event(), None
        root = smd.make_vdi(sr, SIZE, fmt)
        self.shows = {root: smd.vdi_sha256(root)}
        self.source = {}        # snapshot -> of what
        self.unsure = set()     # changed, and not yet looked at
        # The call under way: vdi -> what it may show, too; None: it may be gone.
        self.maybe = {}

    def run(self):
        self.stop.clear()
        while not self.stop.is_set():
            try:
                self.step()
            except ApiError as e:
                # A worker was killed under it, or the disk is at work.
                if e.code not in ("JOB_WORKER_FAILED", "OTHER_OPERATION_IN_PROGRESS",
                                  "VDI_IN_USE", "SR_BACKEND_FAILURE_109"):
                    self.error = e
                    return
            except HttpError:
                pass            # an export whose worker was killed
            except (OSError, http.client.HTTPException, xmlrpc.client.Error):
                return
            except BaseException as e:      # shown by the main thread
                self.error = e
                return

    def look(self, vdi):
        self.shows[vdi] = self.smd.vdi_sha256(vdi)
        self.unsure.discard(vdi)

    def step(self):
        smd = self.smd
        if self.unsure:
            return self.look(next(iter(self.unsure)))
        vdi = self.rng.choice(list(self.shows))
        what = self.rng.choice(["write", "write", "snapshot", "snapshot", "clone", "revert",
                                "revert", "destroy", "resize"])
        self.maybe = {}
        if what == "write":
            self.unsure.add(vdi)
            smd.write_vdi(vdi, self.rng.randbytes(65536), mend=True)
        elif what in ("snapshot", "clone") and len(self.shows) < 12:
            new = smd.call("VDI." + what, vdi)
            self.shows[new] = self.shows[vdi]
            if what == "snapshot":
                self.source[new] = vdi
        elif what == "revert" and self.source.get(vdi) in self.shows:
            disk = self.source[vdi]
            self.maybe = {disk: self.shows[vdi]}
            smd.call("VDI.revert", vdi)
            self.shows[disk] = self.shows[vdi]
        elif what == "destroy" and len(self.shows) > 1:
            self.maybe = {vdi: None}
            smd.call("VDI.destroy", vdi)
            del self.shows[vdi]
        elif what == "resize":
            size = int(smd.call("VDI.get_virtual_size", vdi))
            self.unsure.add(vdi)
            smd.call("VDI.resize", vdi, str(size + 65536))

    def check(self):
        """After the restart; from here on what is there is what is known."""
        there = {v for v, record in self.smd.vdis_of(self.sr).items() if record["managed"]}
        for vdi, digest in list(self.shows.items()):
            if vdi not in there:
                assert vdi in self.maybe and self.maybe[vdi] is None, "lost: " + vdi
                del self.shows[vdi]
                continue
            actual = self.smd.vdi_sha256(vdi)
            assert actual in (digest, self.maybe.get(vdi)) or vdi in self.unsure, \
                "%s shows something else" % vdi
            self.shows[vdi] = actual
        self.unsure.clear()
        new = there - set(self.shows)
        assert len(new) <= 1, "more new disks than calls: %r" % new
        for vdi in new:
            actual = self.smd.vdi_sha256(vdi)
            assert actual in self.shows.values(), "a new disk shows what none showed"
            self.shows[vdi] = actual
            if self.smd.call("VDI.get_is_a_snapshot", vdi):
                self.source[vdi] = self.smd.call("VDI.get_snapshot_of", vdi)
        self.check_files()

    def check_files(self):
        smd = self.smd
        smd.expect_files_of_rows(self.sr)
        for record in smd.vdis_of(self.sr).values():
            image = os.path.join(smd.sr_path(self.sr), record["location"])
            check = ["qemu-img" if image.endswith("qcow2") else "smd-img", "check", "-f",
                     record["sm_config"]["image-format"], image]
            done = subprocess.run(check, capture_output=True, text=True)
            while ("lock" in done.stderr or "in use" in done.stderr) and os.path.exists(image):
                time.sleep(0.1)
                done = subprocess.run(check, capture_output=True, text=True)
            # A resize that was cut off leaves space nobody uses, or a change to carry out.
            assert (image.endswith("raw") or done.returncode in (0, 3) or
                    not os.path.exists(image)), done.stdout + done.stderr


rng = random.Random(20261121)
with Smd() as smd:
    clients = [Client(smd, smd.make_sr("sr-" + fmt), fmt, seed)
               for seed, fmt in enumerate(("vhd", "qcow2", "raw"))]
    for number in range(ROUNDS):
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        until = time.monotonic() + rng.uniform(0.5, 4)
        while time.monotonic() < until:
            time.sleep(rng.uniform(0.02, 0.2))
            if rng.random() < 0.2:
                smd.kill_a_worker(rng)
        smd.kill()
        for client, thread in zip(clients, threads):
            client.stop.set()
            thread.join()
            if client.error:
                raise client.error
        smd.start()
        for client in clients:
            client.check()
