#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""An image that a power cut left without its last footer gets its new parent all the same;
where workers are killed again and again while images are given new parents, every disk can
still be read, and its chain gets short later."""
from smdtest import *

# A worker that gives an image another parent and dies before it says so, as often as the
# first number says, and then before it does, as often as the second.
WORKER = """#!/bin/sh
IFS= read -r line
read -r after before <%(flag)s
case $line in
*'"set-parent"'*)
	if [ "$after" -gt 0 ]; then
		echo $((after - 1)) $before >%(flag)s
		printf '%%s\\n' "$line" | %(worker)s "$@" >%(flag)s.out
		kill -9 $$
	elif [ "$before" -gt 0 ]; then
		echo $after $((before - 1)) >%(flag)s
		kill -9 $$
	fi ;;
esac
printf '%%s\\n' "$line" | exec %(worker)s "$@"
"""


def three_in_a_row(smd, name, fmt):
    """A disk, its newer snapshot, and the older one that is about to go."""
    sr = smd.make_sr(name)
    smd.hold_collector(sr)
    vdi = smd.make_vdi(sr, 6 * MIB, fmt)
    snapshots = []
    for n in 9, 1:      # the second goes into the first
        smd.write_vdi(vdi, os.urandom(n * 100 * 1024))
        snapshots.append(smd.call("VDI.snapshot", vdi, {}))
    smd.write_vdi(vdi, os.urandom(512))
    return sr, vdi, snapshots


def contents(smd, vdis):
    return [smd.vdi_sha256(vdi) for vdi in vdis]


work = tempfile.mkdtemp(prefix="smd-test.")
flag = os.path.join(work, "kills")
worker = os.path.join(work, "worker")
with open(worker, "w") as f:
    f.write(WORKER % {"flag": flag, "worker": os.environ["SMD_WORKER"]})
with open(flag, "w") as f:
    f.write("0 0\n")
os.chmod(worker, 0o755)
try:
    with Smd(config="warm_worker_seconds = 0\n", env={"SMD_WORKER": worker}) as smd:
        sr, vdi, (old, new) = three_in_a_row(smd, "cut", "vhd")
        want = contents(smd, [vdi, new])
        smd.call("VDI.destroy", old)
        path = smd.vdi_file(vdi)
        os.truncate(path, os.path.getsize(path) - 512)
        smd.let_collect(sr)
        smd.wait_collected(sr, 3)
        expect_eq(contents(smd, [vdi, new]), want, "content of a mended disk and its snapshot")
        smd.check_chains(sr)

        for fmt in "vhd", "qcow2", "raw":
            for after, before in (0, 1), (1, 0), (1, 2):
                sr, vdi, (old, new) = three_in_a_row(smd, "%s-%d-%d" % (fmt, after, before), fmt)
                want = contents(smd, [vdi, new])
                smd.call("VDI.destroy", old)
                with open(flag, "w") as f:
                    f.write("%d %d\n" % (after, before))
                smd.let_collect(sr)
                while open(flag).read() != "0 0\n":
                    time.sleep(0.05)
                expect_eq(contents(smd, [vdi, new]), want, "content after the kills")
                smd.call("SR.scan", sr)
                smd.wait_collected(sr, 3)
                expect_eq(contents(smd, [vdi, new]), want, "content in the end")
                smd.check_chains(sr)
finally:
    shutil.rmtree(work)
