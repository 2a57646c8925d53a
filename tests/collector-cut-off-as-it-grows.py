#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The daemon is killed when the collector has grown a base to the size of the disk that it
merges into it, and not more: the disk can be moved with all it lies on, and is merged in the end."""
from smdtest import *

SIZE, MORE = 4 * MIB, 12 * MIB
# A worker that ends a merge, and then says nothing.
WORKER = """#!/bin/sh
if [ -e %(flag)s ]; then
	IFS= read -r line
	case $line in
	*'"merge"'*) printf '%%s\\n' "$line" | %(worker)s "$@" >%(flag)s.out
		mv %(flag)s.out %(flag)s.done
		exec cat >/dev/null 3>&- 4>&- ;;
	*) printf '%%s\\n' "$line" | %(worker)s "$@"
		exit ;;
	esac
fi
exec %(worker)s "$@"
"""

work = tempfile.mkdtemp(prefix="smd-test.")
flag = os.path.join(work, "stop")
worker = os.path.join(work, "worker")
with open(worker, "w") as f:
    f.write(WORKER % {"flag": flag, "worker": os.environ["SMD_WORKER"]})
os.chmod(worker, 0o755)
image = os.path.join(work, "image")
fill_raw(image, SIZE)
try:
    with Smd(config="warm_worker_seconds = 0\n", env={"SMD_WORKER": worker}) as smd:
        for fmt in "vhd", "qcow2":
            one, two = smd.make_sr("one-" + fmt), smd.make_sr("two-" + fmt)
            vdi = smd.make_vdi(one, SIZE, fmt)
            smd.import_vdi(vdi, image)
            snapshot = smd.call("VDI.snapshot", vdi)
            smd.call("VDI.resize", vdi, str(MORE))
            digest = smd.vdi_sha256(vdi)
            open(flag, "w").close()
            smd.call("VDI.destroy", snapshot)
            deadline = time.monotonic() + 60
            while not os.path.exists(flag + ".done"):
                assert time.monotonic() < deadline, "nothing is merged"
                time.sleep(0.02)
            smd.kill()
            smd.start()
            new = smd.call("VDI.pool_migrate", vdi, two,
                           {"dest-img-format": "vhd", "snapshots": "true"})
            os.unlink(flag)
            os.unlink(flag + ".done")
            expect_eq(smd.vdi_sha256(new), digest, "content")
            expect_eq(smd.call("VDI.get_virtual_size", new), str(MORE), "size")
            smd.wait_collected(two, 1)
            smd.check_chains(two)
            smd.check_chains(one)
            expect_eq(smd.vdi_sha256(new), digest, "content when it is merged")
finally:
    shutil.rmtree(work)
