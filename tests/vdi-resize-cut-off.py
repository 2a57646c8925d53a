#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The daemon, or the worker, is killed when an image has grown and its row has not heard of
it: both agree then, the call that is made again succeeds, and the disk can be moved whole."""
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
	*) printf '%%s\\n' "$line" | %(worker)s "$@"
		exit ;;
	esac
fi
exec %(worker)s "$@"
"""

came = []       # of the resize: None, or its error's code


def grow(smd, vdi):
    """A resize that has grown the image and says nothing of it."""
    smd.login()
    open(flag, "w").close()

    def resize():
        try:
            smd.call("VDI.resize", vdi, str(MORE))
            came.append("success")
        except ApiError as e:
            came.append(e.code)
        except (OSError, http.client.HTTPException):
            came.append(None)

    thread = threading.Thread(target=resize)
    thread.start()
    while not os.path.exists(flag + ".done"):
        assert thread.is_alive(), "the resize has ended"
        time.sleep(0.02)
    return thread


def end(thread, code):
    thread.join()
    expect_eq(came.pop(), code, "what the resize said")
    os.unlink(flag)
    os.unlink(flag + ".done")


def expect_grown(smd, vdi, what):
    expect_eq(smd.call("VDI.get_virtual_size", vdi), str(MORE), "size of " + what)
    expect_eq(image_info(smd.vdi_file(vdi), smd.vdi_format(vdi))["virtual-size"], MORE, what)
    smd.call("VDI.resize", vdi, str(MORE))
    expect_error("SR_BACKEND_FAILURE_79", smd.call, "VDI.resize", vdi, str(SIZE))


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
            thread = grow(smd, vdi)
            smd.kill()
            end(thread, None)
            smd.start()
            expect_grown(smd, vdi, "the " + fmt)
            new = smd.call("VDI.pool_migrate", vdi, sr, {"dest-img-format": "raw"})
            expect_eq(os.path.getsize(smd.vdi_file(new)), MORE, "size of what it becomes")

            vdi = smd.make_vdi(sr, SIZE, fmt)
            thread = grow(smd, vdi)
            for pid in smd.workers():
                os.kill(pid, signal.SIGKILL)
            end(thread, "JOB_WORKER_FAILED")
            expect_grown(smd, vdi, "the %s whose worker died" % fmt)
finally:
    shutil.rmtree(work)
