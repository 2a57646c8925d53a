#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The daemon is killed when an image has grown and its row has not heard of it: after the
start both agree, and the disk can be moved whole."""
import threading

from smdtest import *

SIZE, MORE = 4 * MIB, 12 * MIB
# A worker that grows the disk and then says nothing.
WORKER = """#!/bin/sh
if [ -e %(flag)s ]; then
	IFS= read -r line
	case $line in
	*'"resize"'*) printf '%%s\\n' "$line" | %(worker)s "$@" >%(flag)s.out
		mv %(flag)s.out %(flag)s.done
		exec cat >/dev/null 3>&- 4>&- ;;
	*) printf '%%s\\n' "$line" | exec %(worker)s "$@" ;;
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
try:
    with Smd(config="warm_worker_seconds = 0\n", env={"SMD_WORKER": worker}) as smd:
        sr = smd.make_sr("one")
        for fmt in "raw", "vhd", "qcow2":
            vdi = smd.make_vdi(sr, SIZE, fmt)
            smd.login()
            open(flag, "w").close()

            def resize():
                try:
                    smd.call("VDI.resize", vdi, str(MORE))
                    print("the resize came back")
                except (OSError, http.client.HTTPException):
                    pass

            thread = threading.Thread(target=resize)
            thread.start()
            while not os.path.exists(flag + ".done"):
                assert thread.is_alive(), "the resize has ended"
                time.sleep(0.02)
            smd.kill()
            thread.join()
            os.unlink(flag)
            os.unlink(flag + ".done")
            smd.start()
            expect_eq(smd.call("VDI.get_virtual_size", vdi), str(MORE), "size of the " + fmt)
            new = smd.call("VDI.pool_migrate", vdi, sr, {"dest-img-format": "raw"})
            expect_eq(os.path.getsize(smd.vdi_file(new)), MORE, "size of what it becomes")
finally:
    shutil.rmtree(work)
